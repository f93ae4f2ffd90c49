#pragma once

// What several rules need: reading constants, attributes and linear operators in all their
// spellings.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/rewrites/patch.h"

namespace waveq::rules {

/// Element of a float32 constant of one element, any rank; nothing otherwise (an absent value
/// included).
std::optional<double> scalar_of(const Graph& graph, ValueId id);
/// True for a known float32 value.
bool is_f32(const Graph& graph, ValueId id);
/// Producer of a value; null for inputs, constants and absent values.
const Node* producer_of(const Graph& graph, ValueId id);
const Shape& shape_of(const Graph& graph, ValueId id);

/// Integers from an attribute, or from a constant input; nothing when neither is there.
/// `dynamic` becomes true when the input is there but not constant.
struct IntsParam {
  std::optional<std::vector<std::int64_t>> values;
  bool dynamic = false;
};
IntsParam ints_of(const Graph& graph, const Node& node, std::string_view attr, std::size_t input);

/// A 1-D int64 constant.
Tensor ints_tensor(const std::vector<std::int64_t>& values);
/// A float32 tensor; every element is rounded once.
Tensor float_tensor(Shape shape, const std::vector<double>& values);
/// True if every element becomes a finite float.
bool all_finite(const std::vector<double>& values);

/// Elementwise function of two float32 constants under ONNX broadcasting, in double, rounded once.
Tensor broadcast_binary(const Tensor& a, const Tensor& b,
                        const std::function<double(double, double)>& f);

/// A constant that, broadcast to `out`, varies along `axis` only: its values along that axis (one
/// element is repeated). Nothing when it varies along others or would make `out` larger.
std::optional<std::vector<double>> along_axis(const Tensor& tensor, const Shape& out,
                                              std::size_t axis);

/// Axes in [0, rank), ascending, each once. \throws Error{shape}.
std::vector<std::int64_t> sorted_axes(std::vector<std::int64_t> axes, std::size_t rank,
                                      std::string_view where);

/// Reshape, Transpose and the like that permute or relabel elements without repeating or dropping
/// any.
bool is_movement(const std::string& op);
/// A movement, or a nearest-neighbour Resize or Upsample that enlarges: what an elementwise
/// function may go in front of, for it then sees no more elements.
bool repeats_or_moves(const Graph& graph, const Node& node);

/// Clip(x, lo, hi) with its bounds as attributes.
ValueId clip(Patch& patch, ValueId x, double lo, double hi);

/// x [...,a,b] as [...,b,a].
ValueId swap_last_axes(Patch& patch, ValueId x, std::size_t rank);

/// ReduceMean of x [N,C,...] of this rank over all axes behind the channels, keepdims 1.
ValueId mean_behind_channels(Patch& patch, ValueId x, std::size_t rank);

/// y = L(x) + bias with constant weights, L linear: Conv, ConvTranspose, Gemm, or MatMul with, if
/// there is one, the Add of a constant bias behind it.
struct Linear {
  NodeId node;           ///< of L
  NodeId add;            ///< of the bias behind a MatMul, or invalid
  ValueId weight, bias;  ///< bias may be invalid
  std::size_t weight_slot = 1;
  std::size_t axis = 1;  ///< channel axis of the output
  std::int64_t channels = 0;
};

/// The linear operator that produces `id`, or why it is none that can be changed. Nothing at all
/// (an empty reason) where the producer is another kind of operator. L must have no other use.
struct LinearOr {
  std::optional<Linear> linear;
  std::string reason;
};
LinearOr linear_behind(const Graph& graph, ValueId id);

/// y*gain + shift, folded: new weights and bias. One gain and one shift for each output channel; an
/// empty vector means 1, respectively 0. Nothing when a result is not finite.
std::optional<ValueId> fold_affine(Patch& patch, const Graph& graph, const Linear& linear,
                                   const std::vector<double>& gain,
                                   const std::vector<double>& shift);

}  // namespace waveq::rules
