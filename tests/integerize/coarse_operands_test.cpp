#include "waveq/integerize/coarse_operands.h"

#include "net.h"
#include "shared_data.h"
#include "waveq/graph/npz.h"

namespace waveq {
namespace {

using namespace test;

/// A classifier behind the mean of each channel.
FloatNet averaged() {
  FloatNet n;
  const ValueId x = n.op("Relu", {n.input("x", {1, 4, 64})});
  const ValueId mean =
      n.op("ReduceMean", {x}, attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{0}}}));
  n.output(n.op("Gemm", {mean, n.random({4, 3}, -1, 1, 1)}));
  return n;
}

/// Samples [1,4,64] of `low`, but for one element of 1.
std::vector<std::vector<Tensor>> samples_with(float low) {
  std::vector<std::vector<Tensor>> samples;
  for (std::uint64_t s = 0; s < 3; ++s) {
    Tensor t = random_tensor({1, 4, 64}, 0.9 * static_cast<double>(low), low, s);
    t.as<float>()[17 * s] = 1;
    samples.push_back({t});
  }
  return samples;
}

std::vector<CoarseOperand> found(float low, bool own_mean_scale) {
  const FloatNet net = averaged();
  const auto samples = samples_with(low);
  IntegerizeOptions options;
  options.own_mean_scale = own_mean_scale;
  const IntegerNetwork q =
      integerize(net.graph, lookup(measure_ranges(net.graph, samples)), options);
  Tensor all(DType::f32, {3, 4, 64});
  for (std::size_t s = 0; s < 3; ++s)
    std::ranges::copy(samples[s].front().as<float>(), all.as<float>().begin() + s * 256);
  const auto file = scratch_dir() / "coarse.npz";
  write_npz(file, std::vector<NpzItem>{{"x", &all}});
  Dataset data(file, net.graph);
  return coarse_operands(q.graph, data, 3);
}

TEST_CASE("coarse_operands: a mean of few steps is found where it has its operand's scale") {
  // 0.02 of 1 is 5 of 255 steps.
  const auto coarse = found(0.02F, false);
  REQUIRE(coarse.size() == 1);
  CHECK(!coarse.front().denominator);
  CHECK(coarse.front().origin == "ReduceMean");
  CHECK(coarse.front().median >= 4);
  CHECK(coarse.front().median <= 6);
  // On a scale of its own it has all steps; so has one of large elements.
  CHECK(found(0.02F, true).empty());
  CHECK(found(0.5F, false).empty());
}

TEST_CASE("coarse_operands: a denominator's median, of an even number of codes") {
  Graph g;
  const ValueId num = g.add_input("num", {DType::i8, {1, 4, 2}}),
                den = g.add_input("den", {DType::i8, {1, 4, 1}});
  g.set_quant(num, QuantParams{});
  g.set_quant(den, QuantParams{});
  const ValueId one = g.add_constant("one", Tensor::from<std::int8_t>({1}, {1}));
  const ValueId product = g.emit("Mul", "product", {den, one});
  g.add_output(g.emit(
      "IntegerDiv", "quotient", {num, product},
      attributes(
          {{"Delta", std::int64_t{16}}, {"eps", std::int64_t{1}}, {"eta", std::int64_t{2}}})));
  FloatNet real;
  real.output(real.op("Div", {real.input("num", {1, 4, 2}), real.input("den", {1, 4, 1})}));
  for (const float last : {40.0F, 12.0F, 20.0F}) {
    const Tensor n(DType::f32, {1, 4, 2}), d = Tensor::from<float>({1, 4, 1}, {1, 10, last, 30});
    const auto file = scratch_dir() / "denominator.npz";
    write_npz(file, std::vector<NpzItem>{{"num", &n}, {"den", &d}});
    Dataset data(file, real.graph);
    const auto coarse = coarse_operands(g, data, 1);
    const double median = 0.5 * (10 + std::min(last, 30.0F));  // 20, 11, 15
    REQUIRE(coarse.size() == (median < kCoarseMedian ? 1 : 0));
    if (coarse.empty()) continue;
    CHECK(coarse.front().denominator);
    CHECK(coarse.front().median == median);
    CHECK(coarse.front().origin == "product");
  }
}

}  // namespace
}  // namespace waveq
