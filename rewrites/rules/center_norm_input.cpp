// LN(... + W.x + b ...)  =>  LN(... + (W - mean W).x + (b - mean b) ...)     means over the outputs
// LN(... + c ...)        =>  LN(... + (c - mean c) ...)
// What all elements of a row have in common is lost in the normalization. Without it the rows need
// a smaller range, and their normalization is one without a mean (RMSNormalization).

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"
#include "waveq/rewrites/row_means.h"

namespace waveq::rules {

namespace {

/// Of the largest weight: means below come from rounding the centred weights to float32.
constexpr double kNoMean = 1e-6;

/// The tensor minus its mean along the axis, rounded once; nothing where that mean is zero.
std::optional<Tensor> centred(const Tensor& t, std::size_t axis) {
  std::vector<double> values = to_double(t);
  if (axis >= t.shape().size() || t.shape()[axis] < 2 || !all_finite(values) ||
      relative_mean(t, axis) <= kNoMean)
    return std::nullopt;
  const auto length = static_cast<std::size_t>(t.shape()[axis]),
             inner = static_cast<std::size_t>(strides_of(t.shape())[axis]);
  for (std::size_t row = 0; row < values.size() / length; ++row) {
    const std::size_t first = row / inner * inner * length + row % inner;
    double sum = 0;
    for (std::size_t c = 0; c < length; ++c) sum += values[first + c * inner];
    for (std::size_t c = 0; c < length; ++c)
      values[first + c * inner] -= sum / static_cast<double>(length);
  }
  return float_tensor(t.shape(), values);
}

/// Puts the centred constant in place of the i-th input; whether it was not centred already.
/// `axis`: of the constant.
bool center_input(const Graph& graph, Patch& patch, std::vector<ValueId>& inputs, std::size_t i,
                  std::size_t axis) {
  if (i >= inputs.size() || !inputs[i].valid() || !graph.is_constant(inputs[i]) ||
      !is_f32(graph, inputs[i]))
    return false;
  const auto tensor = centred(graph.constant(inputs[i]), axis);
  if (!tensor) return false;
  inputs[i] = patch.constant(*tensor, inputs[i]);
  return true;
}

/// Weights and bias of the linear operator, whose outputs lie along `axis` of its result.
bool center_linear(const Graph& graph, const Node& node, Patch& patch,
                   std::vector<ValueId>& inputs) {
  if (!graph.is_constant(inputs[1])) return false;
  const Shape& w = shape_of(graph, inputs[1]);
  const bool leads = node.op == "Conv" || node.attrs.get_int("transB", 0) != 0;
  if (w.size() < 2 || (node.op != "Conv" && w.size() != 2) || node.attrs.get_int("group", 1) != 1)
    return false;
  bool changed = center_input(graph, patch, inputs, 1, leads ? 0 : 1);
  if (inputs.size() > 2 && inputs[2].valid())
    changed =
        center_input(graph, patch, inputs, 2, shape_of(graph, inputs[2]).size() - 1) || changed;
  return changed;
}

/// The constants among the operands of a sum or a Concat, whose result has this shape.
bool center_operands(const Graph& graph, const Shape& out, std::size_t axis, Patch& patch,
                     std::vector<ValueId>& inputs) {
  bool changed = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].valid() || !graph.is_constant(inputs[i])) continue;
    const std::size_t skip = out.size() - shape_of(graph, inputs[i]).size();
    if (axis < skip) continue;
    changed = center_input(graph, patch, inputs, i, axis - skip) || changed;
  }
  return changed;
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const ValueId y = m.root_value();
  if (!is_f32(graph, y) || root.inputs.size() < 2) return NoMatch{};
  const Shape out = shape_of(graph, y);
  if (out.size() < 2) return NoMatch{};
  std::vector<ValueId> inputs = root.inputs;
  const bool is_sum = root.op == "Add" || root.op == "Concat";
  if (!is_sum) {
    const std::size_t axis = root.op == "Conv" ? 1 : out.size() - 1;
    if (!only_norms_read(graph, y, axis) || !center_linear(graph, root, patch, inputs))
      return NoMatch{};
    return patch.edit(root.attrs, inputs);
  }
  if (std::ranges::none_of(inputs, [&](ValueId in) { return graph.is_constant(in); }))
    return NoMatch{};
  for (std::size_t axis = 1; axis < out.size(); ++axis) {
    if (root.op == "Concat" && normalize_axis(root.attrs.require_int("axis"), out.size(),
                                              root.name) == static_cast<std::int64_t>(axis))
      continue;
    if (only_norms_read(graph, y, axis) && center_operands(graph, out, axis, patch, inputs))
      return patch.edit(root.attrs, inputs);
  }
  return NoMatch{};
}

}  // namespace

Rule center_norm_input() {
  return {.name = "center_norm_input",
          .formula = "LN(W.x+b) = LN((W-mean(W)).x + (b-mean(b))), also through sums",
          .effect = Effect::reassociates,
          .source =
              "LN(x + c) = LN(x) for a c common to the row; Ashkboos et al. 2024 "
              "(arXiv:2401.15024), 3.1",
          .stage = Stage::fold,
          .root = op_in({"Conv", "Gemm", "MatMul", "Add", "Concat"}),
          .apply = apply};
}

}  // namespace waveq::rules
