// Transpose(x, p)  =>  Reshape(x, shape)       p leaves the axes longer than 1 in their order
// Nothing moves in memory, and Reshapes merge.

#include <numeric>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_transpose_with_reshape() {
  const Pat x = any();
  return {
      .name = "replace_transpose_with_reshape",
      .formula = "Transpose(x[1,C,T], [1,0,2]) = Reshape(x, [C,1,T])",
      .effect = Effect::exact,
      .source = "ONNX Transpose-1, Reshape-5: axes of length 1 do not change the order in memory",
      .stage = Stage::clean,
      .root = op("Transpose", {x}),
      .apply = [=](const Match& m, Patch& patch) -> Outcome {
        if (!m.type(x).known()) return NoMatch{};
        const Shape& shape = m.shape(x);
        std::vector<std::int64_t> reversed(shape.size());
        std::iota(reversed.rbegin(), reversed.rend(), 0);
        std::int64_t last = -1;
        for (std::int64_t axis : m.root().attrs.get_ints("perm", reversed)) {
          const std::int64_t length = shape.at(static_cast<std::size_t>(axis));
          if (length == 0) return NoMatch{};
          if (length == 1) continue;
          if (axis < last) return NoMatch{};
          last = axis;
        }
        const Shape target = shape_of(m.graph(), m.root_value());
        return patch.node("Reshape", {m[x], patch.constant(ints_tensor(target))});
      }};
}

}  // namespace waveq::rules
