#pragma once

#include <vector>

#include "waveq/graph/op.h"

/// The files that together make up integer_ops().
namespace waveq {

std::vector<OpDef> integer_division_ops();
std::vector<OpDef> integer_softmax_ops();
std::vector<OpDef> integer_activation_ops();
std::vector<OpDef> integer_norm_ops();
std::vector<OpDef> integer_table_ops();
std::vector<OpDef> integer_recurrent_ops();
std::vector<OpDef> integer_quantizer_ops();

}  // namespace waveq
