// Softmax(x) along another axis than the last      =>  Transpose, Softmax(axis = last), Transpose
// Softmax(x) over all axes from one on (opset < 13) =>  Reshape [outer,inner], Softmax, Reshape

#include <algorithm>
#include <numeric>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Attrs last_axis(std::size_t rank) {
  Attrs attrs;
  attrs.set("axis", static_cast<std::int64_t>(rank) - 1);
  return attrs;
}

/// Softmax over the axes [axis, rank) of x as one.
Outcome flattened(const Match& m, Patch& patch, const Shape& shape, std::int64_t axis) {
  const ValueId x = m.root().inputs[0];
  const std::string op = m.root().op;
  if (shape.back() == element_count(Shape(shape.begin() + axis, shape.end())))
    return patch.edit(last_axis(shape.size()), {x});
  const Shape rows = {element_count(Shape(shape.begin(), shape.begin() + axis)),
                      element_count(Shape(shape.begin() + axis, shape.end()))};
  const ValueId flat = patch.node("Reshape", {x, patch.constant(ints_tensor(rows))});
  const ValueId y = patch.node(op, {flat}, last_axis(2));
  return patch.node("Reshape", {y, patch.constant(ints_tensor(shape))});
}

}  // namespace

Rule replace_softmax_axis() {
  return {.name = "replace_softmax_axis",
          .formula = "Softmax(x, axis) = Transpose(Softmax(Transpose(x), last axis))",
          .effect = Effect::exact,
          .source = "ONNX Softmax-1/11 (flattens), Softmax-13 (one axis)",
          .stage = Stage::clean,
          .root = op_in({"Softmax", "LogSoftmax"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            const Node& node = m.root();
            const Graph& graph = m.graph();
            if (!is_f32(graph, node.inputs[0]) || shape_of(graph, node.inputs[0]).empty())
              return NoMatch{};
            const Shape shape = shape_of(graph, node.inputs[0]);
            const auto rank = static_cast<std::int64_t>(shape.size());
            const bool flattens = node.attrs.get_int("waveq_flatten", 0) != 0;
            const std::int64_t given =
                node.attrs.get_int("axis", flattens ? std::min<std::int64_t>(1, rank - 1) : -1);
            const std::int64_t axis = normalize_axis(given, shape.size(), node.name);
            if (flattens) return flattened(m, patch, shape, axis);
            if (axis == rank - 1) {
              if (node.attrs.get_int("axis", -1) == axis) return NoMatch{};
              return patch.edit(last_axis(shape.size()), {node.inputs[0]});
            }
            std::vector<std::int64_t> perm(shape.size());
            std::iota(perm.begin(), perm.end(), 0);
            std::swap(perm[static_cast<std::size_t>(axis)], perm.back());
            Attrs swap;
            swap.set("perm", perm);
            const ValueId rows = patch.node("Transpose", {node.inputs[0]}, swap);
            const ValueId y = patch.node(node.op, {rows}, last_axis(shape.size()));
            return patch.node("Transpose", {y}, swap);
          }};
}

}  // namespace waveq::rules
