#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "waveq/integerize/pipeline.h"

namespace waveq {

/// What quantizing one tensor costs, everything else in float.
struct TensorCost {
  std::string tensor;         ///< in the canonical float graph; what [ranges] of a recipe names
  std::string made_by;        ///< operator and name of its node; "input" for a network input
  double scale = 1;           ///< as in the integer network
  std::int64_t levels = 256;  ///< of its codes, as in the integer network
  Accuracy alone;             ///< of the float network with this tensor rounded
};

/// One change of the recipe for one tensor, tried in the whole integer network.
struct Remedy {
  std::string tensor, change;         ///< e.g. "observer percentile:99.9", "scale 1.5", "16 bits"
  Recipe recipe;                      ///< the base recipe with this change
  std::vector<double> gains_db = {};  ///< of the output SQNR, one for each repeat
  double gain_db = 0;                 ///< their mean
  double agreement_change = 0;        ///< mean
  std::string refused = {};           ///< why the network cannot be made so; empty where it can
  /// The gain exceeds the noise: kNoiseDb on average, and above 0 in every repeat.
  bool recommended = false;
};

/// Result of sweep().
struct SweepResult {
  Accuracy integer;               ///< of the integer network as the base recipe makes it
  std::vector<TensorCost> costs;  ///< the costliest first
  std::vector<Remedy> remedies;   ///< by offender, in order of `costs`
  Recipe best;                    ///< base recipe with what is recommended, the best of each tensor
  std::vector<std::string> changes;  ///< what `best` changes; empty where nothing exceeds the noise
  double best_gain_db = 0;           ///< of `best`, mean over the repeats
  std::size_t samples = 0, repeats = 0;       ///< that were run
  bool measured_on_calibration_data = false;  ///< no evaluation data were given
};

struct SweepOptions {
  std::size_t offenders = 5;  ///< tensors for which remedies are tried
  std::size_t samples = 128;  ///< of the evaluation data, at most
  std::size_t repeats = 3;    ///< with all ranges jittered by up to 3 %
};

/// Differences below this are noise in a single run (waveformer-accuracy.md).
constexpr double kNoiseDb = 0.5;

/// Sensitivity of a network to the quantization of each of its tensors, and which changes of the
/// recipe help in the real integer network. Ranking: one tensor is rounded to its grid in the float
/// network. Remedies: other observers, a range times 0.5 to 2, and 16 bits where the target and the
/// operators allow it, for the costliest tensors. Each is compared with the base recipe under the
/// same jitter of all ranges, as single runs differ by up to 1 dB by chance. Choosing ranges by
/// their effect on samples overfits: give evaluation data that are neither the calibration data nor
/// the test set. The result does not depend on the number of threads.
/// \throws errors of quantize.
SweepResult sweep(const QuantizeJob& job, const SweepOptions& options = {});

}  // namespace waveq
