#include "precision.h"

#include "net.h"
#include "unary_chains.h"

namespace waveq {
namespace {

using namespace test;

IntegerizeOptions wide(std::map<std::string, std::int64_t> rules) {
  IntegerizeOptions options;
  options.precision = std::move(rules);
  options.target.int16 = {"RequantShift", "Mul", "Add", "MatMul", "Conv", "Transpose", "Gemm"};
  return options;
}

/// x -> Mul -> Transpose -> Add(y): names are those of the operators.
FloatNet products() {
  FloatNet net;
  const ValueId a = net.input("a", {1, 4, 8}), b = net.input("b", {1, 4, 8});
  const ValueId product = net.op("Mul", {a, b});
  const ValueId turned = net.op("Transpose", {product}, attributes({{"perm", Ints{0, 2, 1}}}));
  net.output(
      net.op("Sub", {turned, net.op("Transpose", {a}, attributes({{"perm", Ints{0, 2, 1}}}))}));
  return net;
}

std::set<std::string> matched(const Graph& graph,
                              const std::map<std::string, std::int64_t>& rules) {
  std::set<std::string> names;
  for (ValueId id : values_of_16_bits(graph, rules)) names.insert(graph.value(id).name);
  return names;
}

TEST_CASE("precision: names, patterns and operators, the closest wins") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2});
  net.output(net.graph.emit("Relu", "/a/b/relu", {x}));
  net.output(net.graph.emit("Relu", "/a/c/relu", {x}));
  net.output(net.graph.emit("Tanh", "/a/c/tanh", {x}));
  using Set = std::set<std::string>;
  CHECK(matched(net.graph, {}).empty());
  CHECK(matched(net.graph, {{"op:Relu", 16}}) == Set{"/a/b/relu", "/a/c/relu"});
  CHECK(matched(net.graph, {{"/a/*", 16}}) == Set{"/a/b/relu", "/a/c/relu", "/a/c/tanh"});
  CHECK(matched(net.graph, {{"*/?/tanh", 16}}) == Set{"/a/c/tanh"});
  CHECK(matched(net.graph, {{"x", 16}}) == Set{"x"});
  CHECK(matched(net.graph, {{"/a/*", 8}, {"op:Relu", 16}}).empty());
  CHECK(matched(net.graph, {{"/a/*", 16}, {"/a/c*", 8}}) == Set{"/a/b/relu"});
  CHECK(matched(net.graph, {{"/a/c/*", 8}, {"/a/c/tanh", 16}}) == Set{"/a/c/tanh"});
  for (const char* none : {"relu", "/a/b", "op:Conv", "*b", "??", ""}) {
    INFO(none);
    CHECK_THROWS_AS(matched(net.graph, {{none, 16}}), Error);
  }
}

TEST_CASE("weight levels: those of single nodes, for every kind of linear node") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 8});
  const ValueId a = net.op("Conv", {x, net.random({3, 2, 3}, -1, 1, 1)});
  const ValueId b = net.op("MatMul", {net.op("Relu", {a}), net.random({6, 4}, -1, 1, 2)});
  const ValueId flat = net.op("Flatten", {net.op("Tanh", {b})});
  net.output(net.op("Gemm", {flat, net.random({12, 5}, -1, 1, 3)}));
  const auto largest = [&](std::map<std::string, std::int64_t> rules) {
    IntegerizeOptions options;
    options.target.operators = {"Table"};
    options.weight_levels = 16;
    options.weight_levels_of = std::move(rules);
    const Lowered y = lower_and_compare(net, -1, 1, options);
    std::vector<std::int64_t> found;
    for (const WeightOrigin& w : y.network.weights) {
      const std::vector<std::int64_t> q =
          to_int64(y.graph().constant(*y.graph().find_value(w.integer_value)));
      found.push_back(0);
      for (std::int64_t v : q) found.back() = std::max(found.back(), std::abs(v));
      CHECK(found.back() == (w.n_levels - 1) / 2);
    }
    return found;
  };
  CHECK(largest({}) == Ints{7, 7, 7});
  CHECK(largest({{"Conv", 256}}) == Ints{127, 7, 7});
  CHECK(largest({{"op:Gemm", 4}, {"M*", 64}}) == Ints{7, 31, 1});
  // Relu has no weights.
  CHECK_THROWS_AS(largest({{"Relu", 256}}), Error);
}

TEST_CASE("precision: a 16-bit tensor keeps its width through what reads it") {
  const Lowered y = lower_and_compare(products(), -1, 1, wide({{"Mul", 16}}));
  // RequantShift of the product to 16 bits, Transpose on them; Sub is not listed: 8 bits again.
  int wide_tensors = 0;
  for (NodeId id : y.graph().topological_order())
    wide_tensors += y.graph().value(y.graph().node(id).outputs[0]).type.dtype == DType::i16;
  CHECK(wide_tensors == 2);
  CHECK(y.graph().value(y.nodes("Sub")[0]->inputs[0]).type.dtype == DType::i8);
}

TEST_CASE("precision: 16 bits carry a product 256 times finer") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 4, 8}), b = net.input("b", {1, 4, 8});
  net.output(net.op("Mul", {a, b}));
  const Lowered narrow = lower_and_compare(net, -1, 1, {});
  const Lowered fine = lower_and_compare(net, -1, 1, wide({{"op:Mul", 16}}));
  CHECK(fine.out().n_levels == 65536);
  // The product of two int8 has 2^14 levels: its requant stays just below a factor of one.
  CHECK(fine.out().scale < narrow.out().scale / 50);
  CHECK(fine.worst_steps <= 0.51);
}

TEST_CASE("precision: wide operands reach products and convolutions with int8 weights") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 4, 8}), b = net.input("b", {1, 4, 8});
  const ValueId product = net.op("Mul", {a, b});
  net.output(net.op("Conv", {product, net.random({3, 4, 1}, -1, 1, 5)}));
  const Lowered narrow = lower_and_compare(net, -1, 1, wide({{"Conv", 16}}));
  const Lowered fine = lower_and_compare(net, -1, 1, wide({{"Mul", 16}, {"Conv", 16}}));
  CHECK(fine.graph().value(fine.nodes("Conv")[0]->inputs[0]).type.dtype == DType::i16);
  CHECK(narrow.graph().value(narrow.nodes("Conv")[0]->inputs[0]).type.dtype == DType::i8);
  CHECK(fine.worst_steps * fine.out().scale < narrow.worst_steps * narrow.out().scale);
}

TEST_CASE("precision: graph inputs can have 16 bits, and readers of 8 get a copy") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 16});
  net.output(net.op("MaxPool", {x}, attributes({{"kernel_shape", Ints{2}}, {"strides", Ints{2}}})));
  const Lowered y = lower_and_compare(net, -1, 1, wide({{"x", 16}}));
  CHECK(y.graph().value(y.graph().inputs()[0]).type.dtype == DType::i16);
  CHECK(y.graph().value(y.nodes("MaxPool")[0]->inputs[0]).type.dtype == DType::i8);
}

TEST_CASE("precision: sums and their terms have 16 bits where the target has, unless a rule says 8") {
  // x -> Conv -> Add <- Conv <- x; the sum goes into a Conv and into another sum.
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 16});
  const auto conv = [&](ValueId in, std::uint64_t seed) { return net.op("Conv", {in, net.random({4, 4, 1}, -1, 1, seed)}); };
  const ValueId a = conv(x, 1), b = conv(x, 2), sum = net.op("Add", {a, b}), c = conv(sum, 3);
  net.output(net.op("Sub", {sum, c}));
  CHECK(values_of_streams(net.graph, UnaryChains(net.graph)) == std::set<ValueId>{x, a, b, sum, c});
  const auto names = [&](ValueId id) { return net.graph.value(id).name; };
  IntegerizeOptions options = wide({});
  options.target.int16.insert("Sub");
  const Lowered narrow = lower_and_compare(net), fine = lower_and_compare(net, -1, 1, options);
  for (const char* op : {"Add", "Sub"})
    for (ValueId in : fine.nodes(op).front()->inputs) CHECK(fine.graph().value(in).type.dtype == DType::i16);
  CHECK(fine.worst_steps * fine.out().scale < 0.6 * narrow.worst_steps * narrow.out().scale);
  options.precision = {{"x", 8}, {names(a), 8}, {names(b), 8}, {names(sum), 8}, {names(c), 8}};
  CHECK(dump(lower_and_compare(net, -1, 1, options).graph()) == dump(narrow.graph()));
}

TEST_CASE("precision: a target that spells others' integers takes those of the first that runs the network") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 16});
  const auto conv = [&](ValueId in, std::uint64_t seed) { return net.op("Conv", {in, net.random({4, 4, 1}, -1, 1, seed)}); };
  net.output(conv(net.op("Add", {conv(x, 1), conv(x, 2)}), 3));
  const IntegerizeOptions narrow;
  IntegerizeOptions twin, fine = wide({{"op:Add", 16}});
  fine.target.int16.insert("Sub");
  twin.target.integers_of = {narrow.target, fine.target};
  CHECK(dump(lower_and_compare(net, -1, 1, twin).graph()) == dump(lower_and_compare(net, -1, 1, narrow).graph()));
  // A choice that the first one cannot follow leads to the next.
  twin.precision = {{"op:Add", 16}};
  CHECK(dump(lower_and_compare(net, -1, 1, twin).graph()) == dump(lower_and_compare(net, -1, 1, fine).graph()));
}

TEST_CASE("precision: what else reads a sum or a term decides") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 257, 4});
  const ValueId t = net.op("Tanh", {net.input("u", {1, 257, 4})}), r = net.op("Relu", {x});
  const ValueId sum = net.op("Add", {t, r}), other = net.op("Add", {t, x});
  net.output(net.op("Conv", {sum, net.random({2, 257, 1}, -1, 1, 1)}));  // 257 * 2^23: too many
  net.output(net.op("Relu", {other}));
  CHECK(values_of_streams(net.graph, UnaryChains(net.graph)) == std::set<ValueId>{r});
  FloatNet distance;
  const ValueId u = distance.op("Tanh", {distance.input("x", {2, 3})});
  const ValueId most = distance.op("ReduceMax", {u});
  distance.output(distance.op("Sub", {u, most}));
  CHECK(values_of_distances(distance.graph) == std::set<ValueId>{u, most});
  distance.output(distance.op("Relu", {u}));
  CHECK(values_of_distances(distance.graph).empty());
}

TEST_CASE("precision: what a normalization reads has 16 bits behind a clip and a maximum, too") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 300, 4, 4});
  const ValueId r = net.op("Relu", {net.op("Conv", {x, net.random({300, 300, 1, 1}, -1, 1, 1)})});
  const ValueId pooled = net.op("MaxPool", {r}, attributes({{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}));
  const ValueId rows = net.op("Transpose", {pooled}, attributes({{"perm", Ints{0, 2, 3, 1}}}));
  const auto normal = [&](ValueId v) {
    return net.op("LayerNormalization", {v, net.random({300}, 1, 2, 2)}, attributes({{"axis", std::int64_t{-1}}}));
  };
  const ValueId y = normal(rows), table = net.op("Tanh", {y});
  net.output(normal(table));  // 8 bits go into a table
  CHECK(values_of_streams(net.graph, UnaryChains(net.graph)) == std::set<ValueId>{r, pooled, rows});
  net.output(net.op("Conv", {pooled, net.random({2, 300, 1, 1}, -1, 1, 1)}));  // 300 * 2^23: too many
  CHECK(values_of_streams(net.graph, UnaryChains(net.graph)) == std::set<ValueId>{rows});
}

TEST_CASE("precision: what no nonlinearity has bounded, as far as its readers have the bits") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 8, 8}), gate = net.op("Sigmoid", {net.op("Relu", {x})});
  const auto conv = [&](ValueId in, std::uint64_t seed) { return net.op("Conv", {in, net.random({4, 4, 1, 1}, -1, 1, seed)}); };
  const ValueId gated = net.op("Mul", {conv(x, 1), gate});
  const ValueId scaled = net.op("Mul", {gated, net.random({1, 4, 1, 1}, 1, 2, 5)}), moved = net.op("Add", {scaled, net.random({1, 4, 1, 1}, -1, 1, 6)});
  const ValueId pooled = net.op("MaxPool", {moved}, attributes({{"kernel_shape", Ints{2, 2}}}));
  const ValueId narrow = conv(pooled, 2), swish = net.op("Mul", {narrow, net.op("Sigmoid", {narrow})});
  net.output(conv(conv(swish, 3), 4));
  const ValueId bottleneck = net.graph.node(net.graph.value(net.graph.outputs().front()).producer).inputs.front();
  const ValueId expanded = net.graph.node(net.graph.value(gated).producer).inputs.front();
  // Not x, which a ReLU reads, too; not swish, a table of `narrow`; not the gate.
  CHECK(values_of_streams(net.graph, UnaryChains(net.graph)) == std::set<ValueId>{expanded, gated, scaled, moved, bottleneck});
}

TEST_CASE("precision: a tensor whose grid the model states keeps it") {
  FloatNet net;
  net.output(net.op("Conv", {net.input("x", {1, 4, 8}), net.random({3, 4, 1}, -1, 1, 1)}));
  IntegerizeOptions options = wide({});
  options.target.int16.insert("Sub");
  CHECK(lower_and_compare(net, -1, 1, options).graph().value(ValueId{0}).type.dtype == DType::i16);
  options.grids["x"] = {.scale = 1.0 / 128, .lo = -128, .hi = 127};
  CHECK(lower_and_compare(net, -1, 1, options).graph().value(ValueId{0}).type.dtype == DType::i8);
}

TEST_CASE("precision: the terms of an exponent's argument") {
  FloatNet net;
  const ValueId k = net.op("Tanh", {net.input("k", {1, 3, 4})});
  const ValueId square = net.op("Mul", {k, k}), sum = net.op("ReduceSum", {square}, attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{1}}}));
  const ValueId half = net.op("Mul", {sum, net.floats({}, {0.5f})}), product = net.op("MatMul", {k, net.random({4, 5}, -1, 1, 1)});
  const ValueId argument = net.op("Sub", {product, half}), most = net.op("ReduceMax", {argument}, attributes({{"axes", Ints{2}}}));
  net.output(net.op("Sub", {argument, most}));
  CHECK(values_of_distances(net.graph) == std::set<ValueId>{argument, most, product, half, sum, square});
}

TEST_CASE("precision: what would leave int32 with both operands of 16 bits has 8") {
  IntegerizeOptions options = wide({{"*", 16}});
  options.target.wide_requants = true;
  FloatNet products;
  const ValueId a = products.op("Transpose", {products.input("a", {1, 6, 40})}, attributes({{"perm", Ints{0, 2, 1}}}));
  products.output(products.op("MatMul", {a, products.input("b", {1, 6, 9})}));
  const Lowered p = lower_and_compare(products, -1, 1, options);
  // 6 * 2^30 is too much, 6 * 2^15 * 255 is not.
  CHECK(p.graph().value(p.nodes("MatMul")[0]->inputs[0]).type.dtype == DType::i8);
  CHECK(p.graph().value(p.nodes("MatMul")[0]->inputs[1]).type.dtype == DType::i16);
  FloatNet convs;
  const ValueId x = convs.input("x", {1, 600, 2});
  convs.output(convs.op("Conv", {x, convs.random({2, 600, 1}, -1, 1, 1)}));
  const Lowered c = lower_and_compare(convs, -1, 1, options);
  CHECK(c.graph().value(c.nodes("Conv")[0]->inputs[0]).type.dtype == DType::i8);
}

TEST_CASE("precision: 16 bits behind accumulators of many need products of 64") {
  FloatNet net;
  net.output(net.op("Conv", {net.input("x", {1, 60, 4}), net.random({3, 60, 1}, -1, 1, 1), net.random({3}, -1, 1, 2)}));
  IntegerizeOptions options = wide({{"*", 16}});
  const Lowered coarse = lower_and_compare(net, -1, 1, options);
  options.target.wide_requants = true;
  const Lowered fine = lower_and_compare(net, -1, 1, options);
  const Node& requant = *fine.nodes("RequantShift").front();
  CHECK(requant.attrs.get_int("product_bits", 32) == 64);
  CHECK(fine.graph().constant(requant.inputs[2]).dtype() == DType::i64);
  for (std::int64_t m : to_int64(fine.graph().constant(requant.inputs[1]))) CHECK(std::abs(m) >= RequantLimits::kFineMul);
  CHECK(fine.worst_steps * fine.out().scale < 0.2 * coarse.worst_steps * coarse.out().scale);
  options.requant.product_bits = 31;  // a choice of the user: no wider ones either
  const Lowered narrow = lower_and_compare(net, -1, 1, options);
  CHECK(narrow.nodes("RequantShift").front()->attrs.get_int("product_bits", 32) == 32);
}

TEST_CASE("precision: clips from above cut as many of 65536 levels as of 256") {
  for (const std::int64_t bits : {8, 16})
    for (const double top : {0.4, 6.0, 600.0}) {
      FloatNet net;
      const ValueId y = net.op("Conv", {net.input("x", {1, 2, 8}), net.random({3, 2, 1}, -1, 1, 4)});
      net.output(net.op("Conv", {net.op("Clip", {y}, attributes({{"min", 0.0}, {"max", top}})), net.random({2, 3, 1}, -1, 1, 1)}));
      IntegerizeOptions options = wide({{"*", 16}, {"x", bits}});
      options.target.wide_requants = true;
      const Lowered q = lower_and_compare(net, -1, 1, options);
      CHECK(q.worst_steps * q.out().scale < 0.02);
      const QuantParams clipped = *q.graph().value(q.nodes("Conv")[1]->inputs[0]).quant;
      CHECK(clipped.n_levels > 256);
      CHECK(clipped.scale * static_cast<double>(clipped.hi()) <= top * 1.001);
    }
}

TEST_CASE("precision: a target without 16-bit tensors is named, with the remedy") {
  IntegerizeOptions options;
  options.target.name = "small";
  options.precision = {{"op:Transpose", 16}};
  CHECK_THROWS_WITH_AS(explain_refusals(products().graph, options),
                       "small: has no 16-bit tensors, and the recipe asks for 2; take a target "
                       "that has them (waveq), or leave 16 bits out of the recipe",
                       Error);
  options.precision = {{"op:Transpose", 8}};
  CHECK(explain_refusals(products().graph, options).empty());
}

}  // namespace
}  // namespace waveq
