// MeanVarianceNormalization(x, axes)  =>  LayerNormalization of rows, the other axes first

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_mean_variance_norm() {
  const Pat x = any();
  return {.name = "replace_mean_variance_norm",
          .formula = "(x-mean)/(deviation+1e-9) = LayerNormalization(rows of x)",
          .effect = Effect::approximates,
          .source = "ONNX MeanVarianceNormalization-13, LayerNormalization-17",
          .stage = Stage::fuse,
          .root = op("MeanVarianceNormalization", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            constexpr double kEpsilon = 1e-18;  // of a variance; a deviation's 1e-9
            const Shape shape = m.shape(x);
            std::vector<std::int64_t> perm, axes;
            for (std::int64_t a : m.root().attrs.get_ints("axes", {0, 2, 3}))
              axes.push_back(normalize_axis(a, shape.size(), m.root().name));
            std::int64_t length = 1;
            for (const bool reduced : {false, true})
              for (std::size_t d = 0; d < shape.size(); ++d) {
                const auto axis = static_cast<std::int64_t>(d);
                if ((std::ranges::count(axes, axis) > 0) != reduced) continue;
                perm.push_back(axis);
                if (reduced) length *= shape[d];
              }
            if (length == 0) return NoMatch{};
            std::vector<std::int64_t> back(perm.size());
            for (std::size_t i = 0; i < perm.size(); ++i)
              back[static_cast<std::size_t>(perm[i])] = static_cast<std::int64_t>(i);
            const auto shaped = [&](ValueId v, const Shape& to) {
              return patch.node("Reshape", {v, patch.constant(ints_tensor(to))});
            };
            const auto moved = [&](ValueId v, const std::vector<std::int64_t>& order) {
              Attrs attrs;
              attrs.set("perm", order);
              return patch.node("Transpose", {v}, attrs);
            };
            Attrs attrs;
            attrs.set("axis", std::int64_t{1});
            attrs.set("epsilon", kEpsilon);
            const ValueId ones = patch.constant(
                float_tensor({length}, std::vector<double>(static_cast<std::size_t>(length), 1.0)));
            const ValueId rows = moved(m[x], perm);
            const Shape order = shape_of(m.graph(), rows);
            const ValueId flat = shaped(rows, {element_count(shape) / length, length});
            const ValueId y = patch.node("LayerNormalization", {flat, ones}, attrs);
            return moved(shaped(y, order), back);
          }};
}

}  // namespace waveq::rules
