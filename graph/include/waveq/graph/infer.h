#pragma once

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

/// Types of the outputs of one node. \throws Error{unsupported} for an unknown operator.
std::vector<TensorType> infer_node(const Graph& graph, const Node& node);

}  // namespace waveq
