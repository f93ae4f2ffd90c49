#pragma once

#include "waveq/graph/graph.h"

// Exact rewritings of integer networks for targets that lack a form. Each keeps every integer of
// every tensor that keeps its name; a tensor may get further axes of length one.
namespace waveq {

/// requant_1(f(x)), requant_2(f(x)) with one f  =>  an f for each requant: kernels that compute f
/// and its requant as one have a single result.
void separate_requants(Graph& graph);

/// RequantShift(f(x)), unsigned or with an add other than 0, behind iGELU, IntegerDiv or iHardswish
/// => RequantShift(Reshape(f(x))) to the same shape: kernels that compute f and its requant as one
/// apply such an add wrongly and store signed codes alone; the view between keeps the two apart.
void part_added_requants(Graph& graph);

/// Concat(x, x) => Concat(x, Reshape(x)) to the same shape: the generated code declares a variable
/// for each operand, named after its tensor.
void distinct_concat_operands(Graph& graph);

/// Slice of an 8-bit tensor => RequantShift(1x1 Conv with a selection of the unit matrix), the axis
/// as channels, between Reshapes and, where axes of more than one element stand in front,
/// Transposes.
void slices_as_conv(Graph& graph);

/// Conv over [1,C,T] => Conv over [1,C,1,T]; Gemm over [1,K] with constant weights and no bias =>
/// 1x1 Conv over [1,K,1,1]. Requants, sums and other elementwise operators behind them keep the
/// longer shape, network outputs included; a Reshape stands wherever another operator reads or
/// makes such a tensor.
void conv_as_2d(Graph& graph);

/// Conv(x, w){pads} => Conv(Pad(x), w) where the pads are not equal on all sides, or where a
/// depthwise kernel strides over them.
void explicit_pads(Graph& graph);

/// A depthwise 2-D kernel of fewer taps gets columns of zeros, and its input as much padding.
void widen_depthwise_kernels(Graph& graph, std::int64_t least_taps);

/// a + b of int8 => RequantShift(a) + RequantShift(b) by factors of one, where an operand is no
/// requant's, another node reads it too, or the requant reads an accumulator of another elementwise
/// node: the kernel of a sum takes the requants of its operands along, and only such of its own.
void own_summand_requants(Graph& graph);

/// Sizes that a target's elementwise kernels handle.
struct WideElementwise {
  std::int64_t requant_elements;  ///< of a requant that no other kernel takes along, at most
  std::int64_t requant_multiple;  ///< and a multiple of this
  std::int64_t add_elements;      ///< of a sum, at most
};

/// Beyond these sizes, or to unsigned, over 8-bit [1,C], [1,C,T], [1,C,H,W]: RequantShift(x) =>
/// RequantShift(1x1 Conv with the unit matrix). Beyond these sizes, over [1,C,H,W]: a + b => 1x1
/// Conv with two unit matrices over the two laid side by side.
void wide_elementwise_as_conv(Graph& graph, const WideElementwise& limits);

}  // namespace waveq
