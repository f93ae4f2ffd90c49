#include "rules/gelu.h"

#include "rules/support.h"

namespace waveq::rules {

namespace {
/// Operators in front of the root among which f is looked for, and x behind f.
constexpr std::size_t kReach = 16;
}  // namespace

Outcome fuse_gelu(const Match& m, Patch& patch, const std::string& f, const Polynomial& argument,
                  const std::string& approximate) {
  const Graph& graph = m.graph();
  const ValueId root = m.root_value();
  if (!is_f32(graph, root)) return NoMatch{};
  const Polynomial wanted = {{{1, 0}, 0.5}, {{1, 1}, 0.5}};
  for (ValueId t : arithmetic_leaves(graph, root, kReach)) {
    const Node* node = producer_of(graph, t);
    if (!node || node->op != f || node->inputs.size() != 1) continue;
    for (ValueId x : arithmetic_leaves(graph, node->inputs[0], kReach)) {
      const auto whole = expand(graph, root, x, t);
      if (!whole || !nearly_equal(*whole, wanted)) continue;
      const auto inner = expand(graph, node->inputs[0], x, {});
      if (!inner || !nearly_equal(*inner, argument))
        return declined("the argument of {} '{}' is {}, not {}", f, node->name,
                        inner ? to_string(*inner) : "no polynomial", to_string(argument));
      if (graph.value(x).type != graph.value(root).type)
        return declined("its constants enlarge {} to {}", to_string(graph.value(x).type),
                        to_string(graph.value(root).type));
      Attrs attrs;
      attrs.set("approximate", approximate);
      return patch.node("Gelu", {x}, attrs);
    }
  }
  return NoMatch{};
}

}  // namespace waveq::rules
