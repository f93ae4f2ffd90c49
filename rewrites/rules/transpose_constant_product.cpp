// W.x  =>  Transpose(Transpose(x).Transpose(W))                                   W constant
// v.x, x.v of a vector v  =>  the product with a matrix of one row or column, reshaped

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// True where a gain of each row follows, which goes into the weights first.
bool takes_gain(const Graph& graph, ValueId product) {
  if (graph.use_count(product) != 1 || graph.is_output(product)) return false;
  const Node& next = graph.node(graph.value(product).uses.front());
  const Shape& shape = shape_of(graph, product);
  return next.op == "Mul" && shape.size() > 1 && std::ranges::any_of(next.inputs, [&](ValueId c) {
           return graph.is_constant(c) && along_axis(graph.constant(c), shape, shape.size() - 2);
         });
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
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
  if (takes_gain(graph, m.root_value())) return NoMatch{};
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
