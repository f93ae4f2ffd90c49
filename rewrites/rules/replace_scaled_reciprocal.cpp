// a * (g / d)  =>  (a / d) * g                                            g constant
// A gain over a deviation is a quotient of two activations and a gain, which has a place in
// weights.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_scaled_reciprocal() {
  const Pat a = any(), g = constant(), d = any();
  const Pat quotient = op("Div", {g, d}).one_use();
  return {.name = "replace_scaled_reciprocal",
          .formula = "a*(g/d) = (a/d)*g",
          .effect = Effect::reassociates,
          .source = "commutative law",
          .stage = Stage::fuse,
          .root = op("Mul", {a, quotient}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!is_f32(graph, m[a]) || graph.is_constant(m[a]) || graph.is_constant(m[d]) ||
                m.shape(a) != shape_of(graph, m.root_value()))
              return NoMatch{};
            const ValueId numerator = m[a], divisor = m[d], gain = m[g];
            return patch.node("Mul", {patch.node("Div", {numerator, divisor}), gain});
          }};
}

}  // namespace waveq::rules
