// AveragePool(x) over the whole map  =>  ReduceMean(x) axes=[2,...] keepdims=1

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_average_pool_with_reduce_mean() {
  const Pat x = any();
  return {.name = "replace_average_pool_with_reduce_mean",
          .formula = "AveragePool(x, kernel = map) = ReduceMean(x, all axes behind the channels)",
          .effect = Effect::reassociates,
          .source = "ONNX AveragePool-7/11/19, ReduceMean-13",
          .stage = Stage::fuse,
          .root = op("AveragePool", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!m.type(x).known() || m.shape(x).size() < 3) return NoMatch{};
            const Node& node = m.root();
            const Shape map(m.shape(x).begin() + 2, m.shape(x).end());
            if (node.attrs.get_ints("kernel_shape", {}) != map) return NoMatch{};
            const auto all = [&](const char* attr, std::int64_t wanted) {
              return std::ranges::all_of(node.attrs.get_ints(attr, {}),
                                         [&](std::int64_t v) { return v == wanted; });
            };
            const std::string automatic = node.attrs.get_string("auto_pad", "NOTSET");
            if (!all("pads", 0) || automatic.starts_with("SAME"))
              return declined("it pads the map");
            if (!all("dilations", 1)) return declined("it is dilated");
            Shape target(m.shape(x).size(), 1);
            std::copy_n(m.shape(x).begin(), 2, target.begin());
            if (shape_of(m.graph(), m.root_value()) != target)
              return declined("it has more than one window");
            return mean_behind_channels(patch, m[x], m.shape(x).size());
          }};
}

}  // namespace waveq::rules
