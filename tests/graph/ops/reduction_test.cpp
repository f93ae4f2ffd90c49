#include <limits>

#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

namespace {
constexpr std::int32_t kMax32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int32_t kMin32 = std::numeric_limits<std::int32_t>::min();
}  // namespace

TEST_CASE("reductions: literal floats over every choice of axes") {
  const Tensor x = tensor({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(run({"ReduceSum", {x}}) == tensor({1, 1, 1}, {36}));
  CHECK(run({"ReduceSum", {x}, {{"keepdims", 0}}}) == tensor({}, {36}));
  CHECK(run({"ReduceSum", {x}, {{"axes", {2}}}}) == tensor({2, 2, 1}, {3, 7, 11, 15}));
  CHECK(run({"ReduceSum", {x}, {{"axes", {-2}}, {"keepdims", 0}}}) ==
        tensor({2, 2}, {4, 6, 12, 14}));
  CHECK(run({"ReduceSum", {x}, {{"axes", {0, 2}}, {"keepdims", 0}}}) == tensor({2}, {14, 22}));
  CHECK(run({"ReduceSum", {x}, {{"axes", {1, 2}}, {"keepdims", 0}}}) == tensor({2}, {10, 26}));
  CHECK(run({"ReduceSum", {x, ints({0})}, {{"keepdims", 0}}}) == tensor({2, 2}, {6, 8, 10, 12}));
  CHECK(run({"ReduceSum", {x, ints({})}, {{"noop_with_empty_axes", 1}}}) == x);
  CHECK(run({"ReduceMean", {x}, {{"axes", {1}}, {"keepdims", 0}}}) == tensor({2, 2}, {2, 3, 6, 7}));
  CHECK(run({"ReduceMax", {x}, {{"axes", {0}}, {"keepdims", 0}}}) == tensor({2, 2}, {5, 6, 7, 8}));
  CHECK(run({"ReduceMin", {x}, {{"axes", {2}}, {"keepdims", 0}}}) == tensor({2, 2}, {1, 3, 5, 7}));
  CHECK(run({"ReduceProd", {x}, {{"axes", {2}}, {"keepdims", 0}}}) ==
        tensor({2, 2}, {2, 12, 30, 56}));
  CHECK(run({"ReduceL2", {tensor({2}, {3, 4})}}) == tensor({1}, {5}));
  CHECK(run({"ReduceSumSquare", {tensor({2}, {3, 4})}}) == tensor({1}, {25}));
  CHECK(error_of({"ReduceSum", {x}, {{"axes", {3}}}}) == ErrorCode::shape);
}

TEST_CASE("reductions: empty rows have a sum but no mean") {
  const Tensor none = tensor({2, 0}, {});
  CHECK(run({"ReduceSum", {none}, {{"axes", {1}}}}) == tensor({2, 1}, {0, 0}));
  CHECK(run({"ReduceProd", {none}, {{"axes", {1}}}}) == tensor({2, 1}, {1, 1}));
  CHECK(error_of({"ReduceMean", {none}, {{"axes", {1}}}}) == ErrorCode::shape);
  CHECK(error_of({"ReduceMax", {none}, {{"axes", {1}}}}) == ErrorCode::shape);
  CHECK(run({"ReduceMax", {none}, {{"axes", {0}}}}).shape() == Shape{1, 0});
}

TEST_CASE("ReduceSum: large and small elements are summed in double") {
  CHECK(run({"ReduceSum", {tensor({10}, {16777216, 1, 1, 1, 1, 1, 1, 1, 1, -16777216})}}) ==
        tensor({1}, {8}));
}

TEST_CASE("ReduceSum, ReduceProd, ReduceSumSquare: integers in int32, int64 stays") {
  CHECK(run({"ReduceSum", {tensor<std::int8_t>({3}, {-128, -128, 1})}}) ==
        tensor<std::int32_t>({1}, {-255}));
  CHECK(run({"ReduceSum", {ints({1LL << 40, 1})}}) == ints({(1LL << 40) + 1}));
  CHECK(run({"ReduceProd", {ints({3, -4, 5})}}) == ints({-60}));
  CHECK(run({"ReduceSumSquare", {tensor<std::int8_t>({2}, {-128, 3})}}) ==
        tensor<std::int32_t>({1}, {16393}));
  const OpCase over = {.op = "ReduceSum", .inputs = {tensor<std::int32_t>({2}, {kMax32, 1})}};
  CHECK(error_of(over) == ErrorCode::overflow);
  OpCase wraps = over;
  wraps.overflow = Overflow::wrap;
  CHECK(run(wraps) == tensor<std::int32_t>({1}, {kMin32}));
  // The sum leaves int32 on the way, not at the end.
  CHECK(run({"ReduceSum", {tensor<std::int32_t>({3}, {kMax32, kMax32, kMin32})}}) ==
        tensor<std::int32_t>({1}, {kMax32 - 1}));
  CHECK(error_of({"ReduceProd", {tensor<std::int32_t>({2}, {65536, 65536})}}) ==
        ErrorCode::overflow);
  CHECK(run({"ReduceProd", {tensor<std::int32_t>({3}, {65536, 65536, 0})}}) ==
        tensor<std::int32_t>({1}, {0}));
  CHECK(error_of({"ReduceL2", {ints({1})}}) == ErrorCode::shape);
}

TEST_CASE("ReduceMax, ReduceMin: integers keep their dtype") {
  CHECK(run({"ReduceMax", {tensor<std::int8_t>({3}, {-128, -3, -5})}}) ==
        tensor<std::int8_t>({1}, {-3}));
  CHECK(run({"ReduceMin", {tensor<std::uint8_t>({3}, {200, 255, 199})}}) ==
        tensor<std::uint8_t>({1}, {199}));
}

TEST_CASE("ReduceMean: integers over a power of two round half towards +inf") {
  const auto mean = [](std::vector<std::int8_t> v) {
    return run({"ReduceMean", {tensor<std::int8_t>({static_cast<std::int64_t>(v.size())}, v)}})
        .as<std::int8_t>()[0];
  };
  CHECK(mean({1, 2}) == 2);
  CHECK(mean({-1, -2}) == -1);
  CHECK(mean({-1, -1, -1, 0}) == -1);
  CHECK(mean({1, 1, 0, 0}) == 1);
  CHECK(mean({-1, -1, 0, 0}) == 0);
  CHECK(mean({127, 127}) == 127);
  CHECK(mean({-128, -128}) == -128);
  CHECK(mean({-77}) == -77);
}

TEST_CASE("ReduceMean: integers over other lengths round half away from zero") {
  const auto mean = [](std::vector<std::int8_t> v) {
    return run({"ReduceMean", {tensor<std::int8_t>({static_cast<std::int64_t>(v.size())}, v)}})
        .as<std::int8_t>()[0];
  };
  CHECK(mean({1, 1, 1, 0, 0, 0}) == 1);
  CHECK(mean({-1, -1, -1, 0, 0, 0}) == -1);
  CHECK(mean({1, 1, 0, 0, 0, 0}) == 0);
  CHECK(mean({-4, -4, -3}) == -4);
}

TEST_CASE("ReduceMean: random integers of every length against wide arithmetic") {
  for (std::int64_t n = 1; n <= 40; ++n) {
    const auto x = random_ints<std::int16_t>({5, n}, -32768, 32767, static_cast<std::uint64_t>(n));
    const Tensor y = run({"ReduceMean", {x}, {{"axes", {1}}}});
    for (std::int64_t r = 0; r < 5; ++r) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < n; ++k) sum += x.as<std::int16_t>()[r * n + k];
      const double exact = static_cast<double>(sum) / static_cast<double>(n);
      const bool power = (n & (n - 1)) == 0;
      const double want = power ? std::floor(exact + 0.5)
                                : std::trunc((static_cast<double>(sum) +
                                              (sum < 0 ? -1 : 1) * static_cast<double>(n / 2)) /
                                             static_cast<double>(n));
      CHECK(y.as<std::int16_t>()[r] == static_cast<std::int16_t>(want));
    }
  }
}

TEST_CASE("ReduceMean: the int32 accumulator and its rounding half must not overflow") {
  CHECK(error_of({"ReduceMean", {tensor<std::int32_t>({2}, {kMax32, 1})}}) == ErrorCode::overflow);
  CHECK(error_of({"ReduceMean", {tensor<std::int32_t>({2}, {kMax32, 0})}}) == ErrorCode::overflow);
  CHECK(run({"ReduceMean", {tensor<std::int32_t>({2}, {kMax32 - 1, 0})}}) ==
        tensor<std::int32_t>({1}, {(1 << 30) - 1}));
  CHECK(run({.op = "ReduceMean",
             .inputs = {tensor<std::int32_t>({2}, {kMax32, 0})},
             .overflow = Overflow::wrap}) == tensor<std::int32_t>({1}, {-(1 << 30)}));
}

TEST_CASE("ArgMax, ArgMin: first or last, any axis") {
  const Tensor x = tensor({2, 3}, {1, 3, 3, 5, 0, 0});
  CHECK(run({"ArgMax", {x}, {{"axis", 1}, {"keepdims", 0}}}) == ints({1, 0}));
  CHECK(run({"ArgMax", {x}, {{"axis", 1}, {"keepdims", 0}, {"select_last_index", 1}}}) ==
        ints({2, 0}));
  CHECK(run({"ArgMin", {x}, {{"axis", -1}}}) == tensor<std::int64_t>({2, 1}, {0, 1}));
  CHECK(run({"ArgMax", {x}}) == tensor<std::int64_t>({1, 3}, {1, 0, 0}));
  CHECK(run({"ArgMax", {tensor<std::int8_t>({3}, {-5, -1, -3})}}) == ints({1}));
  CHECK(error_of({"ArgMax", {tensor({}, {1})}}) == ErrorCode::shape);
}

TEST_CASE("GlobalAveragePool, GlobalMaxPool: all spatial axes, integers too") {
  const Tensor x = tensor({1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 10});
  CHECK(run({"GlobalAveragePool", {x}}) == tensor({1, 2, 1, 1}, {2.5, 7}));
  CHECK(run({"GlobalMaxPool", {x}}) == tensor({1, 2, 1, 1}, {4, 10}));
  CHECK(run({"GlobalAveragePool", {tensor<std::int8_t>({1, 1, 2}, {2, 3})}}) ==
        tensor<std::int8_t>({1, 1, 1}, {3}));
  CHECK(error_of({"GlobalAveragePool", {tensor({1, 2}, {1, 2})}}) == ErrorCode::shape);
}
