// Networks in the float forms that a target's kernels ask for.
#include "shape_for_target.h"

#include "net.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/integerize/approximation.h"
#include "waveq/rewrites/driver.h"

namespace waveq {
namespace {

using namespace test;

/// What iRMSNorm targets run of the networks below.
IntegerizeOptions rms_target(bool rows_as_channels = true) {
  IntegerizeOptions options;
  options.target.operators = {"Add",      "Concat",   "Conv",    "Gemm",         "MatMul",
                              "Mul",      "Reshape",  "Slice",   "RequantShift", "iGELU",
                              "iRMSNorm", "iSoftmax", "Squeeze", "Transpose",    "Unsqueeze"};
  options.target.form.int8_operands = true;
  options.target.form.gemm_bias_in_requant = true;
  options.target.form.rows_as_channels = rows_as_channels;
  return options;
}

ValueId linear(FloatNet& n, ValueId x, std::int64_t from, std::int64_t to, std::uint64_t seed) {
  const double reach = 1.5 / std::sqrt(static_cast<double>(from));
  return n.op("Add", {n.op("MatMul", {x, n.random({from, to}, -reach, reach, seed)}),
                      n.random({to}, -0.5, 0.5, seed + 100)});
}

ValueId norm(FloatNet& n, ValueId x, std::int64_t length, std::uint64_t seed) {
  const auto axis = static_cast<std::int64_t>(n.graph.value(x).type.shape.size()) - 1;
  return n.op("LayerNormalization",
              {x, n.random({length}, 0.5, 1.5, seed), n.random({length}, -0.5, 0.5, seed + 1)},
              attributes({{"axis", axis}}));
}

/// The network after all rewrites.
FloatNet canonical(FloatNet n) {
  rewrite(n.graph);
  return n;
}

ShapedNetwork shaped(const Graph& graph, const IntegerizeOptions& options) {
  return shape_for_target(
      graph,
      [](const std::string&, const QuantSpec&) {
        return Range{-1, 1};
      },
      options);
}

std::size_t count(const Graph& graph, std::string_view op) {
  std::size_t found = 0;
  for (NodeId id : graph.nodes()) found += graph.node(id).op == op ? 1 : 0;
  return found;
}

/// Largest difference of the outputs over random inputs, relative to the largest output.
double difference(const Graph& a, const Graph& b) {
  Executor first(a), second(b);
  double worst = 0, largest = 0;
  for (const auto& sample : samples_for(a, 3)) {
    const auto x = first.run(sample), y = second.run(sample);
    for (std::size_t o = 0; o < x.size(); ++o) {
      REQUIRE(x[o].shape() == y[o].shape());
      const auto p = to_double(x[o]), q = to_double(y[o]);
      for (std::size_t i = 0; i < p.size(); ++i) {
        worst = std::max(worst, std::abs(p[i] - q[i]));
        largest = std::max(largest, std::abs(p[i]));
      }
    }
  }
  return worst / largest;
}

IntegerizeOptions channels_only() {
  IntegerizeOptions options;
  options.target.form.rows_as_channels = true;
  return options;
}

}  // namespace

TEST_CASE("rows as channels: the same function, whatever the shape of the rows") {
  for (const Shape& shape : {Shape{1, 5, 6}, Shape{5, 6}, Shape{2, 3, 6}, Shape{1, 2, 3, 6}}) {
    CAPTURE(to_string(shape));
    FloatNet n;
    const ValueId x = n.input("x", shape);
    const ValueId y = n.op("Gelu", {linear(n, x, 6, 8, 1)});
    n.output(linear(n, y, 8, 4, 2));
    const ShapedNetwork s = shaped(n.graph, channels_only());
    CHECK(count(s.graph, "Conv") == 2);
    CHECK(count(s.graph, "MatMul") == 0);
    CHECK(count(s.graph, "Add") == 0);
    CHECK(count(s.graph, "Transpose") == 2);  // to columns, and back at the end
    CHECK(difference(n.graph, s.graph) < 1e-6);
  }
}

TEST_CASE("rows as channels: Gemm with its factors and biases") {
  for (const bool transposed : {false, true}) {
    FloatNet n;
    const ValueId x = n.input("x", {5, 6});
    n.output(n.op(
        "Gemm",
        {x, n.random(transposed ? Shape{4, 6} : Shape{6, 4}, -1, 1, 1),
         n.random(transposed ? Shape{4} : Shape{1}, -1, 1, 2)},
        attributes({{"alpha", 0.5}, {"beta", 2.0}, {"transB", std::int64_t{transposed ? 1 : 0}}})));
    const ShapedNetwork s = shaped(n.graph, channels_only());
    CHECK(count(s.graph, "Conv") == 1);
    CHECK(difference(n.graph, s.graph) < 1e-6);
  }
}

TEST_CASE("rows as channels: sums follow, products of activations and softmax read rows") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 5, 6});
  const ValueId stream = n.op("Add", {linear(n, x, 6, 8, 1), n.random({1, 5, 8}, -1, 1, 7)});
  const ValueId scaled = n.op("Mul", {stream, n.random({8}, -1, 1, 9)});
  const ValueId next =
      n.op("Add", {n.op("Mul", {scaled, n.floats({}, {0.5F})}), linear(n, stream, 8, 8, 3)});
  const ValueId other = n.op("Sub", {next, linear(n, x, 6, 8, 5)});
  const ValueId turned = n.op("Transpose", {other}, attributes({{"perm", Ints{0, 2, 1}}}));
  n.output(
      n.op("Softmax", {n.op("MatMul", {next, turned})}, attributes({{"axis", std::int64_t{-1}}})));
  n.output(stream);
  const ShapedNetwork s = shaped(n.graph, channels_only());
  CHECK(count(s.graph, "Conv") == 3);
  CHECK(count(s.graph, "MatMul") == 1);
  CHECK(difference(n.graph, s.graph) < 1e-6);
  // What has the name of a tensor has its shape.
  for (std::size_t i = 0; i < s.graph.value_count(); ++i) {
    const Value& v = s.graph.value({static_cast<std::int32_t>(i)});
    if (v.constant) continue;
    if (const auto old = n.graph.find_value(v.name)) CHECK(n.graph.value(*old).type == v.type);
  }
}

TEST_CASE("rows as channels: one row, varying weights and other ranks stay") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 6}), y = n.input("y", {2, 3, 6});
  n.output(n.op("MatMul", {x, n.random({6, 4}, -1, 1, 1)}));
  n.output(n.op("MatMul", {y, n.random({2, 6, 4}, -1, 1, 2)}));
  n.output(n.op("MatMul", {y, n.op("Transpose", {y}, attributes({{"perm", Ints{0, 2, 1}}}))}));
  const ShapedNetwork s = shaped(n.graph, channels_only());
  CHECK(count(s.graph, "Conv") == 0);
  CHECK(count(s.graph, "MatMul") == 3);
}

TEST_CASE("without row means: a block with norms in front needs no centring") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 6, 12});
  const ValueId stream = linear(n, x, 12, 16, 1);
  const ValueId branch =
      linear(n, n.op("Gelu", {linear(n, norm(n, stream, 16, 20), 16, 32, 2)}), 32, 16, 3);
  n.output(linear(n, norm(n, n.op("Add", {stream, branch}), 16, 30), 16, 8, 4));
  const FloatNet c = canonical(n);
  const Lowered r = lower_and_compare(c, -1, 1, rms_target());
  CHECK(r.count("iRMSNorm") == 2);
  CHECK(r.count("iLayerNorm") == 0);
  CHECK(r.count("MatMul") == 0);
  CHECK(r.count("Conv") == 4);  // the four linear nodes, no more
  // What is computed in columns is still known by the name of the rows.
  std::string gelu;
  for (NodeId id : c.graph.nodes())
    if (c.graph.node(id).op == "Gelu") gelu = c.graph.value(c.graph.node(id).outputs[0]).name;
  const auto found = std::ranges::find_if(
      r.network.correspondences, [&](const Correspondence& k) { return k.float_value == gelu; });
  REQUIRE(found != r.network.correspondences.end());
  CHECK(found->turned);
  CHECK(r.graph().value(*r.graph().find_value(found->integer_value)).type.shape == Shape{1, 32, 6});
  CHECK(r.worst_steps < 6);
}

TEST_CASE(
    "without row means: a norm behind the sum is centred, its bias stays where a sum reads it") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 6, 16});
  const ValueId first = norm(n, n.op("Add", {x, linear(n, x, 16, 16, 1)}), 16, 20);
  const ValueId second = norm(n, n.op("Add", {first, linear(n, first, 16, 16, 2)}), 16, 30);
  n.output(linear(n, second, 16, 8, 4));
  const FloatNet c = canonical(n);
  const Lowered r = lower_and_compare(c, -1, 1, rms_target());
  CHECK(r.count("iRMSNorm") == 2);
  CHECK(r.count("Conv") == 3 + 2 + 1);  // linear nodes, centring, the bias of the first norm
  CHECK(r.worst_steps < 10);
}

TEST_CASE("without row means: RMSNormalization comes back from its mirrored form") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 6, 16});
  const ValueId y = n.op("RMSNormalization", {x, n.random({16}, 0.5, 1.5, 1)},
                         attributes({{"axis", std::int64_t{-1}}}));
  n.output(linear(n, y, 16, 8, 2));
  const FloatNet c = canonical(n);
  CHECK(count(c.graph, "RMSNormalization") == 0);
  const Lowered r = lower_and_compare(c, -1, 1, rms_target());
  CHECK(r.count("iRMSNorm") == 1);
  CHECK(r.count("Concat") == 0);
  CHECK(r.count("Slice") == 0);
  CHECK(r.count("Conv") == 1);
  CHECK(r.worst_steps < 6);
}

TEST_CASE("without row means: half a step of rounding down is made up for") {
  // Without it the sum of many rows would be off by half a step each.
  FloatNet n;
  const ValueId x = n.input("x", {1, 8, 64});
  const ValueId y = n.op("RMSNormalization", {x, n.floats({64}, std::vector<float>(64, 1.0F))},
                         attributes({{"axis", std::int64_t{-1}}}));
  n.output(n.op("MatMul", {y, n.floats({64, 2}, std::vector<float>(128, 1.0F))}));
  const FloatNet c = canonical(n);
  const auto samples = samples_for(c.graph, 20);
  const IntegerNetwork q =
      integerize(c.graph, lookup(measure_ranges(c.graph, samples)), rms_target());
  Executor real(c.graph), integer(q.graph);
  double sum = 0, count = 0;
  const double scale = q.graph.value(q.graph.outputs()[0]).quant->scale;
  for (const auto& sample : samples) {
    const auto want = to_double(real.run(sample)[0]);
    const std::vector<Tensor> codes{
        quantize_tensor(sample[0], *q.graph.value(q.graph.inputs()[0]).quant)};
    const auto got = to_double(integer.run(codes)[0]);
    for (std::size_t i = 0; i < want.size(); ++i) sum += got[i] * scale - want[i], ++count;
  }
  // A step of y is about 3.5/127; 64 halves of it would be 0.9.
  CHECK(std::abs(sum / count) < 0.2);
}

TEST_CASE(
    "without row means: rows that the kernel gets wrong are refused by the model's own name") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 6, 12});
  n.output(linear(n, norm(n, linear(n, x, 12, 12, 1), 12, 2), 12, 8, 4));
  const FloatNet c = canonical(n);
  IntegerizeOptions options = rms_target();
  CHECK(explain_refusals(c.graph, options).empty());
  options.target.form.norm_row_multiple = 8;
  const auto refused = explain_refusals(c.graph, options);
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].node == "LayerNormalization");
  CHECK(refused[0].reason.find("iRMSNorm of 12 elements") != std::string::npos);
}

TEST_CASE("choose_rms_norm: weights of full precision, rounding down by half a step on average") {
  const RmsNormParameters p = choose_rms_norm({1.0, -0.5, 2.0, 0.0}, 0.03, 32);
  CHECK(p.scale == 0.03);
  CHECK(p.weight[3] == 0);
  const double unit = std::ldexp(1.0, p.log2_d) / 0.03 * (1 - 0.49 / 32);
  CHECK(std::abs(p.weight[0] - unit) <= 0.5);
  CHECK(std::abs(p.weight[1] + 0.5 * unit) <= 0.5);
  CHECK(p.weight[2] < (1 << 24));
  CHECK(p.weight[2] >= (1 << 22));
  std::mt19937_64 engine(7);
  std::vector<double> gain(64, 1.0);
  const RmsNormParameters even = choose_rms_norm(gain, 0.03, 32);
  double error = 0;
  for (int k = 0; k < 500; ++k) {
    std::vector<std::int32_t> row(64), y(64);
    double squares = 0;
    for (std::int32_t& v : row) {
      v = static_cast<std::int32_t>(engine() % 111) - 55;
      squares += v * v;
    }
    irmsnorm(row, even.weight, even.log2_d, y);
    for (std::size_t i = 0; i < 64; ++i) error += y[i] * 0.03 - row[i] / std::sqrt(squares / 64);
  }
  CHECK(error / (500 * 64) / 0.03 == doctest::Approx(-0.5).epsilon(0.1));
  CHECK_THROWS_AS(choose_rms_norm({1.0}, 0.0, 32), Error);
  CHECK_THROWS_AS(choose_rms_norm({HUGE_VAL}, 0.1, 32), Error);
  CHECK_THROWS_AS(choose_rms_norm({1.0}, 1e-9, 32), Error);
}

}  // namespace waveq
