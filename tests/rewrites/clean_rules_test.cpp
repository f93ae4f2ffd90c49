#include <doctest/doctest.h>

#include <limits>

#include "net.h"
#include "waveq/graph/infer.h"

namespace waveq::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST_CASE("fold_constants: a node with constant inputs becomes its value") {
  Net net;
  const ValueId x = net.input("x", {2, 3});
  const ValueId w = net.op("Transpose", {net.weight("w", {2, 3})}, attrs({{"perm", ints({1, 0})}}));
  net.output(net.op("MatMul", {x, net.op("Mul", {w, net.scalar(2.0f)})}));
  const Rewritten r = rewrite_checked(net, {"fold_constants"});
  CHECK(r.text == "MatMul(x, f32[3,2])");
  CHECK(r.count("fold_constants") == 2);
  const Node& matmul = r.graph.node(r.graph.nodes()[0]);
  const auto found = r.graph.constant(matmul.inputs[1]).as<float>();
  const auto source = net.graph.constant(*net.graph.find_value("w")).as<float>();
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 2; ++j) CHECK(found[2 * i + j] == 2.0f * source[3 * j + i]);
}

TEST_CASE("fold_constants: a small constant is not blown up") {
  Net net;
  const ValueId x = net.input("x", {1024, 1024});
  net.output(
      net.op("Add", {x, net.op("Expand", {net.weight("w", {1, 1024}), net.ints({1024, 1024})})}));
  const Rewritten r = rewrite_checked(net, {"fold_constants"});
  CHECK(r.text == "Add(x, Expand(f32[1,1024], [1024,1024]))");
  CHECK(refusal(r) == "the result would take 4194304 bytes, its inputs take 4112");
}

TEST_CASE("fold_constants: weights that ConstantOfShape fills are constants") {
  Net net;
  const ValueId w = net.op("ConstantOfShape", {net.ints({1024, 1024})});
  net.output(net.op("MatMul", {net.input("x", {1, 1024}), w}));
  CHECK(rewrite_checked(net, {"fold_constants"}).text == "MatMul(x, f32[1024,1024])");
}

TEST_CASE("fold_shape: the shape of a value is a constant, whole or in part") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 4});
  const ValueId part =
      net.op("Shape", {x}, attrs({{"start", std::int64_t{-2}}, {"end", std::int64_t{9}}}));
  const ValueId y = net.typed("Reshape", {x, net.op("Shape", {x})}, {{DType::f32, {2, 3, 4}}})[0];
  net.output(net.op("Relu", {y}));
  net.output(net.typed("Expand", {net.scalar(1.0f), part}, {{DType::f32, {3, 4}}})[0]);
  net.output(net.op("Size", {x}));
  const Rewritten r = rewrite_checked(net, {"fold_shape"});
  CHECK(r.text == "Relu(Reshape(x, [2,3,4])); Expand(1, [3,4]); Size(x)");
  CHECK(refusal(r) == "the network output 'y3' would be the constant 'Size_fold_shape_const_1'");
}

TEST_CASE("fold_shape: the type of the input has to be known") {
  Net net;
  const ValueId m = net.typed("Mystery", {net.input("x", {2})}, {{}})[0];
  net.output(net.typed("Shape", {m}, {{DType::i64, {1}}})[0]);
  const RewriteReport report = rewrite(net.graph);
  CHECK(test::expression(net.graph) == "Shape(Mystery(x))");
  REQUIRE(report.refused.size() == 1);
  CHECK(report.refused[0].reason == "the type of its input is not known");
}

TEST_CASE("eliminate_identity: every spelling of nothing") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 4, 4});
  ValueId v = net.op("Relu", {x});
  v = net.op("Identity", {v});
  v = net.op("Cast", {v}, attrs({{"to", std::int64_t{1}}}));
  v = net.op("Dropout", {v, net.scalar(0.5f)});
  Tensor training(DType::boolean, {});
  training.as<bool>()[0] = true;
  v = net.op("Dropout", {v, net.scalar(0.5f), net.graph.add_constant("training", training)});
  v = net.op("Transpose", {v}, attrs({{"perm", ints({0, 1, 2, 3})}}));
  v = net.op("Reshape", {v, net.ints({0, -1, 4, 4})});
  v = net.op("Concat", {v}, attrs({{"axis", std::int64_t{1}}}));
  v = net.op("Slice", {v, net.ints({0}), net.ints({1000}), net.ints({3}), net.ints({1})});
  v = net.op("Pad", {v, net.ints({0, 0, 0, 0, 0, 0, 0, 0})});
  v = net.op("Expand", {v, net.ints({1, 2, 1, 1})});
  v = net.op("Mul", {v, net.scalar(1.0f, {1})});
  v = net.op("Mul", {net.floats("ones", {4}, {1, 1, 1, 1}), v});
  v = net.op("Div", {v, net.scalar(1.0f)});
  v = net.op("Add", {net.scalar(0.0f, {1, 1}), v});
  v = net.op("Sub", {v, net.scalar(0.0f)});
  v = net.op("Pow", {v, net.scalar(1.0f)});
  v = net.op("Max", {v});
  v = net.op("Clip", {v});
  v = net.op("ReduceMean", {v}, attrs({{"axes", ints({0})}}));
  v = net.op("MaxPool", {v}, attrs({{"kernel_shape", ints({1, 1})}}));
  net.output(net.op("Exp", {v}));
  const Rewritten r = rewrite_checked(net, {"eliminate_identity"});
  CHECK(r.text == "Exp(Relu(x))");
  CHECK(r.report.refused.empty());
}

TEST_CASE("eliminate_identity: leaves what looks like nothing and is something") {
  Net net;
  const ValueId x = net.input("x", {2, 2});
  net.output(net.op("Transpose", {x}, attrs({{"perm", ints({1, 0})}})));
  net.output(
      net.op("Slice", {x, net.ints({-1}), net.ints({-1000}), net.ints({0}), net.ints({-1})}));
  net.output(net.op("Add", {net.scalar(0.0f, {1, 1, 1}), x}));
  net.output(net.op("Pad", {x, net.ints({-1, 0, 1, 0})}));
  net.output(net.op("Clip", {x, net.scalar(-1.0f)}));
  net.output(net.op("Sub", {net.scalar(0.0f), x}));
  net.output(net.op("Mul", {x, net.floats("k", {2}, {1, 2})}));
  net.output(net.op("Max", {x, net.scalar(-1.0f)}));
  const Rewritten r = rewrite_checked(net, {"eliminate_identity"});
  CHECK(r.report.applied.empty());
}

TEST_CASE(
    "normalize_axes_input: parameters that are inputs become attributes, and are spelled out") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 4});
  net.output(net.op("ReduceSum", {x, net.ints({-1, 1})}));
  net.output(net.op("ReduceMean", {x}, attrs({{"keepdims", std::int64_t{0}}})));
  net.output(net.op("Slice", {x, net.ints({1}), net.ints({-1}), net.ints({-1})}));
  net.output(net.op("Pad", {x, net.ints({0, 0, 1, 0, 0, 2}), net.scalar(0.5f)}));
  net.output(net.op("Clip", {x, ValueId{}, net.scalar(0.5f)}));
  net.output(net.op("Squeeze", {x, net.ints({-3})}));
  const Rewritten r = rewrite_checked(net, {"normalize_axes_input"});
  CHECK(r.text ==
        "ReduceSum(x){axes=[1,2] keepdims=1}; "
        "ReduceMean(x){axes=[0,1,2] keepdims=0}; "
        "Slice(x){axes=[2] ends=[-1] starts=[1] steps=[1]}; "
        "Pad(x){mode=constant pads=[0,0,1,0,0,2] value=0.5}; "
        "Clip(x){max=0.5}; "
        "Squeeze(x){axes=[0]}");
  CHECK(rewrite_checked({r.graph}, {"normalize_axes_input"}).report.applied.empty());
}

TEST_CASE("normalize_axes_input: the outputs of a Split keep their order") {
  Net net;
  const auto parts = net.typed("Split", {net.input("x", {4, 2}), net.ints({1, 3})},
                               {{DType::f32, {1, 2}}, {DType::f32, {3, 2}}});
  net.output(net.op("Neg", {parts[1]})).output(net.op("Neg", {parts[0]}));
  const Rewritten r = rewrite_checked(net, {"normalize_axes_input"});
  CHECK(r.text == "Neg(Split(x){axis=0 split=[1,3]}#1); Neg(Split(x){axis=0 split=[1,3]})");
}

TEST_CASE("normalize_axes_input: bounds that are computed stay inputs") {
  Net net;
  const ValueId x = net.input("x", {1, 4}), bound = net.input("bound", {});
  net.output(net.op("Clip", {x, bound}));
  CHECK(refusal(rewrite_checked(net, {"normalize_axes_input"})) ==
        "its bound 'min' is not constant");
}

TEST_CASE("replace_with_reshape: Flatten, Squeeze and Unsqueeze, and targets without 0 and -1") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 1});
  net.output(net.op("Flatten", {x}));
  net.output(net.op("Squeeze", {x, net.ints({2})}));
  net.output(net.op("Unsqueeze", {x}, attrs({{"axes", ints({0})}})));
  net.output(net.op("Reshape", {x, net.ints({0, -1})}, attrs({{"allowzero", std::int64_t{0}}})));
  const Rewritten r = rewrite_checked(net, {"replace_with_reshape"});
  CHECK(r.text == "Reshape(x, [2,3]); Reshape(x, [2,3]); Reshape(x, [1,2,3,1]); Reshape(x, [2,3])");
  CHECK(rewrite_checked({r.graph}, {"replace_with_reshape"}).report.applied.empty());
}

TEST_CASE("replace_with_reshape: an empty tensor stays") {
  Net net;
  net.output(net.op("Flatten", {net.input("x", {0, 3})}));
  CHECK(refusal(rewrite_checked(net, {"replace_with_reshape"})) == "the tensor is empty");
}

TEST_CASE("merge_reshapes: only the last target counts") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 4});
  const ValueId inner = net.op("Reshape", {x, net.ints({6, 4})});
  net.output(net.op("Reshape", {net.op("Reshape", {inner, net.ints({4, 6})}), net.ints({24})}));
  net.output(net.op("Relu", {inner}));
  const Rewritten r = rewrite_checked(net, {"merge_reshapes"});
  CHECK(r.text == "Reshape(x, [24]); Relu(Reshape(x, [6,4]))");
}

TEST_CASE("merge_reshapes: a target that refers to its input is left for replace_with_reshape") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 4});
  net.output(net.op("Reshape", {net.op("Reshape", {x, net.ints({6, 4})}), net.ints({0, 2, 2})}));
  CHECK(rewrite_checked(net, {"merge_reshapes"}).report.applied.empty());
  CHECK(rewrite_checked(net, {"merge_reshapes", "replace_with_reshape"}).text ==
        "Reshape(x, [6,2,2])");
}

TEST_CASE("merge_transposes: permutations are composed") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 4});
  const ValueId once = net.op("Transpose", {x}, attrs({{"perm", ints({1, 2, 0})}}));
  net.output(net.op("Transpose", {once}, attrs({{"perm", ints({0, 2, 1})}})));
  net.output(net.op("Relu", {net.op("Transpose", {net.op("Transpose", {x})})}));
  CHECK(rewrite_checked(net, {"merge_transposes"}).text ==
        "Transpose(x){perm=[1,0,2]}; Relu(Transpose(x){perm=[0,1,2]})");
  CHECK(rewrite_checked(net, {"merge_transposes", "eliminate_identity"}).text ==
        "Transpose(x){perm=[1,0,2]}; Relu(x)");
}

TEST_CASE("replace_transpose_with_reshape: axes of length 1 move for free, others do not") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 1, 3});
  net.output(net.op("Transpose", {x}, attrs({{"perm", ints({1, 0, 3, 2})}})));
  net.output(net.op("Transpose", {x}));
  const Rewritten r = rewrite_checked(net, {"replace_transpose_with_reshape"});
  CHECK(r.text == "Reshape(x, [2,1,3,1]); Transpose(x)");
}

TEST_CASE("shrink_repeated_constant: a constant is there once along axes where it repeats") {
  const auto text = [](const char* op, const Shape& x, const Shape& c, std::vector<float> values) {
    Net net;
    const ValueId constant = net.graph.add_constant("c", Tensor::from<float>(c, values));
    net.output(net.op(op, {net.input("x", x), constant}));
    return rewrite_checked(net, {"shrink_repeated_constant"}).text;
  };
  CHECK(text("Add", {1, 2, 3}, {1, 2, 3}, {1, 2, 3, 1, 2, 3}) == "Add(x, f32[1,1,3])");
  CHECK(text("Sub", {1, 2, 3}, {1, 2, 3}, {4, 4, 4, 5, 5, 5}) == "Sub(x, f32[1,2,1])");
  CHECK(text("Div", {2, 2}, {2, 2}, {3, 3, 3, 3}) == "Div(x, 3)");
  CHECK(text("Mul", {4, 2, 3}, {2, 3}, {1, 2, 3, 1, 2, 3}) == "Mul(x, f32[1,3])");
  // Shapes that the constant makes stay.
  CHECK(text("Add", {1, 3}, {2, 3}, {1, 2, 3, 1, 2, 3}) == "Add(x, f32[2,3])");
  CHECK(text("Add", {3}, {2, 3}, {1, 1, 1, 1, 1, 1}) == "Add(x, f32[2,1])");
  CHECK(text("Add", {2, 3}, {2, 3}, {1, 2, 3, 1, 2, 4}) == "Add(x, f32[2,3])");
}

TEST_CASE("order_constant_operand: constants go right where the operator allows it") {
  Net net;
  const ValueId x = net.input("x", {2});
  net.output(net.op("Add", {net.weight("w", {2}), x}));
  net.output(net.op("Mul", {net.scalar(3.0f), x}));
  net.output(net.op("Sub", {net.scalar(3.0f), x}));
  const Rewritten r = rewrite_checked(net, {"order_constant_operand"});
  CHECK(r.text == "Add(x, f32[2]); Mul(x, 3); Sub(3, x)");
}

TEST_CASE("fold_relu_clip: Clip and Max that cut at zero alone are Relu") {
  Net net;
  const ValueId x = net.input("x", {4});
  net.output(net.op("Clip", {x, net.scalar(0.0f)}));
  net.output(net.op(
      "Clip", {x},
      attrs({{"min", 0.0}, {"max", static_cast<double>(std::numeric_limits<float>::max())}})));
  net.output(net.op("Clip", {x, net.scalar(0.0f), net.scalar(kInf)}));
  net.output(net.op("Max", {net.scalar(0.0f), x}));
  net.output(net.op("Clip", {x, net.scalar(0.0f), net.scalar(6.0f)}));
  net.output(net.op("Max", {x, net.scalar(1.0f)}));
  net.output(net.op("Max", {x, net.scalar(0.0f, {1, 1})}));
  const Rewritten r = rewrite_checked(net, {"fold_relu_clip"});
  CHECK(r.text == "Relu(x); Relu(x); Relu(x); Relu(x); Clip(x, 0, 6); Max(x, 1); Max(x, 0)");
}

TEST_CASE("eliminate_duplicates: the same operator on the same inputs is computed once") {
  Net net;
  const ValueId x = net.input("x", {2, 3});
  const ValueId a = net.op("Reshape", {x, net.ints({6})}),
                b = net.op("Reshape", {x, net.ints({6})});
  const ValueId c = net.op("Exp", {a}), d = net.op("Exp", {b});
  net.output(net.op("Add", {c, d}));
  const Rewritten r = rewrite_checked(net, {"eliminate_duplicates"});
  CHECK(r.graph.nodes().size() == 3);
  CHECK(r.text == "Add(Exp(Reshape(x, [6])), Exp(Reshape(x, [6])))");
  REQUIRE(r.report.applied.size() == 2);
  CHECK(r.report.applied[0].detail == "the same as Reshape 'Reshape'");
}

TEST_CASE("eliminate_duplicates: other attributes, constants or types are another computation") {
  Net net;
  const ValueId x = net.input("x", {2, 2});
  net.output(net.op("Elu", {x}, attrs({{"alpha", 1.0}})));
  net.output(net.op("Elu", {x}, attrs({{"alpha", 2.0}})));
  net.output(net.op("Mul", {x, net.scalar(2.0f)}));
  net.output(net.op("Mul", {x, net.scalar(3.0f)}));
  net.output(net.op("Mul", {x, net.scalar(2.0f, {1})}));
  CHECK(rewrite_checked(net, {"eliminate_duplicates"}).report.applied.empty());
}

TEST_CASE("eliminate_duplicates: an operator waveq does not know is left alone") {
  Net net;
  const ValueId x = net.input("x", {2});
  const TensorType type = {DType::f32, {2}};
  net.output(net.typed("Mystery", {x}, {type})[0]).output(net.typed("Mystery", {x}, {type})[0]);
  CHECK(rewrite(net.graph).applied.empty());
}

}  // namespace
}  // namespace waveq::test
