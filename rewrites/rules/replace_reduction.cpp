// ReduceMin(x)  =>  -ReduceMax(-x)
// ReduceSumSquare(x)  =>  ReduceSum(x*x)              ReduceL2(x)  =>  Sqrt(ReduceSum(x*x))

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Node& root = m.root();
  // normalize_axes_input brings constant axes into the node first.
  if (root.inputs.size() != 1 || !is_f32(m.graph(), root.inputs[0])) return NoMatch{};
  const ValueId x = root.inputs[0];
  const auto minus = [&](ValueId v) {
    return patch.node("Mul", {v, patch.constant(Tensor::scalar(-1.0F))});
  };
  if (root.op == "ReduceMin") return minus(patch.node("ReduceMax", {minus(x)}, root.attrs));
  const ValueId sum = patch.node("ReduceSum", {patch.node("Mul", {x, x})}, root.attrs);
  return root.op == "ReduceL2" ? patch.node("Sqrt", {sum}) : sum;
}

}  // namespace

Rule replace_reduction() {
  return {.name = "replace_reduction",
          .formula =
              "ReduceMin(x) = -ReduceMax(-x), ReduceSumSquare(x) = ReduceSum(x*x), ReduceL2(x) = "
              "Sqrt(ReduceSum(x*x))",
          .effect = Effect::reassociates,
          .source = "ONNX ReduceMin, ReduceL2, ReduceSumSquare-1/11/13/18",
          .stage = Stage::fold,
          .root = op_in({"ReduceMin", "ReduceL2", "ReduceSumSquare"}),
          .apply = apply};
}

}  // namespace waveq::rules
