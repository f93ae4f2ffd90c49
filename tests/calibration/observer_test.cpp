#include "waveq/calibration/observer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "waveq/graph/error.h"

using namespace waveq;

namespace {

using Floats = std::vector<float>;

TensorStatistics observed(const Floats& values) {
  TensorStatistics s;
  s.observe(values);
  return s;
}

/// 100 000 values of a bell (sum of 8 uniforms, sd 1) and a few outliers at `reach`.
Floats bell_with_outliers(float reach, int outliers) {
  std::mt19937_64 random(11);
  Floats values;
  for (int i = 0; i < 100000; ++i) {
    double sum = 0.0;
    for (int k = 0; k < 8; ++k) sum += static_cast<double>(random() >> 11) * 0x1p-53 - 0.5;
    values.push_back(static_cast<float>(sum * std::sqrt(1.5)));
  }
  for (int i = 0; i < outliers; ++i) values.push_back(i % 2 ? reach : -reach);
  return values;
}

/// Squared error of really quantizing the values: round to nearest, clamp.
double true_error(const Floats& values, const QuantParams& p) {
  double sum = 0.0;
  for (const float x : values) {
    const auto zero = static_cast<double>(p.zero_point);
    const double q =
        std::fmin(std::fmax(std::floor(x / p.scale + 0.5) + zero, static_cast<double>(p.lo())),
                  static_cast<double>(p.hi()));
    const double error = x - (q - zero) * p.scale;
    sum += error * error;
  }
  return sum;
}

double error_with(const Floats& values, const char* observer, QuantSpec spec = {}) {
  return true_error(
      values, choose_params(range_of(observed(values), parse_observer(observer), spec), spec));
}

}  // namespace

TEST_CASE("min_max: the observed extremes, times a factor") {
  const TensorStatistics s = observed({-1.25f, 0.0f, 3.5f});
  CHECK(range_of(s, {"min_max", {}}) == Range{-1.25, 3.5});
  CHECK(range_of(s, {"min_max", 2.0}) == Range{-2.5, 7.0});
}

TEST_CASE("percentile: interpolates within a bin, and 100 is the maximum") {
  // 64 values, one in the middle of each bin of [1, 2): the n-th percentile is linear in n.
  Floats values;
  for (int i = 0; i < 64; ++i) values.push_back(1.0f + (static_cast<float>(i) + 0.5f) / 64.0f);
  const TensorStatistics s = observed(values);
  CHECK(range_of(s, {"percentile", 50.0}) == Range{1.0078125, 1.5});
  CHECK(range_of(s, {"percentile", 75.0}) == Range{1.0078125, 1.75});
  CHECK(range_of(s, {"percentile", 100.0}) == Range{1.0078125, 1.9921875});
}

TEST_CASE("percentile: one limit for both signs, each cut where it exceeds it") {
  Floats values(9990, 0.5f);
  for (int i = 0; i < 10; ++i) values.push_back(-8.0f);
  const Range r = range_of(observed(values), {"percentile", 99.0});
  CHECK(r.hi == 0.5);
  CHECK(r.lo < -0.5);
  CHECK(r.lo > -0.51);
}

TEST_CASE("percentile: a tensor that is nearly all zero keeps its range") {
  Floats values(100000, 0.0f);
  values.push_back(2.0f);
  CHECK(range_of(observed(values), {"percentile", {}}) == Range{0.0, 2.0});
}

TEST_CASE("observers: an outlier sets the range of min_max alone") {
  const Floats values = bell_with_outliers(1000.0f, 4);
  const TensorStatistics s = observed(values);
  CHECK(range_of(s, {"min_max", {}}) == Range{-1000.0, 1000.0});
  const Range percentile = range_of(s, {"percentile", 99.9});
  CHECK(percentile.hi > 3.0);
  CHECK(percentile.hi < 3.6);
  CHECK(percentile.lo == -percentile.hi);
  // Here squared error says that the four outliers weigh more than the bell ...
  CHECK(range_of(s, {"mse", {}}).hi > 500.0);
  // ... with moderate outliers it is the other way round.
  const TensorStatistics mild = observed(bell_with_outliers(20.0f, 4));
  const Range mse = range_of(mild, {"mse", {}}), histogram = range_of(mild, {"histogram", {}});
  CHECK(range_of(mild, {"min_max", {}}) == Range{-20.0, 20.0});
  CHECK(mse.hi == 20.0 * 0.8781260801866497);  // 2^(-3/16)
  CHECK(histogram.hi < 20.0);
  CHECK(histogram != mse);
  CHECK(histogram != percentile);
}

TEST_CASE("mse: really lowers the error of the quantized values") {
  for (const float reach : {8.0f, 20.0f, 60.0f}) {
    const Floats values = bell_with_outliers(reach, 4);
    const double mse = error_with(values, "mse"), full = error_with(values, "min_max");
    CHECK(mse < 0.9 * full);
    CHECK(error_with(values, "percentile:99.99") > mse);
    CHECK(error_with(values, "histogram") <= full);
  }
}

TEST_CASE("mse: no clip on a fine grid beats its choice by more than the grid's resolution") {
  const Floats values = bell_with_outliers(12.0f, 4);
  for (const std::int64_t n : {4, 16, 256}) {
    const QuantSpec spec{n, Signedness::automatic};
    double best = HUGE_VAL;
    for (int k = 1; k <= 1200; ++k) {
      const double c = 0.01 * k;
      best = std::fmin(best, true_error(values, choose_params({-c, c}, spec)));
    }
    CHECK(error_with(values, "mse", spec) < 1.03 * best);
  }
}

TEST_CASE("mse: with 16 bits nothing is clipped") {
  const TensorStatistics s = observed(bell_with_outliers(20.0f, 4));
  CHECK(range_of(s, {"mse", {}}, {65536, Signedness::automatic}) == Range{-20.0, 20.0});
}

TEST_CASE("mse: the short side of a lopsided tensor stays as it is") {
  Floats values = bell_with_outliers(20.0f, 4);
  for (float& x : values) x = x < 0 ? x / 128.0f : x;
  const Range r = range_of(observed(values), {"mse", {}});
  CHECK(r.lo == -0.15625);  // the outlier -20/128
  CHECK(r.hi == 20.0 * 0.8781260801866497);
}

TEST_CASE("observers: constant, one-sided, zero and tiny tensors") {
  for (const ObserverRow& row : observers()) {
    const ObserverSpec spec{std::string(row.name), {}};
    CAPTURE(row.name);
    CHECK(range_of(observed(Floats(1000, 0.0f)), spec) == Range{0.0, 0.0});
    CHECK(range_of(observed({5.0f}), spec) == Range{5.0, 5.0});
    CHECK(range_of(observed({-5.0f}), spec) == Range{-5.0, -5.0});
    CHECK(range_of(observed({1e-45f, -1e-45f}), spec).hi <= 1e-40);
    const Range positive = range_of(observed({3.0f, 4.0f, 5.0f}), spec);
    CHECK(positive.lo == 3.0);
    CHECK(positive.hi <= 5.0);
    CHECK(positive.hi >= 4.9);
    const Range huge = range_of(observed({-3e38f, 3e38f}), spec);
    CHECK(std::isfinite(huge.lo));
    CHECK(huge.hi > 2.9e38);
  }
}

TEST_CASE("observers: the same statistics give the same range, however they came about") {
  const Floats values = bell_with_outliers(20.0f, 7);
  TensorStatistics shard, rest;
  shard.observe(std::span(values).subspan(0, 333));
  rest.observe(std::span(values).subspan(333));
  rest.merge(shard);
  for (const ObserverRow& row : observers())
    CHECK(range_of(rest, {std::string(row.name), {}}) ==
          range_of(observed(values), {std::string(row.name), {}}));
}

TEST_CASE("observers: rows have names of their own, and texts") {
  std::set<std::string_view> names;
  for (const ObserverRow& row : observers()) {
    CHECK(names.insert(row.name).second);
    CHECK(!row.summary.empty());
    CHECK(!row.source.empty());
    CHECK(parse_observer(row.name) == ObserverSpec{std::string(row.name), {}});
  }
  CHECK(names == std::set<std::string_view>{"mse", "min_max", "percentile", "histogram"});
  CHECK(observers().front().name == ObserverSpec{}.name);
}

TEST_CASE("observers: a spec survives its spelling") {
  const ObserverSpec spec = parse_observer("percentile:99.9");
  CHECK(spec == ObserverSpec{"percentile", 99.9});
  CHECK(to_string(spec) == "percentile:99.9");
  CHECK(to_string(parse_observer("mse")) == "mse");
}

TEST_CASE("observers: bad specs are refused with what would do") {
  const auto message = [](const char* text) -> std::string {
    try {
      parse_observer(text);
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::invalid_argument);
      return e.what();
    }
    return "accepted";
  };
  CHECK(message("kl") ==
        "kl: no observer has this name; use one of mse, min_max, percentile, histogram");
  CHECK(message("mse:3") == "mse:3: this observer has no parameter; write 'mse'");
  CHECK(message("percentile:x") ==
        "percentile:x: 'x' is not a number; write NAME or NAME:PARAMETER, e.g. percentile:99.9");
  CHECK(message("percentile:101") ==
        "percentile:101: percent of the values that stay unclipped is 101; use more than 0, at "
        "most 100");
  for (const char* text :
       {"percentile:0", "percentile:nan", "percentile:", "percentile:99 ", "min_max:-1", ""})
    CHECK(message(text) != "accepted");
}

TEST_CASE("observers: no data is an error") {
  for (const ObserverRow& row : observers())
    CHECK_THROWS_AS(range_of(TensorStatistics(), {std::string(row.name), {}}), Error);
}

TEST_CASE("quantization error: literal values on a bin's uniform density") {
  // 64 values, one a bin of [1, 2), so density is uniform there; scale 2, codes 0 and 1: all round
  // to 2.
  Floats values;
  for (int i = 0; i < 64; ++i) values.push_back(1.0f + (static_cast<float>(i) + 0.5f) / 64.0f);
  const TensorStatistics s = observed(values);
  // Integral of (2-x)^2 over [1, 2) is 1/3; the last bin ends at the maximum, 1 + 63.5/64.
  const double last = 1.0 / 128;  // half a bin, counted with full weight
  const double head = (1.0 - 1.0 / (64.0 * 64.0 * 64.0)) / 3.0 * 64.0;
  const double tail = (std::pow(2 * last, 3) - std::pow(last, 3)) / 3.0 / last;
  const QuantizationError rounded = quantization_error(s, {2.0, 0, 256, false});
  CHECK(rounded.total == doctest::Approx(head + tail).epsilon(1e-12));
  CHECK(rounded.clipped == 0.0);
  // Scale 1, two levels: 0 and 1. Everything is beyond the end; sum of (x-1)^2.
  const QuantizationError clipped = quantization_error(s, {1.0, 0, 2, false});
  CHECK(clipped.total == doctest::Approx(true_error(values, {1.0, 0, 2, false})).epsilon(1e-3));
  CHECK(clipped.clipped == doctest::Approx(clipped.total).epsilon(1e-12));
}

TEST_CASE("quantization error: agrees with really quantizing many values") {
  const Floats values = bell_with_outliers(6.0f, 10);
  const TensorStatistics s = observed(values);
  for (const double c : {6.0, 4.0, 2.0, 0.5})
    for (const std::int64_t n : {3, 16, 256}) {
      const QuantParams p = choose_params({-c, c}, {n, Signedness::automatic});
      const QuantizationError estimate = quantization_error(s, p);
      CHECK(estimate.total == doctest::Approx(true_error(values, p)).epsilon(0.01));
      CHECK(estimate.clipped <= estimate.total);
    }
  const QuantParams unsigned_grid{0.02, 0, 256, false};
  CHECK(quantization_error(s, unsigned_grid).total ==
        doctest::Approx(true_error(values, unsigned_grid)).epsilon(0.01));
  for (const QuantParams& affine : {QuantParams{0.02, 40, 256, false}, {0.01, -100, 256, true}})
    CHECK(quantization_error(s, affine).total ==
          doctest::Approx(true_error(values, affine)).epsilon(0.01));
}

TEST_CASE("quantization error: needs a grid that holds zero") {
  CHECK_THROWS_AS(quantization_error(observed({1.0f}), {1.0, 128, 256, true}), Error);
  CHECK_THROWS_AS(quantization_error(observed({1.0f}), {1.0, -1, 256, false}), Error);
  CHECK_THROWS_AS(quantization_error(observed({1.0f}), {0.0, 0, 256, true}), Error);
}

TEST_CASE("code counts: every value once, where its code is") {
  const TensorStatistics s = observed({0.0f, 0.26f, 0.26f, -0.24f, 7.0f, -9.0f});
  const std::vector<double> counts = code_counts(s, {0.5, 1, 8, true});  // codes -4..3, zero at 1
  REQUIRE(counts.size() == 8);
  CHECK(std::accumulate(counts.begin(), counts.end(), 0.0) == doctest::Approx(6));
  CHECK(counts[0] == doctest::Approx(1));  // -9 is clipped to code -4
  CHECK(counts[7] == doctest::Approx(1));  // 7 to code 3
  CHECK(counts[5] == doctest::Approx(2));  // 0 and -0.24 to code 1
  CHECK(counts[6] == doctest::Approx(2));  // 0.26 to code 2
  const Floats values = bell_with_outliers(6.0f, 10);
  const QuantParams grid{0.05, 0, 256, true};
  std::vector<double> counted(256, 0.0);
  for (const float v : values)
    counted[static_cast<std::size_t>(std::clamp(std::floor(v / grid.scale + 0.5), -128.0, 127.0) +
                                     128)] += 1;
  const std::vector<double> estimate = code_counts(observed(values), grid);
  double off = 0;
  for (std::size_t i = 0; i < 256; ++i) off += std::abs(estimate[i] - counted[i]);
  CHECK(off < 0.05 * static_cast<double>(values.size()));
  CHECK_THROWS_AS(code_counts(s, {0.0, 0, 256, true}), Error);
}
