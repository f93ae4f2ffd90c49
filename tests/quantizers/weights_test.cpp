#include "waveq/quantizers/weights.h"

#include <doctest/doctest.h>

#include <cmath>

#include "code_of.h"

using namespace waveq;
using test::code_of;

namespace {

std::vector<int> codes(const QuantizedWeights& w) {
  std::vector<int> out;
  for (std::int8_t q : w.q.as<std::int8_t>()) out.push_back(q);
  return out;
}

}  // namespace

TEST_CASE("weights: per tensor, ties to even, largest magnitude at 127") {
  const Tensor w = Tensor::from<float>({7}, {127.0f, -127.0f, 0.5f, 1.5f, -0.5f, -1.5f, 2.5f});
  const QuantizedWeights q = quantize_weights(w, -1);
  CHECK(q.scale == std::vector<double>{1.0});
  CHECK(codes(q) == std::vector<int>{127, -127, 0, 2, 0, -2, 2});
  CHECK(q.q.type() == TensorType{DType::i8, {7}});
}

TEST_CASE("weights: one scale per channel along any axis") {
  const Tensor w = Tensor::from<float>({2, 3}, {127, 0, -127, 12.7f, 25.4f, 1.0f});
  const QuantizedWeights rows = quantize_weights(w, 0);
  CHECK(rows.scale == std::vector<double>{1.0, static_cast<double>(25.4f) / 127.0});
  CHECK(codes(rows) == std::vector<int>{127, 0, -127, 64, 127, 5});  // 63.5 goes to the even 64
  const QuantizedWeights columns = quantize_weights(w, 1);
  CHECK(columns.scale == std::vector<double>{1.0, static_cast<double>(25.4f) / 127.0, 1.0});
  CHECK(codes(columns) == std::vector<int>{127, 0, -127, 13, 127, 1});
}

TEST_CASE("weights: an all-zero channel has scale 1 and codes 0") {
  const QuantizedWeights q =
      quantize_weights(Tensor::from<float>({2, 2}, {0, -0.0f, 1e-40f, 1e-41f}), 0);
  CHECK(q.scale == std::vector<double>{1.0, 1.0});
  CHECK(codes(q) == std::vector<int>{0, 0, 0, 0});
}

TEST_CASE("weights: fewer levels use the symmetric part of the grid") {
  const Tensor w = Tensor::from<float>({4}, {-1.0f, -0.4f, 0.6f, 1.0f});
  CHECK(codes(quantize_weights(w, -1, 3)) == std::vector<int>{-1, 0, 1, 1});
  CHECK(codes(quantize_weights(w, -1, 4)) == std::vector<int>{-1, 0, 1, 1});
  CHECK(codes(quantize_weights(w, -1, 16)) == std::vector<int>{-7, -3, 4, 7});
}

TEST_CASE("weights: given scales clip what lies beyond the limit") {
  const Tensor w = Tensor::from<float>({2, 2}, {300.0f, -300.0f, 4.0f, -2.0f});
  const std::vector<double> per_channel{2.0, 4.0}, shared{1.0};
  CHECK(codes(quantize_weights(w, 0, 256, per_channel)) == std::vector<int>{127, -127, 1, 0});
  const QuantizedWeights q = quantize_weights(w, 0, 256, shared);
  CHECK(q.scale == std::vector<double>{1.0, 1.0});
  CHECK(codes(q) == std::vector<int>{127, -127, 4, -2});
}

TEST_CASE("weights: dequantize stays within half a step") {
  std::vector<float> values;
  for (int i = 0; i < 60; ++i)
    values.push_back(static_cast<float>(std::sin(i * 1.7) * (1 + i / 20)));
  const Tensor w = Tensor::from<float>({3, 20}, values);
  const QuantizedWeights q = quantize_weights(w, 0);
  const Tensor back = dequantize(q);
  for (std::size_t i = 0; i < values.size(); ++i)
    CHECK(std::fabs(back.as<float>()[i] - values[i]) <= q.scale[i / 20] * 0.5 + 1e-6);
}

TEST_CASE("weights: an empty tensor and a scalar are quantized too") {
  CHECK(quantize_weights(Tensor(DType::f32, {0, 3}), -1).q.size() == 0);
  CHECK(quantize_weights(Tensor(DType::f32, {0, 3}), 0).scale.empty());
  CHECK(codes(quantize_weights(Tensor::scalar(-3.0f), -1)) == std::vector<int>{-127});
}

TEST_CASE("weights: the grid they lie on is found, the coarsest one") {
  const auto grid = [](const std::vector<float>& values, std::int64_t n_levels = 256) {
    return grid_of(values, n_levels);
  };
  CHECK(grid({0.5f, -1.5f, 63.5f}) == 0.5);
  CHECK(grid({1.0f, -2.0f, 4.0f}) == 1.0);  // 127/4 steps would hold them, too
  CHECK(grid({2.0f, -6.0f}) == 2.0);
  CHECK(!grid({0.5f, -1.5f, 63.75f}));  // 127.5 steps
  CHECK(!grid({1.0f, 8.0f}, 16));
  CHECK(grid({1.0f, 7.0f}, 16) == 1.0);
  CHECK(grid({1.0f, -8.0f}, 16) == 1.0);  // two's complement has one more below zero
  CHECK(!grid({1.0f, -2.0f}, 3));
  CHECK(grid({0.5f, -64.0f}) == 0.5);
  CHECK(!grid({0.5f, 64.0f}));
  CHECK(!grid({0.0f, 0.0f}));
  CHECK(!grid({}));
  CHECK(!grid({1.0f, HUGE_VALF}));
  // Float32 products of codes and a scale that is no power of two.
  std::vector<float> values;
  for (int q = -127; q <= 127; ++q) values.push_back(static_cast<float>(q) * 0.0037f);
  CHECK(grid(values).value() == doctest::Approx(0.0037).epsilon(1e-6));
}

TEST_CASE("weights: integers on a given grid reach the least one") {
  const std::vector<double> scales{0.5, 2.0};
  const Tensor w = Tensor::from<float>({2, 2}, {-64.0f, 63.5f, -6.0f, 254.0f});
  const QuantizedWeights q = weights_on_grids(w, 0, 256, scales);
  CHECK(codes(q) == std::vector<int>{-128, 127, -3, 127});
  CHECK(q.scale == scales);
  CHECK(code_of([&] { weights_on_grids(w, 0, 256, {}); }) == ErrorCode::shape);
}

TEST_CASE("weights: bad input is refused by name") {
  const Tensor w = Tensor::from<float>({2, 1}, {1, 2});
  const std::vector<double> none_positive{0.0}, three{1, 1, 1}, infinite{HUGE_VAL};
  CHECK(code_of([&] { quantize_weights(w, 2); }) == ErrorCode::shape);
  CHECK(code_of([&] { quantize_weights(w, -2); }) == ErrorCode::shape);
  CHECK(code_of([&] { quantize_weights(w, 0, 256, three); }) == ErrorCode::shape);
  CHECK(code_of([&] { quantize_weights(w, 0, 256, none_positive); }) ==
        ErrorCode::invalid_argument);
  CHECK(code_of([&] { quantize_weights(w, 0, 256, infinite); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { quantize_weights(w, 0, 2); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { quantize_weights(w, 0, 257); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { quantize_weights(Tensor::scalar<std::int8_t>(1), -1); }) ==
        ErrorCode::invalid_argument);
  try {
    quantize_weights(Tensor::from<float>({2}, {1.0f, NAN}), -1, 256, {}, "conv1.weight");
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::data);
    CHECK(e.where() == "conv1.weight");
    CHECK(e.found() == "element 1 is nan");
  }
}
