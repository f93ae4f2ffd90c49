// Builds a small network, quantizes it in memory, writes the folder and verifies it, through the
// public header alone.
#include <waveq/waveq.h>

#include <cstdio>

namespace {

/// Reports a narrowing that -Wconversion -Werror would refuse: consumers need not share our
/// warnings.
int narrowed(double x) {
  int i = x;
  return i;
}

waveq::Tensor ramp(waveq::Shape shape, float step) {
  waveq::Tensor t(waveq::DType::f32, shape);
  float x = -1.0f;
  for (float& v : t.as<float>()) v = x += step;
  return t;
}

}  // namespace

int main(int, char** argv) {
  using namespace waveq;
  const std::filesystem::path dir = argv[1];
  Graph g;
  g.name = "consumer";
  const ValueId x = g.add_input("x", {DType::f32, {1, 4}});
  const ValueId w = g.add_constant("w", ramp({4, 3}, 0.17f));
  g.add_output(g.emit("Relu", "y", {g.emit("MatMul", "product", {x, w})}));

  const Tensor samples = ramp({8, 4}, 0.06f);
  const NpzItem item{"x", &samples};
  write_npz(dir / "calib.npz", {&item, 1});

  QuantizeJob job;
  job.model = ModelData(to_onnx_bytes(g), "consumer.onnx");
  job.calibration_data = dir / "calib.npz";
  job.target = find_target(job.recipe.target).abilities();
  try {
    const QuantizeResult result = quantize(job);
    write_folder(result, job, dir / "out");
    const VerifyReport report = verify_folder(dir / "out");
    std::printf("waveq %s: %d nodes, overflow free %d, mismatches %d\n", kVersion,
                narrowed(static_cast<double>(result.network.graph.nodes().size())),
                result.proof.overflow_free(),
                narrowed(static_cast<double>(report.mismatches.size())));
    return result.proof.overflow_free() && report.mismatches.empty() ? 0 : 1;
  } catch (const Error& e) {
    std::printf("%s\n", e.what());
    return 1;
  }
}
