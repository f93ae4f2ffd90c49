#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// An input of a node about to be written: a value of the graph, or a parameter that was an
/// attribute.
struct FormInput {
  ValueId value;     ///< invalid with `name` empty: an absent input
  std::string name;  ///< parameter name of a made input
  Tensor made;
};

/// A node in the form of one operator set.
struct NodeForm {
  std::string op;
  std::vector<FormInput> inputs;
  Attrs attrs;  ///< without any waveq_*
};

/// Rewrites a node's parameters for the default operator set `opset`.
/// \throws Error{unsupported} naming the node where that set cannot say the same.
NodeForm form_for_opset(const Graph& graph, const Node& node, std::int64_t opset);

/// The first operator set that has an operator of the default domain; 1 where that is any.
std::int64_t first_opset(const Node& node);

/// Whether an input carries shapes, axes, counts or indices rather than data.
bool is_structural_input(const std::string& op, std::size_t slot);

/// IR version that was released together with an operator set (ONNX docs/Versioning.md), at
/// least 4.
std::int64_t ir_version_for(std::int64_t opset);

}  // namespace waveq
