#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "net.h"

namespace waveq::test {
namespace {

/// Batch normalization over the given number of channels; variances are positive.
ValueId batch_norm(Net& net, ValueId x, std::int64_t channels, Attrs attributes = {}) {
  std::vector<float> variance;
  for (std::int64_t c = 0; c < channels; ++c) variance.push_back(0.5f + static_cast<float>(c));
  return net.op("BatchNormalization",
                {x, net.weight("gamma", {channels}), net.weight("beta", {channels}),
                 net.weight("mean", {channels}), net.floats("var", {channels}, variance)},
                std::move(attributes));
}

std::vector<float> floats_of(const Graph& graph, std::size_t node, std::size_t input) {
  const auto span = graph.constant(graph.node(graph.nodes().at(node)).inputs.at(input)).as<float>();
  return {span.begin(), span.end()};
}

TEST_CASE("fold_batch_norm: into Conv, grouped Conv, ConvTranspose, Gemm and MatMul") {
  Net net;
  const ValueId x = net.input("x", {1, 4, 8}), v = net.input("v", {2, 4});
  net.output(batch_norm(net, net.op("Conv", {x, net.weight("w", {6, 4, 3})}), 6));
  net.output(batch_norm(net,
                        net.op("Conv", {x, net.weight("w", {6, 2, 3}), net.weight("b", {6})},
                               attrs({{"group", std::int64_t{2}}})),
                        6));
  net.output(batch_norm(
      net,
      net.op("ConvTranspose", {x, net.weight("w", {4, 3, 2})}, attrs({{"group", std::int64_t{2}}})),
      6));
  net.output(batch_norm(net,
                        net.op("Gemm", {v, net.weight("w", {6, 4}), net.weight("b", {6})},
                               attrs({{"transB", std::int64_t{1}}, {"alpha", 0.5}, {"beta", 2.0}})),
                        6));
  net.output(batch_norm(net, net.op("MatMul", {v, net.weight("w", {4, 6})}), 6));
  net.output(batch_norm(
      net, net.op("Add", {net.op("MatMul", {v, net.weight("w", {4, 6})}), net.weight("b", {6})}),
      6));
  const Rewritten r = rewrite_checked(net, {"fold_batch_norm"});
  CHECK(r.text ==
        "Conv(x, f32[6,4,3], f32[6]); Conv(x, f32[6,2,3], f32[6]){group=2}; "
        "ConvTranspose(x, f32[4,3,2], f32[6]){group=2}; Gemm(v, f32[6,4], f32[6]){alpha=0.5 beta=1 "
        "transB=1}; "
        "Add(MatMul(v, f32[4,6]), f32[6]); Add(MatMul(v, f32[4,6]), f32[6])");
}

TEST_CASE("fold_batch_norm: literal weights and bias, and whose name they carry") {
  Net net;
  const ValueId x = net.input("x", {1, 1, 4});
  const ValueId conv =
      net.op("Conv", {x, net.floats("w", {2, 1, 1}, {1, 3}), net.floats("b", {2}, {1, 1})});
  net.output(net.op("BatchNormalization",
                    {conv, net.floats("gamma", {2}, {2, -1}), net.floats("beta", {2}, {5, 0}),
                     net.floats("mean", {2}, {3, 0.5f}), net.floats("var", {2}, {0.75f, 15.75f})},
                    attrs({{"epsilon", 0.25}})));
  const Rewritten r = rewrite_checked(net, {"fold_batch_norm"});
  // gains 2/sqrt(1) = 2 and -1/sqrt(16) = -0.25
  CHECK(floats_of(r.graph, 0, 1) == std::vector<float>{2.0f, -0.75f});
  CHECK(floats_of(r.graph, 0, 2) == std::vector<float>{(1 - 3) * 2 + 5, (1 - 0.5f) * -0.25f});
  const Node& node = r.graph.node(r.graph.nodes()[0]);
  CHECK(node.name == "Conv_fold_batch_norm");
  CHECK(node.origin == "Conv");
  CHECK(r.graph.value(node.inputs[1]).name == "w_1");
}

TEST_CASE(
    "fold_batch_norm: refuses shared or computed weights, other channels and bad "
    "variances") {
  const auto reason = [](const std::function<void(Net&)>& build) {
    Net net;
    build(net);
    const Rewritten r = rewrite_checked(net, {"fold_batch_norm"});
    CHECK(r.report.applied.empty());
    return refusal(r);
  };
  CHECK(reason([](Net& net) {
          const ValueId conv =
              net.op("Conv", {net.input("x", {1, 2, 4}), net.weight("w", {3, 2, 1})});
          net.output(batch_norm(net, conv, 3)).output(net.op("Relu", {conv}));
        }) == "the output of Conv 'Conv' has 2 uses");
  CHECK(reason([](Net& net) {
          net.output(batch_norm(
              net, net.op("Conv", {net.input("x", {1, 2, 4}), net.input("w", {3, 2, 1})}), 3));
        }) == "the weights of Conv 'Conv' are not constant");
  CHECK(reason([](Net& net) {
          net.output(batch_norm(
              net, net.op("MatMul", {net.input("x", {1, 2, 4}), net.weight("w", {4, 4})}), 2));
        }) == "its channels (axis 1) are not those of the operator in front (axis 2)");
  CHECK(reason([](Net& net) {
          const ValueId conv =
              net.op("Conv", {net.input("x", {1, 2, 4}), net.weight("w", {1, 2, 1})});
          net.output(net.op("BatchNormalization",
                            {conv, net.floats("g", {1}, {1}), net.floats("b", {1}, {1}),
                             net.floats("m", {1}, {1}), net.floats("v", {1}, {-1})}));
        }) == "a variance is not positive");
}

TEST_CASE(
    "replace_batch_norm_with_affine: one that stands alone is a gain and an offset per channel") {
  Net net;
  net.output(batch_norm(net, net.op("Relu", {net.input("x", {2, 3, 4, 4})}), 3));
  const Rewritten r = rewrite_checked(net, {"replace_batch_norm_with_affine"});
  CHECK(r.text == "Add(Mul(Relu(x), f32[3,1,1]), f32[3,1,1])");
}

TEST_CASE("replace_batch_norm_with_affine: refuses parameters that are computed") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 4}), gamma = net.input("gamma", {3});
  net.output(net.op("BatchNormalization", {x, gamma, net.weight("b", {3}), net.weight("m", {3}),
                                           net.floats("v", {3}, {1, 2, 3})}));
  CHECK(refusal(rewrite_checked(net, {"replace_batch_norm_with_affine"})) ==
        "its parameters are not constant");
}

TEST_CASE("fold_scale_into_linear: gains per channel and for all, before and behind the operator") {
  Net net;
  const ValueId x = net.input("x", {1, 4, 8}), v = net.input("v", {2, 4});
  net.output(net.op("Mul", {net.op("Conv", {x, net.weight("w", {6, 4, 1}), net.weight("b", {6})}),
                            net.weight("s", {6, 1})}));
  net.output(
      net.op("Div", {net.op("Conv", {x, net.weight("w", {6, 4, 1})}), net.scalar(4.0f, {1, 1})}));
  net.output(net.op("Mul", {net.weight("s", {6}), net.op("Gemm", {v, net.weight("w", {4, 6})})}));
  const ValueId sum =
      net.op("Add", {net.op("MatMul", {x, net.weight("w", {8, 6})}), net.weight("b", {6})});
  net.output(net.op("Mul", {sum, net.weight("s", {6})}));
  net.output(
      net.op("Mul", {net.op("MatMul", {net.weight("w", {3, 4}), x}), net.weight("s", {3, 1})}));
  const Rewritten r = rewrite_checked(net, {"fold_scale_into_linear"});
  CHECK(r.text ==
        "Conv(x, f32[6,4,1], f32[6]); Conv(x, f32[6,4,1]); Gemm(v, f32[4,6]){beta=1}; "
        "Add(MatMul(x, f32[8,6]), f32[6]); MatMul(f32[3,4], x)");
}

TEST_CASE("fold_scale_into_linear: refuses a gain that is none per channel, and infinities") {
  const auto reason = [](const std::function<ValueId(Net&, ValueId)>& scale) {
    Net net;
    const ValueId conv = net.op("Conv", {net.input("x", {1, 2, 8}), net.weight("w", {3, 2, 1})});
    net.output(scale(net, conv));
    const Rewritten r = rewrite_checked(net, {"fold_scale_into_linear"});
    CHECK(r.report.applied.empty());
    return refusal(r);
  };
  CHECK(reason([](Net& n, ValueId c) {
          return n.op("Mul", {c, n.weight("s", {8})});
        }) == "[8] is not one gain per channel (3)");
  CHECK(reason([](Net& n, ValueId c) {
          return n.op("Div", {c, n.scalar(0.0f)});
        }) == "a folded weight would not be finite");
  CHECK(reason([](Net& n, ValueId c) {
          return n.op("Add", {n.op("Mul", {c, n.scalar(2.0f)}), n.op("Exp", {c})});
        }) == "the output of Conv 'Conv' has 2 uses");
  CHECK(reason([](Net& n, ValueId c) { return n.op("Div", {n.scalar(1.0f), c}); }).empty());
}

TEST_CASE(
    "fold_scale_into_next_linear: gains of input channels go into the weights, padding or not") {
  Net net;
  const ValueId x = net.input("x", {1, 4, 8}), v = net.input("v", {2, 4});
  const ValueId s = net.weight("s", {4, 1}), t = net.weight("t", {4});
  const auto scaled = [&](ValueId in, ValueId by) { return net.op("Mul", {in, by}); };
  net.output(
      net.op("Conv", {scaled(x, s), net.weight("w", {6, 4, 3})}, attrs({{"pads", ints({1, 1})}})));
  net.output(net.op("Conv", {scaled(x, s), net.weight("w", {6, 2, 3}), net.weight("b", {6})},
                    attrs({{"group", std::int64_t{2}}})));
  net.output(net.op("ConvTranspose", {scaled(x, s), net.weight("w", {4, 3, 2})},
                    attrs({{"group", std::int64_t{2}}})));
  net.output(net.op("Gemm", {scaled(v, t), net.weight("w", {6, 4}), net.weight("b", {6})},
                    attrs({{"transB", std::int64_t{1}}})));
  net.output(net.op("MatMul", {scaled(v, t), net.weight("w", {4, 6})}));
  net.output(net.op("MatMul", {scaled(v, net.scalar(3.0f)), net.weight("w", {4, 6})}));
  const Rewritten r = rewrite_checked(net, {"fold_scale_into_next_linear"});
  CHECK(r.text ==
        "Conv(x, f32[6,4,3]){pads=[1,1]}; Conv(x, f32[6,2,3], f32[6]){group=2}; ConvTranspose(x, "
        "f32[4,3,2]){group=2}; "
        "Gemm(v, f32[6,4], f32[6]){transB=1}; MatMul(v, f32[4,6]); MatMul(v, f32[4,6])");
}

TEST_CASE(
    "fold_scale_into_next_linear: refuses gains over time, shared inputs and transposed ones") {
  Net net;
  const ValueId x = net.input("x", {1, 4, 8});
  net.output(
      net.op("Conv", {net.op("Mul", {x, net.weight("s", {8})}), net.weight("w", {6, 4, 1})}));
  CHECK(refusal(rewrite_checked(net, {"fold_scale_into_next_linear"})) ==
        "[8] is not one gain per input channel");

  Net shared;
  const ValueId scaled = shared.op("Mul", {shared.input("x", {1, 4, 8}), shared.scalar(2.0f)});
  shared.output(shared.op("Conv", {scaled, shared.weight("w", {6, 4, 1})}))
      .output(shared.op("Exp", {scaled}));
  CHECK(refusal(rewrite_checked(shared, {"fold_scale_into_next_linear"})) ==
        "the scaled input 'Mul' has 2 uses");

  Net turned;
  const ValueId y = turned.op("Mul", {turned.input("x", {4, 2}), turned.scalar(2.0f)});
  turned.output(
      turned.op("Gemm", {y, turned.weight("w", {4, 6})}, attrs({{"transA", std::int64_t{1}}})));
  CHECK(refusal(rewrite_checked(turned, {"fold_scale_into_next_linear"})) ==
        "its input is transposed");
}

TEST_CASE(
    "replace_div_with_mul: division by a constant is multiplication, exact for powers of two") {
  Net net;
  const ValueId x = net.input("x", {4});
  net.output(net.op("Div", {x, net.scalar(8.0f)}));
  net.output(net.op("Div", {x, net.weight("w", {4})}));
  net.output(net.op("Div", {net.scalar(8.0f), net.op("Exp", {x})}));
  const Rewritten r = rewrite_checked(net, {"replace_div_with_mul"});
  CHECK(r.text == "Mul(x, 0.125); Mul(x, f32[4]); Div(8, Exp(x))");
}

TEST_CASE("replace_div_with_mul: refuses a zero divisor and leaves integers alone") {
  Net net;
  const ValueId x = net.input("x", {2});
  net.output(net.op("Div", {x, net.floats("zero", {2}, {1, 0})}));
  CHECK(refusal(rewrite_checked(net, {"replace_div_with_mul"})) ==
        "the divisor 'zero' has a zero in it");

  Net whole;
  const ValueId n = whole.graph.add_input("n", {DType::i64, {2}});
  whole.output(whole.op("Div", {n, whole.ints({2, 2})}))
      .output(whole.op("Sub", {n, whole.ints({2, 2})}));
  CHECK(rewrite(whole.graph).applied.empty());
}

TEST_CASE("fuse_mul_reciprocal: a reciprocal that is multiplied in is a division, on either side") {
  Net net;
  const ValueId x = net.input("x", {2, 3}), d = net.op("Exp", {net.input("d", {2, 1})});
  net.output(net.op("Mul", {x, net.op("Div", {net.scalar(1.0f), d})}));
  net.output(net.op("Mul", {net.op("Reciprocal", {d}), x}));
  net.output(net.op("Mul", {x, net.op("Div", {net.scalar(2.0f), d})}));
  const Rewritten r = rewrite_checked(net, {"fuse_mul_reciprocal"});
  CHECK(r.text == "Div(x, Exp(d)); Div(x, Exp(d)); Mul(x, Div(2, Exp(d)))");
}

TEST_CASE("replace_sub_with_add: subtraction of and from a constant is addition, bit for bit") {
  Net net;
  const ValueId x = net.input("x", {4});
  net.output(net.op("Sub", {x, net.weight("w", {4})}));
  net.output(net.op("Sub", {net.scalar(3.0f), x}));
  const Rewritten r = rewrite_checked(net, {"replace_sub_with_add"});
  CHECK(r.text == "Add(x, f32[4]); Add(Mul(x, -1), 3)");
}

TEST_CASE("fold_mul_chain, fold_add_chain: constants in a row are one") {
  Net net;
  const ValueId x = net.input("x", {2, 4});
  net.output(net.op(
      "Mul", {net.scalar(2.0f),
              net.op("Mul", {net.op("Mul", {x, net.weight("w", {4})}), net.scalar(0.5f, {1})})}));
  net.output(net.op("Add", {net.op("Add", {net.scalar(1.0f), x}), net.scalar(2.0f)}));
  CHECK(rewrite_checked(net, {"fold_mul_chain", "fold_add_chain"}).text ==
        "Mul(x, f32[4]); Add(x, 3)");
}

TEST_CASE("fold_mul_chain: refuses tables, shared values and infinities") {
  const auto reason = [](const std::function<void(Net&, ValueId)>& build) {
    Net net;
    build(net, net.input("x", {2, 4}));
    const Rewritten r = rewrite_checked(net, {"fold_mul_chain"});
    CHECK(r.report.applied.empty());
    return refusal(r);
  };
  CHECK(reason([](Net& n, ValueId x) {
          n.output(n.op("Mul", {n.op("Mul", {x, n.weight("a", {2, 1})}), n.weight("b", {4})}));
        }) == "constants [2,1] and [4] would grow to 8 numbers");
  CHECK(reason([](Net& n, ValueId x) {
          const ValueId inner = n.op("Mul", {x, n.scalar(2.0f)});
          n.output(n.op("Mul", {inner, n.scalar(2.0f)})).output(n.op("Exp", {inner}));
        }) == "the output of Mul 'Mul' has 2 uses");
  CHECK(reason([](Net& n, ValueId x) {
          n.output(n.op("Mul", {n.op("Mul", {x, n.scalar(1e30f)}), n.scalar(1e30f)}));
        }) == "a combined constant would not be finite");
}

TEST_CASE(
    "hoist_activation_above_movement: an activation moves behind its Conv, past any movement") {
  Net net;
  const ValueId conv = net.op("Conv", {net.input("x", {1, 4, 6}), net.weight("w", {4, 4, 1})});
  const ValueId moved = net.op("Transpose", {net.op("Reshape", {conv, net.ints({1, 2, 2, 6})})},
                               attrs({{"perm", ints({0, 1, 3, 2})}}));
  net.output(
      net.op("Clip", {net.op("Elu", {moved}, attrs({{"alpha", 2.0}}))}, attrs({{"max", 1.5}})));
  const Rewritten r = rewrite_checked(net, {"hoist_activation_above_movement"});
  CHECK(r.text ==
        "Transpose(Reshape(Clip(Elu(Conv(x, f32[4,4,1])){alpha=2}){max=1.5}, "
        "[1,2,2,6])){perm=[0,1,3,2]}");
}

TEST_CASE("hoist_activation_above_movement: other readers keep their movement") {
  Net net;
  const ValueId moved = net.op("Reshape", {net.input("x", {1, 4, 6}), net.ints({4, 6})});
  net.output(net.op("Relu", {moved})).output(net.op("Softmax", {moved}));
  const Rewritten r = rewrite_checked(net, {"hoist_activation_above_movement"});
  CHECK(r.text == "Reshape(Relu(x), [4,6]); Softmax(Reshape(x, [4,6]))");
}

TEST_CASE("hoist_activation_above_movement: stays behind a movement that makes elements fewer") {
  Net net;
  const ValueId x = net.input("x", {1, 1, 2, 2});
  const auto resize = [&](float factor) {
    const ValueId scales = net.floats("scales", {4}, {1, 1, factor, factor});
    return net.op("Resize", {x, ValueId{}, scales},
                  attrs({{"mode", std::string("nearest")},
                         {"coordinate_transformation_mode", std::string("asymmetric")},
                         {"nearest_mode", std::string("floor")}}));
  };
  net.output(net.op("Relu", {resize(2.0f)})).output(net.op("Relu", {resize(0.5f)}));
  const std::string text = rewrite_checked(net, {"hoist_activation_above_movement"}).text;
  CHECK(text.starts_with("Resize(Relu(x)"));
  CHECK(text.find("Relu(Resize(x") != std::string::npos);
}

TEST_CASE("hoist_scalar_above_movement: gains and offsets move to where they can be absorbed") {
  Net net;
  const ValueId conv = net.op("Conv", {net.input("x", {1, 4, 6}), net.weight("w", {4, 4, 1})});
  const ValueId moved = net.op("Reshape", {conv, net.ints({1, 2, 2, 6})});
  net.output(
      net.op("Add", {net.op("Mul", {moved, net.scalar(0.5f, {1, 1, 1, 1})}), net.scalar(1.0f)}));
  CHECK(rewrite_checked(net, {"hoist_scalar_above_movement"}).text ==
        "Reshape(Add(Mul(Conv(x, f32[4,4,1]), 0.5), 1), [1,2,2,6])");
  CHECK(rewrite_checked(net).text == "Reshape(Conv(x, f32[4,4,1], f32[4]), [1,2,2,6])");
}

TEST_CASE("hoist_scalar_above_movement: refuses where the moved value has other readers") {
  Net net;
  const ValueId moved = net.op("Reshape", {net.input("x", {1, 4, 6}), net.ints({4, 6})});
  net.output(net.op("Mul", {moved, net.scalar(2.0f)})).output(net.op("Softmax", {moved}));
  CHECK(refusal(rewrite_checked(net, {"hoist_scalar_above_movement"})) ==
        "the output of Reshape 'Reshape' has 2 uses");
}

TEST_CASE("rules: names are unique verb_object, and every field of the table is filled in") {
  std::vector<std::string> names;
  for (const Rule& rule : all_rules()) {
    CAPTURE(rule.name);
    CHECK(std::ranges::find(names, rule.name) == names.end());
    names.push_back(rule.name);
    CHECK(rule.name.find('_') != std::string::npos);
    CHECK(rule.formula.find('=') != std::string::npos);
    CHECK_FALSE(rule.source.empty());
    CHECK(rule.apply);
    CHECK(&find_rule(rule.name) == &rule);
  }
}

}  // namespace
}  // namespace waveq::test
