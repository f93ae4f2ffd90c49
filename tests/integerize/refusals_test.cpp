#include <functional>

#include "net.h"

namespace waveq {
namespace {

using namespace test;

/// The reasons for which a network has no integer form, joined by "; ".
std::string reasons(const FloatNet& net) {
  std::string text;
  for (const NotInteger& r : explain_refusals(net.graph, {})) text += (text.empty() ? "" : "; ") + r.reason;
  return text;
}

using Build = std::function<ValueId(FloatNet&)>;

void check_refused(const Build& build, const std::string& part) {
  FloatNet net;
  net.graph.opset = 11;
  net.output(build(net));
  INFO("wanted: ", part);
  const std::string found = reasons(net);
  INFO("found: ", found);
  CHECK(found.find(part) != std::string::npos);
  // integerize says the same, as one error.
  try {
    integerize(net.graph, [](const std::string&, const QuantSpec&) { return Range{-1, 1}; }, {});
    FAIL("not refused");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::not_integer);
    CHECK(e.found().find(part) != std::string::npos);
  }
}

ValueId x3(FloatNet& n) { return n.input("x", {1, 2, 8}); }
ValueId w(FloatNet& n) { return n.random({2, 2, 3}, -1, 1, 1); }
const std::pair<std::string, Attr> kWindow{"kernel_shape", Ints{2}};

TEST_CASE("refusals: convolutions and matrix products") {
  check_refused([](FloatNet& n) { return n.op("Conv", {x3(n), n.input("w", {2, 2, 3})}); }, "its weight is not constant");
  check_refused([](FloatNet& n) { return n.op("Conv", {x3(n), w(n), n.input("b", {2})}); }, "its bias is not constant");
  check_refused([](FloatNet& n) { return n.op("Gemm", {n.input("x", {3, 1}), n.random({3, 2}, -1, 1, 2)}, attributes({{"transA", std::int64_t{1}}})); }, "transA");
  check_refused([](FloatNet& n) { return n.op("Gemm", {n.input("x", {2, 3}), n.random({3, 4}, -1, 1, 2), n.random({2, 1}, -1, 1, 2)}); }, "bias has 2 values for 4 outputs");
  check_refused([](FloatNet& n) { return n.op("MatMul", {n.input("x", {3}), n.random({3, 2}, -1, 1, 3)}); }, "rank 1");
  check_refused([](FloatNet& n) { return n.op("MatMul", {n.random({2, 3}, -1, 1, 3), n.input("x", {3, 2})}); }, "constant left operand");
}

TEST_CASE("refusals: rows that take a kernel which the target lacks, by the name of the model's node") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 8});
  const ValueId normal = net.op("LayerNormalization", {x, net.random({8}, 1, 2, 1)},
                                attributes({{"axis", std::int64_t{-1}}}));
  net.output(net.op("Softmax", {normal}, attributes({{"axis", std::int64_t{-1}}})));
  IntegerizeOptions options;
  options.target.name = "some-target";
  options.target.operators = {"RequantShift", "iSoftmax"};
  std::vector<NotInteger> refused = explain_refusals(net.graph, options);
  REQUIRE(refused.size() == 1);
  CHECK(refused.front().node == "LayerNormalization");
  CHECK(refused.front().reason == "it becomes iLayerNorm, which some-target does not run");
  options.target.operators = {"RequantShift", "iLayerNorm"};
  refused = explain_refusals(net.graph, options);
  REQUIRE(refused.size() == 1);
  CHECK(refused.front().reason == "it becomes iSoftmax, which some-target does not run");
  options.softmax = "itamax";
  CHECK(explain_refusals(net.graph, options).front().reason == "it becomes ITAMax, which some-target does not run");
}

TEST_CASE("refusals: a square Gemm with one bias for each row is not taken for one with a bias for each column") {
  FloatNet net;
  net.output(net.op("Gemm", {net.input("x", {2, 3}), net.random({3, 2}, -1, 1, 2), net.floats({2, 1}, {1.0F, -1.0F})}));
  CHECK(reasons(net).find("bias") != std::string::npos);
}

TEST_CASE("refusals: what reads an unknown operator's result is not lowered, nor blamed") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 8}), w = net.random({2, 2, 3}, -1, 1, 1);
  Node node;
  node.op = node.name = "Mystery";
  node.inputs = {x};
  node.outputs = {net.graph.add_value("m")};
  const ValueId m = node.outputs.front();
  net.graph.add_node(std::move(node));
  const auto behind = [&](const char* op, std::vector<ValueId> inputs) {
    Node n;
    n.op = n.name = op;
    n.inputs = std::move(inputs);
    n.outputs = {net.graph.add_value("y")};
    const ValueId y = n.outputs.front();
    net.graph.add_node(std::move(n));
    return y;
  };
  for (const char* op : {"Conv", "MatMul", "Gemm"}) net.output(behind(op, {m, w}));
  for (const char* op : {"MaxPool", "Softmax", "Relu", "Transpose", "ReduceMean"}) net.output(behind(op, {m}));
  net.output(behind("Unheard", {m}));
  const auto refused = explain_refusals(net.graph, {});
  REQUIRE(refused.size() == 2);
  CHECK(refused[0].op == "Mystery");
  CHECK(refused[1].op == "Unheard");
}

TEST_CASE("refusals: elementwise operators") {
  check_refused([](FloatNet& n) { return n.op("Sub", {n.floats({}, {1.0F}), n.input("b", {1, 2})}); }, "constant minus activation");
  check_refused([](FloatNet& n) { return n.op("Mul", {x3(n), n.floats({1, 1, 8}, {NAN, 0, 0, 0, 0, 0, 0, 0})}); }, "non-finite");
  check_refused([](FloatNet& n) { return n.op("Mul", {n.input("a", {1, 2, 1}), n.random({8}, 1, 2, 4)}); }, "larger than the other");
  check_refused([](FloatNet& n) { return n.op("Mul", {x3(n), n.floats({}, {INFINITY})}); }, "non-finite");
  check_refused([](FloatNet& n) { return n.op("Add", {x3(n), n.random({8}, 1e9, 2e9, 5)}); }, "2^24 steps");
  check_refused([](FloatNet& n) { return n.op("Add", {x3(n), n.floats({1, 1, 8}, {NAN, 0, 0, 0, 0, 0, 0, 0})}); }, "2^24 steps");
  check_refused([](FloatNet& n) { return n.op("Clip", {x3(n)}, attributes({{"min", -1.0}, {"max", 1.0}})); }, "lower end of 0");
}

TEST_CASE("refusals: divisions") {
  check_refused([](FloatNet& n) { return n.op("Div", {x3(n), n.floats({}, {0.0F})}); }, "not one non-zero number");
  check_refused([](FloatNet& n) { return n.op("Div", {x3(n), n.floats({}, {INFINITY})}); }, "not one non-zero number");
  check_refused([](FloatNet& n) { return n.op("Div", {x3(n), n.floats({1, 1, 1, 1}, {2.0F})}); }, "not one non-zero number");
  check_refused([](FloatNet& n) { return n.op("Div", {n.floats({}, {1.0F}), x3(n)}); }, "a constant divided");
  check_refused([](FloatNet& n) { return n.op("Div", {x3(n), n.input("d", {1, 2, 8})}); }, "[..., M, d] by [..., M, 1] only");
  check_refused([](FloatNet& n) { return n.op("Div", {x3(n), n.input("d", {1, 2, 1})}); }, "int32 accumulators of one scale");
  const auto product = [](FloatNet& n, const std::string& a, std::int64_t columns) {
    return n.op("MatMul", {n.input(a, {1, 2, 3}), n.input(a + "2", {1, 3, columns})});
  };
  check_refused([&](FloatNet& n) { return n.op("Div", {product(n, "a", 4), product(n, "b", 1)}); }, "non-negative");
  check_refused([&](FloatNet& n) { return n.op("Div", {n.op("Add", {product(n, "a", 4), n.floats({}, {1.0F})}), product(n, "b", 1)}); }, "constant term");
  check_refused([&](FloatNet& n) { return n.op("Div", {product(n, "a", 4), n.op("Add", {product(n, "b", 1), n.floats({}, {-1.0F})})}); }, "negative or differs by channel");
  // How many steps a constant is depends on the ranges: no refusal, but an error all the same.
  FloatNet net;
  const ValueId q = net.op("Relu", {net.input("q", {1, 2, 3})}), k = net.op("Relu", {net.input("k", {1, 3, 1})});
  net.output(net.op("Div", {product(net, "a", 4), net.op("Add", {net.op("MatMul", {q, k}), net.floats({}, {1e9F})})}));
  CHECK(explain_refusals(net.graph, {}).empty());
  try {
    integerize(net.graph, [](const std::string&, const QuantSpec&) { return Range{-1, 1}; }, {});
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::overflow);
    CHECK(e.found().find("steps of the rest") != std::string::npos);
  }
}

TEST_CASE("refusals: pools, movement and unknown operators") {
  check_refused([](FloatNet& n) { return n.op("MaxPool", {x3(n)}, attributes({kWindow, {"dilations", Ints{2}}})); }, "dilations");
  check_refused([](FloatNet& n) { n.graph.opset = 10; return n.op("Pad", {x3(n)}, attributes({{"pads", Ints{0, 0, 1, 0, 0, 1}}, {"value", 1e6}})); }, "levels of");
  check_refused([](FloatNet& n) { n.graph.opset = 10; return n.op("Pad", {x3(n)}, attributes({{"pads", Ints{0, 0, 1, 0, 0, -1}}})); }, "crops some sides");
  check_refused([](FloatNet& n) { return n.op("Resize", {x3(n), ValueId{}, n.floats({3}, {1, 1, 2})}, attributes({{"mode", std::string("linear")}})); }, "interpolation");
  check_refused([](FloatNet& n) { return n.op("LogSoftmax", {x3(n)}); }, "a network may end in front of it");
  check_refused([](FloatNet& n) { return n.op("Softmax", {x3(n)}, attributes({{"axis", std::int64_t{1}}})); }, "last axis; run the rewrites");
}

TEST_CASE("refusals: an output that is a constant is named") {
  FloatNet net;
  net.output(net.op("Relu", {x3(net)}));
  net.output(net.graph.add_constant("table", Tensor::scalar(1.0F)));
  const auto refused = explain_refusals(net.graph, {});
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].node == "table");
  CHECK_THROWS_AS(integerize(net.graph, lookup({{"x", {-1, 1}}, {"Relu", {0, 1}}}), {}), Error);
}

TEST_CASE("refusals: all offending nodes are listed in one error, and one does not cause the next") {
  FloatNet net;
  const ValueId s = net.op("LogSoftmax", {x3(net)});
  const ValueId r = net.op("Relu", {s});
  const ValueId t = net.op("Tanh", {r});
  net.output(net.op("Sigmoid", {net.op("Conv", {t, w(net)})}));
  const auto refused = explain_refusals(net.graph, {});
  REQUIRE(refused.size() == 3);
  CHECK(refused[0].op == "LogSoftmax");
  CHECK(refused[1].op == "Tanh");
  CHECK(refused[2].op == "Sigmoid");
  try {
    integerize(net.graph, [](const std::string&, const QuantSpec&) { return Range{-1, 1}; }, {});
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::not_integer);
    for (const char* op : {"LogSoftmax", "Tanh", "Sigmoid"}) CHECK(e.found().find(op) != std::string::npos);
    CHECK(e.found().find("Relu") == std::string::npos);
    CHECK(e.found().find("3 nodes") != std::string::npos);
  }
}

TEST_CASE("refusals: a tensor that was never calibrated is an error naming it") {
  FloatNet net;
  net.output(net.op("Relu", {x3(net)}));
  try {
    integerize(net.graph, lookup({{"x", {-1, 1}}}), {});
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::data);
    CHECK(e.where().find("Relu") != std::string::npos);
  }
}

TEST_CASE("refusals: inputs that are not float have no integer form") {
  FloatNet net;
  const ValueId i = net.graph.add_input("tokens", {DType::i64, {1, 4}});
  net.output(net.op("Reshape", {i, net.ints({4, 1})}));
  CHECK_THROWS_AS(integerize(net.graph, lookup({}), {}), Error);
}

TEST_CASE("refusals: every rule of the table is an operator waveq evaluates") {
  std::string last;
  for (const LoweringInfo& info : lowering_rules()) {
    CHECK(find_op(info.op) != nullptr);
    CHECK(last < info.op);
    CHECK(!info.formula.empty());
    CHECK(!info.source.empty());
    last = info.op;
  }
}

}  // namespace
}  // namespace waveq
