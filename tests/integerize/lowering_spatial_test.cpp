#include <random>

#include "net.h"

namespace waveq {
namespace {

using namespace test;

/// What the Pad nodes fill with.
std::vector<double> fills(const Lowered& y) {
  std::vector<double> values;
  for (const Node* pad : y.nodes("Pad")) values.push_back(pad->attrs.get_float("value", 99));
  return values;
}

TEST_CASE("spatial: padding of a MaxPool never wins, whatever the sign of the tensor") {
  for (const double lo : {-1.0, 0.0}) {
    FloatNet net;
    net.output(net.op("MaxPool", {net.input("x", {1, 2, 5, 6})},
                      attributes({{"kernel_shape", Ints{3, 2}},
                                  {"pads", Ints{1, 0, 2, 1}},
                                  {"strides", Ints{2, 1}}})));
    // All codes far below zero where the tensor is signed.
    const Lowered y = lower_and_compare(net, lo, lo < 0 ? -0.5 : 1.0);
    CHECK(y.worst_steps <= 0.51);
    CHECK(fills(y) == std::vector<double>{lo < 0 ? -128.0 : 0.0});
    CHECK(y.nodes("MaxPool")[0]->attrs.get_ints("pads", {}) == Ints{0, 0, 0, 0});
  }
}

TEST_CASE("spatial: random pools with pads, ceil_mode, strides and automatic padding") {
  std::mt19937_64 engine(5);
  const auto draw = [&](int lo, int hi) {
    return lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1));
  };
  for (int i = 0; i < 60; ++i) {
    CAPTURE(i);
    FloatNet net;
    net.graph.opset = 19;
    const std::size_t n = static_cast<std::size_t>(draw(1, 2));
    Shape shape{1, draw(1, 3)};
    Ints kernel, strides, begins, ends;
    for (std::size_t d = 0; d < n; ++d) {
      shape.push_back(draw(4, 9));
      kernel.push_back(draw(1, 4));
      strides.push_back(draw(1, 3));
      begins.push_back(draw(0, static_cast<int>(kernel.back() / 2)));
      ends.push_back(draw(0, static_cast<int>(kernel.back() / 2)));
    }
    begins.insert(begins.end(), ends.begin(), ends.end());
    Attrs attrs = attributes({{"kernel_shape", kernel}, {"strides", strides}});
    const std::int64_t mode = draw(0, 3);
    if (mode == 0)
      attrs.set("auto_pad", std::string(draw(0, 1) ? "SAME_UPPER" : "SAME_LOWER"));
    else
      attrs.set("pads", begins);
    if (mode == 1) attrs.set("ceil_mode", std::int64_t{1});
    const ValueId x = net.input("x", shape);
    net.output(net.op("MaxPool", {x}, attrs));
    attrs.erase("ceil_mode");  // below
    attrs.set("count_include_pad", draw(0, 1));
    net.output(net.op("AveragePool", {x}, attrs));
    const Lowered y = lower_and_compare(net, draw(0, 1) ? -1 : 0, 1);
    INFO(dump(y.graph()));
    // A mean that is weighted at the border, by up to 4, is rounded before and behind its factor.
    CHECK(y.worst_steps <= 2);
  }
}

TEST_CASE("spatial: a mean that leaves padding out is exact at the border up to its roundings") {
  FloatNet net;
  net.output(net.op("AveragePool", {net.input("x", {1, 1, 8})},
                    attributes({{"kernel_shape", Ints{3}}, {"pads", Ints{1, 1}}})));
  const Lowered y = lower_and_compare(net, 0, 1);
  REQUIRE(y.count("Mul") == 1);
  const std::vector<std::int64_t> factors = to_int64(y.graph().constant(y.nodes("Mul")[0]->inputs[1]));
  CHECK(factors == std::vector<std::int64_t>{6144, 4096, 4096, 4096, 4096, 4096, 4096, 6144});
  CHECK(y.worst_steps <= 1.6);
}

TEST_CASE("spatial: a window that ceil_mode adds divides by what it holds") {
  FloatNet net;
  net.graph.opset = 19;
  net.output(net.op("AveragePool", {net.input("x", {1, 2, 5})},
                    attributes({{"kernel_shape", Ints{2}},
                                {"strides", Ints{2}},
                                {"ceil_mode", std::int64_t{1}},
                                {"count_include_pad", std::int64_t{1}}})));
  const Lowered y = lower_and_compare(net);
  CHECK(y.graph().value(y.graph().outputs()[0]).type.shape == Shape{1, 2, 3});
  CHECK(y.worst_steps <= 2);
}

TEST_CASE("spatial: GlobalMaxPool is a MaxPool of the map") {
  FloatNet net;
  net.output(net.op("GlobalMaxPool", {net.input("x", {1, 3, 4, 5})}));
  const Lowered y = lower_and_compare(net);
  CHECK(y.worst_steps <= 0.51);
  CHECK(y.nodes("MaxPool")[0]->attrs.get_ints("kernel_shape", {}) == Ints{4, 5});
}

TEST_CASE("spatial: any padding, as 1-D padding between reshapes where axes differ") {
  std::mt19937_64 engine(6);
  const auto draw = [&](int hi) { return static_cast<std::int64_t>(engine() % (hi + 1)); };
  for (int i = 0; i < 40; ++i) {
    CAPTURE(i);
    FloatNet net;
    net.graph.opset = 10;
    Shape shape{1};
    Ints pads;
    const std::size_t rank = 2 + engine() % 3;
    while (shape.size() < rank) shape.push_back(1 + draw(4));
    for (std::size_t k = 0; k < 2 * rank; ++k) pads.push_back(k % rank == 0 ? 0 : draw(2));
    net.output(net.op("Pad", {net.input("x", shape)},
                      attributes({{"pads", pads}, {"value", i % 2 ? 0.0 : 0.5}})));
    const Lowered y = lower_and_compare(net);
    CHECK(y.worst_steps <= 0.51);
    for (const Node* pad : y.nodes("Pad")) {
      const Ints p = pad->attrs.get_ints("pads", {});
      CHECK((p.size() == 6 || (p.size() == 8 && p[2] == p[6])));
      CHECK(p[0] + p[1] + p[p.size() / 2] + p[p.size() / 2 + 1] == 0);
    }
  }
}

TEST_CASE("spatial: a convolution padded unequally in two dimensions, or by a single element") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 6, 6}), v = net.input("v", {1, 2, 6});
  net.output(net.op("Conv", {x, net.random({3, 2, 3, 3}, -1, 1, 4)},
                    attributes({{"pads", Ints{0, 0, 1, 1}}, {"strides", Ints{2, 2}}})));
  net.output(net.op("Conv", {v, net.random({3, 2, 2}, -1, 1, 4)}, attributes({{"pads", Ints{0, 1}}})));
  net.output(net.op("Conv", {v, net.random({3, 2, 3}, -1, 1, 4)}, attributes({{"pads", Ints{0, 2}}})));
  const Lowered y = lower_and_compare(net);
  CHECK(y.worst_steps <= 3);
  for (const Node* conv : y.nodes("Conv")) {
    const Ints p = conv->attrs.get_ints("pads", {});
    std::int64_t total = 0;
    for (std::int64_t k : p) total += k;
    CHECK(total != 1);
    if (p.size() == 4) CHECK((p[0] == p[2] && p[1] == p[3]));
  }
  CHECK(y.count("Pad") == 3);  // two axes of the first, one of the second
}

TEST_CASE("spatial: groups and dilations stay where the target has kernels for them") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 12});
  net.output(net.op("Conv", {x, net.random({6, 2, 3}, -1, 1, 4)},
                    attributes({{"group", std::int64_t{2}}, {"dilations", Ints{2}}})));
  IntegerizeOptions general;
  general.target.general_conv = true;
  const Lowered own = lower_and_compare(net, -1, 1, general), dense = lower_and_compare(net);
  CHECK(own.nodes("Conv")[0]->attrs.get_int("group", 1) == 2);
  CHECK(own.nodes("Conv")[0]->attrs.get_ints("dilations", {}) == Ints{2});
  CHECK(dense.nodes("Conv")[0]->attrs.get_int("group", 1) == 1);
  // The same numbers on either way.
  CHECK(own.worst_steps == dense.worst_steps);
  CHECK(own.worst_steps <= 2);
}

Attrs nearest(const char* coordinates, const char* rounding) {
  return attributes({{"mode", std::string("nearest")},
                     {"coordinate_transformation_mode", std::string(coordinates)},
                     {"nearest_mode", std::string(rounding)}});
}

TEST_CASE("spatial: nearest resizing by whole factors repeats elements") {
  FloatNet net;
  net.graph.opset = 13;
  const ValueId x = net.input("x", {1, 2, 3, 4});
  net.output(net.op("Resize", {x, ValueId{}, net.floats({4}, {1, 1, 2, 3})},
                    nearest("asymmetric", "floor")));
  const Lowered y = lower_and_compare(net);
  CHECK(y.out().scale > 0);
  CHECK(y.graph().value(y.graph().outputs()[0]).type.shape == Shape{1, 2, 6, 12});
  CHECK(y.count("Gather") == 0);
  CHECK(y.count("Concat") == 3);
  CHECK(y.worst_steps <= 0.51);
}

TEST_CASE("spatial: every nearest mode and factor gives the elements the operator gives") {
  for (const char* coordinates : {"asymmetric", "half_pixel", "align_corners"})
    for (const char* rounding : {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"})
      for (const Ints& size : {Ints{1, 2, 7, 5}, Ints{1, 2, 2, 9}, Ints{1, 2, 6, 1}}) {
        CAPTURE(coordinates);
        CAPTURE(rounding);
        FloatNet net;
        net.graph.opset = 13;
        net.output(net.op("Resize", {net.input("x", {1, 2, 3, 3}), ValueId{}, ValueId{}, net.ints(size)},
                          nearest(coordinates, rounding)));
        CHECK(lower_and_compare(net).worst_steps <= 0.51);
      }
  FloatNet old;
  old.graph.opset = 9;
  old.output(old.op("Upsample", {old.input("x", {1, 2, 3}), old.floats({3}, {1, 1, 2})}));
  const Lowered y = lower_and_compare(old);
  CHECK(y.worst_steps <= 0.51);
  CHECK(y.count("Concat") == 1);
}

}  // namespace
}  // namespace waveq
