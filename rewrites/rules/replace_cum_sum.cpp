// CumSum(x)  =>  x.T along its axis                          T triangular, of ones

#include <utility>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Elements of T; beyond, the sum stays what it is.
constexpr std::int64_t kMostWeights = std::int64_t{1} << 20;

/// 1 where element i of the operand is part of sum j.
Tensor triangle(std::int64_t length, bool exclusive, bool reverse) {
  std::vector<double> ones;
  for (std::int64_t i = 0; i < length; ++i)
    for (std::int64_t j = 0; j < length; ++j)
      ones.push_back((i != j ? (i < j) != reverse : !exclusive) ? 1.0 : 0.0);
  return float_tensor({length, length}, ones);
}

}  // namespace

Rule replace_cum_sum() {
  const Pat x = any(), axis = constant();
  return {.name = "replace_cum_sum",
          .formula = "CumSum(x) = x.T, T(i,j) = 1 for i <= j",
          .effect = Effect::reassociates,
          .source = "ONNX CumSum-11",
          .stage = Stage::fuse,
          .root = op("CumSum", {x, axis}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Shape shape = m.shape(x);
            if (shape.size() < 2) return declined("a single row is not multiplied by a matrix");
            const std::int64_t along =
                normalize_axis(to_int64(m.tensor(axis)).front(), shape.size(), m.root().name);
            const auto d = static_cast<std::size_t>(along);
            if (shape[d] * shape[d] > kMostWeights)
              return declined("it adds up {} elements, a matrix of {} ones", shape[d],
                              shape[d] * shape[d]);
            const ValueId ones =
                patch.constant(triangle(shape[d], m.root().attrs.get_int("exclusive", 0) != 0,
                                        m.root().attrs.get_int("reverse", 0) != 0));
            if (d + 1 == shape.size()) return patch.node("MatMul", {m[x], ones});
            std::vector<std::int64_t> perm;
            for (std::size_t i = 0; i < shape.size(); ++i)
              perm.push_back(static_cast<std::int64_t>(i));
            std::swap(perm[d], perm.back());
            Attrs attrs;
            attrs.set("perm", perm);
            const ValueId rows = patch.node("Transpose", {m[x]}, attrs);
            return patch.node("Transpose", {patch.node("MatMul", {rows, ones})}, attrs);
          }};
}

}  // namespace waveq::rules
