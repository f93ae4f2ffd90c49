#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "waveq/calibration/dataset.h"
#include "waveq/graph/op.h"
#include "waveq/integerize/integerize.h"
#include "waveq/integerize/metric.h"

namespace waveq {

/// How far a long piece of work has come. Called from any thread, never from two at once; `total`
/// is 0 where it is not known. May throw: the work then ends with that exception.
using Progress = std::function<void(std::string_view stage, std::size_t done, std::size_t total)>;

/// Float and integer network side by side on labelled or unlabelled samples.
struct Accuracy {
  /// Recipe::metric; "none" for "top1" where the data have no labels.
  std::string metric;
  std::optional<double> float_top1, integer_top1;    ///< shares of the samples
  std::optional<double> float_score, integer_score;  ///< by any other metric
  double agreement = 0;        ///< share of samples with the same argmax of the first output
  std::size_t samples = 0;     ///< that were run
  double output_sqnr_db = 0;   ///< pooled over all outputs and samples
  double median_sqnr_db = 0;   ///< median over samples
  double trimmed_sqnr_db = 0;  ///< pooled without the 2 % of samples with the largest error
};

/// One sample's share of an Accuracy.
struct SampleScore {
  double signal = 0, noise = 0;  ///< sums of squares over all outputs: real; real less dequantized
  /// By argmax of the first output.
  bool agrees = false, float_right = false, candidate_right = false;
  Metric::Score score = {};  ///< by a metric other than top-1
};

/// Outputs of a float or integer network on one sample against those of the float network.
SampleScore score_sample(const Graph& candidate, const std::vector<Tensor>& real,
                         const std::vector<Tensor>& outputs,
                         const std::optional<std::int64_t>& label);
/// Sums in the order of the samples.
Accuracy summarize(const std::vector<SampleScore>& scores, bool labelled);

/// q = clamp(round_half_away(x / scale) + zero_point, lo, hi), computed in double; the one
/// quantizer of network inputs. Source: integer-approximations.md 1.3.
Tensor quantize_tensor(const Tensor& real, const QuantParams& params);
/// Float samples as the network takes them: quantized where its inputs are integers.
std::vector<Tensor> network_inputs(const Graph& network, const std::vector<Tensor>& real);

/// Runs both networks on every sample. `metric` judges them in place of top-1. The result does not
/// depend on the number of threads. \throws Error of the dataset and of evaluation.
Accuracy evaluate(const Graph& float_graph, const Graph& integer_graph, SampleSource& data,
                  unsigned threads, const Progress& progress = {}, const Metric* metric = nullptr);

/// Runs a float or an integer network on every sample and joins each tensor over the samples:
/// [N, S[1:]] where S[0] is 1, else [N, S...]. The outputs alone, in graph order, or, with `all`,
/// inputs and every node output in the order of computation. Memory grows with the samples.
/// \throws Error of the source and of evaluation.
std::vector<std::pair<std::string, Tensor>> run_samples(const Graph& graph, SampleSource& data,
                                                        bool all, Overflow overflow,
                                                        const Progress& progress = {});

/// How well one integer tensor carries its float tensor.
struct TensorQuality {
  std::string float_value, integer_value;  ///< names in either graph
  double scale = 1;                        ///< real value of one step
  double sqnr_db = 0;                      ///< pooled over the samples
  double saturation =
      0;  ///< share of codes at either end of the tensor's levels (for unsigned: the upper end)
};

/// Measured on up to `limit` samples.
std::vector<TensorQuality> tensor_quality(const Graph& float_graph, const IntegerNetwork& network,
                                          SampleSource& data, std::size_t limit,
                                          const Progress& progress = {});

}  // namespace waveq
