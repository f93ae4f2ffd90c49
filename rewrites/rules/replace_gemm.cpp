// Gemm(A, B, C)  =>  alpha*(A'.B') + beta*C      where A is transposed, B no constant, or C no bias
// A' and B' are A and B, transposed where transA and transB say so. Gemm remains for one row of
// constant weights with a value for each column at most added.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

bool has_bias(const Graph& graph, const Node& gemm, const Shape& out) {
  if (gemm.inputs.size() < 3 || !gemm.inputs[2].valid()) return true;
  return graph.is_constant(gemm.inputs[2]) &&
         along_axis(graph.constant(gemm.inputs[2]), out, 1).has_value();
}

ValueId scaled(Patch& patch, ValueId x, double factor) {
  if (factor == 1.0) return x;
  return patch.node("Mul", {x, patch.constant(Tensor::scalar(static_cast<float>(factor)))});
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const Shape out = shape_of(graph, m.root_value());
  const bool turned = root.attrs.get_int("transA", 0) != 0;
  if (!is_f32(graph, root.inputs.at(0)) || !is_f32(graph, root.inputs.at(1)) ||
      (!turned && graph.is_constant(root.inputs[1]) && has_bias(graph, root, out)))
    return NoMatch{};
  const ValueId a = turned ? swap_last_axes(patch, root.inputs[0], 2) : root.inputs[0];
  const ValueId b = root.attrs.get_int("transB", 0) != 0 ? swap_last_axes(patch, root.inputs[1], 2)
                                                         : root.inputs[1];
  const ValueId product =
      scaled(patch, patch.node("MatMul", {a, b}), root.attrs.get_float("alpha", 1.0));
  if (root.inputs.size() < 3 || !root.inputs[2].valid()) return product;
  const ValueId term = scaled(patch, root.inputs[2], root.attrs.get_float("beta", 1.0));
  return patch.node("Add", {product, term});
}

}  // namespace

Rule replace_gemm() {
  return {.name = "replace_gemm",
          .formula = "Gemm(A,B,C) = alpha*(A'.B') + beta*C",
          .effect = Effect::reassociates,
          .source = "ONNX Gemm-7/9/11/13",
          .stage = Stage::clean,
          .root = op_in({"Gemm"}),
          .apply = apply};
}

}  // namespace waveq::rules
