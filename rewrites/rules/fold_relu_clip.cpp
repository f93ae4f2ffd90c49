// Clip(x, 0, inf)  =>  Relu(x),   Max(x, 0)  =>  Relu(x)

#include <limits>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Bound from input or attribute; `fallback` where there is none, nothing where it is not constant.
std::optional<double> bound(const Graph& graph, const Node& node, std::size_t slot,
                            const char* attr, double fallback) {
  if (slot < node.inputs.size() && node.inputs[slot].valid())
    return scalar_of(graph, node.inputs[slot]);
  return node.attrs.get_float(attr, fallback);
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& node = m.root();
  if (!is_f32(graph, m.root_value())) return NoMatch{};
  ValueId x;
  if (node.op == "Clip") {
    constexpr double kMax = std::numeric_limits<float>::max();
    const auto lo = bound(graph, node, 1, "min", -kMax), hi = bound(graph, node, 2, "max", kMax);
    if (lo && hi && *lo == 0.0 && *hi >= kMax) x = node.inputs[0];
  } else if (node.inputs.size() == 2) {
    for (std::size_t side : {0u, 1u})
      if (scalar_of(graph, node.inputs[1 - side]) == 0.0) x = node.inputs[side];
  }
  if (!x.valid() || shape_of(graph, x) != shape_of(graph, m.root_value())) return NoMatch{};
  return patch.node("Relu", {x});
}

}  // namespace

Rule fold_relu_clip() {
  return {.name = "fold_relu_clip",
          .formula = "Clip(x,0,inf) = Max(x,0) = Relu(x)",
          .effect = Effect::exact,
          .source = "ONNX Relu-6, Clip-6/11/12, Max-8",
          .stage = Stage::clean,
          .root = op_in({"Clip", "Max"}),
          .apply = apply};
}

}  // namespace waveq::rules
