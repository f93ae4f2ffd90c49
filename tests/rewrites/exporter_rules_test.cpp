#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "net.h"

namespace waveq::test {
namespace {

Attrs axes(std::vector<std::int64_t> values) {
  return attrs({{"axes", std::move(values)}, {"keepdims", std::int64_t{1}}});
}

TEST_CASE("fold_clip_chain: ReLU6 as frameworks write it") {
  const auto text = [](auto build) {
    Net net;
    net.output(build(net, net.input("x", {2, 8})));
    return rewrite_checked(net, {"fold_clip_chain"}).text;
  };
  const auto clip = [](Net& n, ValueId x, double lo, double hi) {
    Attrs a;
    if (std::isfinite(lo)) a.set("min", lo);
    if (std::isfinite(hi)) a.set("max", hi);
    return n.op("Clip", {x}, a);
  };
  constexpr double kNone = std::numeric_limits<double>::infinity();
  const std::string relu6 = text([&](Net& n, ValueId x) { return clip(n, clip(n, x, 0, kNone), -kNone, 6); });
  CHECK(relu6.find("max=6") != std::string::npos);
  CHECK(relu6.find("Clip(Clip") == std::string::npos);
  CHECK(text([&](Net& n, ValueId x) { return n.op("Min", {n.op("Relu", {x}), n.scalar(6)}); }) == relu6);
  CHECK(text([&](Net& n, ValueId x) { return n.op("Min", {n.scalar(6), n.op("Max", {x, n.scalar(0)})}); }) == relu6);
  CHECK(text([&](Net& n, ValueId x) { return n.op("Max", {n.op("Min", {x, n.scalar(6)}), n.scalar(0)}); }) == relu6);
  CHECK(text([&](Net& n, ValueId x) { return clip(n, clip(n, x, -1, 9), 0, 6); }) == relu6);
  CHECK(text([&](Net& n, ValueId x) { return n.op("Relu", {clip(n, x, -1, kNone)}); }) == "Relu(x)");
  // Apart from each other: a constant, whatever x is.
  CHECK(text([&](Net& n, ValueId x) { return clip(n, clip(n, x, 0, 1), 2, 3); }).find("min=2") != std::string::npos);
  // An end for each column is no number.
  CHECK(text([&](Net& n, ValueId x) { return n.op("Min", {n.op("Relu", {x}), n.weight("w", {8})}); }) == "Min(Relu(x), f32[8])");
}

TEST_CASE("fuse_softmax: written out, with the maximum of the row, of everything, and without") {
  const auto text = [](std::vector<std::int64_t> most, std::vector<std::int64_t> sum, bool stabilized) {
    Net net;
    const ValueId x = net.input("x", {2, 3, 4});
    const ValueId top = net.op("ReduceMax", {x}, axes(std::move(most)));
    const ValueId e = net.op("Exp", {stabilized ? net.op("Sub", {x, top}) : x});
    net.output(net.op("Div", {e, net.op("ReduceSum", {e}, axes(std::move(sum)))}));
    const std::string alone = rewrite_checked(net, {"fuse_softmax"}).text;
    if (alone.starts_with("Softmax")) CHECK(rewrite_checked(net).text.find("Softmax") != std::string::npos);
    return alone;
  };
  CHECK(text({-1}, {2}, true) == "Softmax(x){axis=2}");
  CHECK(text({1}, {1}, true) == "Softmax(x){axis=1}");
  CHECK(text({0, 1, 2}, {2}, true) == "Softmax(x){axis=2}");
  CHECK(text({-1}, {2}, false) == "Softmax(x){axis=2}");
  CHECK(text({1, 2}, {1, 2}, true).starts_with("Div"));
  // The maximum of another axis does not cancel.
  CHECK(text({1}, {2}, true).starts_with("Div"));
}

TEST_CASE("layer norms as Keras writes them become one node") {
  for (const bool reciprocal : {true, false}) {
    CAPTURE(reciprocal);
    Net net;
    const ValueId x = net.op("Neg", {net.input("x", {2, 3, 4})});
    const ValueId mean = net.op("ReduceMean", {x}, axes({-1})), centred = net.op("Sub", {x, mean});
    const ValueId variance = net.op("ReduceMean", {net.op("Mul", {centred, centred})}, axes({-1}));
    const ValueId deviation = net.op("Sqrt", {net.op("Add", {variance, net.scalar(0.25F)})});
    const ValueId gain = net.weight("g", {4}), bias = net.weight("b", {4});
    const ValueId scale = reciprocal ? net.op("Mul", {net.op("Reciprocal", {deviation}), gain}) : net.op("Div", {gain, deviation});
    net.output(net.op("Add", {net.op("Mul", {x, scale}), net.op("Sub", {bias, net.op("Mul", {mean, scale})})}));
    const std::string text = rewrite_checked(net).text;
    CHECK(text.find("LayerNormalization(Neg(x)") != std::string::npos);
    CHECK(text.find("Sqrt") == std::string::npos);
  }
}

TEST_CASE("factor_out_mean, replace_scaled_reciprocal: only where the shapes stay") {
  Net net;
  const ValueId x = net.input("x", {3, 1}), m = net.input("m", {3, 1}), s = net.input("s", {3, 4});
  net.output(net.op("Add", {net.op("Mul", {x, s}), net.op("Sub", {net.weight("b", {4}), net.op("Mul", {m, s})})}));
  net.output(net.op("Mul", {x, net.op("Div", {net.weight("g", {4}), s})}));
  CHECK(rewrite_checked(net, {"factor_out_mean", "replace_scaled_reciprocal"}).text ==
        "Add(Mul(x, s), Sub(f32[4], Mul(m, s))); Mul(x, Div(f32[4], s))");
}

TEST_CASE("replace_instance_norm: rows of a LayerNormalization, then gain and bias of each channel") {
  for (const Shape& shape : {Shape{1, 3, 8}, Shape{2, 3, 4, 5}}) {
    Net net;
    net.output(net.op("InstanceNormalization", {net.input("x", shape), net.weight("s", {3}), net.weight("b", {3})},
                      attrs({{"epsilon", 0.5}})));
    const std::string text = rewrite_checked(net, {"replace_instance_norm"}).text;
    CHECK(text.find("LayerNormalization(Reshape(x") != std::string::npos);
    CHECK(text.starts_with("Add(Mul(Reshape("));
  }
}

}  // namespace
}  // namespace waveq::test
