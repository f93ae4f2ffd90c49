// Flatten(x), Squeeze(x), Unsqueeze(x), Reshape(x, s)  =>  Reshape(x, constant shape)
// One operator for every change of shape; its target has no 0 and no -1 in it, because shapes are
// static.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_with_reshape() {
  return {.name = "replace_with_reshape",
          .formula = "Flatten(x) = Squeeze(x) = Unsqueeze(x) = Reshape(x, shape)",
          .effect = Effect::exact,
          .source = "ONNX Reshape-5/14, Flatten-1, Squeeze-1/13, Unsqueeze-1/13",
          .stage = Stage::clean,
          .root = op_in({"Reshape", "Flatten", "Squeeze", "Unsqueeze"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Node& node = m.root();
            if (node.inputs.empty() || !node.inputs[0].valid()) return NoMatch{};
            const TensorType type = graph.value(m.root_value()).type;
            if (!type.known() || !graph.value(node.inputs[0]).type.known()) return NoMatch{};
            // Reshape reads a 0 as "as before"; an empty tensor needs the attribute that says
            // otherwise.
            for (std::int64_t dim : type.shape)
              if (dim == 0) return declined("the tensor is empty");
            const bool target_known = node.inputs.size() > 1 && graph.is_constant(node.inputs[1]) &&
                                      to_int64(graph.constant(node.inputs[1])) == type.shape;
            if (node.op == "Reshape" && target_known && node.attrs.all().empty()) return NoMatch{};
            const ValueId shape = patch.constant(ints_tensor(type.shape));
            if (node.op == "Reshape" && node.inputs.size() == 2) {
              patch.note(fmt::format("target spelled out: {}", to_string(type.shape)));
              return patch.edit({}, {node.inputs[0], shape});
            }
            return patch.node("Reshape", {node.inputs[0], shape});
          }};
}

}  // namespace waveq::rules
