#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "vectors_net.h"
#include "waveq/export/vectors.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

TEST_CASE("vectors: every element of all inputs has a number of its own") {
  Graph g;
  const ValueId a = g.add_input("a", {DType::i8, {1, 20, 15}}),
                b = g.add_input("b", {DType::i8, {1, 7, 15}});
  g.add_output(g.emit("Concat", "joined", {a, b}, attributes({{"axis", std::int64_t{1}}})));
  const KernelVectors v = vectors_of(g, "joined", {.random = 0});
  const VectorCase *low = covering(v, "positions_digit_0"),
                   *high = covering(v, "positions_digit_1");
  REQUIRE((low && high));
  const Ints first = to_int64(low->outputs[0]), second = to_int64(high->outputs[0]);
  std::set<std::pair<std::int64_t, std::int64_t>> numbers;
  for (std::size_t i = 0; i < first.size(); ++i) numbers.emplace(first[i], second[i]);
  CHECK(numbers.size() == 27 * 15);
}

TEST_CASE(
    "vectors: a normalization meets squares under the root, both neighbours, and what truncation "
    "hides") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 3, 6}});
  const ValueId w = g.add_constant(
                    "w", Tensor::from<std::int32_t>({6}, I32{900, -800, 700, 600, -500, 9000})),
                b = g.add_constant("b",
                                   Tensor::from<std::int32_t>({6}, I32{0, 7, -900, 5000, 1, 2}));
  g.add_output(g.emit("iLayerNorm", "norm", {x, w, b},
                      attributes({{"D", std::int64_t{256}}, {"n_levels", std::int64_t{256}}})));
  const KernelVectors v = vectors_of(g, "norm", {.random = 0});
  std::set<std::int64_t>
      from_square;  // distance of the variance from the square below it; -1: one below the next
  for (const VectorCase& c : v.cases) {
    const Ints q = to_int64(c.inputs[0]);
    for (std::size_t row = 0; row < q.size(); row += 6) {
      std::int64_t sum = 0, squares = 0;
      for (std::size_t i = 0; i < 6; ++i) sum += q[row + i];
      for (std::size_t i = 0; i < 6; ++i)
        squares += (q[row + i] - sum / 6) * (q[row + i] - sum / 6);
      const std::int64_t variance = squares / 6 + 1, root = isqrt(variance);
      if (root < 2) continue;
      from_square.insert(variance == (root + 1) * (root + 1) - 1 ? -1 : variance - root * root);
    }
  }
  for (const std::int64_t d : {-1, 0, 1}) CHECK_MESSAGE(from_square.contains(d), d);
  for (const char* name : {"zero_variance", "shows_floor_of_mean", "shows_variance_minus_1",
                           "shows_floor_of_quotient", "shows_truncating_shift"})
    CHECK_MESSAGE(covering(v, name) != nullptr, name);
}

TEST_CASE("vectors: streaming rows rise by what just does and just does not shift the sum") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4, 9}});
  g.add_output(
      g.emit("ITAPartialMax", "max", {x},
             attributes({{"n_levels", std::int64_t{256}}, {"group_width", std::int64_t{3}}})));
  const KernelVectors v = vectors_of(g, "max", {.random = 0});
  std::set<std::int64_t> rises;
  for (const VectorCase& c : v.cases) {
    const Ints q = to_int64(c.inputs[0]);
    for (std::size_t row = 0; row < q.size(); row += 9)
      for (std::size_t i = row + 3; i < row + 9; i += 3)
        rises.insert(*std::max_element(q.begin() + static_cast<std::ptrdiff_t>(i),
                                       q.begin() + static_cast<std::ptrdiff_t>(i) + 3) -
                     *std::max_element(q.begin() + static_cast<std::ptrdiff_t>(i) - 3,
                                       q.begin() + static_cast<std::ptrdiff_t>(i)));
  }
  for (const std::int64_t rise : {0, 15, 16, 17, 255}) CHECK_MESSAGE(rises.contains(rise), rise);
}

TEST_CASE(
    "vectors: an affine form attains the ends of its results, and codes that overflow are left "
    "out") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 3, 2}});
  const ValueId w = g.add_constant("w", Tensor::from<std::int8_t>({2}, I8{127, -128})),
                b = g.add_constant("b", Tensor::from<std::int32_t>({2}, I32{0, 300}));
  g.add_output(g.emit("iNoNorm", "affine", {x, w, b},
                      attributes({{"D", std::int64_t{16384}},
                                  {"mul", std::int64_t{140}},
                                  {"n_levels", std::int64_t{256}}})));
  const KernelVectors v = vectors_of(g, "affine", {.random = 0});
  std::set<std::int64_t> results;
  for (const VectorCase& c : v.cases)
    for (const std::int64_t y : to_int64(c.outputs[0])) results.insert(y);
  CHECK(*results.begin() == -128);
  CHECK(*results.rbegin() == 127);
  CHECK(lists(v.unreached, "all_min"));  // -128*127*140 >> 14 is -139
}

TEST_CASE("vectors: an operator in words becomes its node") {
  const OperatorNetwork net =
      operator_network({.op = "RequantShift",
                        .node = "rq",
                        .operands = {"i32[1,2,3]=-700..900", "i32[2,1]:5,-6", "i32[1]:7"},
                        .attributes = {"div=64", "n_levels=256", "signed=1"}});
  const Node& node = net.graph.node(net.graph.nodes().front());
  CHECK(node.name == "rq");
  CHECK(to_int64(net.graph.constant(node.inputs[1])) == Ints{5, -6});
  CHECK(node.attrs.require_int("div") == 64);
  REQUIRE(net.ranges.contains("in0"));
  CHECK(net.ranges.at("in0").lo == -700);
  CHECK(net.ranges.at("in0").hi == 900);
  const OperatorNetwork drawn = operator_network(
      {.op = "Conv", .operands = {"i8[1,1,9]", "i8[2,1,3]:-3..4"}, .attributes = {"strides=[2]"}});
  for (const std::int64_t q :
       to_int64(drawn.graph.constant(drawn.graph.node(drawn.graph.nodes().front()).inputs[1])))
    CHECK((q >= -3 && q <= 4));
  CHECK(drawn.graph.value(drawn.graph.outputs()[0]).type.shape == Shape{1, 2, 4});
  for (const char* bad : {"i8", "i8[2", "i9[2]", "i8[0]", "i8[2]=0..1", "i32[2]=5..4", "i32[2]=5",
                          "i32[2]?", "i32[2]:1,", "i8[1]:128"})
    CHECK_THROWS_AS(operator_network({.op = "Reshape", .operands = {bad}}), Error);
}

}  // namespace waveq
