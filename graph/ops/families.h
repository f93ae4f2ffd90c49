#pragma once

#include <vector>

#include "waveq/graph/op.h"

/// One function per operator family; registry.cpp joins them. Each stands in the file of its name.
namespace waveq {

std::vector<OpDef> linear_ops();
std::vector<OpDef> einsum_ops();
std::vector<OpDef> elementwise_ops();
std::vector<OpDef> logic_ops();
std::vector<OpDef> unary_ops();
std::vector<OpDef> activation_ops();
std::vector<OpDef> reduction_ops();
std::vector<OpDef> movement_ops();
std::vector<OpDef> shape_ops();
std::vector<OpDef> pooling_ops();
std::vector<OpDef> normalization_ops();
std::vector<OpDef> response_normalization_ops();
std::vector<OpDef> indexing_ops();
std::vector<OpDef> recurrent_ops();
std::vector<OpDef> requant_ops();
std::vector<OpDef> quantization_ops();
std::vector<OpDef> integer_ops();

}  // namespace waveq
