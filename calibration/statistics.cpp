#include "waveq/calibration/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "waveq/graph/error.h"

namespace waveq {

namespace {

constexpr int kOctaves = TensorStatistics::kOctaves;
constexpr int kPerOctave = TensorStatistics::kBinsPerOctave;
constexpr std::size_t kChunk =
    2048;  // 8 KiB of floats: both passes find them in the first-level cache

constexpr int kMantissaBits = 23;
constexpr int kBinShift =
    kMantissaBits - 6;  // keeps sign, exponent and the 6 bits that number a bin
static_assert(kPerOctave == 1 << (kMantissaBits - kBinShift));
constexpr std::int32_t kMagnitude = 0x7fffffff;
constexpr std::int32_t kInfinity = 0x7f800000;

/// Float bits <-> integers in the order of the floats (-0 just below 0). Its own inverse.
constexpr std::int32_t ordered(std::int32_t bits) { return bits ^ ((bits >> 31) & kMagnitude); }

/// Smallest e with |x| < 2^e, not below kMinExponent; `magnitude` are the bits of a finite |x|.
int exponent_of(std::int32_t magnitude) {
  return std::max((magnitude >> kMantissaBits) - 126, TensorStatistics::kMinExponent);
}

/// magnitude >> kBinShift minus this is 1 + bin index, or <= 0 for the middle bin.
std::int32_t bin_base(int exponent) { return (exponent - kOctaves + 127) * kPerOctave - 1; }

/// Signed bin number: 0 is the middle bin, +-(1 + i) bin i of either sign.
std::int32_t signed_bin(float value, int exponent) {
  const std::int32_t bits = std::bit_cast<std::int32_t>(value);
  const std::int32_t bin = std::max(((bits & kMagnitude) >> kBinShift) - bin_base(exponent), 0);
  return bits < 0 ? -bin : bin;
}

std::int32_t magnitude_of(float x) { return std::bit_cast<std::int32_t>(x) & kMagnitude; }

}  // namespace

double TensorStatistics::edge(int i) {
  static const std::array<double, kBins + 1> edges = [] {
    std::array<double, kBins + 1> all{};
    for (int k = 0; k <= kBins; ++k)
      all[static_cast<std::size_t>(k)] = std::ldexp(
          1.0 + static_cast<double>(k % kPerOctave) / kPerOctave, k / kPerOctave - kOctaves);
    return all;
  }();
  return edges[static_cast<std::size_t>(i)];
}

double TensorStatistics::abs_max() const {
  return std::max(std::fabs(static_cast<double>(min())), std::fabs(static_cast<double>(max())));
}

std::uint64_t TensorStatistics::observe(std::span<const float> values) {
  std::uint64_t skipped = 0;
  std::array<std::int32_t, kChunk> bits;
  for (std::size_t begin = 0; begin < values.size(); begin += kChunk) {
    std::size_t n = std::min(kChunk, values.size() - begin);
    std::memcpy(bits.data(), values.data() + begin, n * sizeof(float));
    std::int32_t lowest = kMagnitude, highest = -kMagnitude - 1;
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t x = ordered(bits[i]);
      lowest = std::min(lowest, x);
      highest = std::max(highest, x);
    }
    if (highest >= kInfinity || lowest <= ~kInfinity) {  // ~x = ordered(bits of -value(x))
      const auto finite = std::remove_if(bits.begin(), bits.begin() + n, [](std::int32_t x) {
        return (x & kMagnitude) >= kInfinity;
      });
      const auto left = static_cast<std::size_t>(finite - bits.begin());
      skipped += n - left;
      n = left;
      lowest = kMagnitude, highest = -kMagnitude - 1;
      for (std::size_t i = 0; i < n; ++i) {
        lowest = std::min(lowest, ordered(bits[i]));
        highest = std::max(highest, ordered(bits[i]));
      }
    }
    if (n > 0) observe_chunk({bits.data(), n}, lowest, highest);
  }
  non_finite_ += skipped;
  return skipped;
}

void TensorStatistics::observe_chunk(std::span<const std::int32_t> bits, std::int32_t lowest,
                                     std::int32_t highest) {
  widen(std::bit_cast<float>(ordered(lowest)), std::bit_cast<float>(ordered(highest)));
  count_ += bits.size();
  const std::int32_t base = bin_base(exponent_);
  std::array<std::int32_t, kChunk> bin;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const std::int32_t sign = bits[i] >> 31;
    const std::int32_t distance = std::max(((bits[i] & kMagnitude) >> kBinShift) - base, 0);
    bin[i] = (distance ^ sign) - sign;
  }
  std::uint64_t* const counts = bins_.data() + middle();
  for (std::size_t i = 0; i < bits.size(); ++i) ++counts[bin[i]];
}

/// Makes room for values in [lowest, highest] and takes these two as extremes.
void TensorStatistics::widen(float lowest, float highest) {
  lowest += 0.0f;  // -0 becomes 0
  highest += 0.0f;
  min_ = count_ ? std::min(min_, lowest) : lowest;
  max_ = count_ ? std::max(max_, highest) : highest;
  if (bins_.empty()) bins_.resize(kBins + 1);
  if (min_ < 0.0f && middle() == 0) bins_.insert(bins_.begin(), kBins, 0);
  raise_exponent(exponent_of(std::max(magnitude_of(min_), magnitude_of(max_))));
}

void TensorStatistics::raise_exponent(int exponent) {
  if (exponent <= exponent_) return;
  const std::int64_t shift = std::int64_t{exponent - exponent_} * kPerOctave;
  exponent_ = exponent;
  std::uint64_t* const counts = bins_.data() + middle();
  for (const std::int64_t sign : {1, -1}) {
    if (sign < 0 && middle() == 0) continue;
    for (std::int64_t bin = 1; bin <= kBins; ++bin) {
      const std::uint64_t n = std::exchange(counts[sign * bin], 0);
      counts[sign * std::max<std::int64_t>(bin - shift, 0)] += n;
    }
  }
}

void TensorStatistics::merge(const TensorStatistics& other) {
  if (count_ > std::numeric_limits<std::uint64_t>::max() - other.count_)
    throw Error(ErrorCode::data, "statistics", "more than 2^64 values together");
  non_finite_ += other.non_finite_;
  if (other.count_ == 0) return;
  widen(other.min_, other.max_);
  count_ += other.count_;
  TensorStatistics aligned = other;
  aligned.raise_exponent(exponent_);
  std::uint64_t* const counts = bins_.data() + middle();
  const std::int64_t below = static_cast<std::int64_t>(aligned.middle());
  for (std::int64_t bin = -below; bin <= kBins; ++bin)
    counts[bin] += aligned.bins_[static_cast<std::size_t>(below + bin)];
}

TensorStatistics::Parts TensorStatistics::parts() const {
  Parts out{min(), max(), near_zero(), {}, {}};
  for (int i = 0; i < kBins; ++i) {
    out.positive.push_back(positive(i));
    out.negative.push_back(negative(i));
  }
  return out;
}

TensorStatistics TensorStatistics::from_parts(const Parts& parts, const std::string& where) {
  const auto refuse = [&](std::string what) -> Error {
    return Error(ErrorCode::parse, where, std::move(what),
                 "calibrate again: this file was damaged or edited by hand");
  };
  TensorStatistics out;
  if (parts.positive.size() > kBins || parts.negative.size() > kBins)
    throw refuse("histogram is too long");
  if (!std::isfinite(parts.min) || !std::isfinite(parts.max) || parts.min > parts.max)
    throw refuse(fmt::format("min {} and max {} are no range", parts.min, parts.max));
  out.widen(parts.min, parts.max);
  std::uint64_t* const counts = out.bins_.data() + out.middle();
  const auto put = [&](std::int64_t bin, std::uint64_t n) {
    if (n == 0) return;
    if (bin < 0 && out.middle() == 0) throw refuse("histogram has negative values, min has not");
    counts[bin] = n;
    if (__builtin_add_overflow(out.count_, n, &out.count_))
      throw refuse("histogram counts more than 2^64 values");
  };
  put(0, parts.near_zero);
  for (std::size_t i = 0; i < parts.positive.size(); ++i)
    put(static_cast<std::int64_t>(i) + 1, parts.positive[i]);
  for (std::size_t i = 0; i < parts.negative.size(); ++i)
    put(-static_cast<std::int64_t>(i) - 1, parts.negative[i]);
  if (out.count_ == 0) return TensorStatistics{};

  const auto is_used = [](std::uint64_t n) { return n != 0; };
  const std::int64_t below = static_cast<std::int64_t>(out.middle());
  const std::int64_t first = std::ranges::find_if(out.bins_, is_used) - out.bins_.begin() - below;
  const std::int64_t last =
      out.bins_.rend() - std::find_if(out.bins_.rbegin(), out.bins_.rend(), is_used) - 1 - below;
  if (first != signed_bin(out.min_, out.exponent_) || last != signed_bin(out.max_, out.exponent_))
    throw refuse("histogram does not reach from min to max");
  return out;
}

}  // namespace waveq
