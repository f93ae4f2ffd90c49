#pragma once

#include <optional>

#include "waveq/graph/graph.h"

namespace waveq::rules {

/// Where `axis` of a node's input lies in its first output, for a node that moves or repeats whole
/// slices along that axis (Reshape, Transpose, Slice, Gather, Concat): nothing where it does not
/// keep the axis together.
std::optional<std::size_t> axis_behind(const Graph& graph, const Node& node, std::size_t axis);

/// Whether every reader of the value, through sums and movements, is a LayerNormalization along
/// `axis` alone: then a term that is the same for all elements along the axis changes nothing.
bool only_norms_read(const Graph& graph, ValueId value, std::size_t axis);

}  // namespace waveq::rules
