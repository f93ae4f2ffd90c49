// W.x  =>  Transpose(Transpose(x).Transpose(W))                                   W constant
// v.x, x.v of a vector v  =>  the product with a matrix of one row or column, reshaped

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node root = m.root();
  const ValueId a = root.inputs.at(0), b = root.inputs.at(1);
  if (!is_f32(graph, a) || !is_f32(graph, b)) return NoMatch{};
  const Shape left = shape_of(graph, a), right = shape_of(graph, b);
  if (left.size() == 1 || right.size() == 1) {
    const Shape out = shape_of(graph, m.root_value());
    const auto shaped = [&](ValueId v, const Shape& shape) {
      return patch.node("Reshape", {v, patch.constant(ints_tensor(shape))});
    };
    const ValueId row = left.size() == 1 ? shaped(a, {1, left[0]}) : a,
                  column = right.size() == 1 ? shaped(b, {right[0], 1}) : b;
    return shaped(patch.node("MatMul", {row, column}), out);
  }
  if (!graph.is_constant(a) || graph.is_constant(b)) return NoMatch{};
  // Elsewhere rules fold what follows into the weights where they stand: they come first.
  const std::vector<NodeId>& users = graph.value(m.root_value()).uses;
  if (users.size() == 1 && graph.node(users.front()).op == "Mul" &&
      std::ranges::any_of(graph.node(users.front()).inputs,
                          [&](ValueId v) { return graph.is_constant(v); }))
    return NoMatch{};
  const ValueId y = patch.node(
      "MatMul", {swap_last_axes(patch, b, right.size()), swap_last_axes(patch, a, left.size())});
  return swap_last_axes(patch, y, shape_of(graph, y).size());
}

}  // namespace

Rule transpose_constant_product() {
  return {.name = "transpose_constant_product",
          .formula = "W.x = T(T(x).T(W)), T the transpose",
          .effect = Effect::reassociates,
          .source = "transpose of a product; ONNX MatMul-13 (operands of one axis)",
          .stage = Stage::fold,
          .root = op_in({"MatMul"}),
          .apply = apply};
}

}  // namespace waveq::rules
