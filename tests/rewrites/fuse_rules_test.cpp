#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "net.h"

namespace waveq::test {
namespace {

/// One spelling of GELU: builds it behind x.
using Spelling = std::function<ValueId(Net&, ValueId)>;

void check_spellings(const std::vector<Spelling>& spellings, const std::string& rule,
                     const std::string& approximate) {
  for (std::size_t i = 0; i < spellings.size(); ++i) {
    CAPTURE(i);
    Net net;
    const ValueId x = net.op("Neg", {net.input("x", {2, 8})});
    net.output(spellings[i](net, x));
    const std::string wanted = fmt::format("Gelu(Neg(x)){{approximate={}}}", approximate);
    CHECK(rewrite_checked(net, {rule}).text == wanted);
    // Nothing that other rules do first hides it.
    CHECK(rewrite_checked(net).text == wanted);
  }
}

ValueId one_plus_erf(Net& n, ValueId x) {
  return n.op("Add", {n.op("Erf", {n.op("Div", {x, n.scalar(std::sqrt(2.0f))})}), n.scalar(1.0f)});
}

TEST_CASE("fuse_gelu_erf: every order of operands and place of the half") {
  const float half_root = 0.70710678f;
  check_spellings(
      {
          [](Net& n, ValueId x) {
            return n.op("Mul", {n.op("Mul", {x, one_plus_erf(n, x)}), n.scalar(0.5f)});
          },
          [](Net& n, ValueId x) {
            return n.op("Mul", {n.op("Mul", {n.scalar(0.5f), x}), one_plus_erf(n, x)});
          },
          [](Net& n, ValueId x) {
            return n.op("Mul", {one_plus_erf(n, x), n.op("Mul", {x, n.scalar(0.5f, {1})})});
          },
          [](Net& n, ValueId x) {
            return n.op("Mul", {x, n.op("Mul", {n.scalar(0.5f), one_plus_erf(n, x)})});
          },
          [](Net& n, ValueId x) {
            return n.op("Div", {n.op("Mul", {x, one_plus_erf(n, x)}), n.scalar(2.0f)});
          },
          [=](Net& n, ValueId x) {
            const ValueId erf = n.op("Erf", {n.op("Mul", {n.scalar(half_root), x})});
            return n.op("Mul", {n.op("Mul", {n.op("Add", {n.scalar(1.0f), erf}), x}),
                                n.scalar(0.5f, {1, 1})});
          },
          [=](Net& n, ValueId x) {
            // 0.5*x + (0.5*x)*erf: the sum multiplied out.
            const ValueId half = n.op("Mul", {x, n.scalar(0.5f)});
            return n.op(
                "Add",
                {half, n.op("Mul", {half, n.op("Erf", {n.op("Mul", {x, n.scalar(half_root)})})})});
          },
      },
      "fuse_gelu_erf", "none");
}

TEST_CASE("fuse_gelu_erf: another argument or factor is another function") {
  Net net;
  const ValueId x = net.input("x", {8});
  const ValueId erf = net.op("Erf", {net.op("Mul", {x, net.scalar(0.7f)})});
  net.output(net.op(
      "Mul", {net.op("Mul", {x, net.op("Add", {erf, net.scalar(1.0f)})}), net.scalar(0.5f)}));
  const Rewritten r = rewrite_checked(net, {"fuse_gelu_erf"});
  CHECK(r.report.applied.empty());
  CHECK(refusal(r) == "the argument of Erf 'Erf' is 0.7*x, not 0.707107*x");

  Net other;
  const ValueId z = other.input("x", {8});
  other.output(other.op("Mul", {other.op("Mul", {z, one_plus_erf(other, z)}), other.scalar(0.6f)}));
  CHECK(rewrite_checked(other, {"fuse_gelu_erf"}).report.applied.empty());
}

TEST_CASE("fuse_gelu_erf: constants that add an axis are in the way") {
  Net net;
  const ValueId x = net.input("x", {8});
  net.output(net.op("Mul", {net.op("Mul", {x, one_plus_erf(net, x)}), net.scalar(0.5f, {1, 1})}));
  CHECK(refusal(rewrite_checked(net, {"fuse_gelu_erf"})) ==
        "its constants enlarge f32[8] to f32[1,8]");
}

TEST_CASE("fuse_gelu_tanh: the cube as power and as product, inside and outside the bracket") {
  const float k = 0.7978845608f, c = 0.044715f;
  const auto finish = [](Net& n, ValueId x, ValueId argument) {
    const ValueId sum = n.op("Add", {n.op("Tanh", {argument}), n.scalar(1.0f)});
    return n.op("Mul", {n.op("Mul", {n.scalar(0.5f), x}), sum});
  };
  check_spellings(
      {
          [=](Net& n, ValueId x) {
            const ValueId cube = n.op("Mul", {n.op("Pow", {x, n.scalar(3.0f)}), n.scalar(c)});
            return finish(n, x, n.op("Mul", {n.op("Add", {x, cube}), n.scalar(k)}));
          },
          [=](Net& n, ValueId x) {
            const ValueId cube = n.op("Mul", {n.op("Mul", {n.op("Mul", {n.scalar(c), x}), x}), x});
            return finish(n, x, n.op("Mul", {n.scalar(k), n.op("Add", {cube, x})}));
          },
          [=](Net& n, ValueId x) {
            const ValueId square = n.op("Mul", {n.op("Mul", {x, x}), n.scalar(c)});
            return finish(n, x,
                          n.op("Mul", {n.op("Mul", {x, n.scalar(k)}),
                                       n.op("Add", {n.scalar(1.0f), square})}));
          },
      },
      "fuse_gelu_tanh", "tanh");
}

TEST_CASE("fuse_gelu_tanh: SiLU in its tanh spelling is not GELU") {
  Net net;
  const ValueId x = net.input("x", {8});
  const ValueId tanh = net.op("Tanh", {net.op("Mul", {x, net.scalar(0.5f)})});
  net.output(net.op(
      "Mul", {net.op("Mul", {x, net.scalar(0.5f)}), net.op("Add", {tanh, net.scalar(1.0f)})}));
  CHECK(refusal(rewrite_checked(net, {"fuse_gelu_tanh"})) ==
        "the argument of Tanh 'Tanh' is 0.5*x, not 0.797885*x + 0.0356774*x^3");
}

/// Layer normalization of [2,3,8] as PyTorch exports it.
ValueId layer_norm(Net& n, ValueId x, bool power, std::vector<std::int64_t> axes,
                   std::vector<std::int64_t> variance_axes) {
  const ValueId mean = n.op("ReduceMean", {x}, attrs({{"axes", axes}}));
  const ValueId d = n.op("Sub", {x, mean});
  const ValueId square = power ? n.op("Pow", {d, n.scalar(2.0f)}) : n.op("Mul", {d, d});
  const ValueId variance = n.op("ReduceMean", {square}, attrs({{"axes", variance_axes}}));
  return n.op("Div", {d, n.op("Sqrt", {n.op("Add", {variance, n.scalar(0.25f)})})});
}

TEST_CASE("fuse_layer_norm: mean, variance and quotient are one operator") {
  for (bool power : {true, false}) {
    Net net;
    net.output(layer_norm(net, net.input("x", {2, 3, 8}), power, {-1}, {2}));
    const Rewritten r = rewrite_checked(net, {"fuse_layer_norm"});
    CHECK(r.text == "LayerNormalization(x, f32[8]){axis=2 epsilon=0.25}");
  }
  Net net;
  net.output(layer_norm(net, net.input("x", {2, 3, 8}), true, {1, 2}, {2, 1}));
  CHECK(rewrite_checked(net, {"fuse_layer_norm"}).text ==
        "LayerNormalization(x, f32[3,8]){axis=1 epsilon=0.25}");
}

TEST_CASE("fuse_layer_norm: only over the same axes for mean and variance") {
  Net other;
  other.output(layer_norm(other, other.input("x", {2, 3, 8}), true, {2}, {1, 2}));
  CHECK(refusal(rewrite_checked(other, {"fuse_layer_norm"})) ==
        "mean and variance are over different axes");
}

TEST_CASE("fold_affine_into_layer_norm: gain and bias behind the normalization") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 8});
  const ValueId norm =
      net.op("LayerNormalization", {x, net.weight("g", {8})}, attrs({{"axis", std::int64_t{2}}}));
  net.output(
      net.op("Mul", {net.scalar(2.0f), net.op("Add", {net.op("Mul", {norm, net.weight("s", {8})}),
                                                      net.weight("b", {1, 8})})}));
  const Rewritten r = rewrite_checked(net, {"fold_affine_into_layer_norm"});
  CHECK(r.text == "LayerNormalization(x, f32[8], f32[8]){axis=2}");
  const Node& node = r.graph.node(r.graph.nodes()[0]);
  const auto w = net.graph.constant(*net.graph.find_value("g")).as<float>();
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(r.graph.constant(node.inputs[1]).as<float>()[i] == 2.0f * w[i] * w[i]);
    CHECK(r.graph.constant(node.inputs[2]).as<float>()[i] == 2.0f * w[i]);
  }
}

TEST_CASE("fold_affine_into_layer_norm: refuses other axes and other readers") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 8});
  const ValueId norm =
      net.op("LayerNormalization", {x, net.weight("g", {8})}, attrs({{"axis", std::int64_t{2}}}));
  net.output(net.op("Mul", {norm, net.weight("s", {3, 1})}));
  CHECK(refusal(rewrite_checked(net, {"fold_affine_into_layer_norm"})) ==
        "[3,1] does not fit the normalized shape [8]");
  net.output(net.op("Relu", {norm}));
  CHECK(refusal(rewrite_checked(net, {"fold_affine_into_layer_norm"})) ==
        "the output of LayerNormalization 'LayerNormalization' has 2 uses");
}

TEST_CASE("fold_pad_into_conv: zero pads join the pads of Conv and AveragePool") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 8});
  const ValueId padded = net.op("Pad", {x, net.ints({0, 0, 2, 0, 0, 1})});
  net.output(net.op("Conv", {padded, net.weight("w", {3, 2, 3})}, attrs({{"pads", ints({0, 1})}})));
  const ValueId even = net.op("Pad", {x}, attrs({{"pads", ints({0, 0, 1, 0, 0, 1})}}));
  net.output(net.op("AveragePool", {even}, attrs({{"kernel_shape", ints({2})}})));
  const Rewritten r = rewrite_checked(net, {"fold_pad_into_conv"});
  CHECK(r.text ==
        "Conv(x, f32[3,2,3]){pads=[2,2]}; AveragePool(x){count_include_pad=1 kernel_shape=[2] "
        "pads=[1,1]}");
}

TEST_CASE("fold_pad_into_conv: refuses what a Conv cannot pad") {
  const auto reason = [](std::vector<std::int64_t> pads, Attrs pad_attrs, const std::string& op,
                         Attrs more) {
    Net net;
    const ValueId x = net.input("x", {1, 2, 8});
    pad_attrs.set("pads", std::move(pads));
    const ValueId p = net.op("Pad", {x}, pad_attrs);
    if (op == "Conv")
      net.output(
          net.op("Conv", {p, net.weight("w", {3, net.graph.value(p).type.shape[1], 3})}, more));
    else
      net.output(net.op("AveragePool", {p}, more));
    const Rewritten r = rewrite_checked(net, {"fold_pad_into_conv"});
    CHECK(r.report.applied.empty());
    return refusal(r);
  };
  CHECK(reason({0, 0, 1, 0, 0, 2}, {}, "Conv", {}) ==
        "the padding would be 1 in front and 2 behind");
  CHECK(reason({0, 0, 1, 0, 0, 1}, attrs({{"value", 1.0}}), "Conv", {}) ==
        "Pad 'Pad' does not pad with zero");
  CHECK(reason({0, 0, 1, 0, 0, 1}, attrs({{"mode", std::string("reflect")}}), "Conv", {}) ==
        "Pad 'Pad' does not pad with a constant");
  CHECK(reason({0, 1, 1, 0, 0, 1}, {}, "Conv", {}) == "Pad 'Pad' pads batch or channels");
  CHECK(reason({0, 0, -1, 0, 0, -1}, {}, "Conv", {}) == "Pad 'Pad' crops");
  CHECK(reason({0, 0, 1, 0, 0, 1}, {}, "Conv", attrs({{"auto_pad", std::string("SAME_UPPER")}})) ==
        "its own padding is automatic");
  const Attr kernel = ints({3});
  CHECK(reason({0, 0, 1, 0, 0, 1}, {}, "AveragePool",
               attrs({{"kernel_shape", kernel}, {"pads", ints({1, 1})}})) ==
        "the pool has pads of its own that do not count");
  CHECK(reason({0, 0, 1, 0, 0, 1}, {}, "AveragePool",
               attrs({{"kernel_shape", kernel}, {"ceil_mode", std::int64_t{1}}})) ==
        "the pool rounds its size up");
  CHECK(reason({0, 0, 3, 0, 0, 3}, {}, "AveragePool", attrs({{"kernel_shape", kernel}})) ==
        "a window would see only padding");
}

TEST_CASE("replace_global_average_pool_with_reduce_mean: axes behind the channels") {
  Net net;
  net.output(net.op("GlobalAveragePool", {net.input("x", {1, 3, 4, 5})}));
  CHECK(rewrite_checked(net, {"replace_global_average_pool_with_reduce_mean"}).text ==
        "ReduceMean(x){axes=[2,3] keepdims=1}");
}

TEST_CASE("replace_average_pool_with_reduce_mean: one window over the map") {
  Net net;
  const ValueId x = net.input("x", {1, 3, 4, 5});
  net.output(net.op("AveragePool", {x},
                    attrs({{"kernel_shape", ints({4, 5})}, {"strides", ints({4, 5})}})));
  net.output(net.op("AveragePool", {x}, attrs({{"kernel_shape", ints({4, 4})}})));
  CHECK(rewrite_checked(net, {"replace_average_pool_with_reduce_mean"}).text ==
        "ReduceMean(x){axes=[2,3] keepdims=1}; AveragePool(x){kernel_shape=[4,4]}");
}

TEST_CASE("replace_average_pool_with_reduce_mean: padding makes more of the map than there is") {
  Net net;
  const ValueId x = net.input("x", {1, 3, 4});
  net.output(
      net.op("AveragePool", {x}, attrs({{"kernel_shape", ints({4})}, {"pads", ints({1, 1})}})));
  CHECK(refusal(rewrite_checked(net, {"replace_average_pool_with_reduce_mean"})) ==
        "it pads the map");
}

TEST_CASE("fold_reshape_into_reduce: axes that are kept and then dropped") {
  Net net;
  const ValueId x = net.input("x", {1, 3, 4, 5});
  const ValueId mean =
      net.op("ReduceMean", {x}, attrs({{"axes", ints({2, 3})}, {"keepdims", std::int64_t{1}}}));
  net.output(net.op("Reshape", {mean, net.ints({1, 3})}));
  CHECK(rewrite_checked(net, {"fold_reshape_into_reduce"}).text ==
        "ReduceMean(x){axes=[2,3] keepdims=0}");
  net.output(net.op("Relu", {mean}));
  CHECK(refusal(rewrite_checked(net, {"fold_reshape_into_reduce"})) ==
        "the output of ReduceMean 'ReduceMean' has 2 uses");
}

TEST_CASE("fold_reshape_into_reduce: another shape stays a Reshape") {
  Net net;
  const ValueId mean =
      net.op("ReduceMean", {net.input("x", {1, 3, 4})}, attrs({{"axes", ints({2})}}));
  net.output(net.op("Reshape", {mean, net.ints({3})}));
  CHECK(rewrite_checked(net, {"fold_reshape_into_reduce"}).report.applied.empty());
}

TEST_CASE("fuse_matmul_add: a bias makes a Gemm in two dimensions") {
  for (const Shape& shape : {Shape{4}, Shape{1, 4}, Shape{1}}) {
    Net net;
    const ValueId product = net.op("MatMul", {net.input("x", {2, 3}), net.weight("w", {3, 4})});
    net.output(net.op("Add", {net.weight("b", shape), product}));
    CHECK(rewrite_checked(net, {"fuse_matmul_add"}).text ==
          "Gemm(x, f32[3,4], f32[4]){alpha=1 beta=1 transB=0}");
  }
}

TEST_CASE(
    "fuse_matmul_add: refuses a bias per row, a larger bias and a product with other readers") {
  const auto net_with = [](Shape bias) {
    Net net;
    const ValueId product = net.op("MatMul", {net.input("x", {2, 3}), net.weight("w", {3, 4})});
    net.output(net.op("Add", {product, net.weight("b", std::move(bias))}));
    return net;
  };
  CHECK(refusal(rewrite_checked(net_with({2, 1}), {"fuse_matmul_add"})) ==
        "[2,1] is not one bias per column");
  CHECK(refusal(rewrite_checked(net_with({5, 1, 1}), {"fuse_matmul_add"})) ==
        "the bias [5,1,1] enlarges the product [2,4]");
  Net net = net_with({4});
  net.output(net.op("Relu", {*net.graph.find_value("MatMul")}));
  CHECK(refusal(rewrite_checked(net, {"fuse_matmul_add"})) ==
        "the output of MatMul 'MatMul' has 2 uses");
}

TEST_CASE("fuse_matmul_add: a batched product keeps its Add") {
  Net net;
  const ValueId product = net.op("MatMul", {net.input("x", {1, 2, 3}), net.weight("w", {3, 4})});
  net.output(net.op("Add", {net.weight("b", {4}), product}));
  CHECK(rewrite_checked(net).text == "Add(MatMul(x, f32[3,4]), f32[4])");
}

TEST_CASE("fuse_bias_into_linear: Conv, ConvTranspose and Gemm take a bias in") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 8}), v = net.input("v", {2, 3});
  net.output(
      net.op("Add", {net.op("Conv", {x, net.weight("w", {3, 2, 3})}), net.weight("b", {3, 1})}));
  const ValueId up =
      net.op("ConvTranspose", {x, net.weight("u", {2, 3, 2}), net.weight("ub", {3})});
  net.output(net.op("Sub", {up, net.scalar(0.5f)}));
  const ValueId gemm =
      net.op("Gemm", {v, net.weight("g", {3, 4}), net.weight("c", {1, 4})}, attrs({{"beta", 2.0}}));
  net.output(net.op("Add", {net.weight("d", {4}), gemm}));
  const Rewritten r = rewrite_checked(net, {"fuse_bias_into_linear"});
  CHECK(r.text ==
        "Conv(x, f32[3,2,3], f32[3]); ConvTranspose(x, f32[2,3,2], f32[3]); Gemm(v, f32[3,4], "
        "f32[4]){beta=1}");
}

TEST_CASE("fuse_bias_into_linear: two biases behind a MatMul become one") {
  Net net;
  const ValueId product = net.op("MatMul", {net.input("x", {2, 3, 4}), net.weight("w", {4, 5})});
  net.output(net.op("Add", {net.op("Add", {product, net.weight("b", {5})}), net.scalar(1.0f)}));
  const Rewritten r = rewrite_checked(net, {"fuse_bias_into_linear"});
  CHECK(r.text == "Add(MatMul(x, f32[4,5]), f32[5])");
}

TEST_CASE("fuse_bias_into_linear: refuses what is not a bias") {
  const auto reason = [](Shape bias, bool constant_weights, bool shared) {
    Net net;
    const ValueId x = net.input("x", {1, 2, 8});
    const ValueId w = constant_weights ? net.weight("w", {3, 2, 1}) : net.input("w", {3, 2, 1});
    const ValueId conv = net.op("Conv", {x, w});
    net.output(net.op("Add", {conv, net.weight("b", std::move(bias))}));
    if (shared) net.output(net.op("Relu", {conv}));
    const Rewritten r = rewrite_checked(net, {"fuse_bias_into_linear"});
    CHECK(r.report.applied.empty());
    return refusal(r);
  };
  CHECK(reason({8}, true, false) == "[8] is not one bias per channel (3)");
  CHECK(reason({2, 1, 1, 1}, true, false) == "[2,1,1,1] is not one bias per channel (3)");
  CHECK(reason({3, 1}, false, false) == "the weights of Conv 'Conv' are not constant");
  CHECK(reason({3, 1}, true, true) == "the output of Conv 'Conv' has 2 uses");
}

}  // namespace
}  // namespace waveq::test
