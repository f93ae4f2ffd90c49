// RMSNormalization(x, g)  =>  Slice(LayerNormalization(Concat(x, -x), [g, g]), first half)
// The mean of a row and its mirror image is zero and its variance the mean square of the row, so
// one integer kernel normalizes both ways.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_rms_norm() {
  const Pat x = any(), gain = constant();
  return {.name = "replace_rms_norm",
          .formula = "RMSNormalization(x,g) = LayerNormalization([x,-x],[g,g]), its first half",
          .effect = Effect::reassociates,
          .source = "mean([x,-x]) = 0, var([x,-x]) = mean(x^2)",
          .stage = Stage::fold,
          .root = op_in({"RMSNormalization", "SimplifiedLayerNormalization"}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Node& root = m.root();
            if (root.inputs.size() < 2 || !is_f32(graph, root.inputs[0])) return NoMatch{};
            const Shape shape = shape_of(graph, root.inputs[0]);
            const auto rank = static_cast<std::int64_t>(shape.size());
            if (!graph.is_constant(root.inputs[1])) return declined("its gain is not constant");
            for (std::size_t i = 1; i < root.outputs.size(); ++i)
              if (root.outputs[i].valid() && graph.use_count(root.outputs[i]) > 0)
                return declined("its inverse deviation is used");
            if (normalize_axis(root.attrs.get_int("axis", -1), shape.size(), root.name) + 1 != rank)
              return declined("it normalizes more than the last axis");
            auto g = along_axis(graph.constant(root.inputs[1]), shape, shape.size() - 1);
            if (!g) return declined("its gain does not follow the last axis");
            const std::vector<double> half = *g;
            g->insert(g->end(), half.begin(), half.end());
            Attrs along, norm = root.attrs, first;
            along.set("axis", rank - 1);
            norm.set("axis", rank - 1);
            first.set("axes", std::vector<std::int64_t>{rank - 1});
            first.set("starts", std::vector<std::int64_t>{0});
            first.set("ends", std::vector<std::int64_t>{shape.back()});
            first.set("steps", std::vector<std::int64_t>{1});
            const ValueId minus = patch.constant(Tensor::scalar(-1.0F));
            const ValueId mirror = patch.node("Mul", {root.inputs[0], minus});
            const ValueId both = patch.node("Concat", {root.inputs[0], mirror}, along);
            const ValueId y = patch.node(
                "LayerNormalization",
                {both, patch.constant(float_tensor({2 * shape.back()}, *g), root.inputs[1])}, norm);
            std::vector<ValueId> outputs(root.outputs.size());
            outputs[0] = patch.node("Slice", {y}, first);
            return outputs;
          }};
}

}  // namespace waveq::rules
