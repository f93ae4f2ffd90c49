#pragma once

#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq::rules {

/// y = gain*x + shift, one of each for a channel.
struct Affine {
  std::vector<double> gain, shift;
};
struct NormOr {
  std::optional<Affine> affine;
  std::string reason;  ///< why there is none
};
/// A BatchNormalization in inference, its four parameters constant. Computed in double.
NormOr batch_norm(const Graph& graph, const Node& node);

}  // namespace waveq::rules
