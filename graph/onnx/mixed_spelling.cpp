#include "onnx/mixed_spelling.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "waveq/graph/op.h"

namespace waveq {

namespace {

constexpr std::array<std::string_view, 6> kMustAgree = {"Conv", "Gemm", "MatMul",
                                                        "Add",  "Sub",  "Mul"};

bool is_of_dialect(const Graph& graph) {
  return std::ranges::any_of(graph.nodes(), [&](NodeId id) {
    const OpDef* op = find_op(graph.node(id).op);
    return op && op->dialect;
  });
}

bool must_agree(const Node& node) {
  return std::ranges::find(kMustAgree, node.op) != kMustAgree.end();
}

bool exact_in_float(const Tensor& tensor) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  return std::ranges::all_of(to_int64(tensor),
                             [](std::int64_t x) { return x >= -kMost && x <= kMost; });
}

}  // namespace

void agree_on_spelling(Graph& graph) {
  if (!is_of_dialect(graph)) return;
  // Values that come from a float32 graph input, and not from shapes.
  std::vector<bool> carries(graph.value_count(), false);
  const auto at = [&](ValueId id) { return carries[static_cast<std::size_t>(id.index)]; };
  for (const ValueId in : graph.inputs())
    at(in) = !graph.is_constant(in) && graph.value(in).type.dtype == DType::f32;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const bool data =
        node.op != "Shape" && node.op != "Size" &&
        std::ranges::any_of(node.inputs, [&](ValueId in) { return in.valid() && at(in); });
    for (const ValueId out : node.outputs)
      if (out.valid()) at(out) = data;
    if (!data || !must_agree(node)) continue;
    for (const ValueId in : node.inputs) {
      if (!graph.is_constant(in) || !is_integer(graph.constant(in).dtype())) continue;
      const bool only_here = std::ranges::all_of(
          graph.value(in).uses, [&](NodeId user) { return must_agree(graph.node(user)); });
      if (only_here && exact_in_float(graph.constant(in)))
        graph.set_constant(in, cast(graph.constant(in), DType::f32));
    }
  }
}

}  // namespace waveq
