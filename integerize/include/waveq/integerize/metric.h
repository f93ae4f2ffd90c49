#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "waveq/calibration/dataset.h"
#include "waveq/graph/graph.h"

namespace waveq {

/// How good the outputs of a float and of an integer network are on evaluation data, where the
/// share of right classes (top-1) is not what counts. Judges single samples; safe to use from
/// several threads at once.
class Metric {
 public:
  struct Score {
    double real = 0, integer = 0;     ///< of either network; the figure is their sum over `weight`
    double weight = 1;                ///< symbols, words or clips judged
    std::optional<bool> agrees = {};  ///< both say the same; absent: the argmax decides
  };

  virtual ~Metric() = default;
  /// `real`: the float network's first output; `integer`: the integer network's, dequantized.
  virtual Score judge(std::uint64_t sample, const Tensor& real, const Tensor& integer) const = 0;
  /// The network's inputs, where they are not in the file but made from it; null otherwise.
  virtual std::unique_ptr<SampleSource> inputs() const { return nullptr; }
};

/// The metrics of Recipe::metric beside "top1".
///   cer, wer  edits over symbols or words; greedy CTC against `labels` or `digits` (error_rate.h)
///   si-sdr    improvement in dB of enhanced over noisy speech against `clean` (enhancement.h)
/// \throws Error{data} where the file lacks what the metric needs; Error{invalid_argument} for
///   another name.
std::unique_ptr<Metric> make_metric(const std::string& name, const std::filesystem::path& npz,
                                    const Graph& graph);

/// A figure that falls as a network gets worse; false: an error rate.
bool higher_is_better(std::string_view metric);
/// A figure in dB; false: a share of 1.
bool in_decibel(std::string_view metric);

}  // namespace waveq
