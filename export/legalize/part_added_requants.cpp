#include <algorithm>
#include <vector>

#include "legalize/legalize.h"

namespace waveq {

void part_added_requants(Graph& graph) {
  for (NodeId id : graph.topological_order()) {
    const Node requant = graph.node(id);
    if (requant.op != "RequantShift" || !graph.is_constant(requant.inputs.at(2))) continue;
    const NodeId producer = graph.value(requant.inputs[0]).producer;
    if (!producer.valid()) continue;
    const std::string& op = graph.node(producer).op;
    if (op != "iGELU" && op != "IntegerDiv" && op != "iHardswish") continue;
    const std::vector<std::int64_t> add = to_int64(graph.constant(requant.inputs[2]));
    const bool is_signed = requant.attrs.get_int("signed", 1) != 0;
    if (is_signed && std::ranges::all_of(add, [](std::int64_t a) { return a == 0; })) continue;
    const Value& x = graph.value(requant.inputs[0]);
    const std::string name = x.name + "_apart";
    const Shape shape = x.type.shape;
    const ValueId same_shape = graph.add_constant(
        name + "_shape",
        Tensor::from<std::int64_t>({static_cast<std::int64_t>(shape.size())}, shape));
    graph.set_input(
        id, 0, graph.emit("Reshape", name, {requant.inputs[0], same_shape}, {}, requant.origin));
  }
}

}  // namespace waveq
