// x * (1/d)  =>  x / d                                d an activation
//
// Normalizers of linear attention are often written as a reciprocal that is multiplied in later. The quotient has an
// integer form, a reciprocal of an activation has none.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fuse_mul_reciprocal() {
  const Pat x = any(), d = any();
  const Pat reciprocal = either(op("Reciprocal", {d}), op("Div", {scalar(1.0), d}));
  return {.name = "fuse_mul_reciprocal",
          .formula = "x*(1/d) = x/d",
          .effect = Effect::reassociates,
          .source = "definition of the reciprocal; Katharopoulos et al. 2020 (arXiv:2006.16236), code form of eq. 4",
          .stage = Stage::fuse,
          .root = op("Mul", {x, reciprocal}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!is_f32(graph, m[x]) || graph.is_constant(m[d])) return NoMatch{};
            return patch.node("Div", {m[x], m[d]});
          }};
}

}  // namespace waveq::rules
