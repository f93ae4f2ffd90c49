// x - c  =>  x + (-c)        c - x  =>  x*(-1) + c                float32, c constant

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_sub_with_add() {
  const Pat a = any(), b = any();
  return {.name = "replace_sub_with_add",
          .formula = "x-c = x+(-c), c-x = x*(-1)+c",
          .effect = Effect::exact,
          .source = "IEEE 754: subtraction is addition of the negated operand",
          .stage = Stage::fold,
          .root = op("Sub", {a, b}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!is_f32(graph, m[a]) || graph.is_constant(m[a]) == graph.is_constant(m[b]))
              return NoMatch{};
            if (graph.is_constant(m[a])) {
              const ValueId c = m[a];
              const ValueId minus = patch.constant(Tensor::scalar(-1.0F));
              return patch.node("Add", {patch.node("Mul", {m[b], minus}), c});
            }
            std::vector<double> negated = to_double(m.tensor(b));
            for (double& v : negated) v = -v;
            return patch.node("Add", {m[a], patch.constant(float_tensor(m.shape(b), negated))});
          }};
}

}  // namespace waveq::rules
