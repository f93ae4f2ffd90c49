// f(Move(x))  =>  Move(f(x))                          f elementwise, Move = Reshape, Transpose, ...
// An activation that sits right behind its Conv merges with the Conv's requantization. Where the
// moved value has other readers they keep their Move; moving is free or cheap, f is computed once
// either way. A nearest-neighbour Resize that enlarges counts as a Move too: fewer elements go
// through f.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.empty() || !is_f32(graph, m.root_value())) return NoMatch{};
  // Bounds that are inputs would have to move along; normalize_axes_input makes them attributes.
  for (std::size_t i = 1; i < root.inputs.size(); ++i)
    if (root.inputs[i].valid() && !scalar_of(graph, root.inputs[i])) return NoMatch{};
  const Node* producer = producer_of(graph, root.inputs[0]);
  if (!producer || producer->outputs[0] != root.inputs[0] || !repeats_or_moves(graph, *producer))
    return NoMatch{};
  const Node& move = *producer;
  const NodeId move_id = graph.value(root.inputs[0]).producer;
  if (!is_f32(graph, move.inputs[0]) || graph.is_constant(move.inputs[0])) return NoMatch{};
  std::vector<ValueId> inputs = root.inputs;
  inputs[0] = move.inputs[0];
  const ValueId active = patch.like(m.root_id(), inputs);
  std::vector<ValueId> moved = move.inputs;
  moved[0] = active;
  patch.note(fmt::format("now in front of {} '{}'", move.op, move.name));
  return patch.like(move_id, moved);
}

}  // namespace

Rule hoist_activation_above_movement() {
  return {.name = "hoist_activation_above_movement",
          .formula = "f(Move(x)) = Move(f(x))",
          .effect = Effect::exact,
          .source = "an elementwise function commutes with a permutation of elements",
          .stage = Stage::fold,
          .root = op_in({"Relu",     "LeakyRelu", "Elu",         "Selu",      "Celu",
                         "Gelu",     "Sigmoid",   "HardSigmoid", "HardSwish", "Tanh",
                         "Softplus", "Softsign",  "Mish",        "Erf",       "Exp",
                         "Log",      "Sqrt",      "Abs",         "Neg",       "Reciprocal",
                         "Floor",    "Ceil",      "Round",       "Sign",      "Clip"}),
          .apply = apply};
}

}  // namespace waveq::rules
