// n / ReduceSum(x, last axis)  =>  n / x.ones          likewise ReduceMean: the divisor stays an
// accumulator of the matrix product
// n / Max(d, c), n / Clip(d, c, inf)  =>  n / (d + c)    0 < c <= 1/100, d a sum of non-negative
// terms: where the guard acts at all, the quotient is that of two sums that vanish together

#include <cmath>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

constexpr double kLargestGuard = 0.01;

/// Row sums as a product with a column of ones, or of 1/N. `divisor` is the reduction, keepdims 1,
/// or a Reshape to that form of one with keepdims 0.
std::optional<ValueId> sum_as_product(const Graph& graph, Patch& patch, ValueId divisor) {
  const Node* reduction = producer_of(graph, divisor);
  if (reduction && reduction->op == "Reshape") reduction = producer_of(graph, reduction->inputs[0]);
  if (!reduction || (reduction->op != "ReduceSum" && reduction->op != "ReduceMean") ||
      !is_f32(graph, reduction->inputs[0]))
    return std::nullopt;
  const Node& sum = *reduction;
  const Shape shape = shape_of(graph, sum.inputs[0]);
  const IntsParam axes = ints_of(graph, sum, "axes", 1);
  if (shape.size() < 2 || !axes.values || axes.values->size() != 1 ||
      normalize_axis(axes.values->front(), shape.size(), sum.name) + 1 !=
          static_cast<std::int64_t>(shape.size()))
    return std::nullopt;
  Shape rows = shape, ones = shape;
  rows.back() = 1;
  if (shape_of(graph, divisor) != rows) return std::nullopt;
  ones[ones.size() - 2] = shape.back();
  ones.back() = 1;
  const double share = sum.op == "ReduceMean" ? 1.0 / static_cast<double>(shape.back()) : 1.0;
  const auto count = static_cast<std::size_t>(element_count(ones));
  return patch.node(
      "MatMul",
      {sum.inputs[0], patch.constant(float_tensor(ones, std::vector<double>(count, share)))});
}

Outcome guard_as_offset(const Match& m, Patch& patch, const Node& guard) {
  const Graph& graph = m.graph();
  const ValueId numerator = m.root().inputs[0];
  ValueId d = guard.inputs[0];
  std::optional<double> least;
  if (guard.op == "Clip") {
    if (guard.attrs.get_float("max", 3.4e38) < 3.0e38) return NoMatch{};
    if (guard.inputs.size() > 2 && guard.inputs[2].valid()) return NoMatch{};
    least = guard.inputs.size() > 1 && guard.inputs[1].valid() ? scalar_of(graph, guard.inputs[1])
                                                               : guard.attrs.get_float("min", -1.0);
  } else if (guard.inputs.size() == 2) {
    least = scalar_of(graph, guard.inputs[1]);
    if (!least) {
      least = scalar_of(graph, guard.inputs[0]);
      d = guard.inputs[1];
    }
  }
  if (!least || *least <= 0) return NoMatch{};
  if (*least > kLargestGuard)
    return declined("the divisor's lower end {} is more than a guard against zero", *least);
  const ValueId c = patch.constant(Tensor::scalar(static_cast<float>(*least)));
  return patch.node("Div", {numerator, patch.node("Add", {d, c})});
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (!is_f32(graph, m.root_value()) || graph.is_constant(root.inputs[0])) return NoMatch{};
  const Node* producer = producer_of(graph, root.inputs[1]);
  if (!producer) return NoMatch{};
  const Node& divisor = *producer;
  if (divisor.op == "Clip" || divisor.op == "Max") return guard_as_offset(m, patch, divisor);
  if (divisor.op == "Add") {
    for (std::size_t side : {0u, 1u})
      if (scalar_of(graph, divisor.inputs[1 - side]))
        if (const auto sum = sum_as_product(graph, patch, divisor.inputs[side]))
          return patch.node("Div",
                            {root.inputs[0], patch.node("Add", {*sum, divisor.inputs[1 - side]})});
    return NoMatch{};
  }
  if (const auto sum = sum_as_product(graph, patch, root.inputs[1]))
    return patch.node("Div", {root.inputs[0], *sum});
  return NoMatch{};
}

}  // namespace

Rule replace_divisor() {
  return {.name = "replace_divisor",
          .formula = "n/ReduceSum(x,-1) = n/(x.ones), n/Max(d,c) ~ n/(d+c) for a small c",
          .effect = Effect::approximates,
          .source = "Katharopoulos et al. 2020 (arXiv:2006.16236), the stabilized normalizer",
          .stage = Stage::fold,
          .root = op_in({"Div"}),
          .apply = apply};
}

}  // namespace waveq::rules
