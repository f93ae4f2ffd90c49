// x * (1/d)  =>  x / d                                d an activation
//
// Normalizers of linear attention are often written as a reciprocal that is multiplied in later.
// The quotient has an integer form, a reciprocal of an activation has none.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// d of Reciprocal(d) or 1/d; invalid for anything else.
ValueId inverted(const Graph& graph, const Node& node) {
  if (node.op == "Reciprocal") return node.inputs[0];
  if (node.op == "Div" && scalar_of(graph, node.inputs[0]) == 1.0) return node.inputs[1];
  return {};
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  for (std::size_t side : {1u, 0u}) {
    // The reciprocal may have been moved since: Mul(x, Move(1/d)) is Div(x, Move(d)).
    std::vector<NodeId> moves;
    ValueId at = root.inputs[side];
    const Node* node = producer_of(graph, at);
    while (node && is_movement(node->op) && graph.use_count(at) == 1) {
      moves.push_back(graph.value(at).producer);
      at = node->inputs[0];
      node = producer_of(graph, at);
    }
    ValueId d = node ? inverted(graph, *node) : ValueId{};
    if (!d.valid() || graph.is_constant(d) || !is_f32(graph, root.inputs[1 - side])) continue;
    for (auto move = moves.rbegin(); move != moves.rend(); ++move) {
      std::vector<ValueId> inputs = graph.node(*move).inputs;
      inputs[0] = d;
      d = patch.like(*move, inputs);
    }
    return patch.node("Div", {root.inputs[1 - side], d});
  }
  return NoMatch{};
}

}  // namespace

Rule fuse_mul_reciprocal() {
  return {.name = "fuse_mul_reciprocal",
          .formula = "x*(1/d) = x/d, x*Move(1/d) = x/Move(d)",
          .effect = Effect::reassociates,
          .source =
              "definition of the reciprocal; Katharopoulos et al. 2020 (arXiv:2006.16236), "
              "code form of eq. 4",
          .stage = Stage::fuse,
          .root = op_in({"Mul"}),
          .apply = apply};
}

}  // namespace waveq::rules
