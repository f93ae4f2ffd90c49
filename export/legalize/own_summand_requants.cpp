#include <set>
#include <string>

#include "legalize/legalize.h"
#include "legalize/pointwise.h"

namespace waveq {

namespace {

/// An operand that a sum's kernel takes as it is: of a requant that nothing else reads, over 8-bit
/// codes or over an accumulator whose kernel takes the requant along first.
bool is_taken(const Graph& graph, ValueId operand) {
  static const std::set<std::string, std::less<>> fused = {"Conv", "Gemm", "MatMul", "iGELU",
                                                           "IntegerDiv"};
  const NodeId id = graph.value(operand).producer;
  if (!id.valid() || graph.node(id).op != "RequantShift" || graph.use_count(operand) != 1)
    return false;
  const Value& source = graph.value(graph.node(id).inputs[0]);
  return size_of(source.type.dtype) == 1 ||
         (source.producer.valid() && fused.contains(graph.node(source.producer).op));
}

}  // namespace

void own_summand_requants(Graph& graph) {
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (node.op != "Add") continue;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId x = node.inputs[i];
      if (graph.is_constant(x) || graph.value(x).type.dtype != DType::i8 || is_taken(graph, x))
        continue;
      const ValueId own = unit_requant(
          graph, x, DType::i8,
          graph.value(node.outputs.front()).name + (i == 0 ? "_first" : "_second"), node.origin);
      graph.set_quant(own, graph.value(x).quant);
      graph.set_input(id, i, own);
    }
  }
}

}  // namespace waveq
