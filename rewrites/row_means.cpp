#include "waveq/rewrites/row_means.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "rules/support.h"

namespace waveq {

using rules::is_movement;
using rules::shape_of;

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

double relative_mean(const Tensor& constant, std::size_t axis) {
  const std::vector<double> values = to_double(constant);
  const auto length = static_cast<std::size_t>(constant.shape()[axis]),
             inner = static_cast<std::size_t>(strides_of(constant.shape())[axis]);
  double largest = 0, largest_sum = 0;
  for (double v : values) largest = std::max(largest, std::abs(v));
  for (std::size_t row = 0; row < values.size() / std::max<std::size_t>(length, 1); ++row) {
    double sum = 0;
    for (std::size_t c = 0; c < length; ++c)
      sum += values[row / inner * inner * length + row % inner + c * inner];
    largest_sum = std::max(largest_sum, std::abs(sum));
  }
  return largest > 0 ? largest_sum / static_cast<double>(length) / largest : 0.0;
}

namespace {

/// Of the largest element: what rounding to float32 leaves of a mean.
constexpr double kNoMean = 1e-5;

class MeanSearch {
 public:
  explicit MeanSearch(const Graph& graph) : graph_(graph) {}

  bool has_none(ValueId value, std::size_t axis) {
    const auto [it, fresh] = known_.try_emplace({value, axis}, false);
    if (!fresh) return it->second;
    const bool none = look(value, axis);
    return known_[{value, axis}] = none;
  }

 private:
  bool is_centred(ValueId constant, std::size_t axis) const {
    const Shape& shape = shape_of(graph_, constant);
    return graph_.is_constant(constant) && axis < shape.size() &&
           graph_.value(constant).type.dtype == DType::f32 &&
           relative_mean(graph_.constant(constant), axis) <= kNoMean;
  }

  /// An operand of a sum with a result of this rank; one that is repeated along the axis has a
  /// mean.
  bool operand_has_none(ValueId operand, std::size_t rank, std::size_t axis, std::int64_t length) {
    const Shape& shape = shape_of(graph_, operand);
    const std::size_t skip = rank - shape.size();
    return axis >= skip && shape[axis - skip] == length && has_none(operand, axis - skip);
  }

  bool look(ValueId value, std::size_t axis) {
    if (graph_.is_constant(value)) return is_centred(value, axis);
    const Node* node = rules::producer_of(graph_, value);
    if (!node || node->outputs.front() != value) return false;
    const Shape& shape = shape_of(graph_, value);
    if (node->op == "Add" || node->op == "Sub")
      return std::ranges::all_of(node->inputs, [&](ValueId in) {
        return operand_has_none(in, shape.size(), axis, shape[axis]);
      });
    if (node->op == "Concat" && axis_behind(graph_, *node, axis) == axis)
      return std::ranges::all_of(node->inputs, [&](ValueId in) { return has_none(in, axis); });
    if (node->op == "Conv" || node->op == "Gemm" || node->op == "MatMul")
      return linear_has_none(*node, axis);
    for (std::size_t in = 0; in < shape_of(graph_, node->inputs[0]).size(); ++in)
      if (node->op != "Concat" && axis_behind(graph_, *node, in) == axis)
        return has_none(node->inputs[0], in);
    return false;
  }

  bool linear_has_none(const Node& node, std::size_t axis) const {
    const Shape &w = shape_of(graph_, node.inputs[1]), &y = shape_of(graph_, node.outputs.front());
    const bool leads = node.op == "Conv" || node.attrs.get_int("transB", 0) != 0;
    if (axis != (node.op == "Conv" ? 1 : y.size() - 1) || node.attrs.get_int("group", 1) != 1 ||
        (node.op != "Conv" && w.size() != 2) || !is_centred(node.inputs[1], leads ? 0 : 1))
      return false;
    if (node.inputs.size() < 3 || !node.inputs[2].valid()) return true;
    const Shape& bias = shape_of(graph_, node.inputs[2]);
    return !bias.empty() && bias.back() == y[axis] && is_centred(node.inputs[2], bias.size() - 1);
  }

  const Graph& graph_;
  std::map<std::pair<ValueId, std::size_t>, bool> known_;
};

}  // namespace

bool has_no_mean(const Graph& graph, ValueId value, std::size_t axis) {
  return MeanSearch(graph).has_none(value, axis);
}

}  // namespace waveq
