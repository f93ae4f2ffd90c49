#pragma once

#include <optional>

#include "waveq/graph/graph.h"

namespace waveq {

struct InferOptions {
  /// An operator waveq does not know leaves its outputs at the type the file states, or unknown,
  /// and inference goes on; otherwise Error{unsupported} names the node.
  bool allow_unknown = true;
};

/// Gives every value its dtype and static shape from the types of the graph inputs. Shape
/// arithmetic (Shape, Gather, Concat, ... on known tensors) is evaluated on the way, so
/// data-dependent shapes that are constant in fact are resolved; the graph's structure is not
/// changed. \throws Error{shape} naming the node whose operands do not fit.
void infer_types(Graph& graph, const InferOptions& options = {});

/// Contents of a value that follow from constants and shapes alone (up to 4096 elements); gives
/// every value its type on the way. \throws as infer_types.
std::optional<Tensor> known_content(Graph& graph, ValueId value);

/// Types of the outputs of one node. \throws Error{unsupported} for an unknown operator.
std::vector<TensorType> infer_node(const Graph& graph, const Node& node);

}  // namespace waveq
