// x - c  =>  x + (-c)                                 float32, c constant

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_sub_with_add() {
  const Pat x = any(), c = constant();
  return {.name = "replace_sub_with_add",
          .formula = "x-c = x+(-c)",
          .effect = Effect::exact,
          .source = "IEEE 754: subtraction is addition of the negated operand",
          .stage = Stage::fold,
          .root = op("Sub", {x, c}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[c]) || m.graph().is_constant(m[x])) return NoMatch{};
            std::vector<double> negated = to_double(m.tensor(c));
            for (double& v : negated) v = -v;
            return patch.node("Add", {m[x], patch.constant(float_tensor(m.shape(c), negated))});
          }};
}

}  // namespace waveq::rules
