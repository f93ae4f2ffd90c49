#include "waveq/rewrites/patch.h"

namespace waveq {

namespace {
std::string base_name(const Node& node) { return node.origin.empty() ? node.name : node.origin; }
}  // namespace

Patch::Patch(Graph& graph, NodeId root, std::string rule)
    : graph_(graph), root_(root), rule_(std::move(rule)) {}

ValueId Patch::emit(const std::string& op, const Node& model, std::vector<ValueId> inputs,
                    Attrs attrs) {
  // The user's name, not the root's: names would grow with every rule that passes by.
  const std::string origin = base_name(model);
  for (ValueId in : inputs)
    if (in.valid() && !graph_.value(in).type.known())
      throw Error(ErrorCode::unsupported, fmt::format("{} '{}'", model.op, model.name),
                  fmt::format("the type of '{}' is not known", graph_.value(in).name));
  const ValueId out = graph_.emit(op, fmt::format("{}_{}", origin, rule_), std::move(inputs),
                                  std::move(attrs), origin);
  created_.push_back(graph_.value(out).producer);
  return out;
}

ValueId Patch::node(std::string op, std::vector<ValueId> inputs, Attrs attrs) {
  return emit(op, graph_.node(root_), std::move(inputs), std::move(attrs));
}

ValueId Patch::like(NodeId model, std::vector<ValueId> inputs) {
  return like(model, std::move(inputs), graph_.node(model).attrs);
}

ValueId Patch::like(NodeId model, std::vector<ValueId> inputs, Attrs attrs) {
  const Node& original = graph_.node(model);
  return emit(original.op, original, std::move(inputs), std::move(attrs));
}

ValueId Patch::constant(Tensor tensor, ValueId derived_from) {
  std::string name = derived_from.valid()
                         ? graph_.value(derived_from).name
                         : fmt::format("{}_{}_const", base_name(graph_.node(root_)), rule_);
  return graph_.add_constant(std::move(name), std::move(tensor));
}

void Patch::roll_back() {
  while (!created_.empty()) {
    graph_.remove_node(created_.back());
    created_.pop_back();
  }
}

}  // namespace waveq
