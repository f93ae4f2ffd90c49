// HardSigmoid(x)  =>  Clip(x*alpha + beta, 0, 1)
// Factor, term and both clips are what a requantization computes anyway.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_hard_sigmoid_with_clip() {
  const Pat x = any();
  return {.name = "replace_hard_sigmoid_with_clip",
          .formula = "HardSigmoid(x) = Clip(x*alpha + beta, 0, 1)",
          .effect = Effect::reassociates,
          .source = "ONNX HardSigmoid-6",
          .stage = Stage::clean,
          .root = op("HardSigmoid", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[x])) return NoMatch{};
            const Attrs& attrs = m.root().attrs;
            const auto constant = [&](const char* name, double fallback) {
              return patch.constant(
                  Tensor::scalar(static_cast<float>(attrs.get_float(name, fallback))));
            };
            const ValueId scaled = patch.node("Mul", {m[x], constant("alpha", 0.2)});
            return clip(patch, patch.node("Add", {scaled, constant("beta", 0.5)}), 0.0, 1.0);
          }};
}

}  // namespace waveq::rules
