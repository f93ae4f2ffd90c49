#pragma once

#include <optional>

#include "waveq/graph/graph.h"

namespace waveq {

/// Where `axis` of a node's first input lies in its first output, for a node that moves whole
/// slices along that axis (Reshape, Transpose, Slice, Gather, Concat): nothing where it does not
/// keep the axis together.
std::optional<std::size_t> axis_behind(const Graph& graph, const Node& node, std::size_t axis);

/// Whether every reader of the value, through sums and movements, is a LayerNormalization along
/// `axis` alone: then a term that is the same for all elements along the axis changes nothing.
bool only_norms_read(const Graph& graph, ValueId value, std::size_t axis);

/// Whether the mean of the value along `axis` is always zero, up to the rounding of float32: sums
/// and movements of constants and of linear operators whose weights have no mean over the outputs.
bool has_no_mean(const Graph& graph, ValueId value, std::size_t axis);

/// Largest magnitude of the means of a constant along one of its axes, over its largest element; 0
/// where all elements are zero.
double relative_mean(const Tensor& constant, std::size_t axis);

}  // namespace waveq
