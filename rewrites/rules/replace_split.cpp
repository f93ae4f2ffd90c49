// Split(x)  =>  a Slice an output

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_split() {
  return {.name = "replace_split",
          .formula = "Split(x)[i] = Slice(x, start_i, end_i)",
          .effect = Effect::exact,
          .source = "ONNX Split-2/11/13/18, Slice-10",
          .stage = Stage::fold,
          .root = op_in({"Split"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Node& root = m.root();
            if (root.inputs.size() != 1 || !is_f32(graph, root.inputs[0])) return NoMatch{};
            const Shape shape = shape_of(graph, root.inputs[0]);
            const std::int64_t axis =
                normalize_axis(root.attrs.get_int("axis", 0), shape.size(), root.name);
            std::vector<ValueId> parts;
            std::int64_t from = 0;
            for (ValueId out : root.outputs) {
              if (!out.valid()) return declined("it has an output without a name");
              const std::int64_t until =
                  from + shape_of(graph, out)[static_cast<std::size_t>(axis)];
              Attrs attrs;
              attrs.set("axes", std::vector<std::int64_t>{axis});
              attrs.set("starts", std::vector<std::int64_t>{from});
              attrs.set("ends", std::vector<std::int64_t>{until});
              attrs.set("steps", std::vector<std::int64_t>{1});
              parts.push_back(patch.node("Slice", {root.inputs[0]}, attrs));
              from = until;
            }
            return parts;
          }};
}

}  // namespace waveq::rules
