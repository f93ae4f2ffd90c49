#include <vector>

#include "legalize/legalize.h"
#include "legalize/pointwise.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// One axis of a Slice: the indices it keeps.
struct Part {
  std::size_t axis;
  Ints indices;
};

std::vector<Part> parts_of(const Node& slice, const Shape& shape) {
  const Ints starts = slice.attrs.require_ints("starts"), ends = slice.attrs.require_ints("ends"),
             axes = slice.attrs.require_ints("axes"), steps = slice.attrs.require_ints("steps");
  std::vector<Part> parts;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    Part part{static_cast<std::size_t>(axes[i]), {}};
    for (std::int64_t k = starts[i]; k < ends[i]; k += steps[i]) part.indices.push_back(k);
    if (std::ssize(part.indices) < shape[part.axis]) parts.push_back(std::move(part));
  }
  return parts;
}

/// Weights [K,N,1,1] that pick K of N channels.
Tensor selection(const Ints& indices, std::int64_t channels) {
  Tensor w(DType::i8, {std::ssize(indices), channels, 1, 1});
  for (std::size_t k = 0; k < indices.size(); ++k)
    w.as<std::int8_t>()[k * static_cast<std::size_t>(channels) +
                        static_cast<std::size_t>(indices[k])] = 1;
  return w;
}

/// x with these indices of one axis: the axis as channels, all others as one row.
ValueId selected(Graph& graph, ValueId x, const Part& part, const std::string& name,
                 const std::string& origin) {
  Shape shape = graph.value(x).type.shape;
  const std::int64_t n = shape[part.axis], k = std::ssize(part.indices);
  std::int64_t outer = 1, inner = 1;
  for (std::size_t d = 0; d < part.axis; ++d) outer *= shape[d];
  for (std::size_t d = part.axis + 1; d < shape.size(); ++d) inner *= shape[d];
  const auto quant = graph.value(x).quant;
  const auto emit = [&](const std::string& op, const std::string& suffix,
                        std::vector<ValueId> inputs, Attrs attrs) {
    const ValueId y = graph.emit(op, name + suffix, std::move(inputs), std::move(attrs), origin);
    graph.set_quant(y, quant);
    return y;
  };
  const auto reshaped = [&](ValueId v, const Shape& to, const std::string& suffix) {
    const ValueId target = graph.add_constant(name + suffix + "_shape",
                                              Tensor::from<std::int64_t>({std::ssize(to)}, to));
    return emit("Reshape", suffix, {v, target}, {});
  };
  Attrs swap;
  swap.set("perm", Ints{1, 0, 2});
  if (outer > 1) x = emit("Transpose", "_front", {reshaped(x, {outer, n, inner}, "_apart")}, swap);
  x = reshaped(x, {1, n, 1, outer * inner}, "_channels");
  const ValueId w = graph.add_constant(name + "_selection", selection(part.indices, n));
  const ValueId sums = graph.emit("Conv", name + "_acc", {x, w}, pointwise(), origin);
  ValueId y = unit_requant(graph, sums, graph.value(x).type.dtype, name + "_rq", origin);
  graph.set_quant(y, quant);
  if (outer > 1) y = emit("Transpose", "_back", {reshaped(y, {k, outer, inner}, "_kept")}, swap);
  shape[part.axis] = k;
  return reshaped(y, shape, "_picked");
}

}  // namespace

void slices_as_conv(Graph& graph) {
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (node.op != "Slice" || node.inputs.size() != 1) continue;
    const ValueId old = node.outputs.front();
    const DType dtype = graph.value(old).type.dtype;
    if (size_of(dtype) != 1) continue;
    const std::string name = graph.value(old).name;
    ValueId y = node.inputs[0];
    for (const Part& part : parts_of(node, graph.value(y).type.shape))
      y = selected(graph, y, part, name + "_axis" + std::to_string(part.axis), node.origin);
    if (graph.is_output(old)) {  // which no view can be
      y = unit_requant(graph, y, dtype, name + "_out", node.origin);
      graph.set_quant(y, graph.value(old).quant);
    }
    graph.replace_uses(old, y);
    graph.remove_node(id);
  }
}

}  // namespace waveq
