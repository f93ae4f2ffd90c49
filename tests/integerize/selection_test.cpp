#include "net.h"

namespace waveq {
namespace {

using namespace test;

/// y = build(net, x): data that only moves is off by the rounding of the input alone, which
/// lower_and_compare takes out.
template <class F>
Lowered moved(Shape shape, F build, const IntegerizeOptions& options = {}) {
  FloatNet net;
  net.graph.opset = 10;
  net.output(build(net, net.input("x", std::move(shape))));
  const Lowered y = lower_and_compare(net, -1, 1, options);
  CHECK(y.worst_steps <= 0.01);
  return y;
}

TEST_CASE("selection: several indices of a Gather are Slices, those in a row one") {
  const auto gathered = [](const Ints& indices, std::int64_t axis) {
    return moved({1, 6, 4}, [&](FloatNet& n, ValueId x) {
      return n.op("Gather", {x, n.ints(indices)}, attributes({{"axis", axis}}));
    });
  };
  CHECK(gathered({3, 1, -1, 0}, 1).count("Slice") == 3);  // 1 and 5 are one
  const Lowered y = gathered({1, 2, 3, 0, 2, 4, 1, 2, 3}, 1);
  CHECK(y.count("Slice") == 2);  // 1..3 twice, and every other one
  CHECK(y.count("Concat") == 2);
  CHECK(gathered({2}, -1).count("Slice") == 1);
}

TEST_CASE("selection: more runs than are worth writing out stay a Gather") {
  Ints zigzag;
  for (std::int64_t i = 0; i < 200; ++i) zigzag.push_back(i % 2 == 0 ? 199 - i : i);
  const Lowered y = moved({1, 200}, [&](FloatNet& n, ValueId x) {
    return n.op("Gather", {x, n.ints(zigzag)}, attributes({{"axis", std::int64_t{1}}}));
  });
  CHECK(y.count("Gather") == 1);
}

TEST_CASE("selection: Tile and Expand repeat along new and old axes") {
  const Lowered tiled = moved({1, 3, 2}, [](FloatNet& n, ValueId x) {
    return n.op("Tile", {x, n.ints({1, 1, 3})});
  });
  CHECK(tiled.count("Concat") == 2);
  CHECK(tiled.count("Slice") == 0);
  const Lowered expanded = moved({1, 3, 1}, [](FloatNet& n, ValueId x) {
    return n.op("Expand", {x, n.ints({2, 1, 3, 4})});
  });
  CHECK(expanded.graph().value(expanded.graph().outputs()[0]).type.shape == Shape{2, 1, 3, 4});
}

TEST_CASE("selection: Pads that reflect, repeat the edge or crop pick elements") {
  for (const char* mode : {"reflect", "edge"}) {
    const Lowered y = moved({1, 2, 5, 6}, [&](FloatNet& n, ValueId x) {
      return n.op(
          "Pad", {x},
          attributes({{"pads", Ints{0, 0, 2, 1, 0, 0, 1, 3}}, {"mode", std::string(mode)}}));
    });
    CHECK(y.count("Pad") == 0);
  }
  const Lowered y = moved({1, 2, 8}, [](FloatNet& n, ValueId x) {
    return n.op("Pad", {x}, attributes({{"pads", Ints{0, -1, -2, 0, 0, -3}}}));
  });
  CHECK(y.count("Slice") == 2);
}

TEST_CASE("selection: a Slice that runs backwards") {
  moved({1, 2, 8}, [](FloatNet& n, ValueId x) {
    return n.op(
        "Slice", {x},
        attributes(
            {{"starts", Ints{6}}, {"ends", Ints{0}}, {"axes", Ints{2}}, {"steps", Ints{-2}}}));
  });
}

TEST_CASE("lowering: a maximum is a MaxPool over rows where the target has nothing else") {
  for (const auto& reduction :
       {std::pair{Ints{2}, 1}, std::pair{Ints{1}, 0}, std::pair{Ints{1, 3}, 1}}) {
    const Ints& axes = reduction.first;
    const std::int64_t keep = reduction.second;
    IntegerizeOptions options;
    options.target.operators = {"MaxPool"};
    const Lowered y = moved(
        {1, 3, 4, 5},
        [&](FloatNet& n, ValueId x) {
          return n.op("ReduceMax", {x},
                      attributes({{"axes", axes}, {"keepdims", keep}}));
        },
        options);
    CHECK(y.count("MaxPool") == 1);
    CHECK(y.count("ReduceMax") == 0);
  }
}

TEST_CASE("lowering: a factor for each element, zeros and signs among them") {
  FloatNet net;
  net.output(net.op("Mul", {net.input("x", {1, 3, 4}), net.random({3, 4}, -2, 2, 7)}));
  net.output(net.op("Mul", {net.graph.inputs()[0], net.floats({1, 1, 4}, {1, 0, 1, 0})}));
  const Lowered y = lower_and_compare(net);
  CHECK(y.worst_steps <= 1.1);  // half a step of the factor at full scale, and the rounding
  CHECK(y.count("Mul") == 2);
}

TEST_CASE("lowering: LogSoftmax by a table of the logarithm, on targets that have tables") {
  IntegerizeOptions options;
  options.target.operators = {"Table", "ReduceMax"};
  options.target.broadcast = true;
  for (const double spread : {0.01, 3.0, 10.0}) {
    FloatNet net;
    net.output(net.op("LogSoftmax", {net.input("x", {1, 4, 12})},
                      attributes({{"axis", std::int64_t{-1}}})));
    const Lowered y = lower_and_compare(net, -spread, spread, options);
    CHECK(y.count("Table") == 2);
    // The sum is rounded to 12/255, its logarithm then by at most 0.024, that to a step of x.
    CHECK(y.worst_steps * y.out().scale <= 0.03 + 1.1 * y.out().scale + spread / 127);
  }
}

TEST_CASE("target form: a ReLU6 whose step is coarser than 6/255 clips by the storage of 8 bits") {
  IntegerizeOptions options;
  options.target.form.int8_operands = true;
  for (const Shape& shape : {Shape{1, 2, 3, 4}, Shape{1, 6}}) {
    FloatNet net;
    // A gain that no requant multiplies by: the clip is within few of the input's codes.
    const ValueId x = net.op("Mul", {net.input("x", shape), net.floats({}, {40.0F})});
    net.output(net.op("Clip", {x}, attributes({{"min", 0.0}, {"max", 6.0}})));
    const Lowered y = lower_and_compare(net, -1, 1, options);
    CHECK(y.worst_steps <= 0.51 * 40 / 127 / y.out().scale + 0.51);
    for (const Node* requant : y.nodes("RequantShift"))
      CHECK(requant->attrs.require_int("n_levels_out") == 256);
    CHECK(y.out().scale == doctest::Approx(6.0 / 255));
  }
}

}  // namespace
}  // namespace waveq
