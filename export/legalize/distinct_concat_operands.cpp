#include <algorithm>
#include <vector>

#include "legalize/legalize.h"

namespace waveq {

void distinct_concat_operands(Graph& graph) {
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (node.op != "Concat") continue;
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      const ValueId x = node.inputs[i];
      if (std::find(node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(i), x) ==
          node.inputs.begin() + static_cast<std::ptrdiff_t>(i))
        continue;
      const Shape shape = graph.value(x).type.shape;
      const std::string name = graph.value(node.outputs.front()).name + "_twin";
      const ValueId same_shape = graph.add_constant(
          name + "_shape",
          Tensor::from<std::int64_t>({static_cast<std::int64_t>(shape.size())}, shape));
      const ValueId twin = graph.emit("Reshape", name, {x, same_shape}, {}, node.origin);
      graph.set_quant(twin, graph.value(x).quant);
      graph.set_input(id, i, twin);
    }
  }
}

}  // namespace waveq
