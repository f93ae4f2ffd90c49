#pragma once

#include "waveq/graph/graph.h"

namespace waveq {

/// Networks of the integer dialect spell integers as float32, but some tools leave weights, biases
/// or addends in integer types beside float32 activations. Where operands must agree (Conv, Gemm,
/// MatMul, Add, Sub, Mul), such a constant becomes float32, unless that would round it. Graphs
/// without an operator of the dialect stay as they are.
void agree_on_spelling(Graph& graph);

}  // namespace waveq
