// (L(x) + b) * s  =>  (s*L)(x) + s*b,   also / s      one s for each output channel, or one for all
// L Conv, ConvTranspose, Gemm, or MatMul with constant weights (with or without an Add behind it).

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() != 2) return NoMatch{};
  const bool divides = root.op == "Div";
  for (std::size_t side : {1u, 0u}) {
    if (!graph.is_constant(root.inputs[side]) || (divides && side == 0)) continue;
    const ValueId product = root.inputs[1 - side];
    const LinearOr found = linear_behind(graph, product);
    if (!found.linear) {
      if (found.reason.empty()) return NoMatch{};
      return Declined{found.reason};
    }
    const Shape& out = shape_of(graph, m.root_value());
    auto gain = along_axis(graph.constant(root.inputs[side]), out, found.linear->axis);
    if (!gain || shape_of(graph, product) != out)
      return declined("{} is not one gain per channel ({})",
                      to_string(shape_of(graph, root.inputs[side])), found.linear->channels);
    if (divides)
      for (double& g : *gain) g = 1.0 / g;
    const auto folded = fold_affine(patch, graph, *found.linear, *gain, {});
    if (!folded) return declined("a folded weight would not be finite");
    return *folded;
  }
  return NoMatch{};
}

}  // namespace

Rule fold_scale_into_linear() {
  return {.name = "fold_scale_into_linear",
          .formula = "(W.x+b)*s = (s*W).x + s*b",
          .effect = Effect::reassociates,
          .source = "linearity",
          .stage = Stage::fold,
          .root = op_in({"Mul", "Div"}),
          .apply = apply};
}

}  // namespace waveq::rules
