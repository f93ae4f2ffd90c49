// Clip(x, lo, hi)  =>  Clip(x - lo, 0, hi - lo) + lo      lo finite and not 0
// Clip(x, max=hi)  =>  -Relu(-x + hi) + hi
// A requantization clips at zero; a clip elsewhere is one between two constant terms.

#include <cmath>
#include <limits>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_clip_with_clip_at_zero() {
  const Pat x = any();
  return {.name = "replace_clip_with_clip_at_zero",
          .formula =
              "Clip(x, lo, hi) = Clip(x - lo, 0, hi - lo) + lo, "
              "Clip(x, max=hi) = -Relu(-x + hi) + hi",
          .effect = Effect::reassociates,
          .source = "ONNX Clip-6/11/12/13",
          .stage = Stage::fold,
          .root = op("Clip", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[x]) || m.root().inputs.size() != 1) return NoMatch{};
            constexpr double kMost = std::numeric_limits<float>::max();
            const double lo = m.root().attrs.get_float("min", -kMost),
                         hi = m.root().attrs.get_float("max", kMost);
            if (lo == 0.0 || hi <= lo) return NoMatch{};
            // A divisor that is kept away from zero is a guard, which replace_divisor reads.
            for (NodeId user : m.graph().value(m.root_value()).uses)
              if (m.graph().node(user).op == "Div") return NoMatch{};
            const auto scalar = [&](double v) {
              return patch.constant(Tensor::scalar(static_cast<float>(v)));
            };
            if (!(lo > -kMost)) {
              const ValueId below =
                  patch.node("Add", {patch.node("Mul", {m[x], scalar(-1.0)}), scalar(hi)});
              const ValueId above = patch.node("Mul", {patch.node("Relu", {below}), scalar(-1.0)});
              return patch.node("Add", {above, scalar(hi)});
            }
            const ValueId shifted = patch.node("Add", {m[x], scalar(-lo)});
            const ValueId clipped =
                hi < kMost ? clip(patch, shifted, 0.0, hi - lo) : patch.node("Relu", {shifted});
            return patch.node("Add", {clipped, scalar(lo)});
          }};
}

}  // namespace waveq::rules
