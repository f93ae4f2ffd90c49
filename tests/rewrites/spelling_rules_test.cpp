#include <doctest/doctest.h>

#include <cmath>

#include "net.h"

namespace waveq::test {
namespace {

/// The network y = build(net, x), x of `shape`, after the named rules alone; its values are compared
/// by rewrite_checked.
template <class F>
std::string text(Shape shape, std::vector<std::string> rules, F build) {
  Net net;
  net.output(build(net, net.input("x", std::move(shape))));
  return rewrite_checked(net, std::move(rules)).text;
}

Attrs over(std::vector<std::int64_t> axes) {
  return attrs({{"axes", std::move(axes)}, {"keepdims", std::int64_t{1}}});
}

TEST_CASE("replace_gemm: transposed operands, a bias that is none, and a product of activations") {
  const auto gemm = [](Shape shape, auto build) { return text(std::move(shape), {"replace_gemm"}, build); };
  const Attrs turned = attrs({{"transA", std::int64_t{1}}, {"alpha", 0.5}, {"beta", 2.0}});
  CHECK(gemm({4, 2}, [&](Net& n, ValueId x) { return n.op("Gemm", {x, n.weight("w", {4, 3}), n.weight("b", {3})}, turned); }) ==
        "Add(Mul(MatMul(Transpose(x){perm=[1,0]}, f32[4,3]), 0.5), Mul(f32[3], 2))");
  CHECK(gemm({2, 4}, [](Net& n, ValueId x) { return n.op("Gemm", {x, n.weight("w", {4, 3}), n.weight("b", {2, 1})}); }) ==
        "Add(MatMul(x, f32[4,3]), f32[2,1])");
  CHECK(gemm({3, 3}, [](Net& n, ValueId x) { return n.op("Gemm", {x, x, x}, attrs({{"transB", std::int64_t{1}}})); }) ==
        "Add(MatMul(x, Transpose(x){perm=[1,0]}), x)");
  // What has a place in weights stays.
  CHECK(gemm({1, 4}, [](Net& n, ValueId x) { return n.op("Gemm", {x, n.weight("w", {4, 3}), n.weight("b", {3})}); })
            .starts_with("Gemm("));
}

TEST_CASE("transpose_constant_product: weights on the left, vectors on either side") {
  const auto product = [](Shape shape, auto build) { return text(std::move(shape), {"transpose_constant_product"}, build); };
  CHECK(product({2, 4, 3}, [](Net& n, ValueId x) { return n.op("MatMul", {n.weight("w", {5, 4}), x}); }) ==
        "Transpose(MatMul(Transpose(x){perm=[0,2,1]}, Transpose(f32[5,4]){perm=[1,0]})){perm=[0,2,1]}");
  CHECK(product({2, 3, 4}, [](Net& n, ValueId x) { return n.op("MatMul", {x, n.weight("v", {4})}); })
            .starts_with("Reshape(MatMul(x, Reshape("));
  CHECK(product({4, 3}, [](Net& n, ValueId x) { return n.op("MatMul", {n.weight("v", {4}), x}); }).starts_with("Reshape(MatMul("));
  CHECK(product({4, 3}, [](Net& n, ValueId x) { return n.op("MatMul", {x, n.weight("w", {3, 2})}); }) == "MatMul(x, f32[3,2])");
  // A factor behind it goes into the weights first.
  CHECK(text({4, 3}, {"transpose_constant_product", "fold_scale_into_linear"}, [](Net& n, ValueId x) {
          return n.op("Mul", {n.op("MatMul", {n.weight("w", {5, 4}), x}), n.weight("g", {5, 1})});
        }).starts_with("Transpose(MatMul("));
}

TEST_CASE("replace_depth_to_space: blocks as Reshape, Transpose, Reshape in every mode") {
  const auto blocks = [](const char* op, Shape shape, const char* mode) {
    return text(std::move(shape), {"replace_depth_to_space"}, [&](Net& n, ValueId x) {
      Attrs a = attrs({{"blocksize", std::int64_t{2}}});
      if (mode) a.set("mode", std::string(mode));
      return n.op(op, {x}, a);
    });
  };
  CHECK(blocks("DepthToSpace", {2, 8, 3, 5}, nullptr).find("perm=[0,3,4,1,5,2]") != std::string::npos);
  CHECK(blocks("DepthToSpace", {2, 8, 3, 5}, "CRD").find("perm=[0,1,4,2,5,3]") != std::string::npos);
  CHECK(blocks("SpaceToDepth", {2, 3, 4, 6}, nullptr).find("perm=[0,3,5,1,2,4]") != std::string::npos);
}

TEST_CASE("layer norms: several axes as one row, other axes than the last by transposing") {
  CHECK(text({2, 3, 4}, {"replace_layer_norm_axes"}, [](Net& n, ValueId x) {
          return n.op("LayerNormalization", {x, n.weight("g", {3, 4}), n.weight("b", {4})}, attrs({{"axis", std::int64_t{1}}}));
        }).find("f32[12], f32[12]") != std::string::npos);
  const auto spelled = [](std::vector<std::int64_t> axes, bool raw) {
    return text({2, 3, 4}, {"fuse_layer_norm"}, [&](Net& n, ValueId x) {
      const ValueId m = n.op("ReduceMean", {x}, over(axes)), d = n.op("Sub", {x, m});
      const ValueId v = raw ? n.op("Sub", {n.op("ReduceMean", {n.op("Mul", {x, x})}, over(axes)), n.op("Mul", {m, m})})
                            : n.op("ReduceMean", {n.op("Mul", {d, d})}, over(axes));
      return n.op("Div", {d, n.op("Sqrt", {n.op("Add", {v, n.scalar(0.25F)})})});
    });
  };
  CHECK(spelled({-1}, false).starts_with("LayerNormalization(x"));
  CHECK(spelled({-1}, true).starts_with("LayerNormalization(x"));
  CHECK(spelled({1, 2}, false).starts_with("LayerNormalization(x, f32[3,4])"));
  CHECK(spelled({1}, false).starts_with("Transpose(LayerNormalization(Transpose(x){perm=[0,2,1]}"));
  CHECK(spelled({0}, true).starts_with("Transpose(LayerNormalization(Transpose(x){perm=[1,2,0]}"));
  // Mean and variance over different axes are no norm.
  Net net;
  const ValueId x = net.input("x", {2, 3, 4}), d = net.op("Sub", {x, net.op("ReduceMean", {x}, over({2}))});
  const ValueId v = net.op("ReduceMean", {net.op("Mul", {d, d})}, over({1}));
  net.output(net.op("Div", {d, net.op("Sqrt", {net.op("Add", {v, net.scalar(0.25F)})})}));
  CHECK(refusal(rewrite_checked(net, {"fuse_layer_norm"})) == "mean and variance are over different axes");
}

TEST_CASE("layer norms as Keras writes them without gain or bias become one node") {
  for (const int form : {0, 1, 2}) {
    CAPTURE(form);
    Net net;
    const ValueId x = net.op("Neg", {net.input("x", {2, 3, 4})});
    const ValueId mean = net.op("ReduceMean", {x}, over({-1})), d = net.op("Sub", {x, mean});
    const ValueId v = net.op("ReduceMean", {net.op("Mul", {d, d})}, over({-1}));
    const ValueId s = net.op("Reciprocal", {net.op("Sqrt", {net.op("Add", {v, net.scalar(0.25F)})})});
    const ValueId scaled = net.op("Mul", {x, s}), rest = net.op("Mul", {mean, s});
    if (form == 0) net.output(net.op("Sub", {scaled, rest}));
    if (form == 1) net.output(net.op("Add", {scaled, net.op("Neg", {rest})}));
    if (form == 2) net.output(net.op("Add", {scaled, net.op("Sub", {net.weight("b", {4}), rest})}));
    const std::string y = rewrite_checked(net).text;
    CHECK(y.find("LayerNormalization(Neg(x)") != std::string::npos);
    CHECK(y.find("Sqrt") == std::string::npos);
  }
}

TEST_CASE("replace_instance_norm: groups of channels, with parameters for each group or each channel") {
  for (const std::int64_t parameters : {2, 6}) {
    const std::string y = text({2, 6, 5}, {"replace_instance_norm"}, [&](Net& n, ValueId x) {
      return n.op("GroupNormalization", {x, n.weight("s", {parameters}), n.weight("b", {parameters})},
                  attrs({{"num_groups", std::int64_t{2}}, {"epsilon", 0.5}}));
    });
    CHECK(y.find("Reshape(x, [4,15])") != std::string::npos);
    CHECK(y.find("f32[6,1]") != std::string::npos);
  }
}

TEST_CASE("fuse_l2_norm: guards as torch writes them, and only along the last axis") {
  const auto norm = [](std::vector<std::int64_t> axes, double guard) {
    Net net;
    const ValueId x = net.input("x", {3, 8});
    const ValueId length = net.op("Clip", {net.op("ReduceL2", {x}, over(std::move(axes)))}, attrs({{"min", guard}}));
    net.output(net.op("Div", {x, net.op("Expand", {length, net.ints({3, 8})})}));
    return rewrite_checked(net, {"fuse_l2_norm"});
  };
  CHECK(norm({-1}, 1e-12).text.starts_with("RMSNormalization(x, f32[8])"));
  CHECK(refusal(norm({0}, 1e-12)) == "the length is not over the last axis, which is kept");
  CHECK(refusal(norm({1}, 0.5)) == "its guard 0.5 is no mere guard against zero");
}

TEST_CASE("replace_reduction: least elements, sums of squares and lengths") {
  const auto reduced = [](const char* op) {
    return text({3, 8}, {"replace_reduction"}, [&](Net& n, ValueId x) { return n.op(op, {x}, over({1})); });
  };
  CHECK(reduced("ReduceMin").starts_with("Mul(ReduceMax(Mul(x, -1))"));
  CHECK(reduced("ReduceSumSquare").starts_with("ReduceSum(Mul(x, x))"));
  CHECK(reduced("ReduceL2").starts_with("Sqrt(ReduceSum(Mul(x, x))"));
}

TEST_CASE("replace_extremum: numbers become clips, tensors the ReLU of a difference") {
  const auto extremum = [](auto build) { return text({2, 3, 4}, {"replace_extremum"}, build); };
  CHECK(extremum([](Net& n, ValueId x) { return n.op("Max", {n.scalar(0.5F), x}); }) == "Clip(x){min=0.5}");
  CHECK(extremum([](Net& n, ValueId x) { return n.op("Min", {x, n.scalar(0.5F)}); }) == "Clip(x){max=0.5}");
  CHECK(extremum([](Net& n, ValueId x) { return n.op("Max", {n.weight("c", {3, 1}), x}); }) ==
        "Add(Relu(Sub(x, f32[3,1])), f32[3,1])");
  CHECK(extremum([](Net& n, ValueId x) { return n.op("Min", {x, n.op("Neg", {x})}); }) == "Sub(x, Relu(Sub(x, Neg(x))))");
  CHECK(extremum([](Net& n, ValueId x) { return n.op("Max", {x, n.op("Neg", {x}), n.scalar(0.5F)}); }).starts_with("Clip(Add(Relu("));
}

TEST_CASE("replace_clip_with_clip_at_zero: an upper end alone is a ReLU from above") {
  CHECK(text({2, 4}, {"replace_clip_with_clip_at_zero"}, [](Net& n, ValueId x) { return n.op("Clip", {x}, attrs({{"max", 0.5}})); }) ==
        "Add(Mul(Relu(Add(Mul(x, -1), 0.5)), -1), 0.5)");
}

TEST_CASE("replace_constant_mask: both sides, a constant among them; nothing infinite") {
  const auto masked = [](float other) {
    Net net;
    const ValueId mask = net.graph.add_constant("m", Tensor::from<bool>({4}, std::vector<bool>{true, false, true, false}));
    net.output(net.op("Where", {mask, net.input("x", {2, 4}), net.scalar(other)}));
    return rewrite_checked(net, {"replace_constant_mask"});
  };
  CHECK(masked(2.0F).text == "Add(Mul(x, f32[4]), f32[4])");
  CHECK(refusal(masked(-INFINITY)) == "it puts in a number that is not finite");
}

TEST_CASE("replace_sum: means of tensors") {
  CHECK(text({2, 4}, {"replace_sum"}, [](Net& n, ValueId x) { return n.op("Mean", {x, n.op("Neg", {x}), x, x}); }) ==
        "Mul(Add(Add(Add(x, Neg(x)), x), x), 0.25)");
}

TEST_CASE("replace_conv_transpose_with_conv: automatic padding and a stated output") {
  for (const char* mode : {"SAME_UPPER", "SAME_LOWER", "VALID", "shape"}) {
    CAPTURE(mode);
    Attrs a = attrs({{"strides", ints({2})}});
    if (std::string(mode) == "shape")
      a.set("output_shape", ints({11}));
    else
      a.set("auto_pad", std::string(mode));
    const std::string y = text({1, 2, 6}, {"replace_conv_transpose_with_conv"},
                               [&](Net& n, ValueId x) { return n.op("ConvTranspose", {x, n.weight("w", {2, 3, 4})}, a); });
    CHECK(y.find("ConvTranspose") == std::string::npos);
  }
}

TEST_CASE("merge_matmul_rows: a gain along the columns goes into the weights first") {
  Net net;
  const ValueId y = net.op("Add", {net.op("MatMul", {net.input("x", {1, 2, 3, 4}), net.weight("w", {4, 5})}), net.weight("b", {5})});
  net.output(net.op("Mul", {y, net.weight("g", {5})}));
  const std::string all = rewrite_checked(net).text;
  CHECK(all.starts_with("Reshape(Add(MatMul(Reshape(x, [1,6,4]), f32[4,5]), f32[5])"));
}

}  // namespace
}  // namespace waveq::test
