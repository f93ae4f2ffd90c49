#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// What to do where an integer operator's arithmetic leaves the target's accumulator type.
enum class Overflow {
  error,  ///< \throws Error{overflow} naming the node: golden vectors must never contain a wrap
  wrap,   ///< two's complement, as the target's C does; for networks made by other tools
};

/// What an operator sees of one node during type inference.
struct InferContext {
  const Graph& graph;
  const Node& node;
  std::span<const TensorType> inputs;        ///< undefined dtype for an absent optional input
  std::span<const Tensor* const> constants;  ///< known contents, nullptr where unknown

  const TensorType& input(std::size_t i) const;  ///< \throws Error{shape} when absent
  bool has(std::size_t i) const { return i < inputs.size() && inputs[i].known(); }
  const Tensor* constant(std::size_t i) const {
    return i < constants.size() ? constants[i] : nullptr;
  }
  const Attrs& attrs() const { return node.attrs; }
  [[noreturn]] void fail(std::string what,
                         std::string hint = {}) const;  ///< Error{shape} at the node
};

/// What an operator sees of one node during evaluation. Outputs have their inferred type and
/// arbitrary content.
struct EvalContext {
  const Node& node;
  std::span<const Tensor* const> inputs;  ///< nullptr for an absent optional input
  std::span<Tensor* const> outputs;       ///< nullptr for an unused optional output
  Overflow overflow = Overflow::error;    ///< of integer arithmetic

  const Tensor& input(std::size_t i) const;  ///< \throws Error{internal} when absent
  bool has(std::size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  Tensor& output(std::size_t i = 0) const {
    WAVEQ_CHECK(i < outputs.size() && outputs[i] != nullptr);
    return *outputs[i];
  }
  const Attrs& attrs() const { return node.attrs; }
  [[noreturn]] void fail(ErrorCode code, std::string what, std::string hint = {}) const;
};

/// An operator in one place: schema, type inference and evaluation. Float and integer forms of a
/// standard operator share an OpDef; `eval` looks at the dtypes.
struct OpDef {
  std::string name;  ///< without domain, unique
  std::vector<std::string>
      inputs;  ///< names; a trailing "?" marks an optional one, "..." a variadic tail
  std::vector<std::string> attrs = {};  ///< attribute names that have meaning
  std::string spec;                     ///< ONNX operator and versions, or kernel file
  std::function<std::vector<TensorType>(const InferContext&)> infer;  ///< one type an output
  std::function<void(const EvalContext&)> eval;                       ///< fills every output
  /// Only moves elements: no arithmetic, output values are input values (Reshape, Transpose, ...).
  bool moves_data = false;
  /// Belongs to the integer dialect (PACTOps); its float32 spelling carries integers.
  bool dialect = false;
  /// Multiply-accumulates of one evaluation; null when none.
  std::function<std::int64_t(const Graph&, const Node&)> macs = {};
};

/// nullptr for an operator waveq does not know.
const OpDef* find_op(std::string_view name);
/// All operators, ordered by name.
const std::vector<const OpDef*>& all_ops();

/// Axes, pads and the like: an attribute in older opsets, a constant input in newer ones.
/// Returns `fallback` when neither is present. \throws Error when the input is not constant.
std::vector<std::int64_t> ints_param(const InferContext& ctx, std::string_view attr,
                                     std::size_t input, std::vector<std::int64_t> fallback);
std::vector<std::int64_t> ints_param(const EvalContext& ctx, std::string_view attr,
                                     std::size_t input, std::vector<std::int64_t> fallback);

}  // namespace waveq
