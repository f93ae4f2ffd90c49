#include <algorithm>
#include <limits>
#include <numeric>

#include "op_case.h"
#include "waveq/graph/op.h"

using namespace waveq;
using namespace waveq::test;

namespace {

/// 0, 1, 2, ... as T.
template <class T>
Tensor counting(Shape shape) {
  Tensor t(dtype_of<T>::value, std::move(shape));
  std::iota(t.as<T>().begin(), t.as<T>().end(), T{0});
  return t;
}

Attr list(std::vector<std::int64_t> v) { return Attr(std::move(v)); }
Attr reals(std::vector<double> v) { return Attr(std::move(v)); }

}  // namespace

TEST_CASE("Identity, Dropout: elements pass, the mask is all true") {
  const Tensor x = counting<std::int16_t>({2, 3});
  CHECK(run({"Identity", {x}}) == x);
  const auto out =
      run_all({.op = "Dropout", .inputs = {x}, .attrs = {{"ratio", 0.5}}, .outputs = 2});
  CHECK(out[0] == x);
  CHECK(out[1] == Tensor::from<bool>({2, 3}, std::vector<bool>(6, true)));
  CHECK(run({"Dropout", {x}}) == x);
}

TEST_CASE("Reshape: copied, open and zero dimensions") {
  const Tensor x = counting<float>({2, 3, 4});
  CHECK(run({"Reshape", {x, ints({4, 6})}}) == x.reshaped({4, 6}));
  CHECK(run({"Reshape", {x, ints({0, -1})}}) == x.reshaped({2, 12}));
  CHECK(run({"Reshape", {x, ints({-1})}}) == x.reshaped({24}));
  CHECK(run({"Reshape", {tensor({1}, {5}), ints({})}}) == tensor({}, {5}));
  CHECK(run({"Reshape", {tensor({0, 3}, {}), ints({3, 0})}, {{"allowzero", 1}}}).shape() ==
        Shape{3, 0});
  CHECK(error_of({"Reshape", {x, ints({5, -1})}}) == ErrorCode::shape);
  CHECK(error_of({"Reshape", {x, ints({-1, -1})}}) == ErrorCode::shape);
  CHECK(error_of({"Reshape", {x, ints({2, 2})}}) == ErrorCode::shape);
  CHECK(error_of({"Reshape", {x, ints({1, 1, 1, 0})}}) == ErrorCode::shape);
  CHECK(error_of({"Reshape", {x, ints({-2, 3, 4})}}) == ErrorCode::shape);
  CHECK(error_of({"Reshape", {x, ints({1LL << 62, 1LL << 62, -1})}}) == ErrorCode::shape);
  CHECK(error_of({"Reshape", {x}}) == ErrorCode::shape);
}

TEST_CASE("Reshape: a shape that is computed from data is refused with a remedy") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {4}}), s = g.add_input("s", {DType::i64, {1}});
  Node node;
  node.op = "Reshape";
  node.name = "node";
  node.inputs = {x, s};
  node.outputs = {g.add_value("y")};
  g.add_node(node);
  CHECK_THROWS_WITH_AS(infer_types(g), doctest::Contains("--input-shape"), Error);
}

TEST_CASE("Flatten, Squeeze, Unsqueeze: attribute and input forms") {
  const Tensor x = counting<float>({1, 3, 1, 2});
  CHECK(run({"Flatten", {x}}) == x.reshaped({1, 6}));
  CHECK(run({"Flatten", {x}, {{"axis", 0}}}) == x.reshaped({1, 6}));
  CHECK(run({"Flatten", {x}, {{"axis", -1}}}) == x.reshaped({3, 2}));
  CHECK(run({"Flatten", {x}, {{"axis", 4}}}) == x.reshaped({6, 1}));
  CHECK(run({"Squeeze", {x}}) == x.reshaped({3, 2}));
  CHECK(run({"Squeeze", {x}, {{"axes", {2}}}}) == x.reshaped({1, 3, 2}));
  CHECK(run({"Squeeze", {x, ints({-4})}}) == x.reshaped({3, 1, 2}));
  CHECK(error_of({"Squeeze", {x, ints({1})}}) == ErrorCode::shape);
  CHECK(run({"Unsqueeze", {counting<float>({2}), ints({0, -1})}}) == counting<float>({1, 2, 1}));
  CHECK(run({"Unsqueeze", {counting<float>({2})}, {{"axes", {1}}}}) == counting<float>({2, 1}));
  CHECK(error_of({"Unsqueeze", {x, ints({0, 0})}}) == ErrorCode::shape);
  CHECK(error_of({"Unsqueeze", {x}}) == ErrorCode::shape);
}

TEST_CASE("Transpose: every permutation of four axes, every element width") {
  std::vector<std::int64_t> perm = {0, 1, 2, 3};
  const Shape in = {2, 3, 20, 17};
  const std::vector<std::int64_t> strides = strides_of(in);
  const Tensor x = counting<float>(in);
  do {
    INFO(to_string(perm));
    Shape out;
    for (std::int64_t p : perm) out.push_back(in[p]);
    std::vector<float> want;
    for (std::int64_t a = 0; a < out[0]; ++a)
      for (std::int64_t b = 0; b < out[1]; ++b)
        for (std::int64_t c = 0; c < out[2]; ++c)
          for (std::int64_t d = 0; d < out[3]; ++d)
            want.push_back(static_cast<float>(a * strides[perm[0]] + b * strides[perm[1]] +
                                              c * strides[perm[2]] + d * strides[perm[3]]));
    CHECK(run({"Transpose", {x}, {{"perm", list(perm)}}}) == tensor(out, want));
    CHECK(run({"Transpose", {cast(x, DType::i16)}, {{"perm", list(perm)}}}) ==
          cast(tensor(out, want), DType::i16));
  } while (std::next_permutation(perm.begin(), perm.end()));
  CHECK(run({"Transpose", {counting<std::int64_t>({2, 2})}}) ==
        tensor<std::int64_t>({2, 2}, {0, 2, 1, 3}));
  CHECK(run({"Transpose", {tensor<std::int8_t>({1, 3}, {1, 2, 3})}}) ==
        tensor<std::int8_t>({3, 1}, {1, 2, 3}));
  CHECK(run({"Transpose", {tensor({}, {1})}}) == tensor({}, {1}));
  CHECK(run({"Transpose", {tensor({0, 2}, {})}}).shape() == Shape{2, 0});
  CHECK(error_of({"Transpose", {x}, {{"perm", {0, 1, 1, 2}}}}) == ErrorCode::shape);
  CHECK(error_of({"Transpose", {x}, {{"perm", {0, 1}}}}) == ErrorCode::shape);
}

TEST_CASE("Concat: any axis, one or many operands, empty ones") {
  const Tensor a = tensor({2, 1}, {1, 2}), b = tensor({2, 2}, {3, 4, 5, 6});
  CHECK(run({"Concat", {a, b}, {{"axis", 1}}}) == tensor({2, 3}, {1, 3, 4, 2, 5, 6}));
  CHECK(run({"Concat", {b, b}, {{"axis", -2}}}) == tensor({4, 2}, {3, 4, 5, 6, 3, 4, 5, 6}));
  CHECK(run({"Concat", {a, tensor({2, 0}, {}), a}, {{"axis", 1}}}) == tensor({2, 2}, {1, 1, 2, 2}));
  CHECK(run({"Concat", {a}, {{"axis", 0}}}) == a);
  CHECK(error_of({"Concat", {a, tensor({3, 1}, {1, 2, 3})}, {{"axis", 1}}}) == ErrorCode::shape);
  CHECK(error_of({"Concat", {a, ints({1})}, {{"axis", 0}}}) == ErrorCode::shape);
  CHECK(error_of({"Concat", {}, {{"axis", 0}}}) == ErrorCode::shape);
}

TEST_CASE("Split: attribute, input, equal parts, num_outputs") {
  const Tensor x = counting<float>({2, 5});
  const auto by_attr = run_all(
      {.op = "Split", .inputs = {x}, .attrs = {{"axis", 1}, {"split", {2, 3}}}, .outputs = 2});
  CHECK(by_attr[0] == tensor({2, 2}, {0, 1, 5, 6}));
  CHECK(by_attr[1] == tensor({2, 3}, {2, 3, 4, 7, 8, 9}));
  const auto by_input =
      run_all({.op = "Split", .inputs = {x, ints({5, 0})}, .attrs = {{"axis", -1}}, .outputs = 2});
  CHECK(by_input[0] == x);
  CHECK(by_input[1].shape() == Shape{2, 0});
  CHECK(run_all({.op = "Split", .inputs = {x}, .outputs = 2})[1] ==
        tensor({1, 5}, {5, 6, 7, 8, 9}));
  const auto uneven = run_all({.op = "Split",
                               .inputs = {x},
                               .attrs = {{"axis", 1}, {"num_outputs", 3}},
                               .outputs = 3,
                               .opset = 18});
  CHECK(uneven[0].shape() == Shape{2, 2});
  CHECK(uneven[2] == tensor({2, 1}, {4, 9}));
  CHECK(error_of({.op = "Split", .inputs = {x}, .attrs = {{"axis", 1}}, .outputs = 2}) ==
        ErrorCode::shape);
  CHECK(error_of({.op = "Split",
                  .inputs = {x},
                  .attrs = {{"axis", 1}, {"split", {2, 2}}},
                  .outputs = 2}) == ErrorCode::shape);
  CHECK(error_of({.op = "Split",
                  .inputs = {x},
                  .attrs = {{"axis", 1}, {"split", {6, -1}}},
                  .outputs = 2}) == ErrorCode::shape);
}

TEST_CASE("Slice: attributes, inputs, negative positions and steps, far ends") {
  const Tensor x = counting<std::int8_t>({3, 4});
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max(),
                         kNear = std::numeric_limits<std::int64_t>::min();
  CHECK(run({"Slice", {x}, {{"starts", {1, 0}}, {"ends", {3, 2}}}}) ==
        tensor<std::int8_t>({2, 2}, {4, 5, 8, 9}));
  CHECK(run({"Slice", {x}, {{"starts", {-2}}, {"ends", {100}}, {"axes", {1}}}}) ==
        tensor<std::int8_t>({3, 2}, {2, 3, 6, 7, 10, 11}));
  CHECK(run({"Slice", {x, ints({0}), ints({kFar}), ints({-1}), ints({3})}}) ==
        tensor<std::int8_t>({3, 2}, {0, 3, 4, 7, 8, 11}));
  CHECK(run({"Slice", {x, ints({-1}), ints({kNear}), ints({0}), ints({-2})}}) ==
        tensor<std::int8_t>({2, 4}, {8, 9, 10, 11, 0, 1, 2, 3}));
  CHECK(run({"Slice", {x, ints({3, 2}), ints({1, 0}), ints({1, 0}), ints({-1, -1})}}) ==
        tensor<std::int8_t>({2, 2}, {11, 10, 7, 6}));
  CHECK(run({"Slice", {x, ints({2}), ints({2}), ints({0})}}).shape() == Shape{0, 4});
  CHECK(run({"Slice", {x, ints({0}), ints({kFar}), ints({0}), ints({kFar})}}) ==
        tensor<std::int8_t>({1, 4}, {0, 1, 2, 3}));
  CHECK(run({"Slice", {tensor({0}, {}), ints({5}), ints({-9}), ints({0}), ints({-1})}}).shape() ==
        Shape{0});
  CHECK(run({"Slice",
             {ints({1, 2, 3}), tensor<std::int32_t>({1}, {1}), tensor<std::int32_t>({1}, {3})}}) ==
        ints({2, 3}));
  CHECK(error_of({"Slice", {x, ints({0}), ints({1}), ints({0}), ints({0})}}) == ErrorCode::shape);
  CHECK(error_of({"Slice", {x, ints({0}), ints({1, 2})}}) == ErrorCode::shape);
  CHECK(error_of({"Slice", {x, ints({0}), ints({1}), ints({2})}}) == ErrorCode::shape);
}

TEST_CASE("Gather: any axis, negative and multi-dimensional indices, bounds") {
  const Tensor x = tensor({2, 3}, {0, 1, 2, 10, 11, 12});
  CHECK(run({"Gather", {x, ints({1, -2})}}) == tensor({2, 3}, {10, 11, 12, 0, 1, 2}));
  CHECK(run({"Gather", {x, tensor<std::int64_t>({}, {-1})}, {{"axis", 1}}}) ==
        tensor({2}, {2, 12}));
  CHECK(run({"Gather", {x, tensor<std::int32_t>({2, 1}, {2, 0})}, {{"axis", 1}}}) ==
        tensor({2, 2, 1}, {2, 0, 12, 10}));
  CHECK(error_of({"Gather", {x, ints({2})}}) == ErrorCode::data);
  CHECK(error_of({"Gather", {x, ints({-3})}}) == ErrorCode::data);
  CHECK(error_of({"Gather", {x, tensor({1}, {0})}}) == ErrorCode::shape);
  CHECK(error_of({"Gather", {tensor({}, {0}), ints({0})}}) == ErrorCode::shape);
}

TEST_CASE("Expand, Tile: repetition") {
  CHECK(run({"Expand", {tensor({2, 1}, {1, 2}), ints({3})}}) == tensor({2, 3}, {1, 1, 1, 2, 2, 2}));
  CHECK(run({"Expand", {tensor<std::int8_t>({1}, {7}), ints({2, 1, 2})}}) ==
        tensor<std::int8_t>({2, 1, 2}, {7, 7, 7, 7}));
  CHECK(error_of({"Expand", {tensor({2}, {1, 2}), ints({3})}}) == ErrorCode::shape);
  CHECK(error_of({"Expand", {tensor({1}, {1}), ints({-3})}}) == ErrorCode::shape);
  CHECK(run({"Tile", {tensor({2, 2}, {1, 2, 3, 4}), ints({2, 3})}}) ==
        tensor({4, 6}, {1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4}));
  CHECK(run({"Tile", {tensor({2}, {1, 2}), ints({0})}}).shape() == Shape{0});
  CHECK(error_of({"Tile", {tensor({2}, {1, 2}), ints({1, 1})}}) == ErrorCode::shape);
}

TEST_CASE("Pad: constant, edge, reflect, crops, axes, integers") {
  const Tensor x = tensor({1, 3}, {1, 2, 3});
  CHECK(run({"Pad", {x}, {{"pads", {0, 1, 1, 2}}, {"value", 9.0}}}) ==
        tensor({2, 6}, {9, 1, 2, 3, 9, 9, 9, 9, 9, 9, 9, 9}));
  CHECK(run({"Pad", {x, ints({0, 1, 0, 1})}}) == tensor({1, 5}, {0, 1, 2, 3, 0}));
  CHECK(run({"Pad", {x, ints({1, 1}), tensor({}, {5}), ints({-1})}}) ==
        tensor({1, 5}, {5, 1, 2, 3, 5}));
  CHECK(run({"Pad", {x, ints({0, 2, 0, 1})}, {{"mode", "edge"}}}) ==
        tensor({1, 6}, {1, 1, 1, 2, 3, 3}));
  CHECK(run({"Pad", {x, ints({0, 2, 0, 2})}, {{"mode", "reflect"}}}) ==
        tensor({1, 7}, {3, 2, 1, 2, 3, 2, 1}));
  CHECK(run({"Pad", {x, ints({0, -1, 0, 1})}}) == tensor({1, 3}, {2, 3, 0}));
  CHECK(run({"Pad",
             {tensor<std::int8_t>({2}, {-1, 2}), ints({1, 1}),
              tensor<std::int8_t>({1}, {-128})}}) == tensor<std::int8_t>({4}, {-128, -1, 2, -128}));
  CHECK(error_of({"Pad", {x, ints({0, 3, 0, 0})}, {{"mode", "reflect"}}}) == ErrorCode::shape);
  CHECK(error_of({"Pad", {x, ints({0, -2, 0, -2})}}) == ErrorCode::shape);
  CHECK(error_of({"Pad", {x, ints({1, 1})}}) == ErrorCode::shape);
  CHECK(error_of({"Pad", {x, ints({0, 1, 0, 1}), ints({1})}}) == ErrorCode::shape);
  CHECK(error_of({"Pad", {x, ints({0, 1, 0, 1})}, {{"mode", "cubic"}}}) == ErrorCode::shape);
}

TEST_CASE("Cast: between every kind") {
  CHECK(run({"Cast", {tensor({4}, {-1.9f, 1.9f, 300, -300})}, {{"to", 3}}}) ==
        tensor<std::int8_t>({4}, {-1, 1, 127, -128}));
  CHECK(run({"Cast", {tensor<std::int32_t>({2}, {300, -1})}, {{"to", 2}}}) ==
        tensor<std::uint8_t>({2}, {44, 255}));
  CHECK(run({"Cast", {ints({0, 7})}, {{"to", 9}}}) == Tensor::from<bool>({2}, {false, true}));
  CHECK(run({"Cast", {ints({16777217})}, {{"to", 1}}}) == tensor({1}, {16777216}));
  CHECK(error_of({"Cast", {ints({1})}, {{"to", 8}}}) == ErrorCode::unsupported);
}

TEST_CASE("Resize: nearest, every coordinate mode") {
  const Tensor x = tensor({1, 1, 2, 2}, {1, 2, 3, 4}), twice = tensor({4}, {1, 1, 2, 2});
  const Tensor doubled = tensor({1, 1, 4, 4}, {1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4});
  CHECK(run({"Resize", {x, std::nullopt, twice}}) == doubled);
  CHECK(run({"Resize",
             {x, tensor({0}, {}), twice},
             {{"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "floor"}}}) ==
        doubled);
  CHECK(run({"Resize", {x, std::nullopt, std::nullopt, ints({1, 1, 4, 4})}}) == doubled);
  CHECK(run({.op = "Resize", .inputs = {x, twice}, .opset = 10}) == doubled);
  CHECK(run({.op = "Upsample", .inputs = {x, twice}, .opset = 9}) == doubled);
  CHECK(run({.op = "Upsample",
             .inputs = {x},
             .attrs = {{"scales", reals({1, 1, 2, 2})}},
             .opset = 7}) == doubled);
  CHECK(run({"Resize",
             {tensor<std::int8_t>({1, 1, 2}, {-5, 7}), std::nullopt, tensor({3}, {1, 1, 1.5})}}) ==
        tensor<std::int8_t>({1, 1, 3}, {-5, -5, 7}));
  const Tensor line = tensor({4}, {0, 1, 2, 3});
  const auto nearest = [&](const char* rounding, const char* coordinates) {
    return run({"Resize",
                {line, std::nullopt, std::nullopt, ints({2})},
                {{"nearest_mode", rounding}, {"coordinate_transformation_mode", coordinates}}});
  };
  // half_pixel: positions 0.5 and 2.5
  CHECK(nearest("round_prefer_floor", "half_pixel") == tensor({2}, {0, 2}));
  CHECK(nearest("round_prefer_ceil", "half_pixel") == tensor({2}, {1, 3}));
  CHECK(nearest("ceil", "half_pixel") == tensor({2}, {1, 3}));
  CHECK(nearest("floor", "align_corners") == tensor({2}, {0, 3}));
  CHECK(nearest("floor", "tf_half_pixel_for_nn") == tensor({2}, {1, 3}));
}

TEST_CASE("Resize: linear") {
  const Tensor line = tensor({1, 1, 2}, {0, 4});
  const auto linear = [&](const char* coordinates, std::int64_t n) {
    return run({"Resize",
                {line, std::nullopt, std::nullopt, ints({1, 1, n})},
                {{"mode", "linear"}, {"coordinate_transformation_mode", coordinates}}});
  };
  CHECK(linear("half_pixel", 4) == tensor({1, 1, 4}, {0, 1, 3, 4}));
  CHECK(linear("asymmetric", 4) == tensor({1, 1, 4}, {0, 2, 4, 4}));
  CHECK(linear("align_corners", 5) == tensor({1, 1, 5}, {0, 1, 2, 3, 4}));
  CHECK(linear("pytorch_half_pixel", 1) == tensor({1, 1, 1}, {0}));
  CHECK(linear("half_pixel", 1) == tensor({1, 1, 1}, {2}));
  const Tensor square = tensor({1, 1, 2, 2}, {0, 4, 8, 12});
  CHECK(run({"Resize", {square, std::nullopt, tensor({4}, {1, 1, 1, 2})}, {{"mode", "linear"}}}) ==
        tensor({1, 1, 2, 4}, {0, 1, 3, 4, 8, 9, 11, 12}));
  CHECK(run({"Resize",
             {square, std::nullopt, tensor({2}, {2, 1})},
             {{"mode", "linear"}, {"axes", {2, 3}}}}) ==
        tensor({1, 1, 4, 2}, {0, 4, 2, 6, 6, 10, 8, 12}));
}

TEST_CASE("Resize: what is not handled is refused") {
  const Tensor x = tensor({1, 1, 2}, {0, 4}), twice = tensor({3}, {1, 1, 2});
  CHECK(error_of({"Resize", {x, std::nullopt, twice}, {{"mode", "cubic"}}}) ==
        ErrorCode::unsupported);
  CHECK(error_of({"Resize",
                  {x, std::nullopt, twice},
                  {{"coordinate_transformation_mode", "tf_crop_and_resize"}}}) ==
        ErrorCode::unsupported);
  CHECK(error_of({"Resize", {x, std::nullopt, twice}, {{"antialias", 1}}}) ==
        ErrorCode::unsupported);
  CHECK(error_of({"Resize", {x, std::nullopt, tensor({2}, {1, 2})}}) == ErrorCode::shape);
  CHECK(error_of({"Resize", {x, std::nullopt, twice, ints({1, 1, 4})}}) == ErrorCode::shape);
  CHECK(error_of({"Resize", {x, std::nullopt, tensor({3}, {1, 1, 0})}}) == ErrorCode::shape);
  CHECK(error_of({"Resize",
                  {tensor<std::int8_t>({1, 1, 2}, {0, 4}), std::nullopt, twice},
                  {{"mode", "linear"}}}) == ErrorCode::shape);
}

TEST_CASE("data movement is marked as such, and only it") {
  for (const char* name : {"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
                           "Transpose", "Concat", "Split", "Slice", "Gather", "Expand", "Tile"})
    CHECK(find_op(name)->moves_data);
  for (const char* name : {"Pad", "Cast", "Resize", "Upsample", "Relu", "Conv", "Where", "Shape"})
    CHECK_FALSE(find_op(name)->moves_data);
}

TEST_CASE("DepthToSpace, SpaceToDepth: the channels of a block are its pixels") {
  // Channels 0..7 of one pixel: with DCR channel (i*2 + j)*2 + c is pixel (i, j) of channel c, with
  // CRD channel (c*2 + i)*2 + j is.
  const Tensor deep = counting<std::int8_t>({1, 8, 1, 1});
  CHECK(run({"DepthToSpace", {deep}, {{"blocksize", 2}}}) ==
        tensor<std::int8_t>({1, 2, 2, 2}, {0, 2, 4, 6, 1, 3, 5, 7}));
  CHECK(run({"DepthToSpace", {deep}, {{"blocksize", 2}, {"mode", "CRD"}}}) ==
        tensor<std::int8_t>({1, 2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}));
  CHECK(run({"SpaceToDepth", {tensor<std::int8_t>({1, 2, 2, 2}, {0, 2, 4, 6, 1, 3, 5, 7})}, {{"blocksize", 2}}}) == deep);
  const Tensor wide = counting<float>({2, 3, 4, 6});
  const Tensor blocks = run({"SpaceToDepth", {wide}, {{"blocksize", 2}}});
  CHECK(blocks.shape() == Shape{2, 12, 2, 3});
  CHECK(run({"DepthToSpace", {blocks}, {{"blocksize", 2}}}) == wide);
  CHECK(error_of({"DepthToSpace", {wide}, {{"blocksize", 2}}}) == ErrorCode::shape);
  CHECK(error_of({"SpaceToDepth", {wide}, {{"blocksize", 4}}}) == ErrorCode::shape);
  CHECK(error_of({"SpaceToDepth", {wide}, {{"blocksize", 0}}}) == ErrorCode::shape);
}
