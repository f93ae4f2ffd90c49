// LpNormalization(x)  =>  x / max(ReduceL2(x), 1e-12)   p = 2;   ReduceSum(Abs(x))   p = 1
// The guard makes zeros of zeros, as the operator does.

#include <numeric>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_lp_normalization() {
  const Pat x = any();
  return {.name = "replace_lp_normalization",
          .formula = "LpNormalization(x) = x/max(|x|,1e-12)",
          .effect = Effect::reassociates,
          .source = "ONNX LpNormalization-1, 22",
          .stage = Stage::clean,
          .root = op("LpNormalization", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const std::size_t rank = m.shape(x).size();
            const std::int64_t axis =
                normalize_axis(m.root().attrs.get_int("axis", -1), rank, m.root().name);
            // Norms are recognized along the last axis.
            std::vector<std::int64_t> perm(rank);
            std::iota(perm.begin(), perm.end(), 0);
            std::swap(perm[static_cast<std::size_t>(axis)], perm.back());
            Attrs swap, last;
            swap.set("perm", perm);
            last.set("axes", std::vector<std::int64_t>{static_cast<std::int64_t>(rank) - 1});
            last.set("keepdims", std::int64_t{1});
            const bool moves = axis + 1 != static_cast<std::int64_t>(rank);
            const ValueId rows = moves ? patch.node("Transpose", {m[x]}, swap) : m[x];
            const ValueId length = m.root().attrs.get_int("p", 2) == 2
                                       ? patch.node("ReduceL2", {rows}, last)
                                       : patch.node("ReduceSum", {patch.node("Abs", {rows})}, last);
            const ValueId guard = patch.constant(Tensor::scalar(1e-12F));
            const ValueId y = patch.node("Div", {rows, patch.node("Max", {length, guard})});
            return moves ? patch.node("Transpose", {y}, swap) : y;
          }};
}

}  // namespace waveq::rules
