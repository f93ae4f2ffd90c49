// node run.js JOB.json: evaluates networks with ONNX Runtime, whatever their types.
// JOB.json: [{model, count, inputs: [{dtype, shape, file}], outputs: [{name, file}]}, ...]; an input's file holds `count`
// samples after each other as little-endian elements, inputs come in the network's order; an output's file receives its
// elements for each sample in the same form. onnxruntime-node is found through NODE_PATH.
const fs = require('fs');
const ort = require('onnxruntime-node');

const ARRAYS = {
  float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array,
  int64: BigInt64Array,
};

function load(input) {
  // A copy: a buffer from the pool need not be aligned.
  return new ARRAYS[input.dtype](new Uint8Array(fs.readFileSync(input.file)).buffer);
}

async function evaluate(job) {
  const session = await ort.InferenceSession.create(
      job.model, {intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3});
  const data = job.inputs.map(load);
  const results = job.outputs.map(() => []);
  for (let i = 0; i < job.count; ++i) {
    const feeds = {};
    job.inputs.forEach((input, k) => {
      const size = input.shape.reduce((a, b) => a * b, 1);
      feeds[session.inputNames[k]] = new ort.Tensor(input.dtype, data[k].slice(i * size, (i + 1) * size), input.shape);
    });
    const outputs = await session.run(feeds);
    job.outputs.forEach((output, k) => {
      const y = outputs[output.name].data;
      results[k].push(Buffer.from(y.slice().buffer));
    });
  }
  job.outputs.forEach((output, k) => fs.writeFileSync(output.file, Buffer.concat(results[k])));
  await session.release();
}

(async () => {
  for (const job of JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))) {
    try {
      await evaluate(job);
    } catch (error) {
      throw new Error(`${job.model}: ${error}`);
    }
  }
})().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
