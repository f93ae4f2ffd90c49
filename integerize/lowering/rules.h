#pragma once

#include "lowering.h"

namespace waveq {

// linear.cpp
void lower_conv(Lowering& to, const Node& node);
void lower_gemm(Lowering& to, const Node& node);
void lower_matmul(Lowering& to, const Node& node);
// elementwise.cpp
void lower_add(Lowering& to, const Node& node);
void lower_sub(Lowering& to, const Node& node);
void lower_mul(Lowering& to, const Node& node);
// activations.cpp
void lower_relu(Lowering& to, const Node& node);
void lower_clip(Lowering& to, const Node& node);
void lower_gelu(Lowering& to, const Node& node);
// division.cpp
void lower_div(Lowering& to, const Node& node);
// reduction.cpp
void lower_reduce(Lowering& to, const Node& node);
void lower_average_pool(Lowering& to, const Node& node);
// rows.cpp
void lower_softmax(Lowering& to, const Node& node);
void lower_layer_norm(Lowering& to, const Node& node);
// movement.cpp
void lower_movement(Lowering& to, const Node& node);
void lower_gather(Lowering& to, const Node& node);
void lower_split(Lowering& to, const Node& node);
void lower_concat(Lowering& to, const Node& node);
void lower_max_pool(Lowering& to, const Node& node);
void lower_pad(Lowering& to, const Node& node);

// tables.cpp
void lower_table(Lowering& to, ValueId x, ValueId y);

/// A constant operand as one number, or one per index of axis 1 of a tensor of `shape`; nothing for
/// any other shape.
std::optional<std::vector<double>> per_channel_constant(const Tensor& constant, const Shape& shape);

}  // namespace waveq
