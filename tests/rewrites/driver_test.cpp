#include "waveq/rewrites/driver.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "net.h"
#include "waveq/graph/error.h"

namespace waveq::test {
namespace {

/// A rule that replaces one operator of one operand by another.
Rule swap(std::string name, std::string from, std::string to) {
  const Pat x = any();
  return {.name = name,
          .formula = from + " = " + to,
          .effect = Effect::approximates,
          .source = "test",
          .stage = Stage::clean,
          .root = op(from, {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome { return patch.node(to, {m[x]}); }};
}

Error error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  FAIL("no error was thrown");
  return Error(ErrorCode::internal, "", "");
}

TEST_CASE("driver: rules that undo each other are named") {
  Net net;
  net.output(net.op("Relu", {net.input("x", {4})}));
  const std::vector<Rule> rules = {swap("to_abs", "Relu", "Abs"), swap("to_relu", "Abs", "Relu")};
  const Error e = error_of([&] { apply_rules(net.graph, rules); });
  CHECK(e.code() == ErrorCode::internal);
  CHECK(e.found().find("to_abs, to_relu") != std::string::npos);
}

TEST_CASE("driver: a rule that grows the graph without end is stopped") {
  Net net;
  net.output(net.op("Relu", {net.input("x", {4})}));
  const Pat x = any();
  Rule grow = swap("grow", "Relu", "Relu");
  grow.apply = [](const Match& m, Patch& patch) -> Outcome {
    return patch.node("Relu", {patch.node("Relu", {m.root().inputs[0]})});
  };
  const Error e = error_of([&] { apply_rules(net.graph, std::vector<Rule>{grow}); });
  CHECK(e.code() == ErrorCode::internal);
  CHECK(e.found().find("grow") != std::string::npos);
}

TEST_CASE("driver: a rule that changes a type is caught") {
  Net net;
  net.output(net.op("Relu", {net.input("x", {4})}));
  Rule wrong = swap("wrong", "Relu", "Relu");
  wrong.apply = [](const Match& m, Patch& patch) -> Outcome {
    return patch.node(
        "Reshape", {m.root().inputs[0], patch.constant(Tensor::from<std::int64_t>({2}, {2, 2}))});
  };
  const Error e = error_of([&] { apply_rules(net.graph, std::vector<Rule>{wrong}); });
  CHECK(e.code() == ErrorCode::internal);
  CHECK(e.found() == "'y' would change from f32[4] to f32[2,2]");
}

TEST_CASE("driver: a replacement that reads what it replaces is caught") {
  Net net;
  net.output(net.op("Relu", {net.input("x", {4})}));
  Rule wrong = swap("wrong", "Relu", "Relu");
  wrong.apply = [](const Match& m, Patch& patch) -> Outcome {
    return patch.node("Abs", {m.root_value()});
  };
  CHECK(error_of([&] { apply_rules(net.graph, std::vector<Rule>{wrong}); }).code() ==
        ErrorCode::internal);
}

TEST_CASE(
    "driver: new values take the name of the value they replace, new nodes that of root and rule") {
  Net net;
  const ValueId inner = net.op("Relu", {net.input("x", {4})});
  net.output(net.op("Exp", {inner}));
  const RewriteReport report =
      apply_rules(net.graph, std::vector<Rule>{swap("to_abs", "Relu", "Abs")});
  CHECK(dump(net.graph) ==
        "inputs x:f32[4]\n"
        "Relu:f32[4] = Abs(x)   # Relu_to_abs\n"
        "y:f32[4] = Exp(Relu)   # Exp\n"
        "outputs y:f32[4]\n");
  CHECK(net.graph.node(net.graph.nodes()[0]).origin == "Relu");
  REQUIRE(report.applied.size() == 1);
  CHECK(report.applied[0].rule == "to_abs");
  CHECK(report.applied[0].node == "Relu");
  CHECK(report.applied[0].detail == "Relu -> Abs 'Relu_to_abs'");
}

TEST_CASE("driver: an output keeps its name when an older value takes its place") {
  Net net;
  net.output(net.op("Identity", {net.op("Relu", {net.input("x", {4})})}));
  rewrite(net.graph);
  CHECK(dump(net.graph) ==
        "inputs x:f32[4]\n"
        "y:f32[4] = Relu(x)   # Relu\n"
        "outputs y:f32[4]\n");
}

TEST_CASE("driver: an output never becomes an input, a constant or another output") {
  Net net;
  const ValueId x = net.input("x", {4});
  const ValueId r = net.op("Relu", {x});
  net.output(net.op("Identity", {x})).output(r).output(net.op("Identity", {r}));
  net.output(net.op("Neg", {net.floats("c", {2}, {1, 2})}));
  const RewriteReport report = rewrite(net.graph);
  CHECK(test::expression(net.graph) == "Identity(x); Relu(x); Identity(Relu(x)); Neg(f32[2])");
  REQUIRE(report.refused.size() == 3);
  CHECK(report.refused[0].reason == "the network output 'y' would be the input 'x'");
  CHECK(report.refused[1].reason == "the network output 'y3' would be the other output 'y2'");
  CHECK(report.refused[2].reason ==
        "the network output 'y4' would be the constant 'Neg_fold_constants_const'");
}

TEST_CASE("driver: a node whose second output is in use is not replaced by one value") {
  Net net;
  const ValueId x = net.input("x", {4});
  const auto outs = net.typed("Dropout", {x}, {{DType::f32, {4}}, {DType::boolean, {4}}});
  net.output(net.op("Relu", {outs[0]})).output(outs[1]);
  const RewriteReport report = rewrite(net.graph);
  CHECK(test::expression(net.graph) == "Relu(Dropout(x)); Dropout(x)#1");
  REQUIRE(report.refused.size() == 1);
  CHECK(report.refused[0].node == "Dropout");
  CHECK(report.refused[0].reason == "output 1 ('y2') is used too");
}

TEST_CASE("driver: behind an operator waveq does not know, rules refuse instead of failing") {
  Net net;
  const ValueId m = net.typed("Mystery", {net.input("x", {2})}, {{}})[0];
  const TensorType type = {DType::f32, {1, 2, 4}};
  const ValueId conv = net.typed("Conv", {m, net.weight("w", {2, 2, 1})}, {type})[0];
  net.output(net.op("Mul", {conv, net.scalar(2.0f)}));
  net.output(net.typed("Add", {net.scalar(1.0f), m}, {type})[0]);
  const RewriteReport report = rewrite(net.graph);
  CHECK(test::expression(net.graph) == "Mul(Conv(Mystery(x), f32[2,2,1]), 2); Add(Mystery(x), 1)");
  REQUIRE(report.refused.size() == 1);
  CHECK(report.refused[0].rule == "fold_scale_into_linear");
  CHECK(report.refused[0].reason == "the type of 'Mystery' is not known");
}

TEST_CASE("driver: a refusal that a later rule makes pointless is not reported") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 4});
  const ValueId conv = net.op("Conv", {x, net.weight("w", {2, 2, 1})});
  const ValueId scaled = net.op("Mul", {conv, net.scalar(2.0f)});
  // The second reader disappears, and with it the obstacle.
  net.output(
      net.op("Add", {scaled, net.op("Identity", {net.op("Mul", {conv, net.scalar(2.0f)})})}));
  const RewriteReport report = rewrite(net.graph);
  CHECK(test::expression(net.graph) == "Add(Conv(x, f32[2,2,1]), Conv(x, f32[2,2,1]))");
  CHECK(report.refused.empty());
}

TEST_CASE("driver: nodes and values that nothing uses are dropped first") {
  Net net;
  const ValueId x = net.input("x", {4});
  net.op("Exp", {net.op("Relu", {x})});
  net.output(net.op("Abs", {x}));
  const RewriteReport report = rewrite(net.graph);
  CHECK(report.nodes_before == 1);
  CHECK(report.applied.empty());
  CHECK(net.graph.value_count() == 2);
}

TEST_CASE("driver: an unknown pass is refused with the list of known ones") {
  Net net;
  net.output(net.op("Relu", {net.input("x", {4})}));
  RewriteOptions options;
  options.passes = {"fold_constants", "fold_everything"};
  const Error e = error_of([&] { rewrite(net.graph, options); });
  CHECK(e.code() == ErrorCode::invalid_argument);
  CHECK(e.found() == "'fold_everything' is not a rule");
  CHECK(e.hint().find("fold_constants, fold_shape, eliminate_identity") != std::string::npos);
}

TEST_CASE("driver: only the chosen passes run") {
  Net net;
  net.output(net.op(
      "Relu", {net.op("Identity", {net.op("Sub", {net.input("x", {4}), net.scalar(1.0f)})})}));
  RewriteOptions options;
  options.passes = {"eliminate_identity"};
  rewrite(net.graph, options);
  CHECK(test::expression(net.graph) == "Relu(Sub(x, 1))");
}

TEST_CASE("driver: long chains end in their normal form, with one application a node") {
  constexpr int kLength = 20000;
  Net net;
  ValueId v = net.input("x", {4});
  for (int i = 0; i < kLength; ++i) {
    v = net.op("Identity", {v});
    v = net.op("Mul", {v, net.scalar(i % 2 ? 0.5f : 2.0f)});
    v = net.op("Neg", {v});
  }
  net.output(v);
  const RewriteReport report = rewrite(net.graph);
  CHECK(report.applied.size() == kLength);
  CHECK(report.nodes_before == 3 * kLength);
  CHECK(report.nodes_after == 2 * kLength);
}

TEST_CASE("driver: a long product of constants becomes one factor") {
  constexpr int kLength = 20000;
  Net net;
  ValueId v = net.input("x", {4});
  for (int i = 0; i < kLength; ++i) v = net.op("Mul", {v, net.scalar(i % 2 ? 0.5f : 2.0f)});
  net.output(net.op("Relu", {v}));
  rewrite(net.graph);
  CHECK(test::expression(net.graph) == "Relu(x)");
}

TEST_CASE("driver: a function travels to the front of a long chain of movements") {
  constexpr int kLength = 400;
  Net net;
  ValueId v = net.op("Exp", {net.input("x", {2, 3, 4})});
  for (int i = 0; i < kLength; ++i) {
    v = net.op("Transpose", {v}, test::attrs({{"perm", test::ints({2, 0, 1})}}));
    v = net.op("Reshape", {v, net.ints(i % 2 ? test::ints({2, 3, 4}) : test::ints({4, 3, 2}))});
  }
  net.output(net.op("Relu", {v}));
  const RewriteReport report = rewrite(net.graph);
  const std::string text = dump(net.graph);
  CHECK(text.find("Relu") < text.find("Transpose"));
  CHECK(report.nodes_after == 2 * kLength + 2);
}

TEST_CASE("driver: many readers of one value cost one visit each") {
  constexpr int kReaders = 20000;
  Net net;
  const ValueId x = net.input("x", {4});
  std::vector<ValueId> readers;
  for (int i = 0; i < kReaders; ++i) readers.push_back(net.op("Neg", {net.op("Identity", {x})}));
  net.output(net.op("Concat", readers, test::attrs({{"axis", std::int64_t{0}}})));
  const RewriteReport report = rewrite(net.graph);
  CHECK(report.nodes_after == 2);
  CHECK(report.applied.size() == 2 * kReaders - 1);
}

TEST_CASE("driver: the report is the same for the same graph") {
  const auto run = [] {
    Net net;
    const ValueId x = net.input("x", {1, 2, 8});
    const ValueId a = net.op("Relu", {net.op("Reshape", {x, net.ints({1, 16})})});
    const ValueId b = net.op("Relu", {net.op("Flatten", {x})});
    net.output(net.op("Add", {net.op("Div", {a, net.scalar(4.0f)}), b}));
    std::string text;
    for (const Application& step : rewrite(net.graph).applied)
      text += step.rule + step.node + step.detail + "\n";
    return text + dump(net.graph);
  };
  CHECK(run() == run());
}

TEST_CASE("rewrite: rules to leave out") {
  Net net;
  const ValueId x = net.input("x", {1, 2});
  net.output(net.op("Relu", {net.op("Identity", {x})}));
  Graph all = net.graph, without = net.graph;
  rewrite(all);
  rewrite(without, {.except = {"eliminate_identity"}});
  CHECK(all.nodes().size() == 1);
  CHECK(without.nodes().size() == 2);
  CHECK_THROWS_AS(rewrite(all, {.except = {"no_such_rule"}}), Error);
}

}  // namespace
}  // namespace waveq::test
