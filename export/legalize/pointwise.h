#pragma once

#include <string>

#include "waveq/graph/graph.h"

namespace waveq {

/// Attributes of a dense Conv with a 1x1 kernel.
Attrs pointwise();

/// RequantShift that leaves 8-bit codes, or an int32 accumulator of such, as they are, int8 or
/// uint8: a factor of 1 - 2^-16, which changes no code and is not mistaken for a node that may go
/// (deeploy-dialect.md T24).
ValueId unit_requant(Graph& graph, ValueId codes, DType dtype, const std::string& name,
                     const std::string& origin);

}  // namespace waveq
