#include <cmath>

#include "small_job.h"
#include "waveq/export/target.h"
#include "waveq/export/verify.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/file.h"
#include "waveq/graph/onnx_reader.h"

// Whole networks, and ONNX Runtime's view: tests/ort/qdq_target_test.py.
namespace waveq {
namespace {

using namespace test;

/// A RequantShift of an int32 product of two inputs at scale 1/16, and its float twin.
struct Pair {
  Graph integer;
  std::vector<std::int8_t> codes;
};

Pair requant_of_product(std::int64_t mul, std::int64_t add, std::int64_t div,
                        const char* rounding) {
  Pair p;
  Graph& g = p.integer;
  const QuantParams sixteenth{.scale = 0.0625};
  const ValueId x = g.add_input("x", {DType::i8, {1, 256}});
  g.set_quant(x, sixteenth);
  const ValueId acc = g.emit("Add", "acc", {x, x});
  const ValueId m = g.add_constant("m", Tensor::scalar(static_cast<std::int32_t>(mul)));
  const ValueId a = g.add_constant("a", Tensor::scalar(static_cast<std::int32_t>(add)));
  const ValueId y = g.emit("RequantShift", "y", {acc, m, a},
                           attributes({{"div", div},
                                       {"n_levels_out", std::int64_t{256}},
                                       {"signed", std::int64_t{1}},
                                       {"rounding", std::string(rounding)}}));
  g.set_quant(y, QuantParams{.scale = 0.25});
  g.add_output(y);
  for (int i = -128; i < 128; ++i) p.codes.push_back(static_cast<std::int8_t>(i));
  return p;
}

TEST_CASE("qdq target: halves are rounded as the requant rounds them") {
  for (const char* rounding : {"half_up", "floor"})
    for (const auto& [mul, add, div] : {std::array<std::int64_t, 3>{1, 0, 4},
                                        {-1, 0, 8},
                                        {3, 6, 16},
                                        {1023, 0, 2048},
                                        {1, 0, 1}}) {
      const Pair p = requant_of_product(mul, add, div, rounding);
      INFO(rounding, " ", dump(p.integer));
      const TargetProfile& target = find_target("qdq");
      CHECK(target.check(target, p.integer).empty());
      const fs::path path = scratch_dir() / "twin.onnx";
      write_file(path, target.to_file(target, p.integer));
      const Graph twin = read_onnx(path);
      std::vector<float> real;
      for (std::int8_t c : p.codes) real.push_back(0.0625F * static_cast<float>(c));
      const std::vector<Tensor> wanted = Executor(p.integer).run(
          std::vector<Tensor>{Tensor::from<std::int8_t>({1, 256}, p.codes)});
      const std::vector<Tensor> got =
          Executor(twin).run(std::vector<Tensor>{Tensor::from<float>({1, 256}, real)});
      for (std::size_t i = 0; i < p.codes.size(); ++i) {
        INFO("code ", int{p.codes[i]});
        CHECK(got.front().as<float>()[i] ==
              0.25F * static_cast<float>(wanted.front().as<std::int8_t>()[i]));
      }
    }
}

TEST_CASE(
    "qdq target: what float32 cannot hold, and what has no 8-bit grid, is computed on integers") {
  Graph g;
  const QuantParams sixteenth{.scale = 0.0625};
  const ValueId x = g.add_input("x", {DType::i8, {1, 256}});
  g.set_quant(x, sixteenth);
  const ValueId k = g.add_constant("k", Tensor::scalar(std::int32_t{16'000'001}));
  const ValueId wide = g.emit("Mul", "wide", {x, k});  // up to 2^31, odd
  const ValueId m = g.add_constant("m", Tensor::scalar(std::int32_t{1}));
  const ValueId a = g.add_constant("a", Tensor::scalar(std::int32_t{-7}));
  const ValueId y = g.emit("RequantShift", "y", {wide, m, a},
                           attributes({{"div", std::int64_t{1} << 16},
                                       {"n_levels_out", std::int64_t{65536}},
                                       {"signed", std::int64_t{1}},
                                       {"rounding", std::string("half_up")}}));
  g.set_quant(y, QuantParams{.scale = 0.0078125, .n_levels = 65536});
  g.add_output(y);

  const TargetProfile& target = find_target("qdq");
  CHECK(target.check(target, g).empty());
  const fs::path path = scratch_dir() / "wide.onnx";
  write_file(path, target.to_file(target, g));
  Tensor codes(DType::i8, {1, 256}), real(DType::f32, {1, 256});
  for (int i = 0; i < 256; ++i) {
    codes.as<std::int8_t>()[i] = static_cast<std::int8_t>(i - 128);
    real.as<float>()[i] = 0.0625F * static_cast<float>(i - 128);
  }
  const std::vector<Tensor> wanted = Executor(g).run(std::vector<Tensor>{codes});
  const std::vector<Tensor> got = Executor(read_onnx(path)).run(std::vector<Tensor>{real});
  for (std::size_t i = 0; i < 256; ++i)
    CHECK(got.front().as<float>()[i] ==
          0.0078125F * static_cast<float>(wanted.front().as<std::int16_t>()[i]));
}

TEST_CASE("qdq target: a channel that the requant drops") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 1, 4}});
  g.set_quant(x, QuantParams{.scale = 0.5});
  const ValueId w = g.add_constant("w", Tensor::from<std::int8_t>({2, 1, 1}, {3, 5}));
  const ValueId acc = g.emit("Conv", "acc", {x, w});
  const ValueId m = g.add_constant("m", Tensor::from<std::int32_t>({2, 1}, {0, 1}));
  const ValueId a = g.add_constant("a", Tensor::from<std::int32_t>({2, 1}, {36, 0}));
  const ValueId y = g.emit("RequantShift", "y", {acc, m, a},
                           attributes({{"div", std::int64_t{4}},
                                       {"n_levels_out", std::int64_t{256}},
                                       {"signed", std::int64_t{1}}}));
  g.set_quant(y, QuantParams{.scale = 0.25});
  g.add_output(y);
  const TargetProfile& target = find_target("qdq");
  const fs::path path = scratch_dir() / "dropped.onnx";
  write_file(path, target.to_file(target, g));
  const std::vector<Tensor> got =
      Executor(read_onnx(path))
          .run(std::vector<Tensor>{Tensor::from<float>({1, 1, 4}, {-1.0F, 0.5F, 1.0F, 1.5F})});
  // 9 steps; 5/4 of -2, 1, 2, 3 steps with halves up.
  const float wanted[] = {2.25F, 2.25F, 2.25F, 2.25F, -0.5F, 0.25F, 0.75F, 1.0F};
  for (std::size_t i = 0; i < 8; ++i) CHECK(got.front().as<float>()[i] == wanted[i]);
}

TEST_CASE("qdq target: a folder whose arrays are float, and that verifies") {
  QuantizeJob job = small_job(scratch_dir());
  job.recipe.target = "qdq";
  const QuantizeResult result = quantize(job);
  const TargetProfile& target = find_target("qdq");
  const TargetFiles files = target.files(target, result);
  for (const auto* arrays : {&files.inputs, &files.outputs, &files.activations})
    for (const auto& [name, tensor] : *arrays) CHECK(tensor.dtype() == DType::f32);
  CHECK(!files.activations.empty());
  const QuantParams& step = *result.network.graph.value(result.network.graph.outputs()[0]).quant;
  const std::vector<double> codes = to_double(result.golden.outputs.front());
  for (std::size_t i = 0; i < codes.size(); ++i)
    CHECK(std::abs(files.outputs.front().second.as<float>()[i] / step.scale - codes[i]) <= 1.01);
}

TEST_CASE("qdq target: a network without scales is refused at its input") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2}});
  g.add_output(g.emit("Relu", "r", {x}));
  const TargetProfile& target = find_target("qdq");
  CHECK_THROWS_AS(target.to_file(target, g), Error);
}

}  // namespace
}  // namespace waveq
