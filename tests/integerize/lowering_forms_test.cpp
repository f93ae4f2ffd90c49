#include "net.h"
#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using namespace test;

Attrs conv_attrs(std::int64_t group, std::int64_t stride, std::int64_t dilation) {
  return attributes({{"group", group}, {"strides", Ints{stride}}, {"dilations", Ints{dilation}}});
}

TEST_CASE("lowering: grouped and dilated convolutions become dense ones with zeros") {
  for (const std::int64_t group : {1, 2})
    for (const std::int64_t dilation : {1, 3}) {
      FloatNet net;
      const ValueId x = net.input("x", {1, 4, 20});
      net.output(net.op("Conv",
                        {x, net.random({6, 4 / group, 3}, -1, 1, 7), net.random({6}, -1, 1, 8)},
                        conv_attrs(group, 2, dilation)));
      const Lowered q = lower_and_compare(net);
      CHECK(q.worst_steps < 2);
      const Node& conv = *q.nodes("Conv").front();
      CHECK(conv.attrs.get_int("group", 0) == 1);
      CHECK(conv.attrs.get_ints("dilations", {}) == Ints{1});
      CHECK(q.graph().value(conv.inputs[1]).type.shape == Shape{6, 4, 2 * dilation + 1});
    }
}

TEST_CASE("lowering: a depthwise convolution of multiplier two has no kernel and is made dense") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 9});
  net.output(net.op("Conv", {x, net.random({6, 1, 3}, -1, 1, 9)}, conv_attrs(3, 1, 1)));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2);
  CHECK(q.nodes("Conv").front()->attrs.get_int("group", 0) == 1);
}

TEST_CASE("lowering: auto_pad becomes explicit pads") {
  for (const char* mode : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
    FloatNet net;
    const ValueId x = net.input("x", {1, 2, 11});
    net.output(net.op("Conv", {x, net.random({2, 2, 4}, -1, 1, 3)},
                      attributes({{"auto_pad", std::string(mode)}, {"strides", Ints{1}}})));
    const Lowered q = lower_and_compare(net);
    CHECK(q.worst_steps < 2);
    const Ints pads = q.nodes("Conv").front()->attrs.get_ints("pads", {});
    CHECK(pads == (mode == std::string("VALID")        ? Ints{0, 0}
                   : mode == std::string("SAME_UPPER") ? Ints{1, 2}
                                                       : Ints{2, 1}));
  }
}

TEST_CASE("lowering: Split and a Gather of one index are Slices") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 5, 4});
  Node split;
  split.op = split.name = "Split";
  split.inputs = {x};
  split.attrs = attributes({{"axis", std::int64_t{1}}, {"split", Ints{2, 3}}});
  const ValueId a = net.graph.add_value("a", {DType::f32, {1, 2, 4}}),
                b = net.graph.add_value("b", {DType::f32, {1, 3, 4}});
  split.outputs = {a, b};
  net.graph.add_node(split);
  const ValueId last = net.graph.add_constant("last", Tensor::scalar<std::int64_t>(-1));
  net.output(net.op("Relu", {a}))
      .output(net.op("Gather", {b, last}, attributes({{"axis", std::int64_t{2}}})));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1.5);
  CHECK(q.count("Slice") == 3);
  CHECK(q.count("Gather") == 0);
}

TEST_CASE("lowering: a network output is computed, not an alias of another tensor") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 3});
  net.output(net.op("Reshape", {net.op("Relu", {x}), net.ints({1, 6})}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1);
  const Graph& g = q.graph();
  CHECK(g.node(g.value(g.outputs().front()).producer).op == "RequantShift");
}

TEST_CASE(
    "lowering: a denominator without a stabilizing constant to speak of is guarded and proven") {
  for (const float eps : {1e-3F, 1e-6F, 1e-9F}) {
    FloatNet net;
    const ValueId q = net.op("Relu", {net.input("q", {1, 1, 6, 4})});
    const ValueId k = net.op("Relu", {net.input("k", {1, 1, 4, 8})}),
                  v = net.input("v", {1, 1, 8, 3});
    const ValueId kv = net.op("MatMul", {k, v});
    const ValueId z =
        net.op("ReduceSum", {k}, attributes({{"axes", Ints{3}}, {"keepdims", std::int64_t{1}}}));
    const ValueId den = net.op("Add", {net.op("MatMul", {q, z}), net.floats({}, {eps})});
    net.output(net.op("Div", {net.op("MatMul", {q, kv}), den}));
    const Lowered lowered = lower_and_compare(net, 0.2, 1.0);
    CHECK(lowered.worst_steps < 8);
    CHECK(prove(lowered.graph()).overflow_free());
  }
}

}  // namespace
}  // namespace waveq
