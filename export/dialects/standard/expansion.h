#pragma once

#include <map>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"

/// How each operator of an integer network is spelled with operators of the default ONNX set and
/// integer types. graph/integer_arithmetic.h states what they compute.
namespace waveq::standard {

/// The nodes that stand for one node of the source network. Arithmetic is in int64: the network is
/// proven to stay in int32, so nothing can wrap there.
/// C++ does not say which argument of a call comes first, and the order of creation reaches the
/// file: no call may have two arguments that create nodes (in braces they are in order).
class Expansion {
 public:
  /// `inputs`: values of `out` for the inputs of `node`, invalid where absent.
  Expansion(const Graph& source, Graph& out, const Node& node, std::vector<ValueId> inputs)
      : source_(source), out_(out), node_(node), inputs_(std::move(inputs)) {}

  const Node& node() const { return node_; }
  const Attrs& attrs() const { return node_.attrs; }
  std::size_t input_count() const { return inputs_.size(); }
  /// \throws std::out_of_range beyond the inputs.
  ValueId input(std::size_t i) const { return inputs_.at(i); }
  bool has(std::size_t i) const { return i < inputs_.size() && inputs_[i].valid(); }
  bool is_constant_input(std::size_t i) const { return out_.is_constant(input(i)); }
  /// Contents of a constant input. \throws Error{not_integer} where it is computed.
  const Tensor& constant_input(std::size_t i) const;
  const TensorType& type(ValueId id) const { return out_.value(id).type; }
  const Shape& shape(ValueId id) const { return type(id).shape; }
  /// Storage of the node's result in the source network.
  DType result_dtype() const { return source_.value(node_.outputs.front()).type.dtype; }
  Shape result_shape() const { return source_.value(node_.outputs.front()).type.shape; }

  ValueId constant(Tensor tensor);
  ValueId constant(std::int64_t value) { return constant(Tensor::scalar(value)); }
  ValueId constants(const std::vector<std::int64_t>& values);
  /// One node; its name is the source node's with the operator behind it.
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attrs attrs = {});
  /// The same elements as `dtype`; x itself where it has it.
  ValueId cast(ValueId x, DType dtype);
  /// In int64.
  ValueId wide(ValueId x) { return cast(x, DType::i64); }
  ValueId wide(std::size_t i) { return wide(input(i)); }  ///< of input i

  ValueId add(ValueId a, ValueId b) { return op("Add", {a, b}); }
  ValueId add(ValueId a, std::int64_t b) { return b == 0 ? a : add(a, constant(b)); }
  ValueId sub(ValueId a, ValueId b) { return op("Sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return op("Mul", {a, b}); }
  ValueId mul(ValueId a, std::int64_t b) { return b == 1 ? a : mul(a, constant(b)); }
  /// a / b truncated toward zero, as Div of integers is.
  ValueId div(ValueId a, ValueId b) { return op("Div", {a, b}); }
  ValueId div(ValueId a, std::int64_t b) { return div(a, constant(b)); }
  /// floor(a / b), b a positive constant: (a - a mod b) / b, where mod has the sign of b. An
  /// arithmetic right shift by s is the one by 2^s (BitShift takes unsigned integers alone).
  ValueId floor_div(ValueId a, std::int64_t b);
  /// a >> s for a >= 0 and s elementwise in 0..31.
  ValueId shift_right(ValueId a, ValueId s);
  /// x must be in int32: ONNX Runtime 1.30 compares low halves beyond it in
  /// Clip, Sign and in Min and Max with one value (measured on AVX-512), and sums int64 in double.
  ValueId clip(ValueId x, std::int64_t lo, std::int64_t hi);
  /// An int64 beyond int32 becomes the nearest of its ends.
  ValueId into_int32(ValueId x);
  /// -1, 0 or 1; x as for clip.
  ValueId sign(ValueId x) { return clip(x, -1, 1); }
  /// `magnitude` where x >= 0, else its negative, for any int64 x.
  ValueId with_sign_of(ValueId x, ValueId magnitude);
  /// Sum or maximum along `axes`, which stay with length 1 where `keep`.
  ValueId reduce(const std::string& op, ValueId x, std::vector<std::int64_t> axes, bool keep);
  /// Sum or maximum along the last axis, which becomes 1.
  ValueId reduce_last(const std::string& op, ValueId x);

 private:
  const Graph& source_;
  Graph& out_;
  const Node& node_;
  std::vector<ValueId> inputs_;
  std::map<std::string, int> named_;  ///< nodes of an operator so far
};

/// The node's result; its dtype is that of the source or is cast to it. Where it cannot be
/// expressed: Error{not_integer} at the node.
using Expand = ValueId (*)(Expansion&);

/// A row of the target's table.
struct StandardOperator {
  const char* op;
  const char* spelling;        ///< for `waveq targets --explain`
  Expand expand;               ///< null: the operator moves data and stands as it is
  bool borders_float = false;  ///< reads or makes float32
};

const std::vector<StandardOperator>& standard_operators();  ///< onnx_standard.cpp

/// Adds to `out` what stands for one node of `source`; its results there, in the dtypes they have
/// in `source`, invalid where absent. `inputs`: as for Expansion. \throws Error{not_integer} where
/// it has no standard form.
std::vector<ValueId> translate(const Graph& source, Graph& out, const Node& node,
                               std::vector<ValueId> inputs);  // onnx_standard.cpp

ValueId expand_conv(Expansion& e);              // linear.cpp
ValueId expand_gemm(Expansion& e);              // linear.cpp
ValueId expand_matmul(Expansion& e);            // linear.cpp
ValueId expand_requant(Expansion& e);           // requant.cpp
ValueId expand_inonorm(Expansion& e);           // requant.cpp
ValueId expand_quant(Expansion& e);             // quantizer.cpp
ValueId expand_dequant(Expansion& e);           // quantizer.cpp
ValueId expand_arithmetic(Expansion& e);        // arithmetic.cpp
ValueId expand_sign(Expansion& e);              // arithmetic.cpp
ValueId expand_clip(Expansion& e);              // arithmetic.cpp
ValueId expand_max_pool(Expansion& e);          // arithmetic.cpp
ValueId expand_pad(Expansion& e);               // arithmetic.cpp
ValueId expand_reduction(Expansion& e);         // arithmetic.cpp
ValueId expand_mean(Expansion& e);              // arithmetic.cpp
ValueId expand_integer_div(Expansion& e);       // arithmetic.cpp
ValueId expand_true_integer_div(Expansion& e);  // arithmetic.cpp
ValueId expand_igelu(Expansion& e);             // nonlinear.cpp
ValueId expand_ihardswish(Expansion& e);        // nonlinear.cpp
ValueId expand_table(Expansion& e);             // nonlinear.cpp
ValueId expand_isoftmax(Expansion& e);          // nonlinear.cpp
ValueId expand_itamax(Expansion& e);            // nonlinear.cpp
ValueId expand_ita_partial_max(Expansion& e);   // nonlinear.cpp
ValueId expand_ilayernorm(Expansion& e);        // nonlinear.cpp
ValueId expand_irmsnorm(Expansion& e);          // nonlinear.cpp
ValueId expand_igru(Expansion& e);              // recurrent.cpp
ValueId expand_ilstm(Expansion& e);             // recurrent.cpp

}  // namespace waveq::standard
