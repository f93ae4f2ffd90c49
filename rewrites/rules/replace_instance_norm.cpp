// InstanceNormalization(x, s, b)  =>  LayerNormalization of each map as a row, times s, plus b

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_instance_norm() {
  const Pat x = any(), s = constant(), b = constant();
  return {.name = "replace_instance_norm",
          .formula = "InstanceNormalization(x,s,b) = LayerNormalization(map of x)*s + b",
          .effect = Effect::reassociates,
          .source = "ONNX InstanceNormalization-6, LayerNormalization-17",
          .stage = Stage::fuse,
          .root = op("InstanceNormalization", {x, s, b}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[x])) return NoMatch{};
            const Shape shape = m.shape(x);
            const std::int64_t maps = shape[0] * shape[1],
                               length = element_count(shape) / std::max<std::int64_t>(maps, 1);
            Attrs attrs;
            attrs.set("axis", std::int64_t{1});
            attrs.set("epsilon", m.root().attrs.get_float("epsilon", 1e-5));
            const auto shaped = [&](ValueId v, const Shape& to) {
              return patch.node("Reshape", {v, patch.constant(ints_tensor(to))});
            };
            const ValueId ones = patch.constant(
                float_tensor({length}, std::vector<double>(static_cast<std::size_t>(length), 1.0)));
            const ValueId rows = shaped(m[x], {maps, length});
            const ValueId y = shaped(patch.node("LayerNormalization", {rows, ones}, attrs), shape);
            Shape each(shape.size() - 1, 1);
            each.front() = shape[1];
            const ValueId gain = patch.constant(m.tensor(s).reshaped(each), m[s]),
                          bias = patch.constant(m.tensor(b).reshaped(each), m[b]);
            return patch.node("Add", {patch.node("Mul", {y, gain}), bias});
          }};
}

}  // namespace waveq::rules
