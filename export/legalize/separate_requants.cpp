#include <vector>

#include "legalize/legalize.h"

namespace waveq {

void separate_requants(Graph& graph) {
  for (NodeId id : graph.topological_order()) {
    const Node producer = graph.node(id);
    const bool fuses = producer.op == "Conv" || producer.op == "Gemm" || producer.op == "MatMul" ||
                       producer.op == "Add" || producer.op == "iGELU" ||
                       producer.op == "IntegerDiv" || producer.op == "iHardswish";
    if (!fuses || producer.outputs.size() != 1) continue;
    const ValueId result = producer.outputs.front();
    std::vector<NodeId> requants;
    for (NodeId user : graph.value(result).uses)
      if (graph.node(user).op == "RequantShift") requants.push_back(user);
    // The last reader keeps the original, unless something else reads it, too.
    const bool others = graph.use_count(result) > requants.size();
    for (std::size_t i = others ? 0 : 1; i < requants.size(); ++i) {
      const ValueId copy = graph.emit(producer.op, graph.value(result).name + "_again",
                                      producer.inputs, producer.attrs, producer.origin);
      graph.set_input(requants[i], 0, copy);
    }
  }
}

}  // namespace waveq
