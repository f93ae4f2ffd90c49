// ReduceMean(x, axes)  =>  ReduceMean(x) axes=[...]               constant parameters become
// attributes Operator sets moved axes, pads, bounds and split sizes from attributes to inputs; here
// the attribute form is the canonical one, with every axis non-negative, ascending and spelled out.

#include <algorithm>
#include <numeric>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

bool is_reduce(const std::string& op) { return op.starts_with("Reduce"); }

std::string called(const std::string& what) { return fmt::format("{} are not constant", what); }

Outcome finish(const Node& node, Attrs attrs, std::vector<ValueId> inputs, const Patch& patch) {
  while (!inputs.empty() && !inputs.back().valid()) inputs.pop_back();
  if (attrs == node.attrs && inputs == node.inputs) return NoMatch{};
  return patch.edit(std::move(attrs), std::move(inputs));
}

Outcome reduce(const Graph& graph, const Node& node, const Patch& patch) {
  const IntsParam axes = ints_of(graph, node, "axes", 1);
  if (axes.dynamic) return Declined{called("its axes")};
  const std::size_t rank = shape_of(graph, node.inputs[0]).size();
  std::vector<std::int64_t> list = axes.values.value_or(std::vector<std::int64_t>{});
  if (list.empty()) {
    if (node.attrs.get_int("noop_with_empty_axes", 0) != 0) return declined("it reduces nothing");
    list.resize(rank);
    std::iota(list.begin(), list.end(), 0);
  }
  Attrs attrs = node.attrs;
  attrs.erase("noop_with_empty_axes");
  attrs.set("axes", sorted_axes(std::move(list), rank, node.name));
  attrs.set("keepdims", std::int64_t{node.attrs.get_int("keepdims", 1) != 0});
  return finish(node, std::move(attrs), {node.inputs[0]}, patch);
}

Outcome squeeze(const Graph& graph, const Node& node, const Patch& patch) {
  const IntsParam axes = ints_of(graph, node, "axes", 1);
  if (axes.dynamic) return Declined{called("its axes")};
  if (!axes.values) return NoMatch{};
  const ValueId longer = node.op == "Squeeze" ? node.inputs[0] : node.outputs[0];
  Attrs attrs = node.attrs;
  attrs.set("axes", sorted_axes(*axes.values, shape_of(graph, longer).size(), node.name));
  return finish(node, std::move(attrs), {node.inputs[0]}, patch);
}

Outcome slice(const Graph& graph, const Node& node, const Patch& patch) {
  const IntsParam starts = ints_of(graph, node, "starts", 1),
                  ends = ints_of(graph, node, "ends", 2);
  const IntsParam axes = ints_of(graph, node, "axes", 3), steps = ints_of(graph, node, "steps", 4);
  if (starts.dynamic || ends.dynamic || axes.dynamic || steps.dynamic)
    return Declined{called("its bounds")};
  if (!starts.values || !ends.values) return NoMatch{};
  const std::size_t count = starts.values->size();
  std::vector<std::int64_t> along(count);
  std::iota(along.begin(), along.end(), 0);
  if (axes.values) along = *axes.values;
  for (std::int64_t& axis : along)
    axis = normalize_axis(axis, shape_of(graph, node.inputs[0]).size(), node.name);
  Attrs attrs = node.attrs;
  attrs.set("starts", *starts.values);
  attrs.set("ends", *ends.values);
  attrs.set("axes", along);
  attrs.set("steps", steps.values.value_or(std::vector<std::int64_t>(count, 1)));
  return finish(node, std::move(attrs), {node.inputs[0]}, patch);
}

Outcome pad(const Graph& graph, const Node& node, const Patch& patch) {
  const IntsParam pads = ints_of(graph, node, "pads", 1);
  const IntsParam axes = ints_of(graph, node, "axes", 3);
  if (pads.dynamic || axes.dynamic) return Declined{called("its pads")};
  if (!pads.values) return NoMatch{};
  Attrs attrs = node.attrs;
  if (node.inputs.size() > 2 && node.inputs[2].valid()) {
    // The attribute is a float; another type's fill value has to stay an input.
    const auto fill = scalar_of(graph, node.inputs[2]);
    if (!fill) return declined("its fill value is not a constant float");
    attrs.set("value", *fill);
  }
  std::vector<std::int64_t> all = *pads.values;
  if (axes.values) {
    const std::size_t rank = shape_of(graph, node.inputs[0]).size(), count = axes.values->size();
    if (all.size() != 2 * count) return NoMatch{};
    std::vector<std::int64_t> spread(2 * rank, 0);
    for (std::size_t i = 0; i < count; ++i) {
      const auto axis =
          static_cast<std::size_t>(normalize_axis((*axes.values)[i], rank, node.name));
      spread[axis] = all[i];
      spread[rank + axis] = all[count + i];
    }
    all = std::move(spread);
  }
  attrs.set("pads", std::move(all));
  if (!attrs.has("mode")) attrs.set("mode", std::string("constant"));
  return finish(node, std::move(attrs), {node.inputs[0]}, patch);
}

Outcome clip(const Graph& graph, const Node& node, const Patch& patch) {
  if (!is_f32(graph, node.inputs[0])) return NoMatch{};
  Attrs attrs = node.attrs;
  const char* const names[] = {"", "min", "max"};
  for (std::size_t slot : {1u, 2u}) {
    if (slot >= node.inputs.size() || !node.inputs[slot].valid()) continue;
    const auto bound = scalar_of(graph, node.inputs[slot]);
    if (!bound) return declined("its bound '{}' is not constant", names[slot]);
    attrs.set(names[slot], *bound);
  }
  return finish(node, std::move(attrs), {node.inputs[0]}, patch);
}

Outcome split(const Graph& graph, const Node& node, const Patch& patch) {
  const IntsParam sizes = ints_of(graph, node, "split", 1);
  if (sizes.dynamic) return Declined{called("its sizes")};
  const std::size_t rank = shape_of(graph, node.inputs[0]).size();
  const auto axis = normalize_axis(node.attrs.get_int("axis", 0), rank, node.name);
  std::vector<std::int64_t> list = sizes.values.value_or(std::vector<std::int64_t>{});
  if (list.empty()) {
    for (ValueId out : node.outputs) {
      if (!out.valid() || shape_of(graph, out).size() != rank) return NoMatch{};
      list.push_back(shape_of(graph, out)[static_cast<std::size_t>(axis)]);
    }
  }
  Attrs attrs = node.attrs;
  attrs.erase("num_outputs");
  attrs.set("axis", axis);
  attrs.set("split", std::move(list));
  return finish(node, std::move(attrs), {node.inputs[0]}, patch);
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& node = m.root();
  if (node.inputs.empty() || !node.inputs[0].valid() || !graph.value(node.inputs[0]).type.known())
    return NoMatch{};
  if (!graph.value(m.root_value()).type.known()) return NoMatch{};
  if (is_reduce(node.op)) return reduce(graph, node, patch);
  if (node.op == "Squeeze" || node.op == "Unsqueeze") return squeeze(graph, node, patch);
  if (node.op == "Slice") return slice(graph, node, patch);
  if (node.op == "Pad") return pad(graph, node, patch);
  if (node.op == "Clip") return clip(graph, node, patch);
  return split(graph, node, patch);
}

}  // namespace

Rule normalize_axes_input() {
  return {
      .name = "normalize_axes_input",
      .formula = "f(x, constant axes) = f(x) axes=[...]",
      .effect = Effect::exact,
      .source =
          "ONNX Reduce*-1/13/18, Squeeze-1/13, Unsqueeze-1/13, Slice-1/10, Pad-2/11/18, Clip-6/11, "
          "Split-2/13/18",
      .stage = Stage::clean,
      .root = op_in({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                     "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "Squeeze",
                     "Unsqueeze", "Slice", "Pad", "Clip", "Split"}),
      .apply = apply};
}

}  // namespace waveq::rules
