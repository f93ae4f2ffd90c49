#pragma once

#include <optional>
#include <string>
#include <vector>

#include "waveq/integerize/bounds.h"

namespace waveq {

/// Interval transfer functions: what each operator makes of the bounds of its inputs.
struct TransferContext {
  const Graph& graph;
  const Node& node;
  BoundsAnalysis& analysis;

  const Bounds& input(std::size_t i) const { return analysis.of(node.inputs.at(i)); }
  const Shape& input_shape(std::size_t i) const {
    return graph.value(node.inputs.at(i)).type.shape;
  }
  const Tensor* constant(std::size_t i) const;
};

// Interval arithmetic. Ends are kept within +-2^62, so that a sum of two never overflows; a bound
// that large is far outside int32 and unproven in any case.
std::int64_t narrow_end(__int128 x);
Interval product(const Interval& a, const Interval& b);
Interval sum_interval(const Interval& a, const Interval& b);
Interval with_zero(const Interval& i);
Interval hull(const Interval& a, const Interval& b);
/// Largest |x| in the interval.
double magnitude(const Interval& i);
/// Elements of the input that one element of a reduction's output comes from.
std::int64_t reduced_count(const TransferContext& ctx);

/// Bounds of the node's first output. \throws Error{unsupported} for an operator without a transfer
/// function.
Bounds transfer(const TransferContext& ctx);
/// Overflow check of the node itself (node_checks.cpp).
NodeBound check_node(const TransferContext& ctx);

/// Bounds of the accumulator of Conv, Gemm or MatMul: of the total, and of what is reached on the
/// way to it in any summation order.
struct AccumulatorBounds {
  Bounds value, partial;
};
AccumulatorBounds accumulator_bounds(const TransferContext& ctx);

/// The largest |accumulator| of a linear node (Conv, Gemm, MatMul, Add, Sub, Mul, ReduceSum and the
/// means) over operands constructed to drive it to its bounds, by the evaluator on the node itself:
/// for a constant factor the signs of its weights choose between the ends of each channel's range,
/// one convolution window; for two activations the corners of their ranges. nullopt for other
/// operators, and where the node is unproven.
std::optional<double> attained_accumulator(const TransferContext& ctx);

// row_checks.cpp: softmax forms and normalizations, which narrow within a row.
Bounds softmax_bounds(const TransferContext& ctx);
Bounds layer_norm_bounds(const TransferContext& ctx);
Bounds rms_norm_bounds(const TransferContext& ctx);
NodeBound check_isoftmax(const TransferContext& ctx);
NodeBound check_itamax(const TransferContext& ctx);
NodeBound check_layer_norm(const TransferContext& ctx);
NodeBound check_rms_norm(const TransferContext& ctx);
Bounds no_norm_bounds(const TransferContext& ctx);
NodeBound check_no_norm(const TransferContext& ctx);
/// Shown to fit int32, or the reason why not.
NodeBound fits_int32(double worst);
/// Why the 8-bit kernels cannot read every value of an input; nullopt where all are in -128..127 or
/// all in 0..255.
std::optional<std::string> not_8_bit(const TransferContext& ctx, std::size_t input);

/// (x*mul + add + half) >> shift clipped, without wrap, at both ends of an interval; and the
/// largest magnitude among x*mul, x*mul + add, x*mul + add + half.
struct RequantParams {
  std::int64_t mul, add;
  int shift;
  std::int64_t half, lo, hi;
  bool wide;  ///< products of 64 bits
};
RequantParams requant_params(const TransferContext& ctx, std::size_t channel);
Interval requant_interval(const Interval& x, const RequantParams& rq);
double requant_worst(const Interval& x, const RequantParams& rq);
/// Whether mul and add are one value, or one for each index of axis 1.
bool requant_follows_axis_1(const TransferContext& ctx);
/// Parameters that do not follow axis 1: every mul may meet every add.
std::vector<RequantParams> all_requant_params(const TransferContext& ctx);
/// Number of distinct parameter sets of a RequantShift node (1 or its channels).
std::size_t requant_channels(const TransferContext& ctx);

}  // namespace waveq
