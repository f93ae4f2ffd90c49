#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/calibration/statistics.h"
#include "waveq/quantizers/quantizer.h"
#include "waveq/quantizers/range.h"

namespace waveq {

/// Which observer, with its parameter where it has one: "mse", "percentile:99.9".
struct ObserverSpec {
  std::string name = "mse";              ///< one of observers()
  std::optional<double> parameter = {};  ///< absent: the observer's default
  friend bool operator==(const ObserverSpec&, const ObserverSpec&) = default;
};

/// \throws Error{invalid_argument} for an unknown name, or a parameter that is out of range or not
/// wanted.
ObserverSpec parse_observer(std::string_view text);
std::string to_string(const ObserverSpec& spec);

/// Picks the range to be represented out of what was observed. The spec tells how many levels the
/// range will get: more of them make clipping pay less.
using RangeRule = std::function<Range(const TensorStatistics&, const QuantSpec&)>;

/// An observer as listed and chosen by name. All of them look at the same mergeable statistics, so
/// that the choice can be changed without another pass over the data. There is no moving average:
/// its result depends on the order of samples, so shards could not be merged. There is no entropy
/// (KL) observer: logarithms differ in the last bit between C libraries, and so could its choice.
struct ObserverRow {
  std::string_view name;       ///< as in a recipe
  std::string_view summary;    ///< one line for `waveq passes`
  std::string_view source;     ///< where the method comes from
  std::string_view parameter;  ///< what the parameter means; empty where there is none
  double fallback;             ///< its default
  double least, most;          ///< its valid range; `least` itself is excluded
  RangeRule (*make)(double parameter);
};

/// All observers, default first.
std::span<const ObserverRow> observers();
/// \throws Error{invalid_argument}, as parse_observer.
RangeRule make_observer(const ObserverSpec& spec);

/// Range of one tensor. lo <= hi, both finite.
/// \throws Error{data} where nothing was observed.
Range range_of(const TensorStatistics& statistics, const ObserverSpec& observer,
               const QuantSpec& spec = {});

/// Summed squared error of quantizing all observed values, x -> scale*clamp(round(x/scale), lo,
/// hi).
struct QuantizationError {
  double total = 0.0;    ///< in squared units of the tensor
  double clipped = 0.0;  ///< the share of `total` that comes from values beyond the grid's ends
};

/// Estimate from the histogram: values spread evenly within their bin (integrated exactly, not
/// sampled), those of the middle bin count as 0. The same bits on every host:
/// sums run in order of the bins, and nothing but + - * / is used.
QuantizationError quantization_error(const TensorStatistics& statistics, const QuantParams& params);

/// How many of the observed values each code of the grid stands for, lo()..hi() in order; values
/// beyond the grid's ends count for the end. Estimated from the histogram as quantization_error is.
/// \throws Error{invalid_argument} as quantization_error.
std::vector<double> code_counts(const TensorStatistics& statistics, const QuantParams& params);

}  // namespace waveq
