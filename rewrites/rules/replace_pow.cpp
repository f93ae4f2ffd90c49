// Pow(x, 2)  =>  x * x        Pow(x, 1/2)  =>  Sqrt(x)        Pow(x, 1)  =>  Identity(x)
// Pow(x, -1) =>  Reciprocal(x)   Pow(x, -1/2)  =>  Reciprocal(Sqrt(x))

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_pow() {
  const Pat x = any(), exponent = scalar();
  return {.name = "replace_pow",
          .formula = "x^2 = x*x, x^(1/2) = Sqrt(x), x^-1 = Reciprocal(x)",
          .effect = Effect::reassociates,
          .source = "ONNX Pow-7/12/13/15",
          .stage = Stage::clean,
          .root = op("Pow", {x, exponent}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const ValueId base = m[x];
            if (!is_f32(m.graph(), base) || m.shape(x) != shape_of(m.graph(), m.root_value()))
              return NoMatch{};
            const double power = *scalar_of(m.graph(), m[exponent]);
            if (power == 1.0) return patch.node("Identity", {base});
            if (power == 2.0) return patch.node("Mul", {base, base});
            if (power == 0.5) return patch.node("Sqrt", {base});
            if (power == -1.0) return patch.node("Reciprocal", {base});
            if (power == -0.5) return patch.node("Reciprocal", {patch.node("Sqrt", {base})});
            return NoMatch{};
          }};
}

}  // namespace waveq::rules
