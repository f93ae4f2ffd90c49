#include <limits>

#include "op_case.h"

// QuantizeLinear, DequantizeLinear, and the operators on what they make.
namespace waveq {
namespace {

using namespace test;

template <class T>
Tensor one(T value) {
  return Tensor::scalar<T>(value);
}

TEST_CASE("QuantizeLinear: ties to even, then the zero point, then saturation") {
  const Tensor x = tensor({7}, {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 1000.0f, -1000.0f});
  CHECK(run({"QuantizeLinear", {x, one(1.0f), one<std::int8_t>(0)}}) ==
        tensor<std::int8_t>({7}, {0, 2, 2, 0, -2, 127, -128}));
  CHECK(run({"QuantizeLinear", {x, one(1.0f), one<std::uint8_t>(3)}}) ==
        tensor<std::uint8_t>({7}, {3, 5, 5, 3, 1, 255, 0}));
  CHECK(run({"QuantizeLinear", {x, one(0.5f)}}) ==
        tensor<std::uint8_t>({7}, {1, 3, 5, 0, 0, 255, 0}));
  CHECK(run({"QuantizeLinear", {x, one(0.01f), one<std::int16_t>(-1)}}).as<std::int16_t>()[5] ==
        std::numeric_limits<std::int16_t>::max());
}

TEST_CASE("QuantizeLinear: a scale an index of the axis, 1 by default") {
  const Tensor x = tensor({2, 3}, {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f});
  const Tensor scale = tensor({3}, {1.0f, 0.5f, 3.0f});
  const Tensor zero = tensor<std::int8_t>({3}, {0, 1, 2});
  CHECK(run({"QuantizeLinear", {x, scale, zero}}) ==
        tensor<std::int8_t>({2, 3}, {1, 5, 3, 4, 11, 4}));
  CHECK(run({"QuantizeLinear",
             {x, tensor({2}, {1.0f, 2.0f}), tensor<std::int8_t>({2}, {0, 0})},
             {{"axis", -2}}}) == tensor<std::int8_t>({2, 3}, {1, 2, 3, 2, 2, 3}));
}

TEST_CASE("DequantizeLinear: difference times scale, also of int32 and per channel") {
  CHECK(run({"DequantizeLinear",
             {tensor<std::uint8_t>({3}, {0, 128, 255}), one(0.5f), one<std::uint8_t>(128)}}) ==
        tensor({3}, {-64.0f, 0.0f, 63.5f}));
  CHECK(run({"DequantizeLinear",
             {tensor<std::int32_t>({2}, {1 << 20, -3}), tensor({2}, {0.25f, 2.0f})},
             {{"axis", 0}}}) == tensor({2}, {262144.0f, -6.0f}));
}

TEST_CASE("QuantizeLinear, DequantizeLinear: what does not fit is refused at the node") {
  const Tensor x = tensor({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(error_of({"QuantizeLinear", {x, tensor({2}, {1.0f, 1.0f})}}) == ErrorCode::shape);
  CHECK(error_of({"QuantizeLinear", {x, one(1.0f), one<std::int32_t>(0)}}) == ErrorCode::shape);
  CHECK(error_of({"QuantizeLinear", {x, tensor({2, 3}, {1, 1, 1, 1, 1, 1})}}) == ErrorCode::shape);
  CHECK(error_of({"DequantizeLinear", {x, one(1.0f)}}) == ErrorCode::shape);
  CHECK(error_of({"DequantizeLinear",
                  {tensor<std::int8_t>({1}, {1}), one(1.0f), one<std::uint8_t>(0)}}) ==
        ErrorCode::shape);
}

/// Sum of (a - za)*(b - zb) in int64.
std::int64_t product_sum(const std::vector<std::int64_t>& a, std::int64_t za,
                         const std::vector<std::int64_t>& b, std::int64_t zb) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - za) * (b[i] - zb);
  return sum;
}

TEST_CASE("MatMulInteger: zero points of either operand, of all or of a row or column") {
  const Tensor a = tensor<std::uint8_t>({2, 2}, {0, 255, 7, 128});
  const Tensor b = tensor<std::int8_t>({2, 2}, {-128, 127, 5, -6});
  CHECK(run({"MatMulInteger", {a, b}}) ==
        tensor<std::int32_t>({2, 2}, {1275, -1530, -896 + 640, 889 - 768}));
  const Tensor y = run({"MatMulInteger", {a, b, one<std::uint8_t>(128), one<std::int8_t>(-128)}});
  CHECK(y.as<std::int32_t>()[0] == product_sum({0, 255}, 128, {-128, 5}, -128));
  CHECK(y.as<std::int32_t>()[3] == product_sum({7, 128}, 128, {127, -6}, -128));
  const Tensor z =
      run({"MatMulInteger",
           {a, b, tensor<std::uint8_t>({2}, {1, 2}), tensor<std::int8_t>({2}, {3, 4})}});
  CHECK(z.as<std::int32_t>()[1] == product_sum({0, 255}, 1, {127, -6}, 4));
  CHECK(z.as<std::int32_t>()[2] == product_sum({7, 128}, 2, {-128, 5}, 3));
  CHECK(error_of({"MatMulInteger", {a, b, one<std::int8_t>(0)}}) == ErrorCode::shape);
  CHECK(error_of({"MatMulInteger", {a, tensor<std::int32_t>({2, 2}, {1, 2, 3, 4})}}) ==
        ErrorCode::shape);
}

TEST_CASE("ConvInteger: padding is the zero point of x") {
  const Tensor x = tensor<std::uint8_t>({1, 1, 3}, {100, 128, 200});
  const Tensor w = tensor<std::uint8_t>({2, 1, 2}, {129, 130, 0, 255});
  const Tensor y = run(
      {"ConvInteger", {x, w, one<std::uint8_t>(128), one<std::uint8_t>(128)}, {{"pads", {1, 0}}}});
  CHECK(y == tensor<std::int32_t>({1, 2, 3}, {2 * -28, -28 + 0, 0 + 2 * 72,  //
                                              127 * -28, -128 * -28, 127 * 72}));
  const Tensor per_filter =
      run({"ConvInteger", {x, w, std::nullopt, tensor<std::uint8_t>({2}, {129, 0})}});
  CHECK(per_filter == tensor<std::int32_t>({1, 2, 2}, {128, 200, 255 * 128, 255 * 200}));
  CHECK(error_of({"ConvInteger", {x, w, tensor<std::uint8_t>({2}, {1, 1})}}) == ErrorCode::shape);
}

TEST_CASE("Mod: the sign is the divisor's, with fmod = 1 the dividend's") {
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  const Tensor a = ints({7, -7, 7, -7, kMin, 0}), b = ints({3, 3, -3, -3, -1, 5});
  CHECK(run({"Mod", {a, b}}) == ints({1, 2, -2, -1, 0, 0}));
  CHECK(run({"Mod", {a, b}, {{"fmod", 1}}}) == ints({1, -1, 1, -1, 0, 0}));
  CHECK(run({"Mod", {tensor<std::uint8_t>({2}, {254, 255}), one<std::uint8_t>(255)}}) ==
        tensor<std::uint8_t>({2}, {254, 0}));
  CHECK(run({"Mod", {tensor({2}, {5.5f, -5.5f}), one(2.0f)}, {{"fmod", 1}}}) ==
        tensor({2}, {1.5f, -1.5f}));
  CHECK(error_of({"Mod", {tensor({1}, {1.0f}), one(2.0f)}}) == ErrorCode::shape);
  CHECK(error_of({"Mod", {a, ints({0, 1, 1, 1, 1, 1})}}) == ErrorCode::data);
}

}  // namespace
}  // namespace waveq
