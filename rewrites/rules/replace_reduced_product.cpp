// ReduceSum(a * b, last axis)  =>  a.Transpose(b)        a [..., M, d], b [..., 1, d] or [d]
// ReduceSum(a * b, last but one)  =>  Transpose(b).a     a [..., d, M], b [..., d, 1]
// The normalizer of linear attention as (q*k.sum(0)).sum(-1): the product with one row is a matrix
// product, whose sums stay in the accumulator.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// `b` as [..., rows, columns] of the rank of `a`, where it repeats along no axis but `along`.
bool repeats_along(const Shape& a, const Shape& b, std::size_t along) {
  if (a.size() != b.size() || b[along] != 1 || a[along] == 1) return false;
  for (std::size_t d = 0; d < a.size(); ++d)
    if (d != along && a[d] != b[d]) return false;
  return true;
}

}  // namespace

Rule replace_reduced_product() {
  const Pat a = any(), b = any(), axes = any();
  const Pat product = op("Mul", {a, b}).one_use();
  return {.name = "replace_reduced_product",
          .formula = "ReduceSum(a*b, -1) = a.Transpose(b)",
          .effect = Effect::reassociates,
          .source =
              "definition of the matrix product; Katharopoulos et al. 2020 "
              "(arXiv:2006.16236), eq. 5",
          .stage = Stage::fuse,
          .root = op("ReduceSum", {product, optional(axes)}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Node& root = m.root();
            if (!is_f32(graph, m[product])) return NoMatch{};
            const Shape shape = m.shape(product), out = shape_of(graph, m.root_value());
            const std::size_t rank = shape.size();
            const IntsParam given = ints_of(graph, root, "axes", 1);
            if (!given.values || given.values->size() != 1 || rank < 2) return NoMatch{};
            const auto axis =
                static_cast<std::size_t>(normalize_axis(given.values->front(), rank, root.name));
            if (axis + 2 < rank) return NoMatch{};
            const bool last = axis + 1 == rank;
            for (const auto& [full, one] : {std::pair{m[a], m[b]}, std::pair{m[b], m[a]}}) {
              if (shape_of(graph, full) != shape ||
                  !repeats_along(shape, shape_of(graph, one), last ? rank - 2 : rank - 1))
                continue;
              const ValueId y =
                  last ? patch.node("MatMul", {full, swap_last_axes(patch, one, rank)})
                       : patch.node("MatMul", {swap_last_axes(patch, one, rank), full});
              if (root.attrs.get_int("keepdims", 1) != 0) return y;
              return patch.node("Reshape", {y, patch.constant(ints_tensor(out))});
            }
            return NoMatch{};
          }};
}

}  // namespace waveq::rules
