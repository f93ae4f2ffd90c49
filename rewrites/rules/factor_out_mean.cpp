// x*s + (b - m*s)  =>  (x - m)*s + b        x*s - m*s  =>  (x - m)*s        likewise with / s
// A normalization as Keras writes it: gain/deviation times x, and what is left of bias and mean.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// m*s or m/s, used once.
bool is_scaled(const Graph& graph, ValueId id) {
  const Node* node = producer_of(graph, id);
  return node && (node->op == "Mul" || node->op == "Div") && node->inputs.size() == 2 &&
         graph.use_count(id) == 1 && is_f32(graph, id);
}

/// What is subtracted, m*s, and the constant it is subtracted from, if there is one.
struct Rest {
  ValueId scaled, bias;
};

Rest rest_of(const Graph& graph, ValueId id) {
  const Node* node = producer_of(graph, id);
  if (!node || graph.use_count(id) != 1) return {};
  if (node->op == "Neg") return {node->inputs[0], {}};
  if (node->op == "Sub" && graph.is_constant(node->inputs[0]))
    return {node->inputs[1], node->inputs[0]};
  return {};
}

/// The operands x, m and s of x*s and m*s, or x/s and m/s, in any order; s is no constant.
struct Common {
  std::string op;
  ValueId x, m, s;
};

std::optional<Common> common_factor(const Graph& graph, ValueId a, ValueId b, const Shape& out) {
  if (!is_scaled(graph, a) || !is_scaled(graph, b)) return std::nullopt;
  const Node &left = graph.node(graph.value(a).producer),
             &right = graph.node(graph.value(b).producer);
  if (left.op != right.op) return std::nullopt;
  for (std::size_t i : {0u, 1u})
    for (std::size_t k : {0u, 1u}) {
      if (left.op == "Div" && (i != 0 || k != 0)) continue;
      const Common c{left.op, left.inputs[i], right.inputs[k], left.inputs[1 - i]};
      if (c.s == right.inputs[1 - k] && !graph.is_constant(c.s) && !graph.is_constant(c.m) &&
          !graph.is_constant(c.x) && shape_of(graph, c.x) == out)
        return c;
    }
  return std::nullopt;
}

Outcome apply(const Match& match, Patch& patch) {
  const Graph& graph = match.graph();
  const Node& root = match.root();
  if (root.inputs.size() != 2 || !is_f32(graph, match.root_value())) return NoMatch{};
  const Shape out = shape_of(graph, match.root_value());
  for (std::size_t side : {0u, 1u}) {
    const ValueId first = root.inputs[side];
    const Rest rest =
        root.op == "Add" ? rest_of(graph, root.inputs[1 - side]) : Rest{root.inputs[1], {}};
    if (root.op == "Sub" && side == 1) break;
    if (!rest.scaled.valid()) continue;
    const auto found = common_factor(graph, first, rest.scaled, out);
    if (!found) continue;
    const ValueId y = patch.node(found->op, {patch.node("Sub", {found->x, found->m}), found->s});
    return rest.bias.valid() ? patch.node("Add", {y, rest.bias}) : y;
  }
  return NoMatch{};
}

}  // namespace

Rule factor_out_mean() {
  return {.name = "factor_out_mean",
          .formula = "x*s + (b - m*s) = (x - m)*s + b, x*s - m*s = (x - m)*s",
          .effect = Effect::reassociates,
          .source = "distributive law; tf.nn.batch_normalization",
          .stage = Stage::fuse,
          .root = op_in({"Add", "Sub"}),
          .apply = apply};
}

}  // namespace waveq::rules
