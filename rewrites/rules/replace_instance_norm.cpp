// InstanceNormalization(x, s, b), GroupNormalization(x, s, b)
//   =>  LayerNormalization of each map, or each group of maps, as a row, times s, plus b

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// One value a channel as [C,1,...]; a value a group is repeated over its channels.
Tensor per_channel(const Tensor& values, const Shape& shape) {
  const std::vector<double> given = to_double(values);
  std::vector<double> all;
  const auto channels = static_cast<std::size_t>(shape[1]);
  for (std::size_t c = 0; c < channels; ++c) all.push_back(given[c * given.size() / channels]);
  Shape each(shape.size() - 1, 1);
  each.front() = shape[1];
  return float_tensor(each, all);
}

}  // namespace

Rule replace_instance_norm() {
  const Pat x = any(), s = constant(), b = constant();
  return {.name = "replace_instance_norm",
          .formula =
              "InstanceNormalization(x,s,b) = LayerNormalization(map of x)*s + b, "
              "GroupNormalization(x,s,b) = LayerNormalization(maps of a group of x)*s + b",
          .effect = Effect::reassociates,
          .source = "ONNX InstanceNormalization-6, GroupNormalization-18/21, LayerNormalization-17",
          .stage = Stage::fuse,
          .root = op_in({"InstanceNormalization", "GroupNormalization"}, {x, s, b}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!is_f32(m.graph(), m[x])) return NoMatch{};
            const Shape shape = m.shape(x);
            const std::int64_t rows = shape[0] * m.root().attrs.get_int("num_groups", shape[1]),
                               length = element_count(shape) / std::max<std::int64_t>(rows, 1);
            Attrs attrs;
            attrs.set("axis", std::int64_t{1});
            attrs.set("epsilon", m.root().attrs.get_float("epsilon", 1e-5));
            const auto shaped = [&](ValueId v, const Shape& to) {
              return patch.node("Reshape", {v, patch.constant(ints_tensor(to))});
            };
            const ValueId ones = patch.constant(
                float_tensor({length}, std::vector<double>(static_cast<std::size_t>(length), 1.0)));
            const ValueId flat = shaped(m[x], {rows, length});
            const ValueId y = shaped(patch.node("LayerNormalization", {flat, ones}, attrs), shape);
            const ValueId gain = patch.constant(per_channel(m.tensor(s), shape), m[s]),
                          bias = patch.constant(per_channel(m.tensor(b), shape), m[b]);
            return patch.node("Add", {patch.node("Mul", {y, gain}), bias});
          }};
}

}  // namespace waveq::rules
