#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "waveq/quantizers/range.h"

namespace waveq {

/// Everything an observer may know about the values of one tensor: count, extremes and a histogram.
///
/// The histogram has the shape of a floating-point format. With 2^e the smallest power of two above
/// every magnitude seen, the octaves [2^(e-1), 2^e), ..., [2^(e-16), 2^(e-15)) of either sign are
/// cut into 64 equal bins each, and one bin holds everything nearer to zero. Bin edges are binary
/// fractions, so binning is exact (the top bits of a float are its bin); a bin is at most 1/64 of
/// its distance from zero wide, so an outlier a thousand times the rest costs the rest no
/// resolution. A larger value raises e, and the lowest octaves drain into the middle bin.
///
/// The state is a function of the multiset of observed values alone: order, threads and sharding
/// cannot change it, and merging two accumulators equals observing both data sets with one.
class TensorStatistics {
 public:
  static constexpr int kOctaves = 16;
  static constexpr int kBinsPerOctave = 64;
  static constexpr int kBins = kOctaves * kBinsPerOctave;  ///< per sign
  static constexpr int kMinExponent =
      -110;  ///< e of data below 2^-110; all bins are then normal floats

  /// Takes in values; -0 counts as 0. NaN and infinities are left out. Returns how many those were,
  /// so that the caller can say in which tensor and sample.
  std::uint64_t observe(std::span<const float> values);
  /// \throws Error{data} where the count leaves 64 bits.
  void merge(const TensorStatistics& other);

  std::uint64_t count() const { return count_; }            ///< finite values
  std::uint64_t non_finite() const { return non_finite_; }  ///< NaN and infinities, not in count()
  float min() const { return count_ ? min_ : 0.0f; }        ///< 0 where nothing was observed
  float max() const { return count_ ? max_ : 0.0f; }
  double abs_max() const;

  int exponent() const { return exponent_; }  ///< e; kMinExponent where all is 0
  /// Values with |x| < 2^(e-16).
  std::uint64_t near_zero() const { return bins_.empty() ? 0 : bins_[middle()]; }
  /// Bin i of 0..kBins-1 holds edge(i) <= |x| / 2^e < edge(i+1).
  std::uint64_t positive(int i) const {
    return bins_.empty() ? 0 : bins_[middle() + 1 + static_cast<std::size_t>(i)];
  }
  std::uint64_t negative(int i) const {
    return middle() == 0 ? 0 : bins_[middle() - 1 - static_cast<std::size_t>(i)];
  }
  /// Lower edge of bin i, relative to 2^e; edge(0) = 2^-16, edge(kBins) = 1.
  static double edge(int i);

  friend bool operator==(const TensorStatistics&, const TensorStatistics&) = default;

  /// Contents as stored in a file.
  struct Parts {
    float min = 0.0f, max = 0.0f;  ///< of all values
    std::uint64_t near_zero = 0;   ///< values whose magnitude is below the first bin
    std::vector<std::uint64_t> positive, negative;  ///< up to kBins each, the rest 0
  };
  Parts parts() const;
  /// \throws Error{parse} where the parts contradict each other; `where` names file and tensor.
  static TensorStatistics from_parts(const Parts& parts, const std::string& where);

 private:
  std::size_t middle() const { return bins_.size() > kBins + 1 ? kBins : 0; }
  void observe_chunk(std::span<const std::int32_t> bits, std::int32_t lowest, std::int32_t highest);
  void widen(float lowest, float highest);
  void raise_exponent(int exponent);

  std::uint64_t count_ = 0;
  std::uint64_t non_finite_ = 0;
  float min_ = 0.0f, max_ = 0.0f;
  int exponent_ = kMinExponent;
  /// [near zero, positive...] or, once a negative value was seen, [...negative, near zero,
  /// positive...], bins in order of their values.
  std::vector<std::uint64_t> bins_;
};

}  // namespace waveq
