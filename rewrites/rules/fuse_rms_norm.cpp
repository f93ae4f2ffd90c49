// x / sqrt(mean(x^2) + eps)  =>  RMSNormalization(x, 1)
// The mean over the last axis. fold_affine_into_layer_norm takes in the gain behind it.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fuse_rms_norm() {
  const Pat x = any(), axes = any(), epsilon = scalar();
  const Pat square = either(op("Pow", {x, scalar(2.0)}), op("Mul", {x, x}));
  const Pat mean = op("ReduceMean", {square, optional(axes)});
  const Pat root = op("Sqrt", {op("Add", {mean, epsilon})});
  return {.name = "fuse_rms_norm",
          .formula = "x/sqrt(mean(x^2)+eps) = RMSNormalization(x,1)",
          .effect = Effect::reassociates,
          .source = "Zhang and Sennrich 2019 (arXiv:1910.07467); ONNX RMSNormalization-23",
          .stage = Stage::fuse,
          .root = op("Div", {x, root}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!m.type(x).known() || m.shape(x).empty()) return NoMatch{};
            const std::size_t rank = m.shape(x).size();
            const IntsParam over = ints_of(graph, m.node(mean), "axes", 1);
            if (!over.values || over.values->size() != 1 ||
                m.node(mean).attrs.get_int("keepdims", 1) != 1 ||
                normalize_axis(over.values->front(), rank, m.root().name) + 1 !=
                    static_cast<std::int64_t>(rank))
              return declined("the mean is not over the last axis, which is kept");
            Attrs attrs;
            attrs.set("axis", static_cast<std::int64_t>(rank) - 1);
            attrs.set("epsilon", *scalar_of(graph, m[epsilon]));
            const std::int64_t length = m.shape(x).back();
            const ValueId ones = patch.constant(
                float_tensor({length}, std::vector<double>(static_cast<std::size_t>(length), 1.0)));
            return patch.node("RMSNormalization", {m[x], ones}, attrs);
          }};
}

}  // namespace waveq::rules
