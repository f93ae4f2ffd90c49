#include <algorithm>
#include <set>
#include <vector>

#include "legalize/legalize.h"
#include "legalize/pointwise.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// Weights of a pointwise convolution that copies grow with the square of the channels.
constexpr std::int64_t kMostChannels = 1024;

/// [C, count*C, 1, 1]: output c is the sum of channel c of `count` tensors laid side by side.
Tensor side_by_side(std::int64_t channels, std::int64_t count) {
  Tensor w(DType::i8, {channels, count * channels, 1, 1});
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t k = 0; k < count; ++k)
      w.as<std::int8_t>()[static_cast<std::size_t>((c * count + k) * channels + c)] = 1;
  return w;
}

bool is_eight_bit(const Graph& graph, ValueId x) { return size_of(graph.value(x).type.dtype) == 1; }

ValueId reshaped(Graph& graph, ValueId x, const Shape& shape, const std::string& name,
                 const std::string& origin) {
  const ValueId target =
      graph.add_constant(name + "_shape", Tensor::from<std::int64_t>({std::ssize(shape)}, shape));
  const ValueId y = graph.emit("Reshape", name, {x, target}, {}, origin);
  graph.set_quant(y, graph.value(x).quant);
  return y;
}

/// [1,C] and [1,C,T] as maps [1,C,1,T]; for a batch, whose elements may be grouped at will, few
/// channels.
Shape as_map(const Shape& shape) {
  if (shape[0] == 1) return {1, shape[1], 1, shape.size() > 2 ? shape[2] : 1};
  const std::int64_t n = element_count(shape);
  std::int64_t channels = 1;
  for (std::int64_t c = 4; c <= kMostChannels && channels == 1; ++c)
    if (n % c == 0) channels = c;
  return {1, channels, 1, n / channels};
}

void requant_by_conv(Graph& graph, NodeId id, const Node& node) {
  const ValueId old = node.outputs.front();
  const Shape shape = graph.value(old).type.shape;
  const std::string name = graph.value(old).name;
  const bool is_flat = shape.size() < 4 || shape[0] != 1;
  const Shape map = is_flat ? as_map(shape) : shape;
  const ValueId x =
      is_flat ? reshaped(graph, node.inputs[0], map, name + "_map", node.origin) : node.inputs[0];
  const std::int64_t channels = map[1];
  const ValueId w = graph.add_constant(name + "_ones", side_by_side(channels, 1));
  graph.set_input(id, 0, graph.emit("Conv", name + "_copy", {x, w}, pointwise(), node.origin));
  if (!is_flat) return;
  // Its readers keep the shape they know; as an output of the network it keeps the longer one.
  graph.set_type(old, {graph.value(old).type.dtype, map});
  if (graph.use_count(old) > static_cast<std::size_t>(graph.is_output(old))) {
    const std::vector<NodeId> readers = graph.value(old).uses;
    const ValueId back = reshaped(graph, old, shape, name + "_flat", node.origin);
    for (NodeId reader : readers)
      for (std::size_t i = 0; i < graph.node(reader).inputs.size(); ++i)
        if (graph.node(reader).inputs[i] == old) graph.set_input(reader, i, back);
  }
}

/// A requant that one Add alone reads is taken along by that.
bool feeds_sum(const Graph& graph, const Node& requant) {
  const ValueId y = requant.outputs.front();
  return graph.use_count(y) == 1 && !graph.value(y).uses.empty() &&
         graph.node(graph.value(y).uses.front()).op == "Add";
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
    const Shape& shape = graph.value(x).type.shape;
    if (shape.size() < 2 || shape.size() > 4 || shape[1] > kMostChannels || !is_eight_bit(graph, x))
      continue;
    const std::int64_t n = element_count(shape);
    if (node.op == "Add") {
      const ValueId other = node.inputs[1];
      if (shape.size() == 4 && shape[0] == 1 && n > limits.add_elements &&
          !graph.is_constant(other) && graph.value(other).type == graph.value(x).type)
        add_by_conv(graph, id, node);
      continue;
    }
    const NodeId producer = graph.value(x).producer;
    const bool taken_along = producer.valid() && fused.contains(graph.node(producer).op);
    const bool has_kernel = n <= limits.requant_elements && n % limits.requant_multiple == 0 &&
                            node.attrs.get_int("signed", 1) == 1;
    // The channels of a map that was a batch are not those of the requant.
    const bool has_map =
        shape[0] == 1 || element_count(graph.value(node.inputs[1]).type.shape) == 1;
    if (!taken_along && !has_kernel && has_map && (shape.size() == 4 || !feeds_sum(graph, node)))
      requant_by_conv(graph, id, node);
  }
}

}  // namespace waveq
