// Clip(Clip(x, a, b), c, d)  =>  Clip(x, a', b'),   a' and b' being a and b clipped to [c, d]
// Relu, Max and Min with a number are Clips with one end: Min(Relu(x), 6), Clip(Relu(x), max = 6).

#include <algorithm>
#include <cmath>
#include <limits>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

constexpr double kMost = std::numeric_limits<float>::max();

struct Clipped {
  ValueId x;
  double lo = -kMost, hi = kMost;
};

/// An end from input or attribute; nothing where it is computed.
std::optional<double> end(const Graph& graph, const Node& node, std::size_t slot, const char* attr,
                          double fallback) {
  const bool is_input = slot < node.inputs.size() && node.inputs[slot].valid();
  const auto value = is_input ? scalar_of(graph, node.inputs[slot])
                              : std::optional(node.attrs.get_float(attr, fallback));
  if (!value || std::isnan(*value)) return std::nullopt;
  return std::clamp(*value, -kMost, kMost);
}

std::optional<Clipped> as_clip(const Graph& graph, const Node* node) {
  if (!node || node->inputs.empty()) return std::nullopt;
  if (node->op == "Relu") return Clipped{node->inputs[0], 0.0, kMost};
  if (node->op == "Clip") {
    const auto lo = end(graph, *node, 1, "min", -kMost), hi = end(graph, *node, 2, "max", kMost);
    if (!lo || !hi || *lo > *hi) return std::nullopt;
    return Clipped{node->inputs[0], *lo, *hi};
  }
  if ((node->op != "Max" && node->op != "Min") || node->inputs.size() != 2) return std::nullopt;
  for (std::size_t side : {0u, 1u}) {
    const auto c = scalar_of(graph, node->inputs[1 - side]);
    if (!c || std::isnan(*c) ||
        shape_of(graph, node->inputs[1 - side]).size() > shape_of(graph, node->inputs[side]).size())
      continue;
    const ValueId x = node->inputs[side];
    return node->op == "Max" ? Clipped{x, *c, kMost} : Clipped{x, -kMost, *c};
  }
  return std::nullopt;
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  if (!is_f32(graph, m.root_value())) return NoMatch{};
  const auto outer = as_clip(graph, &m.root());
  const auto inner = outer ? as_clip(graph, producer_of(graph, outer->x)) : std::nullopt;
  if (!inner) return NoMatch{};
  const double lo = std::clamp(inner->lo, outer->lo, outer->hi),
               hi = std::clamp(inner->hi, outer->lo, outer->hi);
  if (lo == 0 && hi == kMost) return patch.node("Relu", {inner->x});
  return clip(patch, inner->x, lo, hi);
}

}  // namespace

Rule fold_clip_chain() {
  return {.name = "fold_clip_chain",
          .formula = "Clip(Clip(x,a,b),c,d) = Clip(x,a',b'); Min(Relu(x),6) = Clip(x,0,6)",
          .effect = Effect::exact,
          .source = "ONNX Relu-6, Clip-6/11/12, Max-8, Min-8",
          .stage = Stage::clean,
          .root = op_in({"Clip", "Min", "Max", "Relu"}),
          .apply = apply};
}

}  // namespace waveq::rules
