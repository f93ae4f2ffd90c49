// GlobalAveragePool(x)  =>  ReduceMean(x) axes=[2,...] keepdims=1

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_global_average_pool_with_reduce_mean() {
  const Pat x = any();
  return {.name = "replace_global_average_pool_with_reduce_mean",
          .formula = "GlobalAveragePool(x) = ReduceMean(x, all axes behind the channels)",
          .effect = Effect::reassociates,
          .source = "ONNX GlobalAveragePool-1, ReduceMean-13",
          .stage = Stage::fuse,
          .root = op("GlobalAveragePool", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!m.type(x).known() || m.shape(x).size() < 3) return NoMatch{};
            return mean_behind_channels(patch, m[x], m.shape(x).size());
          }};
}

}  // namespace waveq::rules
