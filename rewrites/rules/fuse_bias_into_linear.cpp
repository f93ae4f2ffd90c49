// L(x) + c  =>  L with bias c;  (L(x) + b) + c  =>  L(x) + (b+c)       one c per output channel, or
// one for all Conv, ConvTranspose and Gemm take the bias in; a MatMul keeps one Add behind it. L(x)
// - c likewise.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() != 2) return NoMatch{};
  const bool subtracts = root.op == "Sub";
  for (std::size_t side : {1u, 0u}) {
    if (!graph.is_constant(root.inputs[side]) || (subtracts && side == 0)) continue;
    const ValueId product = root.inputs[1 - side];
    const LinearOr found = linear_behind(graph, product);
    if (!found.linear) {
      if (found.reason.empty()) return NoMatch{};
      return Declined{found.reason};
    }
    // MatMul + Add is its canonical form already.
    if (graph.node(found.linear->node).op == "MatMul" && !found.linear->add.valid() && !subtracts)
      return NoMatch{};
    const Shape& out = shape_of(graph, m.root_value());
    auto shift = along_axis(graph.constant(root.inputs[side]), out, found.linear->axis);
    if (!shift || shape_of(graph, product) != out)
      return declined("{} is not one bias per channel ({})",
                      to_string(shape_of(graph, root.inputs[side])), found.linear->channels);
    if (subtracts)
      for (double& s : *shift) s = -s;
    const auto folded = fold_affine(patch, graph, *found.linear, {}, *shift);
    if (!folded) return declined("a folded bias would not be finite");
    return *folded;
  }
  return NoMatch{};
}

}  // namespace

Rule fuse_bias_into_linear() {
  return {.name = "fuse_bias_into_linear",
          .formula = "Conv(x,W)+c = Conv(x,W,c), (W.x+b)+c = W.x+(b+c)",
          .effect = Effect::reassociates,
          .source = "ONNX Conv-11, ConvTranspose-11, Gemm-13: the bias input",
          .stage = Stage::fuse,
          .root = op_in({"Add", "Sub"}),
          .apply = apply};
}

}  // namespace waveq::rules
