#include <limits>

#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

namespace {
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int32_t kMin32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMax32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMax64 = std::numeric_limits<std::int64_t>::max();

Tensor bools(Shape shape, std::initializer_list<int> values) {
  Tensor t(DType::boolean, std::move(shape));
  std::size_t i = 0;
  for (int v : values) t.as<bool>()[i++] = v != 0;
  return t;
}
}  // namespace

TEST_CASE("Add, Sub, Mul, Div, Pow: literal floats") {
  const Tensor a = tensor({3}, {1, -2, 0.5f}), b = tensor({3}, {4, 3, 2});
  CHECK(run({"Add", {a, b}}) == tensor({3}, {5, 1, 2.5f}));
  CHECK(run({"Sub", {a, b}}) == tensor({3}, {-3, -5, -1.5f}));
  CHECK(run({"Mul", {a, b}}) == tensor({3}, {4, -6, 1}));
  CHECK(run({"Div", {a, b}}) == tensor({3}, {0.25f, -2.0f / 3.0f, 0.25f}));
  CHECK(run({"Pow", {a, b}}) == tensor({3}, {1, -8, 0.25f}));
  CHECK(run({"Pow", {a, tensor({}, {2})}}) == tensor({3}, {1, 4, 0.25f}));
  CHECK(run({"Pow", {a, tensor<std::int64_t>({}, {3})}}) == tensor({3}, {1, -8, 0.125f}));
}

TEST_CASE("binary operators: every kind of broadcasting") {
  const Tensor a = tensor({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(run({"Sub", {a, tensor({}, {1})}}) == tensor({2, 3}, {0, 1, 2, 3, 4, 5}));
  CHECK(run({"Sub", {tensor({}, {1}), a}}) == tensor({2, 3}, {0, -1, -2, -3, -4, -5}));
  CHECK(run({"Sub", {a, tensor({3}, {1, 10, 100})}}) == tensor({2, 3}, {0, -8, -97, 3, -5, -94}));
  CHECK(run({"Sub", {a, tensor({2, 1}, {1, 10})}}) == tensor({2, 3}, {0, 1, 2, -6, -5, -4}));
  CHECK(run({"Sub", {tensor({2, 1}, {1, 10}), tensor({1, 2}, {3, 4})}}) ==
        tensor({2, 2}, {-2, -3, 7, 6}));
  CHECK(run({"Sub", {tensor({1, 1}, {5}), tensor({1}, {3})}}) == tensor({1, 1}, {2}));
  CHECK(run({"Add", {tensor({0, 3}, {}), tensor({3}, {1, 2, 3})}}).shape() == Shape{0, 3});
  CHECK(error_of({"Add", {a, tensor({2}, {1, 2})}}) == ErrorCode::shape);
  // An axis of ones in the middle of both, against plain index arithmetic.
  const Tensor x = random_floats({2, 1, 3, 4}, 1), y = random_floats({5, 1, 4}, 2),
               z = run({"Mul", {x, y}});
  REQUIRE(z.shape() == Shape{2, 5, 3, 4});
  for (std::int64_t i = 0; i < z.size(); ++i) {
    const std::int64_t n = i / 60, p = i / 12 % 5, q = i / 4 % 3, r = i % 4;
    CHECK(z.as<float>()[i] == x.as<float>()[(n * 3 + q) * 4 + r] * y.as<float>()[p * 4 + r]);
  }
}

TEST_CASE("Add, Sub, Mul: integers widen to int32, int64 stays, mixtures with float are refused") {
  const Tensor a = tensor<std::int8_t>({2}, {-128, 127}), b = tensor<std::uint8_t>({2}, {255, 255});
  CHECK(run({"Add", {a, b}}) == tensor<std::int32_t>({2}, {127, 382}));
  CHECK(run({"Sub", {a, b}}) == tensor<std::int32_t>({2}, {-383, -128}));
  CHECK(run({"Mul", {a, b}}) == tensor<std::int32_t>({2}, {-32640, 32385}));
  CHECK(run({"Mul", {ints({1LL << 40, 3}), a}}) == ints({-(1LL << 47), 381}));
  CHECK(error_of({"Add", {a, tensor({2}, {1, 2})}}) == ErrorCode::shape);
  CHECK(error_of({"Add", {bools({1}, {1}), bools({1}, {1})}}) == ErrorCode::shape);
}

TEST_CASE("Add, Sub, Mul: int32 and int64 at the edge are exact, beyond it an error or a wrap") {
  const auto i32 = [](std::int32_t v) { return tensor<std::int32_t>({1}, {v}); };
  const auto wrapped = [](const char* op, const Tensor& a, const Tensor& b) {
    return run({.op = op, .inputs = {a, b}, .overflow = Overflow::wrap});
  };
  CHECK(run({"Add", {i32(kMax32 - 1), i32(1)}}) == i32(kMax32));
  CHECK(error_of({"Add", {i32(kMax32), i32(1)}}) == ErrorCode::overflow);
  CHECK(wrapped("Add", i32(kMax32), i32(1)) == i32(kMin32));
  CHECK(run({"Sub", {i32(kMin32 + 1), i32(1)}}) == i32(kMin32));
  CHECK(error_of({"Sub", {i32(kMin32), i32(1)}}) == ErrorCode::overflow);
  CHECK(wrapped("Sub", i32(kMin32), i32(1)) == i32(kMax32));
  CHECK(run({"Mul", {i32(65536), i32(-32768)}}) == i32(kMin32));
  CHECK(error_of({"Mul", {i32(65536), i32(32768)}}) == ErrorCode::overflow);
  CHECK(wrapped("Mul", i32(65537), i32(65537)) == i32(131073));
  CHECK(error_of({"Add", {ints({kMax64}), ints({1})}}) == ErrorCode::overflow);
  CHECK(wrapped("Add", ints({kMax64}), ints({1})) ==
        ints({std::numeric_limits<std::int64_t>::min()}));
}

TEST_CASE("Mul: random int32 operands against 64-bit products") {
  const auto a = random_ints<std::int32_t>({100}, -1000000, 1000000, 1),
             b = random_ints<std::int32_t>({100}, -1000000, 1000000, 2);
  const Tensor y = run({.op = "Mul", .inputs = {a, b}, .overflow = Overflow::wrap});
  for (int i = 0; i < 100; ++i) {
    const std::int64_t wide = std::int64_t{a.as<std::int32_t>()[i]} * b.as<std::int32_t>()[i];
    CHECK((wide - y.as<std::int32_t>()[i]) % (1LL << 32) == 0);
  }
}

TEST_CASE("Div: integers truncate toward zero; zero and the smallest integer") {
  CHECK(run({"Div", {ints({7, -7, 7, -7}), ints({2, 2, -2, -2})}}) == ints({3, -3, -3, 3}));
  CHECK(error_of({"Div", {ints({1}), ints({0})}}) == ErrorCode::data);
  const Tensor low = tensor<std::int32_t>({1}, {kMin32}), minus = tensor<std::int32_t>({1}, {-1});
  CHECK(error_of({"Div", {low, minus}}) == ErrorCode::overflow);
  CHECK(run({.op = "Div", .inputs = {low, minus}, .overflow = Overflow::wrap}) == low);
}

TEST_CASE("Min, Max: any number of operands, NaN wins, integers keep their dtype") {
  const Tensor a = tensor({2}, {1, 5}), b = tensor({2, 1}, {3, 0}), c = tensor({}, {4});
  CHECK(run({"Min", {a, b, c}}) == tensor({2, 2}, {1, 3, 0, 0}));
  CHECK(run({"Max", {a, b, c}}) == tensor({2, 2}, {4, 5, 4, 5}));
  CHECK(run({"Max", {a}}) == a);
  const Tensor odd = run({"Max", {tensor({2}, {kNan, 1}), tensor({2}, {1, kNan})}});
  CHECK(std::isnan(odd.as<float>()[0]));
  CHECK(std::isnan(odd.as<float>()[1]));
  CHECK(run({"Min", {tensor<std::int8_t>({2}, {-128, 3}), tensor<std::int8_t>({1}, {2})}}) ==
        tensor<std::int8_t>({2}, {-128, 2}));
  CHECK(error_of({"Min", {tensor<std::int8_t>({1}, {1}), tensor<std::uint8_t>({1}, {2})}}) ==
        ErrorCode::shape);
}

TEST_CASE("comparisons: floats, mixed integers, NaN") {
  const Tensor a = tensor({4}, {1, 2, 3, kNan}), b = tensor({4}, {2, 2, 2, kNan});
  CHECK(run({"Equal", {a, b}}) == bools({4}, {0, 1, 0, 0}));
  CHECK(run({"Less", {a, b}}) == bools({4}, {1, 0, 0, 0}));
  CHECK(run({"LessOrEqual", {a, b}}) == bools({4}, {1, 1, 0, 0}));
  CHECK(run({"Greater", {a, b}}) == bools({4}, {0, 0, 1, 0}));
  CHECK(run({"GreaterOrEqual", {a, b}}) == bools({4}, {0, 1, 1, 0}));
  CHECK(run({"Equal", {ints({-1, 200}), tensor<std::uint8_t>({}, {200})}}) == bools({2}, {0, 1}));
  CHECK(run({"Equal", {bools({2}, {0, 1}), bools({2}, {1, 1})}}) == bools({2}, {0, 1}));
}

TEST_CASE("And, Or, Not, Where: truth tables and selection") {
  const Tensor a = bools({4}, {0, 0, 1, 1}), b = bools({4}, {0, 1, 0, 1});
  CHECK(run({"And", {a, b}}) == bools({4}, {0, 0, 0, 1}));
  CHECK(run({"Or", {a, b}}) == bools({4}, {0, 1, 1, 1}));
  CHECK(run({"Not", {a}}) == bools({4}, {1, 1, 0, 0}));
  CHECK(run({"Where", {bools({2, 1}, {1, 0}), ints({1, 2, 3}), ints({9})}}) ==
        tensor<std::int64_t>({2, 3}, {1, 2, 3, 9, 9, 9}));
  CHECK(error_of({"Where", {bools({1}, {1}), ints({1}), tensor({1}, {1})}}) == ErrorCode::shape);
  CHECK(error_of({"Where", {ints({1}), ints({1}), ints({1})}}) == ErrorCode::shape);
  CHECK(error_of({"And", {ints({1}), ints({1})}}) == ErrorCode::shape);
}

TEST_CASE("unary: literal floats") {
  const Tensor x = tensor({5}, {-2.5f, -0.5f, 0.5f, 1.5f, 2.5f});
  CHECK(run({"Neg", {x}}) == tensor({5}, {2.5f, 0.5f, -0.5f, -1.5f, -2.5f}));
  CHECK(run({"Abs", {x}}) == tensor({5}, {2.5f, 0.5f, 0.5f, 1.5f, 2.5f}));
  CHECK(run({"Sign", {tensor({3}, {-2, 0, 3})}}) == tensor({3}, {-1, 0, 1}));
  CHECK(run({"Floor", {x}}) == tensor({5}, {-3, -1, 0, 1, 2}));
  CHECK(run({"Ceil", {x}}) == tensor({5}, {-2, -0.0f, 1, 2, 3}));
  CHECK(run({"Sqrt", {tensor({3}, {0, 4, 2})}}) == tensor({3}, {0, 2, 1.41421354f}));
  CHECK(run({"Reciprocal", {tensor({3}, {4, -0.5f, 0})}}) == tensor({3}, {0.25f, -2, kInf}));
  check_near(run({"Exp", {x}}),
             tensor({5}, {0.0820849986f, 0.606530660f, 1.64872127f, 4.48168907f, 12.1824940f}),
             2e-7);
  check_near(run({"Erf", {x}}),
             tensor({5}, {-0.999593048f, -0.520499878f, 0.520499878f, 0.966105146f, 0.999593048f}),
             2e-7);
  CHECK(run({"Log", {tensor({3}, {1, 2, 0})}}) == tensor({3}, {0, 0.693147182f, -kInf}));
  CHECK(run({"Sin", {tensor({2}, {0, 1})}}) == tensor({2}, {0, 0.841470957f}));
  CHECK(run({"Cos", {tensor({2}, {0, 1})}}) == tensor({2}, {1, 0.540302277f}));
  CHECK(error_of({"Exp", {ints({1})}}) == ErrorCode::shape);
}

TEST_CASE("Round: half to even") {
  CHECK(run({"Round",
             {tensor({8}, {-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 0.49999997f, 8388609})}}) ==
        tensor({8}, {-2, -2, -0.0f, 0, 2, 2, 0, 8388609}));
}

TEST_CASE("Neg, Abs, Sign: integers keep their dtype; the smallest one has no negative") {
  CHECK(run({"Neg", {tensor<std::int8_t>({2}, {-127, 5})}}) == tensor<std::int8_t>({2}, {127, -5}));
  CHECK(error_of({"Neg", {tensor<std::int8_t>({1}, {-128})}}) == ErrorCode::overflow);
  CHECK(error_of({"Abs", {tensor<std::int8_t>({1}, {-128})}}) == ErrorCode::overflow);
  CHECK(run({.op = "Abs",
             .inputs = {tensor<std::int8_t>({1}, {-128})},
             .overflow = Overflow::wrap}) == tensor<std::int8_t>({1}, {-128}));
  CHECK(run({"Sign", {tensor<std::int16_t>({3}, {-32768, 0, 9})}}) ==
        tensor<std::int16_t>({3}, {-1, 0, 1}));
  CHECK(error_of({"Neg", {tensor<std::uint8_t>({1}, {1})}}) == ErrorCode::overflow);
}

TEST_CASE("Sum, Mean: of any number of tensors, repeated to one shape") {
  const Tensor a = tensor({2, 2}, {1, 2, 3, 4}), b = tensor({2}, {10, 20}), c = tensor({}, {0.5});
  CHECK(run({"Sum", {a, b, c}}) == tensor({2, 2}, {11.5, 22.5, 13.5, 24.5}));
  CHECK(run({"Mean", {a, b}}) == tensor({2, 2}, {5.5, 11, 6.5, 12}));
  CHECK(run({"Mean", {b}}) == b);
}
