// Move(x) * c  =>  Move(x * c)                        likewise +, -, /; c one number
// Brings a gain or offset next to the operator that can absorb it, and elementwise steps next to
// each other. Only where nothing else reads the moved value: the gain alone is not worth a second
// Move.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() != 2 || !is_f32(graph, m.root_value())) return NoMatch{};
  for (std::size_t side : {0u, 1u}) {
    const ValueId moved = root.inputs[side];
    const auto number = scalar_of(graph, root.inputs[1 - side]);
    const Node* producer = producer_of(graph, moved);
    if (!number || !producer || !repeats_or_moves(graph, *producer)) continue;
    const Node& move = *producer;
    const NodeId move_id = graph.value(moved).producer;
    if (graph.is_constant(move.inputs[0]) ||
        shape_of(graph, moved) != shape_of(graph, m.root_value()))
      return NoMatch{};
    if (const std::size_t uses = graph.use_count(moved); uses != 1)
      return declined("the output of {} '{}' has {} uses", move.op, move.name, uses);
    // [1,1] behind a [T] would add an axis; a constant that cannot is as good.
    ValueId c = root.inputs[1 - side];
    if (!shape_of(graph, c).empty())
      c = patch.constant(Tensor::scalar(static_cast<float>(*number)), c);
    std::vector<ValueId> inputs(2);
    inputs[side] = move.inputs[0];
    inputs[1 - side] = c;
    std::vector<ValueId> move_inputs = move.inputs;
    move_inputs[0] = patch.like(m.root_id(), inputs);
    patch.note(fmt::format("now in front of {} '{}'", move.op, move.name));
    return patch.like(move_id, move_inputs);
  }
  return NoMatch{};
}

}  // namespace

Rule hoist_scalar_above_movement() {
  return {.name = "hoist_scalar_above_movement",
          .formula = "Move(x)*c = Move(x*c), Move(x)+c = Move(x+c)",
          .effect = Effect::exact,
          .source = "an elementwise function commutes with a permutation of elements",
          .stage = Stage::fold,
          .root = op_in({"Mul", "Add", "Div", "Sub"}),
          .apply = apply};
}

}  // namespace waveq::rules
