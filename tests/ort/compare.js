// node compare.js JOB.json: evaluates models with ONNX Runtime on raw float32 samples.
// JOB.json: [{model, input, count, shape, output}, ...]; `input` holds `count` samples of `shape` after each other as
// little-endian float32, `output` receives the first output of the network for each of them in the same form.
// onnxruntime-node is found through NODE_PATH.
const fs = require('fs');
const ort = require('onnxruntime-node');

async function evaluate(job) {
  const session = await ort.InferenceSession.create(
      job.model, {intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3});
  const size = job.shape.reduce((a, b) => a * b, 1);
  const bytes = fs.readFileSync(job.input);
  if (bytes.length !== 4 * size * job.count) throw new Error(`${job.input}: ${bytes.length} bytes, want ${4 * size * job.count}`);
  // A copy: a buffer from the pool need not be aligned to 4 bytes.
  const samples = new Float32Array(new Uint8Array(bytes).buffer);
  const results = [];
  for (let i = 0; i < job.count; ++i) {
    const tensor = new ort.Tensor('float32', samples.slice(i * size, (i + 1) * size), job.shape);
    const outputs = await session.run({[session.inputNames[0]]: tensor});
    results.push(Buffer.from(new Float32Array(outputs[session.outputNames[0]].data).buffer));
  }
  fs.writeFileSync(job.output, Buffer.concat(results));
}

(async () => {
  for (const job of JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))) await evaluate(job);
})().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
