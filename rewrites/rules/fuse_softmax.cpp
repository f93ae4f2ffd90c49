// Exp(x - ReduceMax(x)) / ReduceSum(Exp(x - ReduceMax(x)))  =>  Softmax(x), along one axis
// Also without the maximum, which cancels.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fuse_softmax() {
  const Pat x = any(), y = any(), most_axes = any(), sum_axes = any();
  const Pat most = op("ReduceMax", {x, optional(most_axes)});
  const Pat exponential = either(op("Exp", {op("Sub", {x, most})}), op("Exp", {y}));
  const Pat sum = op("ReduceSum", {exponential, optional(sum_axes)});
  return {.name = "fuse_softmax",
          .formula = "Exp(x-ReduceMax(x))/ReduceSum(Exp(x-ReduceMax(x))) = Softmax(x)",
          .effect = Effect::reassociates,
          .source = "ONNX Softmax-13, its function body",
          .stage = Stage::clean,
          .root = op("Div", {exponential, sum}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const ValueId in = m.has(most) ? m[x] : m[y];
            if (!is_f32(graph, in)) return NoMatch{};
            const std::size_t rank = shape_of(graph, in).size();
            const Node& reduce = m.node(sum);
            const IntsParam over = ints_of(graph, reduce, "axes", 1);
            if (!over.values || reduce.attrs.get_int("keepdims", 1) != 1) return NoMatch{};
            const auto axes = sorted_axes(*over.values, rank, reduce.name);
            if (axes.size() != 1) return declined("the sum is over {} axes", axes.size());
            if (m.has(most)) {
              // The maximum of more than the row stabilizes it as well.
              const IntsParam top = ints_of(graph, m.node(most), "axes", 1);
              const bool all = !top.dynamic && (!top.values || top.values->empty());
              if (m.node(most).attrs.get_int("keepdims", 1) != 1 || top.dynamic) return NoMatch{};
              if (!all) {
                const auto of = sorted_axes(*top.values, rank, reduce.name);
                if (std::ranges::find(of, axes.front()) == of.end()) return NoMatch{};
              }
            }
            Attrs attrs;
            attrs.set("axis", axes.front());
            return patch.node("Softmax", {in}, attrs);
          }};
}

}  // namespace waveq::rules
