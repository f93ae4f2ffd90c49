// x / c  =>  x * (1/c)                                float32, c constant

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_div_with_mul() {
  const Pat x = any(), c = constant();
  return {.name = "replace_div_with_mul",
          .formula = "x/c = x*(1/c)",
          .effect = Effect::reassociates,
          .source = "definition of the reciprocal; exact where c is a power of two",
          .stage = Stage::fold,
          .root = op("Div", {x, c}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[c]) || m.graph().is_constant(m[x])) return NoMatch{};
            std::vector<double> inverse = to_double(m.tensor(c));
            for (double& v : inverse) v = 1.0 / v;
            if (!all_finite(inverse))
              return declined("the divisor '{}' has a zero in it", m.graph().value(m[c]).name);
            return patch.node("Mul", {m[x], patch.constant(float_tensor(m.shape(c), inverse))});
          }};
}

}  // namespace waveq::rules
