// Reshape(Reshape(x, a), b)  =>  Reshape(x, b)

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule merge_reshapes() {
  const Pat x = any(), inner_shape = any(), shape = constant();
  const Pat inner = op("Reshape", {x, inner_shape});
  return {.name = "merge_reshapes",
          .formula = "Reshape(Reshape(x,a),b) = Reshape(x,b)",
          .effect = Effect::exact,
          .source = "ONNX Reshape: row-major order is kept",
          .stage = Stage::clean,
          .root = op("Reshape", {inner, shape}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const TensorType type = m.graph().value(m.root_value()).type;
            if (!type.known() || !m.type(x).known()) return NoMatch{};
            // A 0 or -1 in the target would be read against another input; replace_with_reshape
            // resolves it.
            if (to_int64(m.tensor(shape)) != type.shape) return NoMatch{};
            return patch.node("Reshape", {m[x], m[shape]}, m.root().attrs);
          }};
}

}  // namespace waveq::rules
