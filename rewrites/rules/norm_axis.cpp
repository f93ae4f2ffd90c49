#include "rules/norm_axis.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "rules/support.h"

namespace waveq::rules {

namespace {

std::int64_t product(const Shape& shape, std::size_t count) {
  std::int64_t n = 1;
  for (std::size_t d = 0; d < count; ++d) n *= shape[d];
  return n;
}

/// The axis of the same length with as many elements in front of it, and so behind.
std::optional<std::size_t> reshaped_axis(const Shape& from, const Shape& to, std::size_t axis) {
  for (std::size_t d = 0; d < to.size(); ++d)
    if (to[d] == from[axis] && product(to, d) == product(from, axis)) return d;
  return std::nullopt;
}

bool is_along(const Node& norm, const Shape& shape, std::size_t axis) {
  return axis + 1 == shape.size() && normalize_axis(norm.attrs.get_int("axis", -1), shape.size(),
                                                    norm.name) == static_cast<std::int64_t>(axis);
}

/// LayerNormalization of which nothing but the result is used.
bool normalizes(const Graph& graph, const Node& node, ValueId x, std::size_t axis) {
  if (node.op != "LayerNormalization" || node.inputs[0] != x) return false;
  for (std::size_t i = 1; i < node.inputs.size(); ++i)
    if (node.inputs[i] == x) return false;
  for (std::size_t i = 1; i < node.outputs.size(); ++i)
    if (node.outputs[i].valid() && graph.use_count(node.outputs[i]) > 0) return false;
  return is_along(node, shape_of(graph, x), axis);
}

}  // namespace

std::optional<std::size_t> axis_behind(const Graph& graph, const Node& node, std::size_t axis) {
  const Shape &from = shape_of(graph, node.inputs[0]), &to = shape_of(graph, node.outputs.front());
  if (is_movement(node.op) && node.op != "Transpose") return reshaped_axis(from, to, axis);
  if (node.op == "Transpose") {
    const auto perm = node.attrs.get_ints("perm", {});
    const auto at = std::ranges::find(perm, static_cast<std::int64_t>(axis));
    if (at == perm.end()) return std::nullopt;
    return static_cast<std::size_t>(at - perm.begin());
  }
  if (node.op == "Slice" || node.op == "Concat") {
    if (to.size() != from.size() || to[axis] != from[axis]) return std::nullopt;
    return axis;
  }
  if (node.op == "Gather" && node.inputs.size() > 1) {
    const auto along = static_cast<std::size_t>(
        normalize_axis(node.attrs.get_int("axis", 0), from.size(), node.name));
    if (along == axis) return std::nullopt;
    return along > axis ? axis : axis + to.size() - from.size();
  }
  return std::nullopt;
}

bool only_norms_read(const Graph& graph, ValueId value, std::size_t axis) {
  std::set<std::pair<ValueId, std::size_t>> seen;
  std::vector<std::pair<ValueId, std::size_t>> open{{value, axis}};
  bool is_read = false;
  while (!open.empty()) {
    const auto [x, along] = open.back();
    open.pop_back();
    if (!seen.insert({x, along}).second) continue;
    if (graph.is_output(x)) return false;
    for (NodeId user : graph.value(x).uses) {
      const Node& node = graph.node(user);
      is_read = is_read || node.op == "LayerNormalization";
      if (normalizes(graph, node, x, along)) continue;
      const ValueId y = node.outputs.front();
      const bool sums =
          (node.op == "Add" || node.op == "Sub") && shape_of(graph, y) == shape_of(graph, x);
      // Inputs of a Concat share their rank, so the axis means the same for each.
      const auto behind = sums ? std::optional(along) : axis_behind(graph, node, along);
      if (!behind) return false;
      open.emplace_back(y, *behind);
    }
  }
  return is_read;
}

}  // namespace waveq::rules
