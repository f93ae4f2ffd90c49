#include <limits>

#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

TEST_CASE("Constant: every spelling of its value") {
  const Tensor t = tensor<std::int8_t>({2}, {-1, 5});
  CHECK(run({"Constant", {}, {{"value", Attr(t)}}}) == t);
  CHECK(run({"Constant", {}, {{"value_int", 7}}}) == tensor<std::int64_t>({}, {7}));
  CHECK(run({"Constant", {}, {{"value_ints", {7, 8}}}}) == ints({7, 8}));
  CHECK(run({"Constant", {}, {{"value_float", 0.5}}}) == tensor({}, {0.5}));
  CHECK(run({"Constant", {}, {{"value_floats", Attr(std::vector<double>{0.5, 2})}}}) ==
        tensor({2}, {0.5, 2}));
  CHECK(error_of({"Constant", {}, {{"value_string", "x"}}}) == ErrorCode::shape);
}

TEST_CASE("ConstantOfShape: default zero, any dtype, scalars and empty tensors") {
  CHECK(run({"ConstantOfShape", {ints({2, 2})}}) == tensor({2, 2}, {0, 0, 0, 0}));
  CHECK(run({"ConstantOfShape", {ints({3})}, {{"value", Attr(tensor<std::int16_t>({1}, {-9}))}}}) ==
        tensor<std::int16_t>({3}, {-9, -9, -9}));
  CHECK(run({"ConstantOfShape", {ints({})}}) == tensor({}, {0}));
  CHECK(run({"ConstantOfShape", {ints({0, 4})}}).shape() == Shape{0, 4});
  CHECK(error_of({"ConstantOfShape", {ints({-1})}}) == ErrorCode::shape);
  CHECK(error_of({"ConstantOfShape", {ints({1})}, {{"value", Attr(ints({1, 2}))}}}) ==
        ErrorCode::shape);
}

TEST_CASE("Trilu: either triangle, shifted, of stacks, of any type") {
  const Tensor x = tensor<std::int32_t>({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto trilu = [&](std::int64_t k, int upper) {
    return run({"Trilu", {x, tensor<std::int64_t>({}, {k})}, {{"upper", upper}}});
  };
  CHECK(run({"Trilu", {x}}) == tensor<std::int32_t>({2, 3}, {1, 2, 3, 0, 5, 6}));
  CHECK(trilu(0, 0) == tensor<std::int32_t>({2, 3}, {1, 0, 0, 4, 5, 0}));
  CHECK(trilu(1, 1) == tensor<std::int32_t>({2, 3}, {0, 2, 3, 0, 0, 6}));
  CHECK(trilu(-1, 0) == tensor<std::int32_t>({2, 3}, {0, 0, 0, 4, 0, 0}));
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  CHECK(trilu(kFar, 0) == x);
  CHECK(trilu(-kFar - 1, 1) == x);
  CHECK(trilu(kFar, 1) == tensor<std::int32_t>({2, 3}, {0, 0, 0, 0, 0, 0}));
  CHECK(run({"Trilu", {tensor({2, 1, 2}, {1, 2, 3, 4})}, {{"upper", 0}}}) == tensor({2, 1, 2}, {1, 0, 3, 0}));
  CHECK(error_of({"Trilu", {tensor({3}, {1, 2, 3})}}) == ErrorCode::shape);
}

TEST_CASE("Shape, Size: with start and end") {
  const Tensor x = random_floats({2, 3, 5}, 1);
  CHECK(run({"Shape", {x}}) == ints({2, 3, 5}));
  CHECK(run({"Shape", {x}, {{"start", 1}}}) == ints({3, 5}));
  CHECK(run({"Shape", {x}, {{"start", -2}, {"end", -1}}}) == ints({3}));
  CHECK(run({"Shape", {x}, {{"start", 2}, {"end", 1}}}) == ints({}));
  CHECK(run({"Shape", {x}, {{"start", -9}, {"end", 9}}}) == ints({2, 3, 5}));
  CHECK(run({"Size", {x}}) == tensor<std::int64_t>({}, {30}));
}

TEST_CASE("Range: floats, integers, downwards, empty, refused") {
  const auto range = [](auto a, auto b, auto c) {
    using T = decltype(a);
    return OpCase{"Range", {tensor<T>({}, {a}), tensor<T>({}, {b}), tensor<T>({}, {c})}};
  };
  CHECK(run(range(std::int64_t{1}, std::int64_t{8}, std::int64_t{3})) == ints({1, 4, 7}));
  CHECK(run(range(std::int64_t{3}, std::int64_t{0}, std::int64_t{-1})) == ints({3, 2, 1}));
  CHECK(run(range(std::int64_t{3}, std::int64_t{3}, std::int64_t{1})).shape() == Shape{0});
  CHECK(run(range(0.0f, 1.0f, 0.25f)) == tensor({4}, {0, 0.25, 0.5, 0.75}));
  constexpr std::int64_t kTop = std::numeric_limits<std::int64_t>::max();
  CHECK(run(range(kTop - 2, kTop, std::int64_t{1})) == ints({kTop - 2, kTop - 1}));
  CHECK(error_of(range(std::int64_t{0}, std::int64_t{1}, std::int64_t{0})) == ErrorCode::shape);
  CHECK(error_of(range(0.0f, 1.0f, 0.0f)) == ErrorCode::shape);
  CHECK(error_of(range(std::int64_t{0}, kTop, std::int64_t{1})) == ErrorCode::shape);
}

TEST_CASE("shape arithmetic: a chain from Shape to Reshape gives static types") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {2, 3, 4}});
  const auto node = [&](const char* op, std::vector<ValueId> inputs, std::vector<NamedAttr> attrs) {
    Node n;
    n.op = op;
    n.name = std::string(op) + "_node";
    n.inputs = std::move(inputs);
    const ValueId out = g.add_value(n.name);
    n.outputs = {out};
    for (const NamedAttr& a : attrs) n.attrs.set(a.name, a.value);
    g.add_node(n);
    return out;
  };
  const ValueId shape = node("Shape", {x}, {});
  const ValueId first =
      node("Gather", {shape, g.add_constant("zero", tensor<std::int64_t>({}, {0}))}, {});
  const ValueId twice =
      node("Mul", {first, g.add_constant("two", tensor<std::int64_t>({}, {2}))}, {});
  const ValueId row = node("Unsqueeze", {twice, g.add_constant("axes", ints({0}))}, {});
  const ValueId target = node("Concat", {row, g.add_constant("rest", ints({-1}))}, {{"axis", 0}});
  const ValueId y = node("Reshape", {x, target}, {});
  g.add_output(y);
  infer_types(g);
  CHECK(g.value(y).type == TensorType{DType::f32, {4, 6}});
}
