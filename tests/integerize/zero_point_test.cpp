#include "net.h"
#include "waveq/integerize/bounds.h"

namespace waveq {
namespace {

using namespace test;

IntegerizeOptions with_zero_points() {
  IntegerizeOptions options;
  options.target.zero_points = true;
  return options;
}

/// The requant right behind the only iGELU.
const Node& behind_gelu(const Lowered& r) {
  const ValueId y = r.nodes("iGELU").front()->outputs.front();
  return r.graph().node(r.graph().value(y).uses.front());
}

std::vector<std::int64_t> parameter(const Lowered& r, const Node& node, std::size_t i) {
  return to_int64(r.graph().constant(node.inputs.at(i)));
}

/// sum_k w[c,k] over trailing axes of the weights [O,...].
std::vector<std::int64_t> row_sums(const Tensor& weights) {
  std::vector<std::int64_t> sums(static_cast<std::size_t>(weights.shape()[0]), 0);
  const std::vector<std::int64_t> q = to_int64(weights);
  for (std::size_t i = 0; i < q.size(); ++i) sums[i * sums.size() / q.size()] += q[i];
  return sums;
}

FloatNet gelu_in_front_of_conv(std::vector<float> bias) {
  FloatNet n;
  const ValueId x = n.input("x", {1, 4, 32});
  const ValueId g = n.op("Gelu", {n.op("Conv", {x, n.random({8, 4, 1}, -2, 2, 1)})});
  std::vector<ValueId> in{g, n.random({3, 8, 1}, -1, 1, 2)};
  if (!bias.empty()) in.push_back(n.floats({3}, bias));
  n.output(n.op("Conv", in));
  return n;
}

TEST_CASE(
    "zero point: GELU fills all codes, the Conv behind it takes z*sum(w) off in its requant") {
  for (const std::vector<float>& bias : {std::vector<float>{}, std::vector<float>{1, -2, 0.5F}}) {
    const FloatNet n = gelu_in_front_of_conv(bias);
    const Lowered plain = lower_and_compare(n),
                  affine = lower_and_compare(n, -1, 1, with_zero_points());
    const Node& requant = behind_gelu(affine);
    const QuantParams g = affine.graph().value(requant.outputs.front()).quant.value();
    CHECK_FALSE(g.is_signed);
    CHECK(g.zero_point > 0);
    const QuantParams before =
        plain.graph().value(behind_gelu(plain).outputs.front()).quant.value();
    CHECK(g.scale < 0.6 * before.scale);
    BoundsAnalysis bounds(affine.graph());
    CHECK(bounds.of(requant.outputs.front()).hull().lo == 0);
    // The requant puts the zero point where the tensor says it is.
    CHECK(static_cast<double>(parameter(affine, requant, 2).front()) /
              static_cast<double>(requant.attrs.require_int("div")) ==
          doctest::Approx(static_cast<double>(g.zero_point)).epsilon(0.01));

    const Node& conv = *affine.nodes("Conv").back();
    const Node& last = *affine.nodes("RequantShift").back();
    const auto sums = row_sums(affine.graph().constant(conv.inputs[1]));
    const auto mul = parameter(affine, last, 1), add = parameter(affine, last, 2);
    for (std::size_t c = 0; c < sums.size(); ++c) {
      const double steps = static_cast<double>(add[c]) / static_cast<double>(mul[c]) +
                           static_cast<double>(g.zero_point * sums[c]);
      const double acc_scale = affine.out().scale * static_cast<double>(mul[c]) /
                               static_cast<double>(last.attrs.require_int("div"));
      CHECK(steps == doctest::Approx(bias.empty() ? 0 : bias[c] / acc_scale).epsilon(1e-3));
    }
    CHECK(affine.worst_steps < plain.worst_steps);
  }
}

TEST_CASE("zero point: Gemm and a product of rank 3 carry it in their int32 bias") {
  FloatNet gemm;
  gemm.output(
      gemm.op("Gemm", {gemm.op("Gelu", {gemm.input("x", {1, 8})}), gemm.random({8, 3}, -1, 1, 3)}));
  const Lowered dense = lower_and_compare(gemm, -6, 6, with_zero_points());
  CHECK(dense.worst_steps < 2);
  const Node& node = *dense.nodes("Gemm").front();
  const auto bias = parameter(dense, node, 2);
  const auto sums = row_sums(dense.graph().constant(node.inputs[1]));
  const std::int64_t z = dense.graph().value(node.inputs[0]).quant.value().zero_point;
  CHECK(z > 0);
  for (std::size_t c = 0; c < sums.size(); ++c) CHECK(bias[c] == -z * sums[c]);

  FloatNet batch;
  batch.output(batch.op(
      "MatMul", {batch.op("Gelu", {batch.input("x", {1, 5, 8})}), batch.random({8, 3}, -1, 1, 4)}));
  const Lowered product = lower_and_compare(batch, -6, 6, with_zero_points());
  CHECK(product.worst_steps < 2);
  CHECK(product.count("Add") == 1);
}

TEST_CASE("zero point: none where the add of its requant would leave the limits") {
  // GELU's steps are so fine here that 0.17 is more than 500 times the multiplier.
  FloatNet n;
  n.output(n.op("Gemm", {n.op("Gelu", {n.input("x", {1, 8})}), n.random({8, 3}, -1, 1, 3)}));
  const Lowered r = lower_and_compare(n, -2.6, 2.6, with_zero_points());
  CHECK(r.worst_steps < 2);
  const QuantParams q = r.graph().value(behind_gelu(r).outputs.front()).quant.value();
  CHECK(q.is_signed);
  CHECK(q.zero_point == 0);
}

TEST_CASE("zero point: none where something else reads the tensor, or padding does") {
  FloatNet sum;
  const ValueId g = sum.op("Gelu", {sum.input("x", {1, 4, 8})});
  sum.output(sum.op("Conv", {g, sum.random({4, 4, 1}, -1, 1, 5)}));
  sum.output(sum.op("Add", {g, g}));
  FloatNet padded;
  padded.output(padded.op(
      "Conv",
      {padded.op("Gelu", {padded.input("x", {1, 4, 8})}), padded.random({4, 4, 3}, -1, 1, 6)},
      attributes({{"pads", Ints{1, 1}}})));
  FloatNet out;
  out.output(out.op("Gelu", {out.input("x", {1, 4, 8})}));
  for (const FloatNet* n : {&sum, &padded, &out}) {
    const Lowered r = lower_and_compare(*n, -3, 3, with_zero_points());
    const QuantParams q = r.graph().value(behind_gelu(r).outputs.front()).quant.value();
    CHECK(q.is_signed);
    CHECK(q.zero_point == 0);
    CHECK(parameter(r, behind_gelu(r), 2).front() == 0);
  }
}

/// As of a quantized model that gives each of these tensors codes 0..255 with zero point 100.
IntegerizeOptions with_asymmetric(const FloatNet& n, const std::vector<ValueId>& values) {
  IntegerizeOptions options = with_zero_points();
  for (ValueId id : values) options.grids[n.graph.value(id).name] = {0.01, -100, 155};
  return options;
}

/// Steps of -lo / (hi - lo) * 255 rounded, less 128 where that is closer to 0.
std::int64_t zero_point_of(double lo, double hi) {
  const auto z = static_cast<std::int64_t>(std::floor(-lo / ((hi - lo) / 255) + 0.5));
  return z > 64 ? z - 128 : z;
}

TEST_CASE("zero point: a model's asymmetric grids are kept, padding has the zero point") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 4, 32});
  const ValueId h = n.op("Conv", {x, n.random({6, 4, 3}, -0.4, 1.5, 7), n.random({6}, -1, 1, 8)},
                         attributes({{"pads", Ints{1, 1}}}));
  const ValueId y = n.op("Conv", {h, n.random({3, 6, 1}, -0.4, 1, 9)});
  n.output(y);
  const auto samples = samples_for(n.graph, 20, -0.8, 1.75);
  auto ranges = measure_ranges(n.graph, samples);
  const Lowered plain = lower_and_compare(n.graph, samples, with_zero_points());
  const Lowered r = lower_and_compare(n.graph, samples, with_asymmetric(n, {x, h, y}));

  const QuantParams in = r.graph().value(r.graph().inputs().front()).quant.value();
  const Range x_range = ranges.at("x");
  CHECK(in.is_signed);
  CHECK(in.zero_point == zero_point_of(x_range.lo, x_range.hi));
  CHECK(in.zero_point < 0);
  CHECK(in.scale == doctest::Approx((x_range.hi - x_range.lo) / 255));
  const Node& pad = *r.nodes("Pad").front();
  CHECK(pad.attrs.get_float("value", 0) == static_cast<double>(in.zero_point));
  CHECK(pad.attrs.require_ints("pads") == Ints{0, 0, 1, 0, 0, 1});
  CHECK(r.nodes("Conv").front()->attrs.require_ints("pads") == Ints{0, 0});
  const Range y_range = ranges.at(n.graph.value(y).name);
  CHECK(r.out().scale == doctest::Approx((y_range.hi - y_range.lo) / 255));
  CHECK(r.out().zero_point == zero_point_of(y_range.lo, y_range.hi));

  CHECK(plain.count("Pad") == 0);
  CHECK(plain.out().zero_point == 0);
  CHECK(r.worst_steps * r.out().scale < 0.8 * plain.worst_steps * plain.out().scale);
}

TEST_CASE("zero point: a model's asymmetric grid is kept on the way to a Gemm and to an output") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 2, 4});
  const ValueId rows = n.op("Flatten", {x}, attributes({{"axis", std::int64_t{1}}}));
  const ValueId y = n.op("Gemm", {rows, n.random({8, 6}, -1, 1, 3), n.random({6}, -1, 2, 4)});
  n.output(n.op("Reshape", {y, n.ints({1, 3, 2})}));
  const Lowered r = lower_and_compare(n, -0.5, 2.0, with_asymmetric(n, {x, y}));
  CHECK(r.graph().value(r.graph().inputs().front()).quant->zero_point != 0);
  CHECK(r.out().zero_point != 0);
  CHECK(r.worst_steps < 1.5);
}

TEST_CASE("zero point: none on a model's asymmetric grid that a sum, a mean or no target folds") {
  FloatNet sum, mean, conv;
  const ValueId a = sum.input("x", {1, 4, 8});
  sum.output(sum.op("Add", {a, sum.op("Conv", {a, sum.random({4, 4, 1}, -1, 1, 5)})}));
  const ValueId b = mean.input("x", {1, 4, 8});
  mean.output(
      mean.op("ReduceMean", {b}, attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{1}}})));
  const ValueId c = conv.input("x", {1, 4, 8});
  conv.output(conv.op("Conv", {c, conv.random({4, 4, 1}, -1, 1, 5)}));
  const auto check = [](const FloatNet& n, const IntegerizeOptions& options) {
    const Lowered r = lower_and_compare(n, -0.5, 2.0, options);
    const QuantParams in = r.graph().value(r.graph().inputs().front()).quant.value();
    CHECK(in.is_signed);
    CHECK(in.zero_point == 0);
    CHECK(r.worst_steps < 2);
  };
  check(sum, with_asymmetric(sum, {a}));
  check(mean, with_asymmetric(mean, {b}));
  IntegerizeOptions without = with_asymmetric(conv, {c});
  without.target.zero_points = false;
  check(conv, without);
}

}  // namespace
}  // namespace waveq
