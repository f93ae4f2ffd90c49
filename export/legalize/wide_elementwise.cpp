#include <algorithm>
#include <set>
#include <vector>

#include "legalize/legalize.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// Attributes of a dense 1x1 kernel.
Attrs pointwise() {
  Attrs attrs;
  attrs.set("dilations", Ints{1, 1});
  attrs.set("group", std::int64_t{1});
  attrs.set("kernel_shape", Ints{1, 1});
  attrs.set("pads", Ints{0, 0, 0, 0});
  attrs.set("strides", Ints{1, 1});
  return attrs;
}

/// [C, count*C, 1, 1]: output c is the sum of channel c of `count` tensors laid side by side.
Tensor side_by_side(std::int64_t channels, std::int64_t count) {
  Tensor w(DType::i8, {channels, count * channels, 1, 1});
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t k = 0; k < count; ++k)
      w.as<std::int8_t>()[static_cast<std::size_t>((c * count + k) * channels + c)] = 1;
  return w;
}

bool is_map(const Graph& graph, ValueId x) { return graph.value(x).type.shape.size() == 4; }

bool is_eight_bit(const Graph& graph, ValueId x) { return size_of(graph.value(x).type.dtype) == 1; }

void requant_by_conv(Graph& graph, NodeId id, const Node& node) {
  const ValueId x = node.inputs[0];
  const std::int64_t channels = graph.value(x).type.shape[1];
  const std::string name = graph.value(node.outputs.front()).name;
  const ValueId w = graph.add_constant(name + "_ones", side_by_side(channels, 1));
  graph.set_input(id, 0, graph.emit("Conv", name + "_copy", {x, w}, pointwise(), node.origin));
}

void add_by_conv(Graph& graph, NodeId id, const Node& node) {
  const ValueId sum = node.outputs.front();
  const std::string name = graph.value(sum).name;
  const std::int64_t channels = graph.value(sum).type.shape[1];
  Attrs axis;
  axis.set("axis", std::int64_t{1});
  const ValueId both = graph.emit("Concat", name + "_operands", node.inputs, axis, node.origin);
  const ValueId w = graph.add_constant(name + "_ones", side_by_side(channels, 2));
  const ValueId y = graph.emit("Conv", name + "_conv", {both, w}, pointwise(), node.origin);
  graph.replace_uses(sum, y);
  graph.remove_node(id);
}

}  // namespace

void wide_elementwise_as_conv(Graph& graph, const WideElementwise& limits) {
  static const std::set<std::string, std::less<>> fused = {
      "Conv", "Gemm", "MatMul", "Add", "iGELU", "IntegerDiv", "iHardswish"};
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (node.op != "RequantShift" && node.op != "Add") continue;
    const ValueId x = node.inputs[0];
    if (!is_map(graph, x) || !is_eight_bit(graph, x)) continue;
    const std::int64_t n = element_count(graph.value(x).type.shape);
    if (node.op == "Add") {
      const ValueId other = node.inputs[1];
      if (n > limits.add_elements && !graph.is_constant(other) &&
          graph.value(other).type == graph.value(x).type)
        add_by_conv(graph, id, node);
      continue;
    }
    const NodeId producer = graph.value(x).producer;
    const bool taken_along = producer.valid() && fused.contains(graph.node(producer).op);
    if (!taken_along && (n > limits.requant_elements || n % limits.requant_multiple != 0))
      requant_by_conv(graph, id, node);
  }
}

}  // namespace waveq
