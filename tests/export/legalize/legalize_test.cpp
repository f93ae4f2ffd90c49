#include "legalize/legalize.h"

#include <map>
#include <random>

#include "../net.h"
#include "waveq/graph/executor.h"

namespace waveq {
namespace {

using namespace test;

std::vector<std::int64_t> run(const Graph& graph, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<Tensor> inputs;
  for (ValueId in : graph.inputs()) {
    const TensorType& type = graph.value(in).type;
    Tensor t(type.dtype, type.shape);
    const auto code = [&] { return static_cast<int>(engine() >> 56); };
    if (type.dtype == DType::i8)
      for (std::int8_t& v : t.as<std::int8_t>()) v = static_cast<std::int8_t>(code() - 128);
    else
      for (std::uint8_t& v : t.as<std::uint8_t>()) v = static_cast<std::uint8_t>(code());
    inputs.push_back(std::move(t));
  }
  Executor executor(graph, Overflow::error);
  std::vector<std::int64_t> all;
  for (const Tensor& out : executor.run(inputs))
    for (std::int64_t v : to_int64(out)) all.push_back(v);
  return all;
}

std::map<std::string, int> operators(const Graph& graph) {
  std::map<std::string, int> count;
  for (NodeId id : graph.nodes()) ++count[graph.node(id).op];
  return count;
}

/// The rewriting is valid, keeps every output element, and changes the network.
Graph check_same(const Graph& before, void (*apply)(Graph&)) {
  Graph after = before;
  apply(after);
  after.remove_dead_nodes();
  after.compact();
  after.verify();
  for (std::uint64_t seed = 1; seed <= 5; ++seed) CHECK(run(before, seed) == run(after, seed));
  return after;
}

const Attrs kDepthwise = attributes({{"group", std::int64_t{3}},
                                     {"kernel_shape", Ints{5}},
                                     {"pads", Ints{2, 2}},
                                     {"strides", Ints{2}},
                                     {"dilations", Ints{1}}});

/// Depthwise, pointwise and dense layers with per-channel requants, a sum, and heads behind them.
Graph one_dimensional() {
  Net n;
  const ValueId x = n.in({1, 3, 16});
  const ValueId a =
      n.requant(n.op("Conv", {x, n.varied({3, 1, 5})}, kDepthwise),
                n.varied<std::int32_t>({3, 1}, 5), n.varied<std::int32_t>({3, 1}, 9), 64);
  const ValueId b =
      n.requant(n.op("Conv", {a, n.varied({4, 3, 1})}), n.varied<std::int32_t>({4, 1}, 2),
                n.varied<std::int32_t>({4, 1}), 128, 0);
  const ValueId c =
      n.requant(n.op("Conv", {a, n.varied({4, 3, 1}, 7)}), n.varied<std::int32_t>({4, 1}, 3),
                n.varied<std::int32_t>({4, 1}), 128);
  const ValueId sum = n.requant(n.op("Add", {n.requant(b, 31, 64), c}), 40, 64);
  const ValueId heads = n.op("Reshape", {sum, n.ints({1, 2, 2, 8})});
  const ValueId turned = n.op("Transpose", {heads}, attributes({{"perm", Ints{0, 1, 3, 2}}}));
  const ValueId gram = n.requant(n.op("MatMul", {heads, turned}), 3, 64);
  const ValueId flat = n.op("Reshape", {gram, n.ints({1, 8})});
  n.g.add_output(
      n.requant(n.op("Gemm", {flat, n.varied({5, 8})}, attributes({{"transB", std::int64_t{1}}})),
                n.varied<std::int32_t>({5}, 4), n.varied<std::int32_t>({5}, 6), 128));
  return n.g;
}

TEST_CASE(
    "conv_as_2d: convolutions and matrix products become two-dimensional, the integers stay") {
  const Graph before = one_dimensional();
  const Graph after = check_same(before, conv_as_2d);
  CHECK(operators(after)["Gemm"] == 0);
  CHECK(operators(after)["Conv"] == 4);
  for (NodeId id : after.nodes()) {
    const Node& node = after.node(id);
    if (node.op != "Conv") continue;
    CHECK(after.value(node.inputs[0]).type.shape.size() == 4);
    CHECK(after.value(node.inputs[1]).type.shape.size() == 4);
  }
  CHECK(after.value(after.outputs().front()).type.shape == Shape{1, 5, 1, 1});
  // The sum and its operands follow without a Reshape in between: in front of the first Conv, in
  // front of and behind the heads.
  CHECK(operators(after)["Reshape"] == 4);
}

TEST_CASE("conv_as_2d: what it does not speak about stays") {
  Net n;
  const ValueId x = n.in({1, 3, 4});
  const ValueId y = n.op("Conv", {x, n.varied({2, 3, 1})});
  const ValueId moved =
      n.op("Transpose", {n.requant(y, 3, 64)}, attributes({{"perm", Ints{0, 2, 1}}}));
  n.g.add_output(moved);
  const Graph after = check_same(n.g, conv_as_2d);
  CHECK(after.value(after.outputs().front()).type.shape == Shape{1, 4, 2});

  Net biased;
  biased.g.add_output(
      biased.op("Gemm", {biased.in({1, 3}), biased.varied({2, 3}), biased.c<std::int32_t>({2}, 7)},
                attributes({{"transB", std::int64_t{1}}})));
  CHECK(operators(check_same(biased.g, conv_as_2d))["Gemm"] == 1);

  Net plane;
  plane.g.add_output(plane.op("Conv", {plane.in({1, 2, 4, 4}), plane.varied({2, 2, 3, 3})}));
  CHECK(operators(check_same(plane.g, conv_as_2d))["Reshape"] == 0);
}

TEST_CASE(
    "separate_requants: each requant gets a convolution of its own, other readers keep theirs") {
  Net n;
  const ValueId y = n.op("Conv", {n.in({1, 2, 4}), n.varied({3, 2, 1})});
  n.g.add_output(n.requant(y, 3, 64));
  n.g.add_output(n.requant(y, 5, 64, 0));
  CHECK(operators(check_same(n.g, separate_requants))["Conv"] == 2);
  n.g.add_output(n.op("Transpose", {y}, attributes({{"perm", Ints{0, 2, 1}}})));
  CHECK(operators(check_same(n.g, separate_requants))["Conv"] == 3);

  Net single;
  single.g.add_output(
      single.requant(single.op("Conv", {single.in({1, 2, 4}), single.varied({3, 2, 1})}), 3, 64));
  CHECK(operators(check_same(single.g, separate_requants))["Conv"] == 1);
}

TEST_CASE(
    "part_added_requants: a view stands between iGELU and a requant that is unsigned or adds") {
  const Attrs gelu = attributes({{"b", std::int64_t{-40}}, {"one", std::int64_t{1600}}});
  Net n;
  const ValueId y = n.op("iGELU", {n.in({1, 2, 4})}, gelu);
  n.g.add_output(n.requant(y, n.c<std::int32_t>({}, 3), n.c<std::int32_t>({}, 600), 1 << 20, 0));
  const ValueId z = n.op("iGELU", {n.in({1, 2, 4})}, gelu), none = n.c<std::int32_t>({}, 0);
  n.g.add_output(n.requant(z, n.c<std::int32_t>({}, 3), none, 1 << 20, 0));
  n.g.add_output(n.requant(z, n.c<std::int32_t>({}, 3), n.c<std::int32_t>({}, 600), 1 << 20));
  const Graph parted = check_same(n.g, part_added_requants);
  CHECK(operators(parted)["Reshape"] == 3);
  Net plain;
  plain.g.add_output(plain.requant(plain.op("iGELU", {plain.in({1, 2, 4})}, gelu), 3, 1 << 20));
  CHECK(operators(check_same(plain.g, part_added_requants))["Reshape"] == 0);
}

TEST_CASE(
    "explicit_pads: unequal pads and strided depthwise pads leave the Conv, one Pad for one "
    "tensor") {
  Net n;
  const ValueId x = n.in({1, 3, 16});
  n.g.add_output(n.op("Conv", {x, n.varied({3, 1, 5})}, kDepthwise));
  n.g.add_output(n.op("Conv", {x, n.varied({3, 1, 5}, 9)}, kDepthwise));
  const Graph after = check_same(n.g, explicit_pads);
  CHECK(operators(after)["Pad"] == 1);
  for (NodeId id : after.nodes())
    if (after.node(id).op == "Conv")
      CHECK(after.node(id).attrs.get_ints("pads", {1}) == Ints{0, 0});

  Net uneven;
  uneven.g.add_output(uneven.op("Conv", {uneven.in({1, 2, 5, 6}), uneven.varied({3, 2, 3, 3})},
                                attributes({{"pads", Ints{1, 0, 1, 2}}})));
  CHECK(operators(check_same(uneven.g, explicit_pads))["Pad"] == 1);

  Net even;
  even.g.add_output(even.op("Conv", {even.in({1, 2, 5, 6}), even.varied({3, 2, 3, 3})},
                            attributes({{"pads", Ints{1, 1, 1, 1}}})));
  CHECK(operators(check_same(even.g, explicit_pads))["Pad"] == 0);
}

TEST_CASE(
    "wide_elementwise_as_conv: large requants and sums become convolutions, small ones stay") {
  Net n;
  const ValueId x = n.in({1, 2, 1, 16}, DType::u8), y = n.in({1, 2, 1, 16});
  const ValueId a = n.requant(x, 31, 64);
  n.g.add_output(n.requant(n.op("Add", {a, y}), 40, 64));
  const auto limited = [](Graph& g) {
    wide_elementwise_as_conv(g,
                             {.requant_elements = 31, .requant_multiple = 1, .add_elements = 31});
  };
  Graph after = check_same(n.g, limited);
  CHECK(operators(after)["Conv"] == 2);
  CHECK(operators(after)["Add"] == 0);
  CHECK(operators(after)["Concat"] == 1);
  const auto odd = [](Graph& g) {
    wide_elementwise_as_conv(g,
                             {.requant_elements = 32, .requant_multiple = 5, .add_elements = 32});
  };
  after = check_same(n.g, odd);
  CHECK(operators(after)["Conv"] == 1);
  CHECK(operators(after)["Add"] == 1);
  const auto roomy = [](Graph& g) {
    wide_elementwise_as_conv(g,
                             {.requant_elements = 32, .requant_multiple = 16, .add_elements = 32});
  };
  CHECK(operators(check_same(n.g, roomy))["Conv"] == 0);
}

TEST_CASE("widen_depthwise_kernels: zero taps on both sides up to the least number") {
  const auto four = [](Graph& g) { widen_depthwise_kernels(g, 4); };
  const auto width = [&](Shape weights, std::int64_t group, Ints strides) {
    Net n;
    n.g.add_output(n.op("Conv", {n.in({1, 3, 4, 7}), n.varied(weights)},
                        attributes({{"group", group}, {"strides", strides}})));
    const Graph after = check_same(n.g, four);
    return after.value(after.node(after.nodes().front()).inputs[1]).type.shape.back();
  };
  CHECK(width({3, 1, 1, 1}, 3, {1, 1}) == 5);
  CHECK(width({3, 1, 1, 2}, 3, {1, 2}) == 4);
  CHECK(width({3, 1, 1, 3}, 3, {2, 2}) == 5);
  CHECK(width({3, 1, 3, 1}, 3, {1, 1}) == 3);
  CHECK(width({3, 1, 1, 4}, 3, {1, 1}) == 4);
  CHECK(width({3, 1, 2, 2}, 3, {1, 1}) == 2);
  CHECK(width({2, 3, 1, 1}, 1, {1, 1}) == 1);
}

TEST_CASE("wide_elementwise_as_conv: an unsigned requant of its own, of any rank up to 4") {
  const auto roomy = [](Graph& g) {
    wide_elementwise_as_conv(
        g, {.requant_elements = 1 << 20, .requant_multiple = 1, .add_elements = 1 << 20});
  };
  for (const Shape& shape : {Shape{1, 6}, Shape{1, 3, 4}, Shape{1, 2, 3, 2}}) {
    Net n;
    const ValueId u =
        n.requant(n.in(shape), n.c<std::int32_t>({}, 50), n.c<std::int32_t>({}, 1000), 64, 0);
    n.g.add_output(n.requant(u, 20, 64));
    n.g.add_output(u);
    const Graph after = check_same(n.g, roomy);
    CHECK(operators(after)["Conv"] == 1);  // the signed one stays
    CHECK(operators(after)["RequantShift"] == 2);
    CHECK(operators(after)["Reshape"] == (shape.size() < 4 ? 2 : 0));
  }
}

TEST_CASE("distinct_concat_operands: the same tensor twice comes as a view of itself") {
  Net n;
  const ValueId x = n.in({1, 2, 3}), y = n.requant(x, 30, 64);
  const Attrs axis = attributes({{"axis", std::int64_t{1}}});
  n.g.add_output(n.op("Concat", {x, x}, axis));
  n.g.add_output(n.op("Concat", {x, y}, axis));
  const Graph after = check_same(n.g, distinct_concat_operands);
  CHECK(operators(after)["Reshape"] == 1);
  for (NodeId id : after.nodes())
    if (after.node(id).op == "Concat") CHECK(after.node(id).inputs[0] != after.node(id).inputs[1]);
}

TEST_CASE("slices_as_conv: channels, space, several axes and steps, of either sign") {
  struct Cut {
    Shape shape;
    Ints axes, starts, ends, steps;
    int convolutions, transposes;
  };
  const std::vector<Cut> cuts = {{{1, 5, 4}, {1}, {1}, {4}, {1}, 1, 0},
                                 {{1, 5, 4}, {2}, {0}, {4}, {2}, 1, 2},
                                 {{1, 3, 4, 6}, {1, 3}, {0, 1}, {2, 6}, {1, 3}, 2, 2},
                                 {{1, 7}, {1}, {0}, {7}, {1}, 0, 0},
                                 {{2, 3, 4}, {0}, {1}, {2}, {1}, 1, 0}};
  for (const DType dtype : {DType::i8, DType::u8})
    for (const Cut& cut : cuts) {
      Net n;
      const ValueId part = n.op("Slice", {n.in(cut.shape, dtype)},
                                attributes({{"axes", cut.axes},
                                            {"starts", cut.starts},
                                            {"ends", cut.ends},
                                            {"steps", cut.steps}}));
      n.g.add_output(part);
      n.g.add_output(n.requant(part, 31, 64));
      const Graph after = check_same(n.g, slices_as_conv);
      CHECK(operators(after)["Slice"] == 0);
      CHECK(operators(after)["Conv"] == cut.convolutions);
      CHECK(operators(after)["Transpose"] == cut.transposes);
      CHECK(after.node(after.value(after.outputs()[0]).producer).op == "RequantShift");
    }
}

TEST_CASE("own_summand_requants: a requant for each operand that has none of its own") {
  const auto requants = [](auto build) {
    Net n;
    const ValueId x = n.in({1, 2, 1, 16});
    n.g.add_output(n.requant(build(n, x), 40, 64));
    return operators(check_same(n.g, own_summand_requants))["RequantShift"];
  };
  // Both taken along already: nothing changes.
  CHECK(requants([](Net& n, ValueId x) {
          return n.op("Add", {n.requant(x, 31, 64), n.requant(x, 30, 64)});
        }) == 3);
  CHECK(requants([](Net& n, ValueId x) {
          return n.op("Add", {n.requant(x, 31, 64),
                              n.requant(n.op("Conv", {x, n.varied({2, 2, 1, 1})}), 3, 64)});
        }) == 3);
  // The input itself, a requant read twice, a requant over a product.
  CHECK(requants([](Net& n, ValueId x) { return n.op("Add", {x, n.requant(x, 30, 64)}); }) == 3);
  CHECK(requants([](Net& n, ValueId x) {
          const ValueId shared = n.requant(x, 31, 64);
          return n.op("Add", {shared, n.requant(n.op("Mul", {shared, x}), 3, 64)});
        }) == 5);
}

}  // namespace
}  // namespace waveq
