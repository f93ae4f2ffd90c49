#include "rules/chain.h"

#include <algorithm>

#include "rules/support.h"

namespace waveq::rules {

Outcome fold_chain(const Match& m, Patch& patch, const std::function<double(double, double)>& f) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (!is_f32(graph, m.root_value()) || root.inputs.size() != 2) return NoMatch{};
  const auto constant_side = [&](const Node& node) -> int {
    for (int side : {1, 0})
      if (graph.is_constant(node.inputs[static_cast<std::size_t>(side)])) return side;
    return -1;
  };
  const int outer = constant_side(root);
  if (outer < 0) return NoMatch{};
  const ValueId between = root.inputs[static_cast<std::size_t>(1 - outer)];
  const Node* producer = producer_of(graph, between);
  if (!producer || producer->op != root.op || producer->inputs.size() != 2) return NoMatch{};
  const int inner = constant_side(*producer);
  if (inner < 0) return NoMatch{};
  const ValueId c1 = producer->inputs[static_cast<std::size_t>(inner)],
                c2 = root.inputs[static_cast<std::size_t>(outer)];
  const ValueId x = producer->inputs[static_cast<std::size_t>(1 - inner)];
  if (graph.is_constant(x)) return NoMatch{};
  if (const std::size_t uses = graph.use_count(between); uses != 1)
    return declined("the output of {} '{}' has {} uses", producer->op, producer->name, uses);
  const Tensor& a = graph.constant(c1);
  const Tensor& b = graph.constant(c2);
  // [T,1] with [C] would make a table of T*C numbers out of T+C.
  const std::int64_t size = element_count(broadcast(a.shape(), b.shape(), root.name));
  if (size > std::max(a.size(), b.size()))
    return declined("constants {} and {} would grow to {} numbers", to_string(a.shape()),
                    to_string(b.shape()), size);
  const Tensor both = broadcast_binary(a, b, f);
  if (!all_finite(to_double(both))) return declined("a combined constant would not be finite");
  return patch.like(m.root_id(), {x, patch.constant(both, b.size() >= a.size() ? c2 : c1)});
}

}  // namespace waveq::rules
