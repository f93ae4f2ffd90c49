#pragma once

#include "waveq/graph/graph.h"
#include "waveq/integerize/integerize.h"

namespace waveq {

/// The network with sums of pointwise convolutions as one convolution:
///   W.x + V.z = [W V].[x; z],   W.x + z = [W I].[x; z],
/// where nothing but the sum reads W.x (and V.z). The accumulator goes into the sum: one rounding
/// is left of three, and each operand keeps the scale of its own (lower_concat). But the weights of
/// both share a scale, which a coarse z makes coarse for W. So a sum is joined where the noise that
/// is estimated of both forms gets less, in steps^2/12 of an output channel c,
///   apart:  2 s_y^2 + sum_k r(W_c s_x)^2 E[x_k^2] (+ the same of V, z)
///   joined: s_z^2 for [W I], + sum_k r([W_c s_x, V_c s_z])^2 E[x_k^2, z_k^2],
/// with the scales s of the operands, s_y of the sum's common grid, r(w) = max|w| over the largest
/// weight code, E[x^2] four times that of x's codes in calibration (join_sums.cpp, kStatic). [W I]
/// costs a product more for each channel of the result; it stays a sum where that is more than half
/// of W.x. So do sums whose operands could not have one type without losing a bit: a clipped tensor
/// is joined where nothing else reads it. A node that a rule of the recipe names stays, too.
/// Source: waveformer-accuracy.md 1 (L6) and 4.
///
/// The tensors that remain keep their names, the sum's among them.
Graph join_sums(const Graph& canonical, const RangeLookup& ranges,
                const IntegerizeOptions& options);

/// A Concat of channels that only convolutions with constant weights and without padding read: the
/// scale and the zero point of each of its inputs can go into their weights.
bool keeps_own_scales(const Graph& graph, const Node& node);

}  // namespace waveq
