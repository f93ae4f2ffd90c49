#include "net.h"

#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using namespace test;

// Weights carry 8 bits: half a weight step on K inputs, at the output's scale, comes on top of the
// roundings of the requants. For the sizes below that stays within two output steps.
constexpr double kSteps = 2.5;

Attrs conv_attrs(std::int64_t group = 1) { return attributes({{"group", group}, {"pads", Ints{1, 1}}}); }

TEST_CASE("lowering: a Conv with bias and ReLU is a Conv and one unsigned requant") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 16});
  const ValueId c = net.op("Conv", {x, net.random({4, 3, 3}, -1, 1, 1), net.random({4}, -1, 1, 2)}, conv_attrs());
  net.output(net.op("Relu", {c}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < kSteps);
  REQUIRE(q.count("RequantShift") == 1);
  CHECK(q.count("Conv") == 1);
  CHECK(q.graph().nodes().size() == 2);
  CHECK(!q.out().is_signed);
  const Node& rq = *q.nodes("RequantShift").front();
  CHECK(q.graph().value(rq.inputs[1]).type.shape == Shape{4, 1});
  CHECK(q.nodes("Conv").front()->inputs.size() == 2);  // the bias is in the requant's add
  CHECK(std::ranges::any_of(to_int64(q.graph().constant(rq.inputs[2])), [](std::int64_t a) { return a != 0; }));
}

TEST_CASE("lowering: depthwise, 2-D and batches above one") {
  FloatNet net;
  const ValueId x = net.input("x", {2, 3, 6, 5});
  net.output(net.op("Conv", {x, net.random({3, 1, 3, 3}, -1, 1, 3), net.random({3}, -0.1, 0.1, 4)},
                    attributes({{"group", std::int64_t{3}}, {"strides", Ints{2, 1}}, {"pads", Ints{1, 0, 1, 0}}})));
  CHECK(lower_and_compare(net).worst_steps < kSteps);
}

TEST_CASE("lowering: a channel of zero weights costs the others nothing") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 8});
  // Inputs up to 20, outputs near 1: a natural scale of 1 for the empty channel would ask its requant to multiply.
  net.output(net.op("Conv", {x, net.floats({3, 2, 1}, {0.02F, -0.03F, 0, 0, 0.01F, 0.04F}), net.floats({3}, {0.1F, 0.7F, -0.2F})}));
  const Lowered q = lower_and_compare(net, -20, 20);
  CHECK(q.worst_steps < kSteps);
}

TEST_CASE("lowering: weights that are all zero leave the bias, or nothing") {
  for (float b : {0.0F, 0.5F, -3.0F}) {
    FloatNet conv;
    conv.output(conv.op("Conv", {conv.input("x", {1, 1, 4}), conv.floats({2, 1, 1}, {0, 0}), conv.floats({2}, {b, -b})}));
    CHECK(lower_and_compare(conv, -20, 20).worst_steps < 1.5);
    FloatNet gemm;
    gemm.output(gemm.op("Gemm", {gemm.input("x", {1, 2}), gemm.floats({2, 2}, {0, 0, 0, 0}), gemm.floats({2}, {b, -b})}));
    CHECK(lower_and_compare(gemm, -20, 20).worst_steps < 1.5);
  }
}

TEST_CASE("lowering: a channel of tiny weights keeps its large bias") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 1, 8});
  net.output(net.op("Conv", {x, net.floats({2, 1, 1}, {1.0F, 1e-4F}), net.floats({2}, {0.0F, 5.0F})}));
  CHECK(lower_and_compare(net).worst_steps < kSteps);
}

TEST_CASE("lowering: an output far smaller than one weight times one code still has a requant") {
  // Two equal inputs cancel in calibration; the accumulator's step is coarser than the range asks for.
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 4});
  net.output(net.op("Conv", {x, net.floats({1, 2, 1}, {1, -1})}));
  std::vector<std::vector<Tensor>> same;
  for (float v : {-1.0F, 0.5F, 1.0F}) same.push_back({Tensor::from<float>({1, 2, 4}, {v, v, v, v, v, v, v, v + 1e-5F})});
  CHECK(lower_and_compare(net.graph, same).worst_steps < kSteps);
}

TEST_CASE("lowering: Gemm in every spelling, one row and three") {
  for (const std::int64_t rows : {1, 3})
    for (const std::int64_t trans : {0, 1}) {
      FloatNet net;
      const ValueId x = net.input("x", {rows, 6});
      net.output(net.op("Gemm", {x, net.random(trans ? Shape{4, 6} : Shape{6, 4}, -1, 1, 5), net.random({4}, -1, 1, 6)},
                        attributes({{"transB", trans}, {"alpha", 0.5}, {"beta", 2.0}})));
      const Lowered q = lower_and_compare(net);
      CHECK(q.worst_steps < kSteps);
      REQUIRE(q.count("Gemm") == 1);
      const Node& gemm = *q.nodes("Gemm").front();
      CHECK(gemm.attrs.get_int("transB", 0) == 1);
      CHECK(gemm.attrs.get_float("alpha", 0) == 1.0);
      REQUIRE(gemm.inputs.size() == 3);
      CHECK(q.graph().value(gemm.inputs[2]).type == TensorType{DType::i32, {4}});
    }
}

TEST_CASE("lowering: a matrix times constants is a Gemm, of rank 3 a MatMul with its bias as an Add") {
  FloatNet flat;
  flat.output(flat.op("MatMul", {flat.input("x", {1, 5}), flat.random({5, 3}, -1, 1, 7)}));
  const Lowered a = lower_and_compare(flat);
  CHECK(a.worst_steps < kSteps);
  CHECK(a.count("Gemm") == 1);

  FloatNet deep;
  const ValueId m = deep.op("MatMul", {deep.input("x", {1, 4, 5}), deep.random({5, 3}, -1, 1, 8)});
  deep.output(deep.op("Add", {m, deep.random({3}, -1, 1, 9)}));
  const Lowered b = lower_and_compare(deep);
  CHECK(b.worst_steps < kSteps);
  CHECK(b.count("MatMul") == 1);
  REQUIRE(b.count("Add") == 1);
  CHECK(b.graph().value(b.nodes("Add").front()->inputs[1]).type == TensorType{DType::i32, {3}});
  CHECK(b.count("RequantShift") == 1);
  CHECK(to_int64(b.graph().constant(b.nodes("RequantShift").front()->inputs[2])) == Ints{0});
}

TEST_CASE("lowering: a constant that gives the sum another rank is not taken for a bias") {
  FloatNet net;
  const ValueId m = net.op("Gemm", {net.input("x", {1, 4}), net.random({4, 3}, -1, 1, 10)});
  net.output(net.op("Add", {m, net.random({1, 1, 3}, -1, 1, 11)}));
  const auto refused = explain_refusals(net.graph, {});
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].op == "Add");
}

TEST_CASE("lowering: K = Relu(V) shares the accumulator of V") {
  FloatNet net;
  const ValueId v = net.op("Conv", {net.input("x", {1, 3, 10}), net.random({4, 3, 3}, -1, 1, 12), net.random({4}, -1, 1, 13)}, conv_attrs());
  net.output(v).output(net.op("Relu", {v}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < kSteps);
  CHECK(q.count("Conv") == 1);
  const auto requants = q.nodes("RequantShift");
  REQUIRE(requants.size() == 2);
  CHECK(requants[0]->inputs[0] == requants[1]->inputs[0]);
  CHECK(q.out(0).is_signed);
  CHECK(!q.out(1).is_signed);
}

TEST_CASE("lowering: fewer levels, one weight scale, narrow requants") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 16});
  net.output(net.op("Conv", {x, net.random({4, 3, 3}, -1, 1, 14), net.random({4}, -1, 1, 15)}, conv_attrs()));
  IntegerizeOptions options;
  options.activation_levels = 16;
  CHECK(lower_and_compare(net, -1, 1, options).worst_steps < kSteps);
  options = {};
  options.per_channel_weights = false;
  CHECK(lower_and_compare(net, -1, 1, options).worst_steps < kSteps);
  options = {};
  options.requant.product_bits = 24;
  const Lowered q = lower_and_compare(net, -1, 1, options);
  for (const NodeProof& p : prove(q.graph()).nodes)
    if (p.op == "RequantShift") CHECK(p.bound < 8388608.0);
}

TEST_CASE("lowering: an input that calibration saw as zero alone gives zeros, not an error") {
  FloatNet net;
  const ValueId c = net.op("Conv", {net.input("x", {1, 1, 4}), net.floats({2, 1, 1}, {1.0F, -0.5F}), net.floats({2}, {0.1F, -0.1F})});
  net.output(net.op("Relu", {c}));
  const Lowered q = lower_and_compare(net.graph, {{Tensor(DType::f32, {1, 1, 4})}});
  CHECK(q.graph().value(q.graph().inputs()[0]).quant->scale == 1.0);
  CHECK(q.worst_steps < kSteps);
}

TEST_CASE("lowering: the networks of one float graph are equal in every byte") {
  FloatNet net;
  const ValueId v = net.op("Conv", {net.input("x", {1, 3, 10}), net.random({4, 3, 3}, -1, 1, 16)}, conv_attrs());
  net.output(net.op("Add", {v, net.op("Relu", {v})}));
  CHECK(dump(lower_and_compare(net).graph()) == dump(lower_and_compare(net).graph()));
}

TEST_CASE("lowering: a constant matrix for each matrix of the left operand, and sums as exact ones") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 3, 4});
  net.output(net.op("MatMul", {x, net.random({1, 2, 4, 5}, -2, 2, 30)}));
  net.output(net.op("MatMul", {x, net.floats({1, 2, 4, 1}, std::vector<float>(8, 0.25F))}));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 3);
  REQUIRE(q.count("MatMul") == 2);
  CHECK(to_int64(q.graph().constant(q.nodes("MatMul")[1]->inputs[1])) == Ints(8, 1));
}

}  // namespace
}  // namespace waveq
