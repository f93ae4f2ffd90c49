// Max(a, b)  =>  Relu(a - b) + b        Min(a, b)  =>  a - Relu(a - b)        more operands in turn
// Max(x, c)  =>  Clip(x, min=c)         Min(x, c)  =>  Clip(x, max=c)         c one number

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

ValueId with_number(Patch& patch, const std::string& op, ValueId x, double c) {
  Attrs attrs;
  attrs.set(op == "Max" ? "min" : "max", c);
  return patch.node("Clip", {x}, attrs);
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (!is_f32(graph, m.root_value()) || root.inputs.size() < 2) return NoMatch{};
  if (root.inputs.size() > 2) {
    ValueId most = root.inputs[0];
    for (std::size_t i = 1; i < root.inputs.size(); ++i)
      most = patch.node(root.op, {most, root.inputs[i]});
    return most;
  }
  const bool is_max = root.op == "Max";
  for (std::size_t side : {0u, 1u}) {
    const ValueId x = root.inputs[side], c = root.inputs[1 - side];
    if (!graph.is_constant(c)) continue;
    // A divisor that is kept away from zero is a guard, which replace_divisor reads.
    for (NodeId user : graph.value(m.root_value()).uses)
      if (graph.node(user).op == "Div") return NoMatch{};
    const auto number = scalar_of(graph, c);
    if (number && shape_of(graph, x) == shape_of(graph, m.root_value()))
      return with_number(patch, root.op, x, *number);
  }
  const ValueId a = root.inputs[graph.is_constant(root.inputs[0]) ? 1 : 0],
                b = root.inputs[graph.is_constant(root.inputs[0]) ? 0 : 1];
  if (graph.is_constant(a) || !is_f32(graph, a) || !is_f32(graph, b)) return NoMatch{};
  if (!all_finite(graph.is_constant(b) ? to_double(graph.constant(b)) : std::vector<double>{}))
    return declined("its constant holds a non-finite number");
  const ValueId above = patch.node("Relu", {patch.node("Sub", {a, b})});
  return is_max ? patch.node("Add", {above, b}) : patch.node("Sub", {a, above});
}

}  // namespace

Rule replace_extremum() {
  return {.name = "replace_extremum",
          .formula = "Max(a,b) = Relu(a-b)+b, Min(a,b) = a-Relu(a-b)",
          .effect = Effect::reassociates,
          .source = "ONNX Max-8/13, Min-8/13, Relu-6",
          .stage = Stage::fold,
          .root = op_in({"Max", "Min"}),
          .apply = apply};
}

}  // namespace waveq::rules
