// f(x)  =>  x                                  where f leaves every element where and what it is
// Identity, Dropout, Cast to the same type, Transpose that does not permute, Reshape to
// the same shape, Concat and Sum of one, Slice of everything, Pad of nothing, Expand to the same
// shape, x*1, x/1, x+0, x-0, x^1, means over axes of length 1, pooling windows of one element.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

bool all_equal(const Graph& graph, ValueId id, double wanted) {
  if (!graph.is_constant(id)) return false;
  return std::ranges::all_of(to_double(graph.constant(id)), [&](double v) { return v == wanted; });
}

bool all_ints(const IntsParam& param, std::int64_t wanted) {
  return !param.dynamic &&
         (!param.values ||
          std::ranges::all_of(*param.values, [&](std::int64_t v) { return v == wanted; }));
}

bool keeps_transpose(const Node& node, const Shape& shape) {
  std::vector<std::int64_t> identity(shape.size());
  std::iota(identity.begin(), identity.end(), 0);
  std::vector<std::int64_t> reversed(identity.rbegin(), identity.rend());
  return node.attrs.get_ints("perm", reversed) == identity;
}

/// Types are equal already: a full-size Slice keeps everything unless it walks backwards.
bool keeps_slice(const Graph& graph, const Node& node) {
  const IntsParam steps = ints_of(graph, node, "steps", 4);
  return !steps.dynamic && (!steps.values || std::ranges::all_of(*steps.values, [](std::int64_t s) {
    return s > 0;
  }));
}

bool keeps_clip(const Graph& graph, const Node& node) {
  const bool no_min = node.inputs.size() < 2 || !node.inputs[1].valid();
  const bool no_max = node.inputs.size() < 3 || !node.inputs[2].valid();
  const auto open = [&](bool absent, std::size_t slot, const char* attr, double limit) {
    const auto bound = absent ? std::optional(node.attrs.get_float(attr, limit))
                              : scalar_of(graph, node.inputs[slot]);
    return bound && (limit < 0 ? *bound <= limit : *bound >= limit);
  };
  constexpr double kMax = std::numeric_limits<float>::max();
  return open(no_min, 1, "min", -kMax) && open(no_max, 2, "max", kMax);
}

bool keeps_pool(const Graph& graph, const Node& node) {
  const auto ones = [&](const char* attr) { return all_ints(ints_of(graph, node, attr, 9), 1); };
  return ones("kernel_shape") && ones("strides") && all_ints(ints_of(graph, node, "pads", 9), 0);
}

/// Input that the node hands through, or -1.
int kept_input(const Graph& graph, const Node& node) {
  const std::string& op = node.op;
  const auto in = [&](std::size_t i) {
    return i < node.inputs.size() ? node.inputs[i] : ValueId{};
  };
  const auto present = std::ranges::count_if(node.inputs, [](ValueId v) { return v.valid(); });
  const auto when = [](bool condition) { return condition ? 0 : -1; };
  if (op == "Identity" || op == "Cast" || op == "CastLike" || op == "Reshape" || op == "Flatten" ||
      op == "Squeeze" || op == "Unsqueeze" || op == "Expand" || op == "Tile" || op == "Dropout")
    return 0;  // equal types say it all; nothing is dropped outside of training
  if (op == "Transpose") return when(keeps_transpose(node, shape_of(graph, in(0))));
  if (op == "Concat" || op == "Sum" || op == "Mean" || op == "Max" || op == "Min")
    return when(present == 1 && in(0).valid());
  if (op == "Slice") return when(keeps_slice(graph, node));
  // Equal types leave pads that sum to zero on each axis; -1 in front and 1 behind would be a
  // shift.
  if (op == "Pad")
    return when(!node.attrs.has("paddings") && all_ints(ints_of(graph, node, "pads", 1), 0));
  if (op == "Clip") return when(keeps_clip(graph, node));
  if (op == "ReduceMean" || op == "ReduceSum" || op == "ReduceMax" || op == "ReduceMin" ||
      op == "ReduceProd")
    return 0;  // equal types: only axes of length 1, if any, were reduced
  if (op == "MaxPool" || op == "AveragePool") return when(keeps_pool(graph, node));
  if (op == "Mul") return all_equal(graph, in(1), 1.0) ? 0 : all_equal(graph, in(0), 1.0) ? 1 : -1;
  if (op == "Add") return all_equal(graph, in(1), 0.0) ? 0 : all_equal(graph, in(0), 0.0) ? 1 : -1;
  if (op == "Div" || op == "Pow") return when(all_equal(graph, in(1), 1.0));
  if (op == "Sub") return when(all_equal(graph, in(1), 0.0));
  return -1;
}

Outcome apply(const Match& m, Patch&) {
  const Graph& graph = m.graph();
  const Node& node = m.root();
  const int kept = kept_input(graph, node);
  if (kept < 0 || static_cast<std::size_t>(kept) >= node.inputs.size()) return NoMatch{};
  const ValueId x = node.inputs[static_cast<std::size_t>(kept)];
  if (!x.valid()) return NoMatch{};
  const TensorType& type = graph.value(x).type;
  if (!type.known() || type != graph.value(m.root_value()).type) return NoMatch{};
  return x;
}

}  // namespace

Rule eliminate_identity() {
  return {
      .name = "eliminate_identity",
      .formula = "x*1 = x+0 = Reshape(x, shape(x)) = Identity(x) = ... = x",
      .effect = Effect::exact,
      .source = "ONNX definitions of the operators named in the rule's file",
      .stage = Stage::clean,
      .root = op_in({"Identity",  "Cast",    "CastLike",    "Reshape",   "Flatten",   "Squeeze",
                     "Unsqueeze", "Expand",  "Tile",        "Dropout",   "Transpose", "Concat",
                     "Sum",       "Mean",    "Max",         "Min",       "Slice",     "Pad",
                     "Clip",      "MaxPool", "AveragePool", "Mul",       "Add",       "Div",
                     "Sub",       "Pow",     "ReduceMean",  "ReduceSum", "ReduceMax", "ReduceMin",
                     "ReduceProd"}),
      .apply = apply};
}

}  // namespace waveq::rules
