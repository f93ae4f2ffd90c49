// Exp(x - ReduceMax(x))  =>  Exp(-(ReduceMax(x) - x))
// The distance from the largest element is not negative: all levels of an unsigned tensor hold it.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule negate_stabilized_exponent() {
  const Pat x = any(), axes = any();
  const Pat most = op("ReduceMax", {x, optional(axes)});
  const Pat exponent = op("Sub", {x, most}).one_use();
  return {.name = "negate_stabilized_exponent",
          .formula = "Exp(x-ReduceMax(x)) = Exp(-(ReduceMax(x)-x))",
          .effect = Effect::exact,
          .source = "a-b = -(b-a) in every rounding mode to nearest",
          .stage = Stage::fuse,
          .root = op("Exp", {exponent}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[x])) return NoMatch{};
            const ValueId largest = m[most], own = m[x];
            const ValueId distance = patch.node("Sub", {largest, own});
            return patch.node("Exp", {patch.node("Neg", {distance})});
          }};
}

}  // namespace waveq::rules
