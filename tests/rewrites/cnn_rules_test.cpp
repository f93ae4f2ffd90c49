#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>

#include "net.h"

namespace waveq::test {
namespace {

TEST_CASE("replace_hard_sigmoid_with_clip: factor, term and clip, defaults as ONNX has them") {
  Net net;
  const ValueId x = net.input("x", {2, 8});
  net.output(net.op("HardSigmoid", {x}));
  net.output(net.op("HardSigmoid", {x}, attrs({{"alpha", 0.25}, {"beta", 0.5}})));
  const Rewritten r = rewrite_checked(net, {"replace_hard_sigmoid_with_clip"});
  CHECK(r.text ==
        "Clip(Add(Mul(x, 0.2), 0.5)){max=1 min=0}; Clip(Add(Mul(x, 0.25), 0.5)){max=1 min=0}");
}

TEST_CASE("replace_hard_swish_with_mul: its gate is a clip in the end") {
  Net net;
  net.output(net.op("HardSwish", {net.input("x", {2, 8})}));
  const Rewritten r = rewrite_checked(net);
  CHECK(r.count("replace_hard_swish_with_mul") == 1);
  CHECK(r.text.find("HardS") == std::string::npos);
  CHECK(r.text.find("Clip(") != std::string::npos);
}

TEST_CASE("factor_common_operand: a gate and a bypass, in every order of operands") {
  for (int order = 0; order < 8; ++order) {
    CAPTURE(order);
    Net net;
    const ValueId x = net.input("x", {1, 2, 4}), a = net.input("a", {1, 2, 4});
    const ValueId c = net.scalar(0.5F);
    const ValueId gated = order & 1 ? net.op("Mul", {x, a}) : net.op("Mul", {a, x});
    const ValueId scaled = order & 2 ? net.op("Mul", {x, c}) : net.op("Mul", {c, x});
    net.output(order & 4 ? net.op("Add", {gated, scaled}) : net.op("Add", {scaled, gated}));
    CHECK(rewrite_checked(net, {"factor_common_operand"}).text == "Mul(x, Add(a, 0.5))");
  }
}

TEST_CASE("factor_common_operand: products that others read, and different operands, stay") {
  Net net;
  const ValueId x = net.input("x", {1, 4}), a = net.input("a", {1, 4});
  const ValueId gated = net.op("Mul", {x, a});
  net.output(net.op("Add", {gated, net.op("Mul", {x, net.scalar(0.5F)})}));
  net.output(gated);
  net.output(net.op("Add", {net.op("Mul", {x, a}), net.op("Mul", {a, net.input("b", {1, 4})})}));
  CHECK(rewrite_checked(net, {"factor_common_operand"}).report.applied.empty());
}

TEST_CASE("hoist_scalar_above_movement: in front of a Resize that repeats elements") {
  Net net;
  net.graph.opset = 13;
  const ValueId x = net.op("Neg", {net.input("x", {1, 2, 4})});
  const ValueId big = net.op("Resize", {x, ValueId{}, net.floats("s", {3}, {1.0F, 1.0F, 2.0F})},
                             attrs({{"mode", std::string("nearest")},
                                    {"coordinate_transformation_mode", std::string("asymmetric")},
                                    {"nearest_mode", std::string("floor")}}));
  net.output(net.op("Add", {big, net.scalar(2.0F)}));
  const Rewritten r = rewrite_checked(net, {"hoist_scalar_above_movement"});
  CHECK(r.text.starts_with("Resize(Add(Neg(x), 2)"));
}

TEST_CASE("replace_leaky_relu_with_relu: one slope, a slope for each channel, one at run time") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 4});
  net.output(net.op("LeakyRelu", {x}, attrs({{"alpha", 0.25}})));
  net.output(net.op("PRelu", {x, net.floats("a", {2, 1}, {0.5F, -1.0F})}));
  const Rewritten r = rewrite_checked(net, {"replace_leaky_relu_with_relu"});
  CHECK(r.text ==
        "Add(Mul(x, 0.25), Mul(Relu(x), 0.75)); Add(Mul(x, f32[2,1]), Mul(Relu(x), f32[2,1]))");
  Net dynamic;
  const ValueId v = dynamic.input("x", {1, 2, 4});
  dynamic.output(dynamic.op("PRelu", {v, dynamic.input("a", {2, 1})}));
  CHECK(refusal(rewrite_checked(dynamic, {"replace_leaky_relu_with_relu"})).find("run time") !=
        std::string::npos);
}

TEST_CASE("replace_clip_with_clip_at_zero: both ends, the lower end alone, neither") {
  const auto clipped = [](Attrs a) {
    Net net;
    net.output(net.op("Clip", {net.input("x", {2, 8})}, std::move(a)));
    return rewrite_checked(net, {"replace_clip_with_clip_at_zero"});
  };
  CHECK(clipped(attrs({{"min", -1.0}, {"max", 1.0}})).text ==
        "Add(Clip(Add(x, 1)){max=2 min=0}, -1)");
  CHECK(clipped(attrs({{"min", 0.5}})).text == "Add(Relu(Add(x, -0.5)), 0.5)");
  CHECK(clipped(attrs({{"min", 0.0}, {"max", 6.0}})).report.applied.empty());
}

/// A random ConvTranspose of one or two spatial axes.
Net random_conv_transpose(std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  const auto draw = [&](int lo, int hi) {
    return lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1));
  };
  const std::size_t n = static_cast<std::size_t>(draw(1, 2));
  const std::int64_t group = draw(1, 2), channels = group * draw(1, 2), filters = draw(1, 3);
  Shape x{draw(1, 2), channels}, w{channels, filters};
  std::vector<std::int64_t> strides, dilations, begins, ends, extra;
  for (std::size_t d = 0; d < n; ++d) {
    strides.push_back(draw(1, 4));
    dilations.push_back(draw(1, 3));
    w.push_back(draw(1, 5));
    x.push_back(draw(2, 6));
    const std::int64_t reach = (w.back() - 1) * dilations.back();
    extra.push_back(draw(0, static_cast<int>(std::max(strides.back(), dilations.back()) - 1)));
    // One element at least stays.
    const std::int64_t length = (x.back() - 1) * strides.back() + reach + 1 + extra.back();
    begins.push_back(draw(0, static_cast<int>(std::min(reach, length - 1))));
    ends.push_back(draw(0, static_cast<int>(std::min(reach, length - 1 - begins.back()))));
  }
  begins.insert(begins.end(), ends.begin(), ends.end());
  Net net;
  std::vector<ValueId> inputs{net.input("x", x), net.weight("w", w)};
  if (draw(0, 1)) inputs.push_back(net.weight("b", {filters * group}));
  net.output(net.op("ConvTranspose", inputs,
                    attrs({{"strides", strides},
                           {"dilations", dilations},
                           {"pads", begins},
                           {"output_padding", extra},
                           {"group", group}})));
  return net;
}

TEST_CASE("replace_conv_transpose_with_conv: random strides, dilations, pads and groups") {
  int replaced = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    const Rewritten r =
        rewrite_checked(random_conv_transpose(seed), {"replace_conv_transpose_with_conv"});
    replaced += r.count("replace_conv_transpose_with_conv") == 1;
  }
  CHECK(replaced >= 140);
}

TEST_CASE("replace_conv_transpose_with_conv: normalization goes into its weights first") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 5, 4});
  const ValueId y = net.op("ConvTranspose", {x, net.weight("w", {2, 3, 2, 2})},
                           attrs({{"strides", ints({2, 2})}}));
  const ValueId z = net.op("BatchNormalization",
                           {y, net.weight("g", {3}), net.weight("s", {3}), net.weight("m", {3}),
                            net.floats("v", {3}, {1.0F, 2.0F, 4.0F})});
  net.output(net.op("Relu", {z}));
  const Rewritten r = rewrite_checked(net);
  CHECK(r.text.find("ConvTranspose") == std::string::npos);
  CHECK(r.text.find("BatchNorm") == std::string::npos);
  CHECK(r.text.find("Relu(Conv(") != std::string::npos);
}

}  // namespace
}  // namespace waveq::test
