#pragma once

#include "waveq/graph/graph.h"

namespace waveq {

/// The network with sums of pointwise convolutions as one convolution:
///   W.x + V.z = [W V].[x; z],   W.x + z = [W I].[x; z],
/// where nothing but the sum reads W.x (and V.z). The accumulator goes into the sum: one rounding
/// is left of three, and each operand keeps the scale of its own (lower_concat). [W I] costs a
/// product more for each channel of the result; it stays a sum where that is more than half of
/// W.x. So do sums whose operands could not have one type without losing a bit: a clipped tensor is
/// joined where nothing else reads it. Source: waveformer-accuracy.md 1 (L6) and 4.
///
/// The tensors that remain keep their names, the sum's among them.
Graph join_sums(const Graph& canonical);

/// A Concat of channels that only convolutions with constant weights and without padding read: the
/// scale and the zero point of each of its inputs can go into their weights.
bool keeps_own_scales(const Graph& graph, const Node& node);

}  // namespace waveq
