// x*a + x*c  =>  x*(a + c)                            c one number, or one per channel
// A gate and a bypass of one tensor are a gate: the sum is that of the gate, not of two products.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// A product that nothing else reads.
const Node* product(const Graph& graph, ValueId id) {
  const Node* node = producer_of(graph, id);
  return node && node->op == "Mul" && graph.use_count(id) == 1 ? node : nullptr;
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const std::vector<ValueId>& terms = m.root().inputs;
  if (terms.size() != 2 || !is_f32(graph, m.root_value())) return NoMatch{};
  const Shape& shape = shape_of(graph, m.root_value());
  for (std::size_t side : {0u, 1u}) {
    const Node *gated = product(graph, terms[side]), *scaled = product(graph, terms[1 - side]);
    if (!gated || !scaled || gated == scaled) continue;
    for (std::size_t i : {0u, 1u})
      for (std::size_t k : {0u, 1u}) {
        const ValueId x = gated->inputs[i], a = gated->inputs[1 - i], c = scaled->inputs[1 - k];
        if (scaled->inputs[k] != x || graph.is_constant(x) || graph.is_constant(a) ||
            !graph.is_constant(c) || a == x || shape_of(graph, x) != shape ||
            shape_of(graph, a) != shape || shape_of(graph, c).size() > shape.size())
          continue;
        return patch.node("Mul", {x, patch.node("Add", {a, c})});
      }
  }
  return NoMatch{};
}

}  // namespace

Rule factor_common_operand() {
  return {.name = "factor_common_operand",
          .formula = "x*a + x*c = x*(a + c)",
          .effect = Effect::reassociates,
          .source = "distributive law; TinySpeech's V*A + S*V (arXiv:2008.04245)",
          .stage = Stage::fuse,
          .root = op_in({"Add"}),
          .apply = apply};
}

}  // namespace waveq::rules
