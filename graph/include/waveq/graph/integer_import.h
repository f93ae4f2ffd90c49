#pragma once

#include <span>

#include "waveq/graph/graph.h"

/// Integer networks that other tools wrote. QuantLib, QuantLab and DeepQuant export every tensor as
/// float32 although its elements are integers; what is an integer network is told by operators and
/// values, as Deeploy does it.
namespace waveq {

/// Whether a graph computes with integers: it has an operator of the integer dialect, or all its
/// float constants are integral, all its operators have an integer meaning, and so have the sample
/// inputs where given (integer dtypes or integral values). Without constants and samples the
/// operators alone decide: an Add of two float inputs counts as integer. Spelled-out Quant and
/// Dequant (quantizer.h) have an integer meaning, samples of what they quantize need none.
bool looks_integer(const Graph& graph, std::span<const Tensor> sample_inputs = {});

/// The same network with integer dtypes. Used float32 constants become i8, i32 or i64, the smallest
/// that holds them (at least i32 for a bias of Conv or Gemm); float32 graph inputs become i32; a
/// Cast to float becomes one to i32; all other types are inferred again, whatever the file says.
/// Where an operator wants one type for several inputs (Concat, ...) narrower ones are widened by
/// Cast nodes. Spelled-out Quant and Dequant become one node each (merge_quantizers); what lies
/// before a Quant or behind a Dequant stays float32. Names of values are kept. \throws Error{parse}
/// naming a constant that is not integral; errors of infer_types.
Graph to_integer_network(const Graph& float_typed);

/// A tensor for an input of an integer network: integral values converted to `dtype`.
/// \throws Error{data} naming `where` for a value that is fractional or does not fit.
Tensor to_integer_tensor(const Tensor& tensor, DType dtype, std::string_view where);

}  // namespace waveq
