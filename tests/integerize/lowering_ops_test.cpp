#include "net.h"

#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using namespace test;

TEST_CASE("lowering: Add brings both operands to one signed scale") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 4, 3}), b = net.input("b", {1, 4, 3});
  net.output(net.op("Add", {net.op("Mul", {a, net.floats({}, {4.0F})}), b}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2);
  REQUIRE(q.count("Add") == 1);
  for (ValueId in : q.nodes("Add").front()->inputs) CHECK(q.graph().value(in).type.dtype == DType::i8);
}

TEST_CASE("lowering: Add and Sub of a tensor with itself, and with an operand used elsewhere") {
  for (const char* op : {"Add", "Sub"}) {
    FloatNet net;
    const ValueId x = net.input("x", {1, 8});
    net.output(net.op(op, {x, x}));
    CHECK(lower_and_compare(net).worst_steps < 1.5);
  }
  FloatNet net;
  const ValueId x = net.input("x", {1, 8});
  const ValueId r = net.op("Relu", {x}), s = net.op("Add", {r, x});
  net.output(s).output(r).output(net.op("Sub", {s, r}));
  CHECK(lower_and_compare(net).worst_steps < 3);
}

TEST_CASE("lowering: a ReLU in front of Add takes one unsigned requant and an identity") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 6});
  const ValueId c = net.op("Relu", {net.op("Conv", {x, net.random({2, 2, 1}, -1, 1, 20)})});
  net.output(net.op("Add", {c, x}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2.5);
  std::size_t chained = 0;
  for (const Node* n : q.nodes("RequantShift")) {
    const NodeId before = q.graph().value(n->inputs[0]).producer;
    if (!before.valid() || q.graph().node(before).op != "RequantShift") continue;
    ++chained;
    const double mul = to_double(q.graph().constant(n->inputs[1]))[0];
    CHECK(mul / static_cast<double>(n->attrs.require_int("div")) == doctest::Approx(1.0).epsilon(1e-4));
    CHECK(n->attrs.require_int("signed") == 1);
  }
  CHECK(chained == 1);
}

TEST_CASE("lowering: a sum far smaller than its operands can be added again") {
  // x + y cancels in calibration, so its range is finer than its accumulator.
  FloatNet net;
  const ValueId x = net.input("x", {1, 4}), y = net.input("y", {1, 4}), z = net.input("z", {1, 4});
  const ValueId s = net.op("Add", {x, y});
  net.output(net.op("Add", {s, z})).output(net.op("Add", {s, net.floats({1}, {0.001F})})).output(net.op("Relu", {s}));
  std::vector<std::vector<Tensor>> samples;
  for (float v : {-1.0F, 0.3F, 1.0F})
    samples.push_back({Tensor::from<float>({1, 4}, {v, v, v, v}), Tensor::from<float>({1, 4}, {-v, -v, -v, 0.001F - v}),
                       Tensor::from<float>({1, 4}, {1e-3F, -1e-3F, 0, 1e-3F})});
  CHECK(lower_and_compare(net.graph, samples).worst_steps < 2.5);
}

TEST_CASE("lowering: a clip around the middle of its range takes accumulators of any fineness") {
  // HardSwish: x * Clip(x/6 + 1/2, 0, 1), one channel's accumulator 1000 times finer than another's.
  FloatNet net;
  const ValueId x = net.op("Conv", {net.input("x", {1, 2, 16}), net.floats({2, 2, 1}, {8, -5, 0.006F, 0.003F})});
  const ValueId gate = net.op("Clip", {net.op("Add", {net.op("Mul", {x, net.floats({}, {1.0F / 6})}), net.floats({}, {0.5F})})},
                              attributes({{"min", 0.0}, {"max", 1.0}}));
  net.output(net.op("Mul", {x, gate})).output(gate);
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 2);
  CHECK(prove(q.graph()).overflow_free());
}

TEST_CASE("lowering: operands that repeat along axes of length 1, by a product with ones or by the target's kernel") {
  // A gate for each channel, one for each position, each operand repeated, another rank.
  const std::vector<std::pair<Shape, Shape>> pairs = {
      {{1, 3, 4, 5}, {1, 3, 1, 1}}, {{1, 3, 4, 5}, {1, 1, 4, 5}}, {{1, 3, 4, 5}, {1, 3, 1, 5}},
      {{1, 3, 1}, {1, 1, 5}},       {{2, 1, 4}, {3, 1}},          {{1, 3, 4}, {1, 1, 1}}};
  for (const auto& pair : pairs)
    for (const char* op : {"Mul", "Add", "Sub"}) {
      const Shape &left = pair.first, &right = pair.second;
      FloatNet net;
      net.output(net.op(op, {net.op("Relu", {net.input("a", left)}), net.input("b", right)}));
      INFO(op, " ", to_string(left), " ", to_string(right));
      const Lowered repeated = lower_and_compare(net);
      CHECK(repeated.worst_steps < 2.5);
      CHECK(repeated.count("MatMul") > 0);
      for (const Node* n : repeated.nodes(op))
        CHECK(repeated.graph().value(n->inputs[0]).type.shape == repeated.graph().value(n->inputs[1]).type.shape);
      IntegerizeOptions options;
      options.target.broadcast = true;
      const Lowered own = lower_and_compare(net, -1, 1, options);
      CHECK(own.count("MatMul") == 0);
      CHECK(own.worst_steps == repeated.worst_steps);
    }
}

TEST_CASE("lowering: adding a constant, per channel, single and of the operand's shape") {
  for (const Shape& shape : {Shape{1, 3, 1}, Shape{}, Shape{3, 4}, Shape{4}, Shape{1, 3, 4}}) {
    FloatNet net;
    const ValueId x = net.input("x", {1, 3, 4});
    net.output(net.op("Add", {x, net.random(shape, -2, 2, 21)}));
    CHECK(lower_and_compare(net).worst_steps < 2);
    FloatNet sub;
    const ValueId y = sub.input("x", {1, 3, 4});
    sub.output(sub.op("Sub", {y, sub.random(shape, -2, 2, 22)}));
    CHECK(lower_and_compare(sub).worst_steps < 2);
  }
}

TEST_CASE("lowering: one number of no dimension behind a linear node") {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1}}) {
    FloatNet net;
    const ValueId x = net.op("MatMul", {net.input("x", {4, 3}), net.random({3, 5}, -1, 1, 7)});
    net.output(net.op("Add", {x, net.floats(shape, {0.75F})}));
    CHECK(lower_and_compare(net).worst_steps < 2.5);
  }
}

TEST_CASE("lowering: factors of zero") {
  for (const Shape& shape : {Shape{}, Shape{1, 3, 1}}) {
    FloatNet net;
    const ValueId x = net.input("x", {1, 3, 4});
    const std::vector<float> factors = shape.empty() ? std::vector<float>{0} : std::vector<float>{0.5F, 0, -1};
    net.output(net.op("Add", {net.op("Mul", {x, net.floats(shape, factors)}), x}));
    CHECK(lower_and_compare(net).worst_steps < 2.5);
  }
}

TEST_CASE("lowering: a bias far beyond a channel's weights, in front of another factor") {
  // LeakyRelu(x) = 0.2 x + 0.8 Relu(x) of a channel that hardly moves and one that does.
  FloatNet net;
  const ValueId w = net.floats({2, 2, 1}, {0.5F, -0.4F, 1e-4F, 2e-4F}), b = net.floats({2}, {0.1F, 3});
  const ValueId x = net.op("Conv", {net.input("x", {1, 2, 16}), w, b});
  net.output(net.op("Add", {net.op("Mul", {x, net.floats({}, {0.2F})}),
                            net.op("Mul", {net.op("Relu", {x}), net.floats({}, {0.8F})})}));
  const Lowered y = lower_and_compare(net);
  CHECK(y.worst_steps < 2.5);
  CHECK(prove(y.graph()).overflow_free());
}

TEST_CASE("lowering: a constant factor changes scales, not integers; negative and per-channel ones too") {
  FloatNet positive;
  const ValueId x = positive.input("x", {1, 2, 4});
  positive.output(positive.op("Relu", {positive.op("Mul", {x, positive.floats({}, {2.5F})})}));
  const Lowered q = lower_and_compare(positive);
  CHECK(q.worst_steps < 1);
  CHECK(q.graph().nodes().size() == 1);
  for (const std::vector<float>& f : {std::vector<float>{-3.0F}, std::vector<float>{-0.5F, 2.0F}}) {
    FloatNet net;
    const ValueId y = net.input("x", {1, 2, 4});
    const Shape shape = f.size() == 1 ? Shape{} : Shape{2, 1};
    const ValueId m = net.op("Mul", {y, net.floats(shape, f)});
    net.output(m).output(net.op("Relu", {m})).output(net.op("Add", {m, y}));
    CHECK(lower_and_compare(net).worst_steps < 2);
  }
}

TEST_CASE("lowering: an output says its own scale where a factor changed the meaning of shared integers") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4});
  const ValueId r = net.op("Relu", {x});
  net.output(r).output(net.op("Mul", {r, net.floats({}, {4.0F})}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1);
  CHECK(q.graph().outputs()[0] != q.graph().outputs()[1]);
  CHECK(q.out(1).scale == doctest::Approx(4 * q.out(0).scale));
}

TEST_CASE("lowering: an input as output, and one value twice, are tensors of their own") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4});
  const ValueId r = net.op("Relu", {x});
  net.output(x).output(r).output(r);
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1);
  const auto& outs = q.graph().outputs();
  CHECK((outs[0] != outs[1] && outs[1] != outs[2] && outs[0] != outs[2]));
}

TEST_CASE("lowering: products of activations, signed and unsigned") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 2, 5}), b = net.input("b", {1, 2, 5}), c = net.input("c", {1, 5, 3});
  net.output(net.op("Mul", {net.op("Relu", {a}), b})).output(net.op("Mul", {a, a})).output(net.op("MatMul", {b, c}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 3);
  CHECK(q.graph().value(q.nodes("MatMul").front()->outputs[0]).type.dtype == DType::i32);
}

TEST_CASE("lowering: ReLU of ReLU, Clip(0, 6) and both on 8-bit operands clip where they say") {
  // Ranges up to 20: the grid of the clipped tensor cannot be finer than its operand's, the clip is at 6 all the same.
  for (const bool in_front_of_add : {false, true}) {
    FloatNet net;
    const ValueId x = net.input("x", {1, 3, 4}), y = net.input("y", {1, 3, 4});
    const ValueId c = net.op("Clip", {net.op("Relu", {net.op("Relu", {x})})}, attributes({{"min", 0.0}, {"max", 6.0}}));
    net.output(in_front_of_add ? net.op("Add", {c, y}) : c);
    const Lowered q = lower_and_compare(net, -20, 20);
    CHECK(q.worst_steps < 2);
  }
  FloatNet sum;
  const ValueId a = sum.input("a", {1, 4}), b = sum.input("b", {1, 4});
  sum.output(sum.op("Clip", {sum.op("Add", {a, b})}, attributes({{"min", 0.0}, {"max", 6.0}})));
  CHECK(lower_and_compare(sum, -50, 50).worst_steps < 2);
  FloatNet conv;
  const ValueId v = conv.op("Conv", {conv.input("x", {1, 2, 8}), conv.random({2, 2, 1}, -2, 2, 23)});
  conv.output(v).output(conv.op("Clip", {v}, attributes({{"min", 0.0}, {"max", 6.0}})));
  CHECK(lower_and_compare(conv, -9, 9).worst_steps < 3);
}

TEST_CASE("lowering: GELU within the error of its polynomial") {
  FloatNet net;
  net.output(net.op("Gelu", {net.input("x", {1, 64})}));
  const Lowered q = lower_and_compare(net, -3, 3);
  // I-BERT's polynomial is off by up to 0.018; iGELU adds half a step of its 8-bit input.
  CHECK(q.worst_steps * q.out().scale < 0.05);
  const Node& gelu = *q.nodes("iGELU").front();
  CHECK(gelu.attrs.require_int("b") >= -128);
  CHECK(gelu.attrs.require_int("one") <= 32767);
  FloatNet fine;  // a range too small for int8 constants: the input is made coarser
  fine.output(fine.op("Gelu", {fine.input("x", {1, 64})}));
  CHECK_NOTHROW(lower_and_compare(fine, -0.01, 0.01));
}

TEST_CASE("lowering: means and sums over any axes, with and without keepdims") {
  for (const char* op : {"ReduceMean", "ReduceSum"})
    for (const Ints& axes : {Ints{2}, Ints{-1}, Ints{1}, Ints{1, -1}, Ints{0, 1, 2}, Ints{}})
      for (const std::int64_t keep : {0, 1}) {
        FloatNet net;
        const ValueId x = net.input("x", {1, 3, 7});
        Attrs attrs = attributes({{"keepdims", keep}});
        if (!axes.empty()) attrs.set("axes", axes);
        net.graph.opset = 11;
        net.output(net.op(op, {net.op("Relu", {x}), }, attrs));
        const Lowered q = lower_and_compare(net);
        INFO(op, " ", axes.size(), " ", keep);
        CHECK(q.worst_steps < 1.5);
        CHECK(!q.out().is_signed);
      }
}

TEST_CASE("lowering: AveragePool and MaxPool") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 9});
  const Attrs window = attributes({{"kernel_shape", Ints{3}}, {"strides", Ints{2}}});
  net.output(net.op("AveragePool", {x}, window)).output(net.op("MaxPool", {x}, window));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1.5);
  CHECK(q.nodes("Conv").front()->attrs.get_int("group", 0) == 3);
}

TEST_CASE("lowering: data movement keeps integers and scale") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 6});
  const ValueId t = net.op("Transpose", {x});
  const ValueId r = net.op("Reshape", {t, net.ints({1, 24})});
  net.output(r).output(net.op("Pad", {x}, attributes({{"mode", std::string("constant")}, {"pads", Ints{0, 0, 1, 0, 0, 2}}, {"value", 0.0}})));
  net.graph.opset = 10;
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1e-4);
  CHECK(q.count("RequantShift") == 1);  // the identity behind the Reshape that is an output
  CHECK(q.nodes("Transpose").front()->attrs.require_ints("perm") == Ints{2, 1, 0});
}

TEST_CASE("lowering: Concat of three is two Concats at the coarsest scale") {
  FloatNet net;
  const ValueId a = net.input("a", {1, 2, 3}), b = net.input("b", {1, 1, 3});
  const ValueId r = net.op("Relu", {net.op("Mul", {a, net.floats({}, {3.0F})})});
  net.output(net.op("Concat", {a, r, b}, attributes({{"axis", std::int64_t{1}}})));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1.5);
  CHECK(q.count("Concat") == 2);
}

TEST_CASE("lowering: division by a constant is a scale") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4});
  net.output(net.op("Div", {x, net.floats({}, {-8.0F})}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1);
  CHECK(q.count("IntegerDiv") == 0);
}

/// Q.(K V) / (Q.(K 1) + o), o left out where it is 0; Q and K are ReLUs.
FloatNet linear_attention(float stabilizer) {
  FloatNet net;
  const ValueId q = net.op("Relu", {net.input("q", {1, 6, 4})}), k = net.op("Relu", {net.input("k", {1, 4, 6})});
  const ValueId v = net.input("v", {1, 6, 5});
  const ValueId sums = net.op("ReduceMean", {k}, attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{1}}}));
  ValueId den = net.op("MatMul", {q, sums});
  if (stabilizer != 0) den = net.op("Add", {den, net.floats({}, {stabilizer})});
  net.output(net.op("Div", {net.op("MatMul", {q, net.op("MatMul", {k, v})}), den}));
  net.graph.opset = 11;
  return net;
}

TEST_CASE("lowering: linear attention divides within a few steps, and its proof is relational") {
  const Lowered q = lower_and_compare(linear_attention(0.25F));
  CHECK(q.worst_steps < 6);
  REQUIRE(q.count("IntegerDiv") == 1);
  const ProofReport proof = prove(q.graph());
  CHECK(proof.overflow_free());
  const auto div = std::ranges::find(proof.nodes, "IntegerDiv", &NodeProof::op);
  CHECK(div->reason.find("relational") != std::string::npos);
}

TEST_CASE("lowering: a division without stabilizer gets a positive eps and is proven") {
  FloatNet net = linear_attention(0);
  const auto samples = samples_for(net.graph, 5, 0.2, 1);
  const IntegerNetwork q = integerize(net.graph, lookup(measure_ranges(net.graph, samples)), {});
  for (NodeId id : q.graph.nodes())
    if (q.graph.node(id).op == "IntegerDiv") CHECK(q.graph.node(id).attrs.require_int("eps") >= 1);
  CHECK(prove(q.graph).overflow_free());
}

TEST_CASE("lowering: a branch that is 0 throughout leaves a sum and a Concat the scale of the others") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 6});
  const ValueId main = net.op("Conv", {x, net.random({4, 4, 1}, -1e-3, 1e-3, 1)});
  const ValueId zero = net.op("Conv", {x, net.floats({4, 4, 1}, std::vector<float>(16, 0.0F))});
  net.output(net.op("Add", {main, zero}));
  net.output(net.op("Concat", {zero, main}, attributes({{"axis", std::int64_t{1}}})));
  net.output(net.op("Add", {zero, zero}));
  const Lowered q = lower_and_compare(net);
  for (const std::size_t k : {0u, 1u}) CHECK(q.out(k).scale < 1e-4);
  CHECK(q.worst_steps < 3);
}

TEST_CASE("lowering: a channel whose gain is next to nothing adds its constant term") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 6});
  const ValueId sum = net.op("Add", {x, x});
  const ValueId gain = net.floats({3, 1}, {1.0F, 1e-9F, -1e-12F});
  net.output(net.op("Relu", {net.op("Add", {net.op("Mul", {sum, gain}), net.floats({3, 1}, {0.0F, 0.5F, 0.25F})})}));
  IntegerizeOptions options;
  options.target.requant_per_channel = true;
  const Lowered q = lower_and_compare(net, -1, 1, options);
  CHECK(q.worst_steps < 2);
}

}  // namespace
}  // namespace waveq
