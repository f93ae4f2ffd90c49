#include "net.h"

namespace waveq {
namespace {

using namespace test;

TEST_CASE(
    "lowering: a gain and an offset per channel behind a sum become one depthwise convolution") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 3, 5}), b = net.input("b", {1, 3, 5});
  const ValueId gain = net.floats({3, 1}, {0.5F, -2.0F, 0.0F});
  const ValueId term = net.floats({1, 3, 1}, {0.25F, -0.5F, 1.0F});
  net.output(net.op("Add", {net.op("Mul", {net.op("Add", {a, b}), gain}), term}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2);
  REQUIRE(q.count("Conv") == 1);
  CHECK(q.nodes("Conv").front()->attrs.get_int("group", 1) == 3);
  CHECK(q.count("Add") == 1);
  CHECK(q.count("Mul") == 0);
}

TEST_CASE(
    "lowering: behind a clipped convolution gains and offsets per channel are not the requant's") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 6});
  const ValueId r = net.op("Relu", {net.op("Conv", {x, net.random({3, 2, 1}, -1, 1, 5)})});
  net.output(net.op("Mul", {r, net.floats({3, 1}, {0.5F, -2.0F, 1.0F})}));
  net.output(net.op("Add", {r, net.floats({3, 1}, {0.5F, -2.0F, 1.0F})}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2.5);
  for (const Node* n : q.nodes("RequantShift")) {
    if (q.graph().constant(n->inputs[1]).size() == 1) continue;
    const NodeId before = q.graph().value(n->inputs[0]).producer;
    REQUIRE(before.valid());
    CHECK(q.graph().node(before).op == "Conv");
  }
}

TEST_CASE("lowering: a gain per channel of a matrix is refused") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3});
  net.output(net.op("Mul", {net.op("Add", {x, x}), net.floats({3}, {1.0F, 2.0F, 3.0F})}));
  const auto refused = explain_refusals(net.graph, {});
  REQUIRE(refused.size() == 1);
  CHECK(refused.front().reason.find("a gain per channel") != std::string::npos);
}

TEST_CASE("lowering: a constant per channel away from a linear node is added at full shape") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 2});
  net.output(net.op("Add", {net.op("Transpose", {x}, attributes({{"perm", Ints{0, 1, 2}}})),
                            net.floats({3, 1}, {0.1F, -0.7F, 2.0F})}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2);
  REQUIRE(q.count("Add") == 1);
  CHECK(q.graph().value(q.nodes("Add").front()->inputs[1]).type.shape == Shape{1, 3, 2});
  for (const Node* n : q.nodes("RequantShift")) CHECK(q.graph().constant(n->inputs[1]).size() == 1);
}

TEST_CASE("lowering: a constant behind GELU leaves the requant behind iGELU without add") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 8});
  net.output(net.op("Add", {net.op("Gelu", {x}), net.floats({}, {0.5F})}));
  const Lowered q = lower_and_compare(net, -3, 3);
  CHECK(q.worst_steps < 4);
  for (const Node* n : q.nodes("RequantShift")) {
    const NodeId before = q.graph().value(n->inputs[0]).producer;
    if (before.valid() && q.graph().node(before).op == "iGELU")
      CHECK(to_int64(q.graph().constant(n->inputs[2])) == Ints{0});
  }
}

TEST_CASE("lowering: two transposes of one tensor are one node") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 6});
  const auto perm = attributes({{"perm", Ints{0, 2, 1}}});
  const ValueId rows = net.op("Relu", {net.op("Transpose", {x}, perm)});
  net.output(net.op("MatMul", {net.op("Transpose", {x}, perm), x})).output(rows);
  net.output(
      net.op("ReduceMean", {x}, attributes({{"axes", Ints{1}}, {"keepdims", std::int64_t{0}}})));
  CHECK(lower_and_compare(net).count("Transpose") == 1);
}

}  // namespace
}  // namespace waveq
