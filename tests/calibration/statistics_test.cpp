#include "waveq/calibration/statistics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "waveq/graph/error.h"

using namespace waveq;

namespace {

using Floats = std::vector<float>;
constexpr int kBins = TensorStatistics::kBins;

TensorStatistics observed(const Floats& values) {
  TensorStatistics s;
  s.observe(values);
  return s;
}

/// Values over many octaves and both signs, zeros included.
Floats wild_values(std::size_t n, unsigned seed) {
  std::mt19937_64 random(seed);
  Floats values;
  for (std::size_t i = 0; i < n; ++i) {
    const double u = static_cast<double>(random() >> 11) * 0x1p-53;
    const int octave = static_cast<int>(random() % 40) - 30;
    const double sign = random() % 2 ? 1.0 : -1.0;
    values.push_back(random() % 7 == 0 ? 0.0f
                                       : static_cast<float>(sign * std::ldexp(1.0 + u, octave)));
  }
  return values;
}

std::uint64_t total(const TensorStatistics& s) {
  std::uint64_t n = s.near_zero();
  for (int i = 0; i < kBins; ++i) n += s.positive(i) + s.negative(i);
  return n;
}

}  // namespace

TEST_CASE("statistics: nothing observed") {
  const TensorStatistics s;
  CHECK(s.count() == 0);
  CHECK(s.min() == 0.0f);
  CHECK(s.max() == 0.0f);
  CHECK(s.near_zero() == 0);
  CHECK(s.positive(0) == 0);
  CHECK(s.negative(kBins - 1) == 0);
  CHECK(observed({}) == s);
}

TEST_CASE("statistics: literal values land in the bins whose edges they touch") {
  // max 1.5: e = 1, bins relative to 2.
  const TensorStatistics s =
      observed({1.5f, -1.0f, 1.0f, 0.0f, -0.0f, 0x1p-15f, 0x1.fffffep-16f, -0x1p-15f});
  CHECK(s.count() == 8);
  CHECK(s.exponent() == 1);
  CHECK(s.min() == -1.0f);
  CHECK(s.max() == 1.5f);
  CHECK(s.near_zero() == 3);  // both zeros and what is just below 2^(1-16)
  CHECK(s.positive(0) == 1);  // 2^-15 = 2 * edge(0)
  CHECK(s.negative(0) == 1);
  CHECK(s.positive(15 * 64) == 1);  // 1.0 opens the top octave
  CHECK(s.negative(15 * 64) == 1);
  CHECK(s.positive(15 * 64 + 32) == 1);  // 1.5 stands in its middle
  CHECK(total(s) == 8);
  CHECK(TensorStatistics::edge(0) == 0x1p-16);
  CHECK(TensorStatistics::edge(15 * 64 + 32) == 0.75);
  CHECK(TensorStatistics::edge(kBins) == 1.0);
}

TEST_CASE("statistics: every value lies between the edges of its bin") {
  for (const float x : wild_values(500, 3)) {
    const TensorStatistics s = observed({x, -1000.0f, 1000.0f});
    CHECK(s.exponent() == 10);
    const double u = std::fabs(static_cast<double>(x)) / 1024.0;
    int wrong = 0;
    for (int i = 0; i < kBins; ++i) {
      // 1000/1024 lies in bin 61 of the top octave.
      const std::uint64_t here =
          (x < 0 ? s.negative(i) : s.positive(i)) - (i == 15 * 64 + 61 ? 1 : 0);
      const bool within = u >= TensorStatistics::edge(i) && u < TensorStatistics::edge(i + 1);
      wrong += here != (within ? 1 : 0);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("statistics: extremes of float32 are counted exactly") {
  const float big = std::numeric_limits<float>::max(),
              tiny = std::numeric_limits<float>::denorm_min();
  const TensorStatistics large = observed({big, -big, tiny});
  CHECK(large.exponent() == 128);
  CHECK(large.positive(kBins - 1) == 1);
  CHECK(large.negative(kBins - 1) == 1);
  CHECK(large.near_zero() == 1);
  const TensorStatistics small = observed({tiny, -tiny, 0x1p-126f, -0x1p-111f});
  CHECK(small.exponent() == TensorStatistics::kMinExponent);
  CHECK(small.min() == -0x1p-111f);
  CHECK(small.max() == 0x1p-126f);
  CHECK(small.near_zero() == 2);
  CHECK(small.positive(0) == 1);
  CHECK(small.negative(15 * 64) == 1);
}

TEST_CASE("statistics: -0 counts as 0") {
  const TensorStatistics s = observed({-0.0f});
  CHECK(!std::signbit(s.min()));
  CHECK(s == observed({0.0f}));
}

TEST_CASE(
    "statistics: a batch with NaN and infinities keeps its finite values and counts the others") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  TensorStatistics s;
  CHECK(s.observe(Floats{1.0f, nan, -2.0f, inf, -inf, -nan}) == 4);
  CHECK(s.count() == 2);
  CHECK(s.non_finite() == 4);
  CHECK(s.min() == -2.0f);
  CHECK(s.max() == 1.0f);
  TensorStatistics none;
  CHECK(none.observe(Floats{nan, nan}) == 2);
  CHECK(none.count() == 0);
  for (const float bad : {inf, -inf, nan, -nan})
    CHECK(TensorStatistics().observe(Floats{bad}) == 1);
}

TEST_CASE("statistics: the state does not depend on order or batching") {
  Floats values = wild_values(30000, 5);
  const TensorStatistics once = observed(values);
  CHECK(total(once) == 30000);
  const std::vector<std::size_t> batches{1, 7, 2047, 2048, 2049, 10000};
  for (std::size_t batch : batches) {
    TensorStatistics s;
    for (std::size_t i = 0; i < values.size(); i += batch)
      s.observe(std::span(values).subspan(i, std::min(batch, values.size() - i)));
    CHECK(s == once);
  }
  std::ranges::sort(values, {}, [](float x) { return std::fabs(x); });
  CHECK(observed(values) == once);
  TensorStatistics one_by_one;  // rising magnitudes: the range doubles again and again
  for (const float x : values) one_by_one.observe({&x, 1});
  CHECK(one_by_one == once);
  std::ranges::reverse(values);
  CHECK(observed(values) == once);
}

TEST_CASE("statistics: merging equals observing everything at once, bit for bit") {
  const Floats values = wild_values(20000, 9);
  const TensorStatistics once = observed(values);
  for (const std::size_t cut :
       {std::size_t{0}, std::size_t{1}, std::size_t{9999}, std::size_t{20000}}) {
    const TensorStatistics head =
        observed(Floats(values.begin(), values.begin() + static_cast<long>(cut)));
    const TensorStatistics tail =
        observed(Floats(values.begin() + static_cast<long>(cut), values.end()));
    TensorStatistics ab = head, ba = tail;
    ab.merge(tail);
    ba.merge(head);
    CHECK(ab == once);
    CHECK(ba == once);
  }
}

TEST_CASE("statistics: one-sided shards merge with two-sided ones") {
  TensorStatistics a = observed({1.0f, 2.0f}), b = observed({-0.5f, -300.0f});
  const TensorStatistics all = observed({-300.0f, -0.5f, 1.0f, 2.0f});
  TensorStatistics ba = b;
  ba.merge(a);
  a.merge(b);
  CHECK(a == all);
  CHECK(ba == all);
}

TEST_CASE("statistics: parts rebuild the same state") {
  for (const Floats& values :
       {wild_values(5000, 1), Floats{0.0f}, Floats{3.0f, 4.0f}, Floats{-1e-42f, -5.0f}}) {
    const TensorStatistics s = observed(values);
    CHECK(TensorStatistics::from_parts(s.parts(), "here") == s);
  }
  CHECK(TensorStatistics::from_parts({}, "here") == TensorStatistics());
}

TEST_CASE("statistics: parts that contradict each other are refused") {
  const TensorStatistics::Parts good = observed({-1.0f, 0.25f, 0.75f}).parts();
  const auto message = [](const TensorStatistics::Parts& parts) -> std::string {
    try {
      TensorStatistics::from_parts(parts, "t.json: tensor 'x'");
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::parse);
      CHECK(e.where() == "t.json: tensor 'x'");
      return e.found();
    }
    return "accepted";
  };
  CHECK(message(good) == "accepted");
  auto p = good;
  p.max = 2.0f;
  CHECK(message(p) == "histogram does not reach from min to max");
  p = good;
  p.min = 0.25f;
  CHECK(message(p) == "histogram has negative values, min has not");
  p = good;
  p.min = 3.0f;
  CHECK(message(p) == "min 3 and max 0.75 are no range");
  p = good;
  p.max = std::numeric_limits<float>::infinity();
  CHECK(message(p) == "min -1 and max inf are no range");
  p = good;
  p.positive.resize(kBins + 1);
  CHECK(message(p) == "histogram is too long");
  p = good;
  p.near_zero = UINT64_MAX;
  CHECK(message(p) == "histogram counts more than 2^64 values");
}

TEST_CASE("statistics: merging never lets the count wrap") {
  TensorStatistics::Parts parts;
  parts.near_zero = UINT64_MAX;
  TensorStatistics full = TensorStatistics::from_parts(parts, "here");
  CHECK(full.count() == UINT64_MAX);
  CHECK_THROWS_AS(full.merge(observed({0.0f})), Error);
}
