// Where(mask, a, b)  =>  a*m + b*(1-m)                mask constant, m = 1 where it holds, else 0

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// x where `mask` equals `wanted`, 0 elsewhere; a constant is computed at once.
ValueId masked(const Graph& graph, Patch& patch, ValueId x, const Tensor& mask, bool wanted) {
  std::vector<double> kept;
  for (bool on : mask.as<bool>()) kept.push_back(on == wanted ? 1.0 : 0.0);
  const Tensor factor = float_tensor(mask.shape(), kept);
  if (!graph.is_constant(x)) return patch.node("Mul", {x, patch.constant(factor)});
  return patch.constant(broadcast_binary(graph.constant(x), factor,
                                         [](double v, double f) { return f == 0 ? 0.0 : v; }));
}

bool is_finite_constant(const Graph& graph, ValueId id) {
  return graph.is_constant(id) && all_finite(to_double(graph.constant(id)));
}

}  // namespace

Rule replace_constant_mask() {
  const Pat mask = constant(), a = any(), b = any();
  return {.name = "replace_constant_mask",
          .formula = "Where(mask,a,b) = a*m + b*(1-m)",
          .effect = Effect::exact,
          .source = "ONNX Where-9/16",
          .stage = Stage::fold,
          .root = op("Where", {mask, a, b}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const ValueId x = m[a], y = m[b];
            if (!is_f32(graph, x) || !is_f32(graph, y) ||
                (graph.is_constant(x) && graph.is_constant(y)))
              return NoMatch{};
            for (ValueId v : {x, y})
              if (graph.is_constant(v) && !is_finite_constant(graph, v))
                return declined("it puts in a number that is not finite");
            const Tensor holds = m.tensor(mask);
            const ValueId kept = masked(graph, patch, x, holds, true),
                          put_in = masked(graph, patch, y, holds, false);
            return patch.node("Add", {kept, put_in});
          }};
}

}  // namespace waveq::rules
