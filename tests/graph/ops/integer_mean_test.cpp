#include <doctest/doctest.h>

#include <limits>

#include "integer_run.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

TEST_CASE("integer_mean: a power of two rounds half towards +inf, other counts away from zero") {
  CHECK(integer_mean(3, 2) == 2);
  CHECK(integer_mean(-3, 2) == -1);
  CHECK(integer_mean(-6, 4) == -1);
  CHECK(integer_mean(-7, 4) == -2);
  CHECK(integer_mean(7, 1) == 7);
  CHECK(integer_mean(9, 6) == 2);
  CHECK(integer_mean(-9, 6) == -2);
  CHECK(integer_mean(-4, 3) == -1);
  CHECK(integer_mean(-5, 3) == -2);
  CHECK(integer_mean(0, 5) == 0);
  CHECK(integer_mean(std::numeric_limits<std::int64_t>::max(), 2) == std::int64_t{1} << 62);
  CHECK_THROWS_AS(integer_mean(1, 0), Error);
}

TEST_CASE("integer_mean: equals the definition in 128 bits") {
  Draw draw(51);
  for (int i = 0; i < 100000; ++i) {
    const std::int64_t count = draw(1, 70), sum = draw(-100000, 100000);
    const bool power = (count & (count - 1)) == 0;
    const Wide up = floor_of(Wide{2} * sum + count, Wide{2} * count);
    const Wide magnitude = (Wide{sum < 0 ? -sum : sum} + count / 2) / count;
    REQUIRE(Wide{integer_mean(sum, count)} == (power ? up : sum < 0 ? -magnitude : magnitude));
  }
}

TEST_CASE("IntegerMean: axes as int or list, with and without keepdims, dtype kept") {
  const Tensor x = Tensor::from<std::uint8_t>({1, 2, 4}, {1, 2, 3, 4, 255, 255, 255, 254});
  CHECK(run_node("IntegerMean", {x},
                 attrs_of({{"axes", std::int64_t{-1}}, {"keepdims", std::int64_t{0}}})) ==
        Tensor::from<std::uint8_t>({1, 2}, {3, 255}));
  CHECK(
      run_node("IntegerMean", {x},
               attrs_of({{"axes", std::vector<std::int64_t>{2}}, {"keepdims", std::int64_t{1}}})) ==
      Tensor::from<std::uint8_t>({1, 2, 1}, {3, 255}));
  CHECK(run_node("IntegerMean", {x},
                 attrs_of({{"axes", std::int64_t{1}}, {"keepdims", std::int64_t{0}}})) ==
        Tensor::from<std::uint8_t>({1, 4}, {128, 129, 129, 129}));
  const Tensor y = Tensor::from<std::int8_t>({2, 2}, {-128, -127, -128, -128});
  CHECK(run_node(
            "IntegerMean", {y},
            attrs_of({{"axes", std::vector<std::int64_t>{0, 1}}, {"keepdims", std::int64_t{0}}})) ==
        Tensor::from<std::int8_t>({}, {-128}));
}

TEST_CASE("IntegerMean: a sum outside int32 is an error or wraps") {
  const std::int32_t top = std::numeric_limits<std::int32_t>::max();
  const Tensor x = Tensor::from<std::int32_t>({2}, {top, 1});
  const Attrs attrs = attrs_of({{"axes", std::int64_t{0}}, {"keepdims", std::int64_t{0}}});
  const auto [code, text] = error_of([&] { run_node("IntegerMean", {x}, attrs); });
  CHECK(code == "overflow");
  CHECK(contains(text, "the_node"));
  CHECK(run_node("IntegerMean", {x}, attrs, Overflow::wrap) ==
        Tensor::from<std::int32_t>({}, {-1073741824}));
}

TEST_CASE("IntegerMean: refuses an axis outside the rank and an empty axis") {
  const Tensor x = Tensor::from<std::int8_t>({2}, {1, 2});
  CHECK(error_of([&] {
          run_node("IntegerMean", {x}, attrs_of({{"axes", std::int64_t{1}}}));
        }).first == "shape");
  CHECK(
      error_of([&] {
        run_node("IntegerMean", {Tensor(DType::i8, {2, 0})}, attrs_of({{"axes", std::int64_t{1}}}));
      }).first == "shape");
}

}  // namespace waveq
