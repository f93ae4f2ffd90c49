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
void lower_reduce_max(Lowering& to, const Node& node);
// pooling.cpp
void lower_max_pool(Lowering& to, const Node& node);
void lower_global_max_pool(Lowering& to, const Node& node);
void lower_average_pool(Lowering& to, const Node& node);
// rows.cpp
void lower_softmax(Lowering& to, const Node& node);
void lower_log_softmax(Lowering& to, const Node& node);
void lower_layer_norm(Lowering& to, const Node& node);
void lower_rms_norm(Lowering& to, const Node& node);
// resize.cpp
void lower_resize(Lowering& to, const Node& node);
// recurrent.cpp
void lower_recurrent(Lowering& to, const Node& node);
/// The codes of an input that does nothing but start recurrent cells, possibly moved: those of the
/// state. Nothing for other inputs, and where hidden states and cells are in one.
std::optional<QuantParams> codes_of_state(const Graph& graph, ValueId input);
// movement.cpp
void lower_movement(Lowering& to, const Node& node);
void lower_gather(Lowering& to, const Node& node);
void lower_split(Lowering& to, const Node& node);
void lower_concat(Lowering& to, const Node& node);
void lower_pad(Lowering& to, const Node& node);
// selection.cpp
void lower_repetition(Lowering& to, const Node& node);
/// x with the elements at these indices of one axis, in this order; each in [0, length).
ValueId pick(Lowering& to, const Activation& x, std::size_t axis,
             const std::vector<std::int64_t>& indices, const std::string& name);
/// pick() along every axis.
ValueId pick_axes(Lowering& to, const Activation& x,
                  const std::vector<std::vector<std::int64_t>>& indices, const std::string& name);
/// Which elements of its first input a node that moves data takes, axis by axis; input and output
/// have one rank. \throws Refused where another input is no constant.
std::vector<std::vector<std::int64_t>> picked_elements(Lowering& to, const Node& node);

// broadcast.cpp
/// x repeated along its axes of length 1 to `shape`, for targets whose kernels do not do it; x
/// itself for those that do.
Activation repeated(Lowering& to, const Activation& x, const Shape& shape, const std::string& name);

// tables.cpp
void lower_table(Lowering& to, ValueId x, ValueId y);

/// One spatial axis of a convolution or pool: output o reads in[o*stride - begin + k*dilation], k <
/// kernel.
struct WindowAxis {
  std::int64_t in = 0, out = 0, kernel = 1, stride = 1, dilation = 1, begin = 0, end = 0;
  /// Positions from the start of the first window to the end of the last.
  std::int64_t read() const { return (out - 1) * stride + (kernel - 1) * dilation + 1; }
};
// spatial.cpp
/// The axes of a node with these kernel sizes, auto_pad resolved. Source: ONNX Conv-11, auto_pad.
std::vector<WindowAxis> window_axes(Lowering& to, const Node& node, const Shape& kernel);
/// x padded with a code; `pads` has all begins, then all ends. Any axis, any amounts: where the
/// consumer has no kernel for them, as 1-D padding between reshapes.
ValueId pad(Lowering& to, const Activation& x, const std::vector<std::int64_t>& pads,
            std::int64_t code, const std::string& name);
/// x for a Conv with these pads: as it is, or, where the consumer's Conv does not take them (ends
/// that differ in two dimensions, a single padded element; a zero point, which is what it would
/// have to pad with), padded by itself, and `pads` become 0.
ValueId padded_for_conv(Lowering& to, const Activation& x, std::vector<std::int64_t>& pads,
                        const std::string& name);

/// A constant operand as one number, or one per index of axis 1 of a tensor of `shape`; nothing for
/// any other shape.
std::optional<std::vector<double>> per_channel_constant(const Tensor& constant, const Shape& shape);

}  // namespace waveq
