#include <doctest/doctest.h>

#include <limits>

#include "integer_run.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/op.h"

namespace waveq {
namespace {

using namespace test;

constexpr std::int32_t kMin = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();

Attrs attrs8(std::int64_t div, std::int64_t is_signed = 1, std::int64_t n = 256) {
  return attrs_of({{"div", div}, {"n_levels_out", n}, {"signed", is_signed}});
}

/// The definition in 128 bits: nullopt where a step leaves int32.
std::optional<std::int64_t> reference(Wide acc, Wide mul, Wide add, int shift, Wide lo, Wide hi,
                                      bool half_up) {
  const Wide divisor = Wide{1} << shift;
  const Wide half = half_up && shift > 0 ? divisor / 2 : 0;
  for (Wide v : {acc * mul, acc * mul + add, acc * mul + add + half})
    if (v < kMin || v > kMax) return std::nullopt;
  const Wide y = floor_of(acc * mul + add + half, divisor);
  return static_cast<std::int64_t>(y < lo ? lo : y > hi ? hi : y);
}

std::int64_t wrapped_reference(Wide acc, Wide mul, Wide add, int shift, Wide lo, Wide hi) {
  const Wide divisor = Wide{1} << shift;
  Wide v = low_bits(acc * mul, 32);
  v = low_bits(v + add, 32);
  v = low_bits(v + (shift > 0 ? divisor / 2 : 0), 32);
  const Wide y = floor_of(v, divisor);
  return static_cast<std::int64_t>(y < lo ? lo : y > hi ? hi : y);
}

}  // namespace

TEST_CASE("requant: rounds half towards +inf") {
  const Requant rq{.mul = 1, .add = 0, .shift = 1};
  CHECK(requant(3, rq) == 2);    //  1.5
  CHECK(requant(-3, rq) == -1);  // -1.5
  CHECK(requant(1, rq) == 1);
  CHECK(requant(-1, rq) == 0);
  const Requant down{.mul = 1, .add = 0, .shift = 1, .rounding = Rounding::floor};
  CHECK(requant(3, down) == 1);
  CHECK(requant(-3, down) == -2);
}

TEST_CASE("requant: clips at both ends and leaves the neighbours alone") {
  const Requant rq{.mul = 2, .add = 0, .shift = 1};
  CHECK(requant(127, rq) == 127);
  CHECK(requant(128, rq) == 127);
  CHECK(requant(-128, rq) == -128);
  CHECK(requant(-129, rq) == -128);
  const Requant relu{.mul = 1, .shift = 0, .lo = 0, .hi = 15};
  CHECK(requant(-7, relu) == 0);
  CHECK(requant(15, relu) == 15);
  CHECK(requant(16, relu) == 15);
}

TEST_CASE("requant: a negative multiplier, shift 0 and an offset") {
  CHECK(requant(10, {.mul = -13, .add = 5, .shift = 2}) == -31);  // -125 / 4 = -31.25
  CHECK(requant(-10, {.mul = -13, .add = 5, .shift = 2}) == 34);  //  135 / 4 = 33.75
  CHECK(requant(10, {.mul = 3, .add = -4, .shift = 0}) == 26);
  CHECK(requant(0, {.mul = 0, .add = 9, .shift = 3}) == 1);  // 1.125
}

TEST_CASE("requant: the largest shift adds 2^30") {
  CHECK_THROWS_AS(requant(1 << 30, {.mul = 1, .shift = 31}), Error);
  CHECK(requant((1 << 30) - 1, {.mul = 1, .shift = 31}) == 0);
  CHECK(requant(kMin, {.mul = 1, .shift = 31}) == -1);
}

TEST_CASE("requant: product, sum and rounded sum must fit int32") {
  CHECK_THROWS_AS(requant(1 << 16, {.mul = 1 << 15, .shift = 8}), Error);
  CHECK(requant(1 << 15, {.mul = 1 << 15, .add = kMax - (1 << 30), .shift = 0, .hi = kMax}) ==
        kMax);
  CHECK_THROWS_AS(requant(1, {.mul = 1, .add = kMax, .shift = 0}), Error);
  CHECK_THROWS_AS(requant(kMax, {.mul = 1, .shift = 1}), Error);  // kMax + 1
  CHECK(requant(kMax - 1, {.mul = 1, .shift = 1, .hi = kMax}) == 1073741823);
  // The product leaves int32 although the sum comes back.
  CHECK_THROWS_AS(requant(kMax, {.mul = 2, .add = kMin, .shift = 0}), Error);
  const auto [code, text] = error_of([] { requant(kMax, {.mul = 2}); });
  CHECK(code == "overflow");
}

TEST_CASE("requant: wraps as the target's int32 does") {
  CHECK(requant_wrapped(kMax, {.mul = 1, .shift = 1, .lo = kMin, .hi = kMax}) == -1073741824);
  CHECK(requant_wrapped(1 << 16, {.mul = 1 << 16, .add = 7, .shift = 0}) == 7);
  CHECK(requant_wrapped(kMin, {.mul = -1, .shift = 31}) == -1);  // -2^31 wraps to itself, + 2^30
}

TEST_CASE("requant: refuses a shift outside 0..31 and an empty clip range") {
  CHECK_THROWS_AS(requant(1, {.mul = 1, .shift = 32}), Error);
  CHECK_THROWS_AS(requant(1, {.mul = 1, .shift = -1}), Error);
  CHECK_THROWS_AS(requant(1, {.mul = 1, .lo = 1, .hi = 0}), Error);
}

TEST_CASE("requant: equals the definition in 128 bits over the whole range") {
  Draw draw(1);
  int overflows = 0;
  for (int i = 0; i < 200000; ++i) {
    const int shift = static_cast<int>(draw(0, 31));
    const int bits = static_cast<int>(draw(1, 31));
    const std::int64_t span = (std::int64_t{1} << bits) - 1,
                       other = (std::int64_t{1} << (31 - bits)) * 2 - 1;
    const auto acc = static_cast<std::int32_t>(draw(-span, span));
    const auto mul = static_cast<std::int32_t>(draw(-other, other));
    const auto add = static_cast<std::int32_t>(draw(-span, span));
    const bool half_up = draw(0, 1) == 1;
    const Requant rq{mul, add, shift, -128, 127, half_up ? Rounding::half_up : Rounding::floor};
    const auto expected = reference(acc, mul, add, shift, -128, 127, half_up);
    REQUIRE(requant_safe_range(rq).contains(acc) == expected.has_value());
    if (expected) {
      REQUIRE(requant(acc, rq) == *expected);
      REQUIRE(requant_wrapped(acc, rq) == *expected);
    } else {
      ++overflows;
      REQUIRE_THROWS_AS(requant(acc, rq), Error);
    }
    if (half_up)
      REQUIRE(requant_wrapped(acc, rq) == wrapped_reference(acc, mul, add, shift, -128, 127));
  }
  CHECK(overflows > 1000);
  CHECK(overflows < 150000);
}

TEST_CASE("requant_safe_range: the ends are sharp") {
  Draw draw(2);
  for (int i = 0; i < 20000; ++i) {
    const auto mul = static_cast<std::int32_t>(draw(1, 1 << 20) * (draw(0, 1) * 2 - 1));
    const auto add = static_cast<std::int32_t>(draw(kMin, kMax));
    const Requant rq{mul, add, static_cast<int>(draw(0, 31)), -128, 127};
    const IntRange safe = requant_safe_range(rq);
    const auto fits = [&](std::int64_t x) {
      return reference(x, mul, add, rq.shift, -128, 127, true).has_value();
    };
    if (safe.empty()) continue;
    REQUIRE(fits(safe.lo));
    REQUIRE(fits(safe.hi));
    if (safe.lo > kMin) REQUIRE(!fits(safe.lo - 1));
    if (safe.hi < kMax) REQUIRE(!fits(safe.hi + 1));
  }
  CHECK(requant_safe_range({.mul = 0, .add = 5}).lo == kMin);
  CHECK(requant_safe_range({.mul = 0, .add = kMax, .shift = 1}).empty());
}

TEST_CASE("RequantShift: output type follows levels and sign") {
  const Tensor x = Tensor::from<std::int32_t>({1, 4}, {-300, -1, 1, 300});
  const Tensor mul = Tensor::scalar<std::int32_t>(1), add = Tensor::scalar<std::int32_t>(0);
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1)) ==
        Tensor::from<std::int8_t>({1, 4}, {-128, -1, 1, 127}));
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1, 0)) ==
        Tensor::from<std::uint8_t>({1, 4}, {0, 0, 1, 255}));
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1, 1, 16)) ==
        Tensor::from<std::int8_t>({1, 4}, {-8, -1, 1, 7}));
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1, 0, 128)) ==
        Tensor::from<std::uint8_t>({1, 4}, {0, 0, 1, 127}));
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1, 1, 65536)) ==
        Tensor::from<std::int16_t>({1, 4}, {-300, -1, 1, 300}));
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1, 0, 65536)) ==
        Tensor::from<std::uint16_t>({1, 4}, {0, 0, 1, 300}));
}

TEST_CASE("RequantShift: attributes may be one-element tensors, floats or ints") {
  const Tensor x = Tensor::from<std::int8_t>({2}, {5, -6});
  const Tensor mul = Tensor::from<std::int32_t>({1}, {3}), add = Tensor::scalar<std::int8_t>(1);
  const Tensor expected = Tensor::from<std::int8_t>({2}, {4, -4});  // 16/4, -17/4
  CHECK(run_node("RequantShift", {x, mul, add},
                 attrs_of({{"div", Tensor::scalar(4.0F)},
                           {"n_levels", Tensor::from<float>({1}, {256.0F})},
                           {"signed", Tensor::from<float>({1}, {1.0F})}})) == expected);
  CHECK(run_node("RequantShift", {x, mul, add},
                 attrs_of({{"div", 4.0}, {"n_levels", 256.0}, {"signed", 1.0}})) == expected);
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(4)) == expected);
}

TEST_CASE("RequantShift: one parameter for each index of axis 1, whatever its rank") {
  const Tensor x = Tensor::from<std::int32_t>({1, 2, 3}, {1, 2, 3, 1, 2, 3});
  const Tensor expected = Tensor::from<std::int8_t>({1, 2, 3}, {11, 12, 13, -3, -5, -7});
  for (const Shape& shape : {Shape{2}, Shape{2, 1}, Shape{2, 1, 1}, Shape{1, 2, 1}, Shape{1, 2}}) {
    CAPTURE(to_string(shape));
    const Tensor mul = Tensor::from<std::int32_t>(shape, {1, -2}),
                 add = Tensor::from<std::int32_t>(shape, {10, -1});
    CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1)) == expected);
  }
  const Tensor mul = Tensor::from<std::int32_t>({2}, {1, -2}),
               add = Tensor::scalar<std::int32_t>(100);
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1)) ==
        Tensor::from<std::int8_t>({1, 2, 3}, {101, 102, 103, 98, 96, 94}));
}

TEST_CASE("RequantShift: channels repeat for every batch element") {
  const Tensor x = Tensor::from<std::int32_t>({2, 2, 1}, {1, 1, 1, 1});
  const Tensor mul = Tensor::from<std::int32_t>({2}, {3, 5}), add = Tensor::scalar<std::int32_t>(0);
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1)) ==
        Tensor::from<std::int8_t>({2, 2, 1}, {3, 5, 3, 5}));
}

TEST_CASE("RequantShift: a matrix takes one value a column or, as [M,1], one a row") {
  const Tensor x = Tensor::from<std::int32_t>({2, 3}, {1, 1, 1, 1, 1, 1});
  const Tensor zero = Tensor::scalar<std::int32_t>(0);
  CHECK(run_node("RequantShift", {x, Tensor::from<std::int32_t>({3}, {1, 2, 3}), zero},
                 attrs8(1)) == Tensor::from<std::int8_t>({2, 3}, {1, 2, 3, 1, 2, 3}));
  const Tensor rows = Tensor::from<std::int32_t>({2, 1}, {4, 5});
  CHECK(run_node("RequantShift", {x, rows, zero}, attrs8(1)) ==
        Tensor::from<std::int8_t>({2, 3}, {4, 4, 4, 5, 5, 5}));
  CHECK(run_node("RequantShift", {x, rows, Tensor::from<std::int32_t>({3}, {0, 10, 20})},
                 attrs8(1)) == Tensor::from<std::int8_t>({2, 3}, {4, 14, 24, 5, 15, 25}));
}

TEST_CASE("RequantShift: refuses parameters that fit no axis, naming the node") {
  const Tensor x = Tensor::from<std::int32_t>({1, 2, 3}, {1, 2, 3, 1, 2, 3});
  const Tensor one = Tensor::scalar<std::int32_t>(1);
  const auto refused = [&](const Tensor& mul, const Attrs& attrs) {
    return error_of([&] { run_node("RequantShift", {x, mul, one}, attrs); });
  };
  CHECK(
      contains(refused(Tensor::from<std::int32_t>({3}, {1, 2, 3}), attrs8(1)).second, "the_node"));
  CHECK(refused(Tensor::from<std::int32_t>({1, 1, 3}, {1, 2, 3}), attrs8(1)).first == "shape");
  CHECK(refused(Tensor::from<std::int32_t>({2, 3}, {1, 2, 3, 1, 2, 3}), attrs8(1)).first ==
        "shape");
  CHECK(refused(one, attrs8(3)).first == "parse");
  CHECK(refused(one, attrs8(0)).first == "parse");
  CHECK(refused(one, attrs8(std::int64_t{1} << 32)).first == "parse");
  CHECK(refused(one, attrs8(1, 2)).first == "parse");
  CHECK(refused(one, attrs8(1, 1, 1)).first == "parse");
  CHECK(refused(one, attrs_of({{"div", std::int64_t{1}}, {"signed", std::int64_t{1}}})).first ==
        "parse");
  Attrs odd = attrs8(2);
  odd.set("rounding", std::string("up"));
  CHECK(refused(one, odd).first == "parse");
}

TEST_CASE("RequantShift: the rounding attribute chooses floor") {
  const Tensor x = Tensor::from<std::int32_t>({3}, {3, -3, 1});
  const Tensor one = Tensor::scalar<std::int32_t>(1), zero = Tensor::scalar<std::int32_t>(0);
  Attrs attrs = attrs8(2);
  CHECK(run_node("RequantShift", {x, one, zero}, attrs) ==
        Tensor::from<std::int8_t>({3}, {2, -1, 1}));
  attrs.set("rounding", std::string("floor"));
  CHECK(run_node("RequantShift", {x, one, zero}, attrs) ==
        Tensor::from<std::int8_t>({3}, {1, -2, 0}));
}

TEST_CASE("requant: products of 64 bits hold whatever int32 accumulators make") {
  Requant rq{.mul = kMax, .add = 0, .shift = 31, .lo = -32768, .hi = 32767, .product_bits = 64};
  CHECK(requant(1000, rq) == 1000);  // 1000*(1 - 2^-31), rounded
  CHECK(requant(-1000, rq) == -1000);
  CHECK(requant(kMin, rq) == -32768);
  rq.add = kMaxWideAdd;  // 2^61 >> 31 = 2^30
  CHECK(requant(kMin, rq) == -32768);
  CHECK(requant(kMax, rq) == 32767);
  rq = {.mul = 3, .add = -(std::int64_t{1} << 32), .shift = 3, .product_bits = 64};
  CHECK(requant(1431655765, rq) == 0);   // 3x = 2^32 - 1: (-1 + 4) >> 3
  CHECK(requant(1431655763, rq) == -1);  // 3x = 2^32 - 7: (-7 + 4) >> 3
  CHECK(requant_safe_range(rq).lo == kMin);
  CHECK(requant_safe_range(rq).hi == kMax);
  rq.add = kMaxWideAdd + 1;
  CHECK_THROWS_AS(requant(0, rq), Error);
  rq = {.add = std::int64_t{1} << 31};
  CHECK_THROWS_AS(requant(0, rq), Error);
  rq = {.product_bits = 48};
  CHECK_THROWS_AS(requant(0, rq), Error);
}

TEST_CASE("RequantShift: products of 64 bits where the node says so") {
  Attrs attrs = attrs8(std::int64_t{1} << 31, 1, 65536);
  attrs.set("product_bits", std::int64_t{64});
  const Tensor x = Tensor::from<std::int32_t>({1, 2, 3}, {0, 123456789, kMin, 0, kMax, -5});
  const Tensor mul = Tensor::from<std::int32_t>({2}, {123456, -(1 << 30)});
  const Tensor add = Tensor::from<std::int64_t>({2}, {123456LL * 1000000, -(1LL << 30) * 7});
  // floor((x + q)*mul / 2^31 + 1/2): 57.4883, 7154.8, -123398.5; -3.5, -1073741827, -1.
  CHECK(run_node("RequantShift", {x, mul, add}, attrs) ==
        Tensor::from<std::int16_t>({1, 2, 3}, {57, 7155, -32768, -3, -32768, -1}));
  attrs.set("product_bits", std::int64_t{32});
  CHECK(error_of([&] { run_node("RequantShift", {x, mul, add}, attrs); }).first == "overflow");
  attrs.set("product_bits", std::int64_t{33});
  CHECK(error_of([&] { run_node("RequantShift", {x, mul, add}, attrs); }).first == "parse");
}

TEST_CASE("RequantShift: an overflow is an error with node and element, or wraps on request") {
  const Tensor x = Tensor::from<std::int32_t>({1, 2, 2}, {1, 2, 3, 1 << 20});
  const Tensor mul = Tensor::from<std::int32_t>({2}, {1, 1 << 12}),
               add = Tensor::scalar<std::int32_t>(3 << 10);
  const auto [code, text] = error_of([&] {
    run_node("RequantShift", {x, mul, add}, attrs8(1024));
  });
  CHECK(code == "overflow");
  CHECK(contains(text, "the_node"));
  CHECK(contains(text, "element 3"));
  CHECK(run_node("RequantShift", {x, mul, add}, attrs8(1024), Overflow::wrap) ==
        Tensor::from<std::int8_t>({1, 2, 2}, {3, 3, 15, 3}));
  const Tensor large = Tensor::scalar<std::int64_t>(std::int64_t{1} << 32);
  CHECK(error_of([&] {
          run_node("RequantShift", {x, mul, large}, attrs8(1024));
        }).first == "overflow");
  CHECK(run_node("RequantShift", {x, mul, large}, attrs8(1024), Overflow::wrap) ==
        Tensor::from<std::int8_t>({1, 2, 2}, {0, 0, 12, 0}));
}

TEST_CASE(
    "RequantShift: the tensor form equals the scalar form on random data of every input type") {
  Draw draw(3);
  for (DType dtype : {DType::i8, DType::u8, DType::i16, DType::u16, DType::i32, DType::i64}) {
    for (int round = 0; round < 8; ++round) {
      const std::int64_t reach = std::min<std::int64_t>(highest(dtype), 100000);
      std::vector<std::int64_t> values;
      for (int i = 0; i < 2 * 5 * 7; ++i)
        values.push_back(draw(lowest(dtype) < 0 ? -reach : 0, reach));
      const Tensor x = cast(Tensor::from<std::int64_t>({2, 5, 7}, values), dtype);
      std::vector<std::int32_t> mul, add;
      for (int c = 0; c < 5; ++c) {
        mul.push_back(static_cast<std::int32_t>(draw(-9000, 9000)));
        add.push_back(static_cast<std::int32_t>(draw(-1000000, 1000000)));
      }
      const int shift = static_cast<int>(draw(0, 24));
      const bool is_signed = round % 2 == 0;
      const Tensor y = run_node(
          "RequantShift",
          {x, Tensor::from<std::int32_t>({5, 1}, mul), Tensor::from<std::int32_t>({5}, add)},
          attrs8(std::int64_t{1} << shift, is_signed));
      const std::vector<std::int64_t> got = to_int64(y);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t c = i / 7 % 5;
        REQUIRE(got[i] == reference(values[i], mul[c], add[c], shift, is_signed ? -128 : 0,
                                    is_signed ? 127 : 255, true));
      }
    }
  }
}

TEST_CASE("RequantShift: float tensors pass inference and are refused in evaluation") {
  const Tensor x = Tensor::from<float>({2}, {1, 2}), one = Tensor::scalar(1.0F);
  const auto [code, text] = error_of([&] { run_node("RequantShift", {x, one, one}, attrs8(2)); });
  CHECK(code == "unsupported");
  CHECK(contains(text, "to_integer_network"));
}

TEST_CASE("RequantShift: an empty tensor gives an empty tensor") {
  const Tensor one = Tensor::scalar<std::int32_t>(1);
  CHECK(run_node("RequantShift", {Tensor(DType::i32, {1, 0, 4}), one, one}, attrs8(2)).size() == 0);
}

}  // namespace waveq
