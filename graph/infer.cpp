#include "waveq/graph/infer.h"

#include <fmt/format.h>

#include "waveq/graph/executor.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

// Shape arithmetic works on a handful of integers; larger tensors are data, and folding them here
// would only cost memory (the rewrite fold_constants does that, once).
constexpr std::int64_t kMaxFoldedElements = 4096;

/// Contents of values that are constant in fact although a node computes them.
using Known = std::vector<std::unique_ptr<Tensor>>;

std::vector<TensorType> infer_with(const Graph& graph, const Node& node, const Known* known) {
  const OpDef* op = find_op(node.op);
  if (!op)
    throw Error(ErrorCode::unsupported, fmt::format("{} '{}'", node.op, node.name),
                "is not an operator waveq knows", "`waveq ops` lists what is known");
  std::vector<TensorType> types;
  std::vector<const Tensor*> constants;
  for (ValueId in : node.inputs) {
    types.push_back(in.valid() ? graph.value(in).type : TensorType{});
    const Tensor* content = graph.is_constant(in) ? graph.value(in).constant.get() : nullptr;
    if (!content && in.valid() && known)
      content = (*known)[static_cast<std::size_t>(in.index)].get();
    constants.push_back(content);
  }
  try {
    return op->infer(InferContext{graph, node, types, constants});
  } catch (Error& e) {
    if (e.where().find(node.name) == std::string::npos)
      e.while_doing(fmt::format("inferring the type of {} '{}'", node.op, node.name));
    throw;
  }
}

/// Evaluates a node whose inputs are all known, if its result is small.
void fold(const Graph& graph, const Node& node, Known& known) {
  std::vector<const Tensor*> inputs;
  for (ValueId in : node.inputs) {
    const Tensor* content = nullptr;
    if (in.valid()) {
      content = graph.is_constant(in) ? graph.value(in).constant.get()
                                      : known[static_cast<std::size_t>(in.index)].get();
      // Shape needs the type of its input only, which is static.
      if (!content && node.op != "Shape" && node.op != "Size") return;
    }
    inputs.push_back(content);
  }
  for (ValueId out : node.outputs)
    if (out.valid() && element_count(graph.value(out).type.shape) > kMaxFoldedElements) return;
  Tensor stand_in;
  if (node.op == "Shape" || node.op == "Size") {
    // Shape and Size read only dimensions: a view without storage will do.
    const TensorType& type = graph.value(node.inputs.front()).type;
    stand_in = Tensor::borrow(type.dtype, type.shape, nullptr);
    inputs.front() = &stand_in;
  }
  std::vector<Tensor> results;
  try {
    results = evaluate_node(graph, node, inputs);
  } catch (const Error&) {
    return;  // not computable ahead of time (an overflow, say): whoever evaluates the network
             // decides
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i].valid())
      known[static_cast<std::size_t>(node.outputs[i].index)] =
          std::make_unique<Tensor>(std::move(results[i]));
}

Known infer_all(Graph& graph, const InferOptions& options) {
  Known known(graph.value_count());
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const bool unknown_op = find_op(node.op) == nullptr;
    bool unknown_input = false;
    for (ValueId in : node.inputs) unknown_input |= in.valid() && !graph.value(in).type.known();
    if ((unknown_op || unknown_input) && options.allow_unknown) continue;
    const std::vector<TensorType> types = infer_with(graph, node, &known);
    if (types.size() < node.outputs.size())
      throw Error(
          ErrorCode::shape, fmt::format("{} '{}'", node.op, node.name),
          fmt::format("has {} outputs, the operator gives {}", node.outputs.size(), types.size()));
    for (std::size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i].valid()) graph.set_type(node.outputs[i], types[i]);
    fold(graph, node, known);
  }
  return known;
}

}  // namespace

std::vector<TensorType> infer_node(const Graph& graph, const Node& node) {
  return infer_with(graph, node, nullptr);
}

void infer_types(Graph& graph, const InferOptions& options) { infer_all(graph, options); }

std::optional<Tensor> known_content(Graph& graph, ValueId value) {
  const Known known = infer_all(graph, {});
  if (graph.is_constant(value)) return graph.constant(value);
  const auto& content = known[static_cast<std::size_t>(value.index)];
  return content ? std::optional(*content) : std::nullopt;
}

}  // namespace waveq
