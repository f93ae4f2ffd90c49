#include <doctest/doctest.h>

#include <random>

#include "net.h"
#include "waveq/integerize/bounds.h"
#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using test::attributes;
using test::Ints;

Tensor codes(DType dtype, Shape shape, std::int64_t lo, std::int64_t hi, std::mt19937_64& engine) {
  Ints values(static_cast<std::size_t>(element_count(shape)));
  for (std::int64_t& v : values)
    v = lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1));
  return cast(Tensor::from<std::int64_t>(shape, values), dtype);
}

/// The bound of the node that makes `value` is what the evaluator reaches, to the last unit.
void check_tight(const Graph& g, ValueId value) {
  BoundsAnalysis bounds(g);
  const NodeId node = g.value(value).producer;
  INFO(g.node(node).name);
  const NodeBound bound = bounds.check(node);
  REQUIRE(bound.proven);
  const std::optional<double> attained = bounds.attained(node);
  REQUIRE(attained.has_value());
  CHECK(*attained == bound.worst);
}

TEST_CASE("attain: literal accumulators") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2, 4}});
  // 3*127 + 2*128 = 637 for the first filter, -3*128 - 2*127 = -638 is its other end.
  const ValueId c = g.emit(
      "Conv", "c", {x, g.add_constant("w", Tensor::from<std::int8_t>({2, 2, 1}, {3, -2, 1, 1}))});
  g.add_output(c);
  BoundsAnalysis bounds(g);
  CHECK(bounds.check(g.value(c).producer).worst == 638);
  CHECK(bounds.attained(g.value(c).producer) == 638);
  // Inputs that never are zero: the bound covers partial sums, which no whole sum reaches.
  bounds = BoundsAnalysis(g);
  bounds.assume(x, Bounds::all({5, 10}));
  CHECK(bounds.check(g.value(c).producer).worst == 30);  // 3*10 alone
  CHECK(bounds.attained(g.value(c).producer) == 20);     // 3*10 - 2*5
}

TEST_CASE("attain: convolutions of every shape reach their bound") {
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    INFO("seed ", seed);
    std::mt19937_64 engine(seed);
    Graph g;
    const bool flat = seed % 2 != 0;
    const std::int64_t group = seed % 3 == 0 ? 4 : seed % 3 == 1 ? 2 : 1;
    const DType in = seed % 5 == 0 ? DType::u8 : DType::i8;
    const ValueId x = g.add_input("x", {in, flat ? Shape{1, 4, 9} : Shape{2, 4, 6, 7}});
    const Shape ws = flat ? Shape{8, 4 / group, 3} : Shape{8, 4 / group, 2, 3};
    const std::size_t rank = ws.size() - 2;
    std::vector<ValueId> inputs{x, g.add_constant("w", codes(DType::i8, ws, -127, 127, engine))};
    if (seed % 4 == 0)
      inputs.push_back(g.add_constant("b", codes(DType::i32, {8}, -5000, 5000, engine)));
    const ValueId y = g.emit("Conv", "y", inputs,
                             attributes({{"group", group},
                                         {"dilations", Ints(rank, seed % 4 == 1 ? 2 : 1)},
                                         {"strides", Ints(rank, 2)},
                                         {"pads", Ints(2 * rank, seed % 4 == 2 ? 1 : 0)}}));
    g.add_output(y);
    check_tight(g, y);
  }
}

TEST_CASE("attain: products with a constant on either side, batches and biases") {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    INFO("seed ", seed);
    std::mt19937_64 engine(seed);
    Graph g;
    const ValueId x = g.add_input("x", {seed % 2 ? DType::i8 : DType::u8, {3, 5}});
    const ValueId b = g.add_input("b", {DType::i8, {2, 3, 5}});
    const auto weights = [&](Shape shape) {
      return g.add_constant("w", codes(DType::i8, std::move(shape), -127, 127, engine));
    };
    const bool ta = seed % 3 == 0, tb = seed % 4 == 0;
    const std::int64_t K = ta ? 3 : 5;
    const Shape bias = seed % 3 == 0   ? Shape{4}
                       : seed % 3 == 1 ? Shape{1, 4}
                                       : Shape{ta ? 5 : 3, 4};
    const std::vector<ValueId> made = {
        g.emit("Gemm", "gemm",
               {x, weights(tb ? Shape{4, K} : Shape{K, 4}),
                g.add_constant("c", codes(DType::i32, bias, -9000, 9000, engine))},
               attributes({{"transA", std::int64_t{ta}}, {"transB", std::int64_t{tb}}})),
        g.emit("MatMul", "right", {x, weights({5, 4})}),
        g.emit("MatMul", "left", {weights({4, 3}), x}),
        g.emit("MatMul", "right_batch", {b, weights({2, 5, 4})}),
        g.emit("MatMul", "left_batch", {weights({2, 4, 3}), b}),
        g.emit("MatMul", "right_of_batch", {b, weights({5, 4})}),
    };
    for (ValueId y : made) {
      g.add_output(y);
      check_tight(g, y);
    }
  }
}

TEST_CASE("attain: two activations, sums and means take the corners of their ranges") {
  Graph g;
  const ValueId a = g.add_input("a", {DType::u8, {2, 3, 6}});
  const ValueId b = g.add_input("b", {DType::i8, {2, 6, 4}});
  const ValueId c = g.add_input("c", {DType::i8, {2, 3, 6}});
  const ValueId axes = g.add_constant("axes", Tensor::from<std::int64_t>({1}, {2}));
  const Attrs mean = attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{0}}});
  const std::vector<std::pair<ValueId, double>> made = {
      {g.emit("MatMul", "product", {a, b}), 6 * 255 * 128},
      {g.emit("Add", "sum", {a, c}), 255 + 127},
      {g.emit("Sub", "difference", {a, c}), 255 + 128},
      {g.emit("Mul", "mul", {a, c}), 255 * 128},
      {g.emit("ReduceSum", "total", {c, axes}), 6 * 128},
      {g.emit("IntegerMean", "mean", {c}, mean), 6 * 128 + 3},
      {g.emit("IntegerMean", "mean_u8", {a}, mean), 6 * 255 + 3},
  };
  for (const auto& [y, worst] : made) {
    g.add_output(y);
    check_tight(g, y);
    BoundsAnalysis bounds(g);
    CHECK(bounds.check(g.value(y).producer).worst == worst);
  }
}

TEST_CASE("attain: ranges by channel, through a requant, count channel by channel") {
  std::mt19937_64 engine(3);
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4, 5}});
  const ValueId w = g.add_constant("w", codes(DType::i8, {4, 4, 1}, -127, 127, engine));
  const ValueId conv = g.emit("Conv", "conv", {x, w});
  const ValueId mul = g.add_constant("m", Tensor::from<std::int32_t>({4, 1}, {7, 90, -33, 150}));
  const ValueId add = g.add_constant("a", Tensor::from<std::int32_t>({4, 1}, {0, 4000, -9000, 7}));
  const ValueId r = g.emit("RequantShift", "r", {conv, mul, add},
                           attributes({{"div", std::int64_t{1} << 17},
                                       {"n_levels_out", std::int64_t{256}},
                                       {"signed", std::int64_t{1}}}));
  // Zero is inside every channel's range here, so whole sums reach the bound.
  const ValueId next = g.emit("Conv", "next", {r, w});
  const ValueId rows = g.emit(
      "MatMul", "rows", {r, g.emit("Transpose", "t", {r}, attributes({{"perm", Ints{0, 2, 1}}}))});
  g.add_output(next);
  g.add_output(rows);
  BoundsAnalysis bounds(g);
  REQUIRE(bounds.of(r).per_channel());
  REQUIRE(bounds.of(r).of(0) != bounds.of(r).of(3));
  check_tight(g, next);
  check_tight(g, rows);
}

TEST_CASE(
    "attain: the proof reports what is attained, and nothing for operators that are not linear") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  const ValueId y = g.emit(
      "Gemm", "y", {x, g.add_constant("w", Tensor::from<std::int8_t>({4, 1}, {1, -2, 3, -4}))});
  const ValueId z =
      g.emit("iGELU", "z", {x}, attributes({{"b", std::int64_t{-40}}, {"one", std::int64_t{900}}}));
  g.add_output(y);
  g.add_output(z);
  const ProofReport p = prove(g);
  REQUIRE(p.nodes.size() == 2);
  CHECK(p.nodes[0].bound == 1276);  // 127*(1 + 3) + 128*(2 + 4); the other end is -1274
  CHECK(p.nodes[0].attained == 1276);
  CHECK(p.nodes[0].range == Interval{-1274, 1276});
  CHECK(!p.nodes[1].attained.has_value());
}

}  // namespace
}  // namespace waveq
