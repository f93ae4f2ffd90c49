// Slice(a.b, columns)  =>  a.Slice(b, columns)          Slice(x*c, ...)  =>  Slice(x, ...)*c
// Slice(Concat(x, y), part)  =>  x, where the part is one of the operands
// Slice(Move(x), part)  =>  Move(Slice(x, part)), Move = Reshape, Transpose that keeps the axis
// One product that holds several results, as the ones column of a normalizer next to V, or Q, K and
// V of one projection, becomes a product for each: numerator and denominator are then accumulators
// of their own.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"
#include "waveq/rewrites/row_means.h"

namespace waveq::rules {

namespace {

/// One axis, step 1, bounds inside.
struct Part {
  std::size_t axis;
  std::int64_t from, until;
};

std::optional<Part> part_of(const Graph& graph, const Node& slice) {
  const Shape& shape = shape_of(graph, slice.inputs[0]);
  const auto starts = slice.attrs.get_ints("starts", {}), ends = slice.attrs.get_ints("ends", {}),
             axes = slice.attrs.get_ints("axes", {0}), steps = slice.attrs.get_ints("steps", {1});
  if (slice.inputs.size() != 1 || starts.size() != 1 || ends.size() != 1 || axes.size() != 1 ||
      steps.size() != 1 || steps[0] != 1 || shape.empty())
    return std::nullopt;
  const auto axis = static_cast<std::size_t>(normalize_axis(axes[0], shape.size(), slice.name));
  const std::int64_t length = shape[axis];
  const auto inside = [&](std::int64_t v) {
    return std::clamp<std::int64_t>(v < 0 ? v + length : v, 0, length);
  };
  return Part{axis, inside(starts[0]), inside(ends[0])};
}

Attrs slice_attrs(std::size_t axis, const Part& part) {
  Attrs attrs;
  attrs.set("axes", std::vector<std::int64_t>{static_cast<std::int64_t>(axis)});
  attrs.set("starts", std::vector<std::int64_t>{part.from});
  attrs.set("ends", std::vector<std::int64_t>{part.until});
  attrs.set("steps", std::vector<std::int64_t>{1});
  return attrs;
}

Outcome of_concat(const Graph& graph, const Node& concat, const Part& part) {
  const std::size_t rank = shape_of(graph, concat.outputs[0]).size();
  if (static_cast<std::size_t>(
          normalize_axis(concat.attrs.get_int("axis", 0), rank, concat.name)) != part.axis)
    return NoMatch{};
  std::int64_t at = 0;
  for (ValueId in : concat.inputs) {
    const std::int64_t length = shape_of(graph, in)[part.axis];
    if (at == part.from && at + length == part.until) return in;
    at += length;
  }
  return NoMatch{};
}

bool only_slices_read(const Graph& graph, ValueId x) {
  return !graph.is_output(x) && std::ranges::all_of(graph.value(x).uses, [&](NodeId use) {
    return graph.node(use).op == "Slice";
  });
}

/// The part of what is moved, moved.
Outcome of_movement(const Graph& graph, NodeId move_id, const Part& part, const Shape& out,
                    Patch& patch) {
  const Node& move = graph.node(move_id);
  const ValueId x = move.inputs[0];
  if (!only_slices_read(graph, move.outputs[0])) return NoMatch{};
  for (std::size_t axis = 0; axis < shape_of(graph, x).size(); ++axis) {
    if (axis_behind(graph, move, axis) != part.axis) continue;
    std::vector<ValueId> inputs = move.inputs;
    inputs[0] = patch.node("Slice", {x}, slice_attrs(axis, part));
    if (move.op != "Transpose") {
      if (move.op != "Reshape") return NoMatch{};
      inputs[1] = patch.constant(ints_tensor(out), move.inputs[1]);
    }
    return patch.like(move_id, inputs);
  }
  return NoMatch{};
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const ValueId x = root.inputs[0];
  const Node* producer = producer_of(graph, x);
  if (!producer || !is_f32(graph, x) || producer->outputs[0] != x) return NoMatch{};
  const auto part = part_of(graph, root);
  if (!part) return NoMatch{};
  const Node& node = *producer;
  const NodeId node_id = graph.value(x).producer;
  if (node.op == "Concat") return of_concat(graph, node, *part);
  if (is_movement(node.op))
    return of_movement(graph, node_id, *part, shape_of(graph, m.root_value()), patch);
  const Shape shape = shape_of(graph, x);
  if (node.op == "MatMul" && !only_slices_read(graph, x))
    return declined("the whole of MatMul '{}' is used, too", node.name);
  if (node.op == "MatMul") {
    const std::size_t rank = shape_of(graph, node.inputs[1]).size();
    if (part->axis + 1 != shape.size() || rank < 2) return NoMatch{};
    const ValueId columns = patch.node("Slice", {node.inputs[1]}, slice_attrs(rank - 1, *part));
    return patch.like(node_id, {node.inputs[0], columns});
  }
  if (node.op != "Mul" && node.op != "Add" && node.op != "Div" && node.op != "Sub")
    return NoMatch{};
  for (std::size_t side : {0u, 1u}) {
    const ValueId c = node.inputs[1 - side];
    if (!graph.is_constant(c) || shape_of(graph, node.inputs[side]) != shape ||
        graph.is_constant(node.inputs[side]))
      continue;
    // The constant is cut along where it varies.
    const std::size_t skip = shape.size() - shape_of(graph, c).size();
    std::vector<ValueId> inputs(2);
    inputs[1 - side] = c;
    if (part->axis >= skip && shape_of(graph, c)[part->axis - skip] != 1)
      inputs[1 - side] = patch.node("Slice", {c}, slice_attrs(part->axis - skip, *part));
    inputs[side] = patch.node("Slice", {node.inputs[side]}, slice_attrs(part->axis, *part));
    return patch.like(node_id, inputs);
  }
  return NoMatch{};
}

}  // namespace

Rule hoist_slice_above_product() {
  return {.name = "hoist_slice_above_product",
          .formula =
              "Slice(a.b, columns) = a.Slice(b, columns), Slice(Concat(x,y), part) = x, "
              "Slice(Move(x)) = Move(Slice(x))",
          .effect = Effect::reassociates,
          .source = "a column of a product depends on that column of the right operand",
          .stage = Stage::fold,
          .root = op_in({"Slice"}),
          .apply = apply};
}

}  // namespace waveq::rules
