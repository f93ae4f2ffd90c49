// HardSwish(x)  =>  x * HardSigmoid(x; 1/6, 1/2)

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_hard_swish_with_mul() {
  const Pat x = any();
  return {.name = "replace_hard_swish_with_mul",
          .formula = "HardSwish(x) = x * HardSigmoid(x; 1/6, 1/2)",
          .effect = Effect::reassociates,
          .source = "ONNX HardSwish-14",
          .stage = Stage::clean,
          .root = op("HardSwish", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[x])) return NoMatch{};
            Attrs attrs;
            attrs.set("alpha", 1.0 / 6.0);
            attrs.set("beta", 0.5);
            return patch.node("Mul", {m[x], patch.node("HardSigmoid", {m[x]}, attrs)});
          }};
}

}  // namespace waveq::rules
