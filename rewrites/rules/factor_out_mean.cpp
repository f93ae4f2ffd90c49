// x*s + (b - m*s)  =>  (x - m)*s + b
// A normalization as Keras writes it: gain/deviation times x, and what is left of bias and mean.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule factor_out_mean() {
  const Pat x = any(), s = any(), m = any(), b = constant();
  const Pat rest = op("Sub", {b, op("Mul", {m, s}).one_use()}).one_use();
  return {.name = "factor_out_mean",
          .formula = "x*s + (b - m*s) = (x - m)*s + b",
          .effect = Effect::reassociates,
          .source = "distributive law; tf.nn.batch_normalization",
          .stage = Stage::fuse,
          .root = op("Add", {op("Mul", {x, s}).one_use(), rest}),
          .apply = [=](const Match& match, Patch& patch) -> Outcome {
            const Graph& graph = match.graph();
            if (!is_f32(graph, match[x]) || graph.is_constant(match[s]) ||
                graph.is_constant(match[m]) ||
                match.shape(x) != shape_of(graph, match.root_value()))
              return NoMatch{};
            const ValueId value = match[x], mean = match[m], scale = match[s], bias = match[b];
            const ValueId centred = patch.node("Sub", {value, mean});
            return patch.node("Add", {patch.node("Mul", {centred, scale}), bias});
          }};
}

}  // namespace waveq::rules
