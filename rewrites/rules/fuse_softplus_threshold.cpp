// Where(x > t, x, Softplus(x))  =>  Softplus(x)                                  t at least 17
// As torch.onnx writes nn.Softplus; beyond 17 both branches are one float32.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fuse_softplus_threshold() {
  const Pat x = any(), threshold = constant(), curve = op("Softplus", {x});
  return {.name = "fuse_softplus_threshold",
          .formula = "Where(x>t,x,Softplus(x)) = Softplus(x)",
          .effect = Effect::reassociates,
          .source = "Softplus(x) - x = log(1 + exp(-x)) < 2^-24 x for x > 17",
          .stage = Stage::clean,
          .root = op("Where", {op("Greater", {x, threshold}), x, curve}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            constexpr double kOneFloat = 17;
            const auto t = scalar_of(m.graph(), m[threshold]);
            if (!t || !(*t >= kOneFloat)) return NoMatch{};
            if (shape_of(m.graph(), m.root_value()) != m.shape(x)) return NoMatch{};
            return patch.node("Softplus", {m[x]});
          }};
}

}  // namespace waveq::rules
