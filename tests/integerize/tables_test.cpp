#include <functional>

#include "net.h"

namespace waveq {
namespace {

using namespace test;

IntegerizeOptions with_tables() {
  IntegerizeOptions options;
  options.target.operators = {"Table"};
  return options;
}

const std::initializer_list<std::pair<const char*, std::function<double(double)>>> kFunctions = {
    {"Sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }},
    {"Tanh", [](double x) { return std::tanh(x); }},
    {"Exp", [](double x) { return std::exp(x); }},
    {"Elu", [](double x) { return x < 0 ? std::expm1(x) : x; }},
    {"Softplus", [](double x) { return std::log1p(std::exp(x)); }},
    {"Abs", [](double x) { return std::abs(x); }},
    {"HardSwish", [](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }},
    {"LeakyRelu", [](double x) { return x < 0 ? 0.01 * x : x; }},
};

TEST_CASE("tables: every function of one tensor is exact to half a step") {
  for (const auto& function : kFunctions) {
    const auto& [op, f] = function;
    INFO(function.first);
    FloatNet net;
    net.output(net.op(op, {net.input("x", {1, 3, 40})}));
    const Lowered y = lower_and_compare(net, -6, 6, with_tables());
    CHECK(y.count("Table") == 1);
    CHECK(y.graph().nodes().size() == 1);
    CHECK(y.worst_steps <= 0.501);  // float32 on one side, double on the other
    // Each entry against the function itself.
    const Node& table = *y.nodes("Table").front();
    const std::vector<std::int64_t> entries = to_int64(y.graph().constant(table.inputs[1]));
    REQUIRE(entries.size() == 256);
    const double in = y.graph().value(y.graph().inputs()[0]).quant->scale, out = y.out().scale;
    for (int q = -128; q < 128; ++q) {
      const double want = std::clamp(f(in * q) / out, static_cast<double>(y.out().lo()),
                                     static_cast<double>(y.out().hi()));
      CHECK(std::abs(static_cast<double>(entries[static_cast<std::size_t>(q + 128)]) - want) <=
            0.501);
    }
  }
}

TEST_CASE("tables: one table for a composition that uses its operand again") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 64});
  const ValueId square = net.op("Mul", {x, x});
  const ValueId bell = net.op("Exp", {net.op("Neg", {square})});
  net.output(net.op("Mul", {x, net.op("Sigmoid", {x})}));  // SiLU
  net.output(net.op("Add", {bell, net.floats({}, {0.25F})}));
  const Lowered y = lower_and_compare(net, -4, 4, with_tables());
  CHECK(y.count("Table") == 2);
  CHECK(y.graph().nodes().size() == 2);
  CHECK(y.worst_steps <= 0.501);
}

TEST_CASE("tables: conditions on the operand choose; a condition that anything else reads has no form") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 64});
  const ValueId far = net.op("Greater", {x, net.floats({}, {1.5F})});
  const ValueId low = net.op("Less", {x, net.floats({1, 2, 1}, {-1, -2})});
  const ValueId bend = net.op("Where", {far, x, net.op("Softplus", {x})});
  net.output(net.op("Where", {net.op("Not", {low}), bend, net.floats({}, {0.5F})}));
  net.output(net.op("Mul", {net.op("Cast", {far}, attributes({{"to", std::int64_t{1}}})), net.op("Exp", {x})}));
  const Lowered y = lower_and_compare(net, -4, 4, with_tables());
  CHECK(y.count("Table") == 2);
  CHECK(y.graph().nodes().size() == 2);
  CHECK(y.worst_steps <= 0.501);
  net.output(net.op("Where", {far, x, net.input("z", {1, 2, 64})}));
  const auto refused = explain_refusals(net.graph, with_tables());
  REQUIRE(refused.size() == 2);
  CHECK(refused[0].op == "Greater");
  CHECK(refused[1].op == "Where");
}

TEST_CASE("tables: a value in the middle of a chain that others read gets its own") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 8});
  const ValueId s = net.op("Sigmoid", {x});
  net.output(net.op("Sqrt", {s}));
  net.output(net.op("Conv", {s, net.random({2, 2, 1}, -1, 1, 3)}));
  const Lowered y = lower_and_compare(net, -4, 4, with_tables());
  CHECK(y.count("Table") == 2);
  for (const Node* table : y.nodes("Table"))
    CHECK(table->inputs[0] == y.graph().inputs()[0]);
}

TEST_CASE("tables: what a requant does for nothing stays in front of the table") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 16});
  const ValueId acc = net.op("Conv", {x, net.random({4, 4, 1}, -1, 1, 4)});
  net.output(net.op("Sqrt", {net.op("Relu", {acc})}));
  const Lowered y = lower_and_compare(net, -1, 1, with_tables());
  REQUIRE(y.count("Table") == 1);
  const Value& source = y.graph().value(y.nodes("Table")[0]->inputs[0]);
  CHECK(source.type.dtype == DType::u8);  // all 256 levels for the positive half
  CHECK(y.nodes("Table")[0]->attrs.require_int("first") == 0);
}

TEST_CASE("tables: a clip in front of a product with its own operand is part of the function") {
  // x * clip(x + 3, 0, 6) / 6, the spelling of hardswish in older exporters
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 64});
  const ValueId gate = net.op("Clip", {net.op("Add", {x, net.floats({}, {3.0F})})},
                              attributes({{"min", 0.0}, {"max", 6.0}}));
  net.output(net.op("Mul", {net.op("Mul", {x, gate}), net.floats({}, {1.0F / 6.0F})}));
  const Lowered y = lower_and_compare(net, -5, 5, with_tables());
  CHECK(y.graph().nodes().size() == 1);
  CHECK(y.worst_steps <= 0.501);
}

TEST_CASE("tables: constants for each channel make a row for each channel") {
  FloatNet net;
  net.output(net.op("PRelu", {net.input("x", {1, 3, 2, 8}),
                              net.floats({3, 1, 1}, {0.1F, -0.5F, 2.0F})}));
  const Lowered y = lower_and_compare(net, -2, 2, with_tables());
  REQUIRE(y.count("Table") == 1);
  CHECK(y.graph().value(y.nodes("Table")[0]->inputs[1]).type.shape == Shape{3, 256});
  CHECK(y.worst_steps <= 0.501);
  FloatNet matrix;
  matrix.output(matrix.op("Tanh", {matrix.op("Add", {matrix.op("Tanh", {matrix.input("x", {1, 5})}),
                                                     matrix.random({5}, -1, 1, 7)})}));
  CHECK(lower_and_compare(matrix, -2, 2, with_tables()).worst_steps <= 0.501);
}

TEST_CASE("tables: two operands are no function of one") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 2, 8}), b = net.input("b", {1, 2, 8});
  net.output(net.op("Mul", {net.op("Sigmoid", {a}), b}));
  const Lowered y = lower_and_compare(net, -4, 4, with_tables());
  CHECK(y.count("Table") == 1);
  CHECK(y.count("Mul") == 1);
}

TEST_CASE("tables: where the function is undefined an entry repeats its neighbour, and it saturates") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 32});
  net.output(net.op("Log", {net.op("Abs", {x})}));  // -inf at 0
  net.output(net.op("Sqrt", {x}));                  // NaN below 0
  const auto range = [](const std::string& name, const QuantSpec&) -> std::optional<Range> {
    return name == "x" ? Range{-1, 1} : Range{-2, 1};
  };
  const IntegerNetwork n = integerize(net.graph, range, with_tables());
  const Graph& g = n.graph;
  for (ValueId out : g.outputs()) {
    const Node& table = g.node(g.value(out).producer);
    const std::vector<std::int64_t> t = to_int64(g.constant(table.inputs[1]));
    if (table.name.starts_with("Log")) {
      CHECK(t[128] == -128);
      CHECK(t[127] == t[129]);
    } else {
      for (std::size_t i = 0; i < 128; ++i) CHECK(t[i] == 0);
      CHECK(t[255] > 0);
    }
  }
}

TEST_CASE("tables: without the operator the refusal names the target") {
  FloatNet net;
  net.output(net.op("Sigmoid", {net.input("x", {1, 2})}));
  IntegerizeOptions options;
  options.target.name = "some-target";
  const auto refused = explain_refusals(net.graph, options);
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].reason.find("some-target") != std::string::npos);
}

}  // namespace
}  // namespace waveq
