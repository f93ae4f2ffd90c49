// x / max(ReduceL2(x), eps)  =>  RMSNormalization(x, 1/sqrt(N))         along the last axis, of N
// Rows shorter than eps alone come out otherwise.

#include <algorithm>
#include <cmath>
#include <optional>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Largest guard against a length of zero that passes as none.
constexpr double kLargestGuard = 1e-4;

/// The length below the guards that an exporter puts behind it, and the largest of them; nothing
/// where something else stands between.
struct Guarded {
  ValueId length;
  double eps = 0;
};

Guarded unguarded(const Graph& graph, ValueId divisor) {
  Guarded out{divisor, 0};
  for (const Node* node = producer_of(graph, divisor); node;
       node = producer_of(graph, out.length)) {
    if (node->op == "Expand") {
      out.length = node->inputs[0];
      continue;
    }
    const bool clips = node->op == "Clip" && node->inputs.size() == 1 && !node->attrs.has("max");
    const auto eps = clips ? std::optional(node->attrs.get_float("min", 0))
                     : (node->op == "Max" || node->op == "Add") && node->inputs.size() == 2
                         ? scalar_of(graph, node->inputs[1])
                         : std::nullopt;
    if (!eps || *eps < 0) break;
    out.eps = std::max(out.eps, *eps);
    out.length = node->inputs[0];
  }
  return out;
}

}  // namespace

Rule fuse_l2_norm() {
  const Pat x = any(), divisor = any();
  return {.name = "fuse_l2_norm",
          .formula = "x/max(|x|,eps) = RMSNormalization(x,1/sqrt(N))",
          .effect = Effect::approximates,
          .source = "definition of the Euclidean length; ONNX ReduceL2-13, RMSNormalization-23",
          .stage = Stage::fuse,
          .root = op("Div", {x, divisor}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!is_f32(graph, m[x]) || m.shape(x).empty()) return NoMatch{};
            const Guarded found = unguarded(graph, m[divisor]);
            const Node* length = producer_of(graph, found.length);
            if (!length || length->op != "ReduceL2" || length->inputs[0] != m[x]) return NoMatch{};
            const auto last = static_cast<std::int64_t>(m.shape(x).size()) - 1;
            const IntsParam over = ints_of(graph, *length, "axes", 1);
            if (!over.values || over.values->size() != 1 ||
                length->attrs.get_int("keepdims", 1) != 1 ||
                normalize_axis(over.values->front(), m.shape(x).size(), m.root().name) != last)
              return declined("the length is not over the last axis, which is kept");
            if (found.eps > kLargestGuard)
              return declined("its guard {} is no mere guard against zero", found.eps);
            const std::int64_t n = m.shape(x).back();
            const auto count = static_cast<double>(n);
            Attrs attrs;
            attrs.set("axis", last);
            attrs.set("epsilon", found.eps * found.eps / count);
            const ValueId gain = patch.constant(float_tensor(
                {n}, std::vector<double>(static_cast<std::size_t>(n), 1.0 / std::sqrt(count))));
            return patch.node("RMSNormalization", {m[x], gain}, attrs);
          }};
}

}  // namespace waveq::rules
