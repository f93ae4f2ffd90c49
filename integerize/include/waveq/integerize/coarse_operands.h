#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "waveq/calibration/dataset.h"
#include "waveq/graph/graph.h"

namespace waveq {

/// Half a step of rounding on a code of this size is 3 %.
inline constexpr double kCoarseMedian = 16;

/// A mean, or the denominator of a division, that mostly lies few steps from zero: its roundings
/// are large errors of everything it scales.
struct CoarseOperand {
  std::string tensor;  ///< in the integer network
  std::string origin;  ///< the node of the user's model that it belongs to
  bool denominator = false;
  double median = 0;  ///< of |q - zero_point| over the samples, below kCoarseMedian
};

/// Looks at every mean over all of an axis, and at every second operand of IntegerDiv and
/// TrueIntegerDiv, of an integer network on the first `samples` samples of real numbers. In the
/// order of the network. \throws Error of the data and of evaluation. Source:
/// waveformer-accuracy.md 2 and 6.
std::vector<CoarseOperand> coarse_operands(const Graph& graph, SampleSource& data,
                                           std::size_t samples);

}  // namespace waveq
