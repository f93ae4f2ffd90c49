// Clip(x, lo, hi)  =>  Min(Max(x, lo), hi)                   an end computed at run time

#include <limits>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_computed_clip() {
  return {.name = "replace_computed_clip",
          .formula = "Clip(x,lo,hi) = Min(Max(x,lo),hi)",
          .effect = Effect::exact,
          .source = "ONNX Clip-11/13",
          .stage = Stage::clean,
          .root = op_in({"Clip"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            constexpr double kMost = std::numeric_limits<float>::max();
            const Graph& graph = m.graph();
            const std::vector<ValueId> ends = m.root().inputs;
            bool computed = false;
            for (std::size_t i = 1; i < ends.size(); ++i)
              computed = computed || (ends[i].valid() && !graph.is_constant(ends[i]));
            if (!computed || !is_f32(graph, m.root_value())) return NoMatch{};
            ValueId y = ends[0];
            for (std::size_t i = 1; i < ends.size(); ++i) {
              const auto number = ends[i].valid() ? scalar_of(graph, ends[i]) : std::nullopt;
              const bool open = number && (i == 1 ? *number <= -kMost : *number >= kMost);
              if (ends[i].valid() && !open) y = patch.node(i == 1 ? "Max" : "Min", {y, ends[i]});
            }
            return y;
          }};
}

}  // namespace waveq::rules
