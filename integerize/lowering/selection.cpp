// Elements picked along one axis: Gather, Tile, Expand, Resize, reflecting and cropping Pads.
#include <fmt/format.h>

#include <map>
#include <numeric>
#include <tuple>

#include "lowering/rules.h"
#include "waveq/graph/executor.h"

namespace waveq {

namespace {

/// Indices in arithmetic progression, which a Slice picks.
struct Run {
  std::int64_t first, step, count;
};

std::vector<Run> runs_of(const std::vector<std::int64_t>& indices) {
  std::vector<Run> runs;
  for (std::int64_t index : indices) {
    if (!runs.empty()) {
      Run& r = runs.back();
      const std::int64_t last = r.first + (r.count - 1) * r.step;
      if (r.count == 1 && index > last) r.step = index - last;
      if (index > last && index == last + r.step) {
        ++r.count;
        continue;
      }
    }
    runs.push_back({index, 1, 1});
  }
  return runs;
}

/// As many Slices as this are written out before a Gather takes their place.
constexpr std::size_t kMostRuns = 64;

bool is_whole(const Run& r, std::int64_t length) {
  return r.first == 0 && r.step == 1 && r.count == length;
}

}  // namespace

ValueId pick(Lowering& to, const Activation& x, std::size_t axis,
             const std::vector<std::int64_t>& indices, const std::string& name) {
  const std::int64_t length = to.out().value(x.id).type.shape[axis];
  const std::vector<Run> runs = runs_of(indices);
  if (runs.size() == 1 && is_whole(runs.front(), length)) return x.id;
  const auto along = static_cast<std::int64_t>(axis);
  if (runs.size() > kMostRuns) {
    Attrs attrs;
    attrs.set("axis", along);
    const ValueId y = to.emit("Gather", name, {x.id, to.constant_i64(name + "_indices", indices)},
                              std::move(attrs));
    to.out().set_quant(y, x.quant);
    return y;
  }
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, ValueId> parts;
  Attrs join;
  join.set("axis", along);
  ValueId all;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Run& r = runs[i];
    ValueId& part = parts[{r.first, r.step, r.count}];
    if (!part.valid() && is_whole(r, length)) part = x.id;
    if (!part.valid()) {
      Attrs attrs;
      attrs.set("starts", std::vector<std::int64_t>{r.first});
      attrs.set("ends", std::vector<std::int64_t>{r.first + (r.count - 1) * r.step + 1});
      attrs.set("axes", std::vector<std::int64_t>{along});
      attrs.set("steps", std::vector<std::int64_t>{r.step});
      part = to.emit("Slice", runs.size() == 1 ? name : fmt::format("{}_part{}", name, i), {x.id},
                     std::move(attrs));
      to.out().set_quant(part, x.quant);
    }
    if (!all.valid()) {
      all = part;
      continue;
    }
    // The consumer takes two inputs at a time.
    all = to.emit("Concat", i + 1 == runs.size() ? name : fmt::format("{}_joined{}", name, i),
                  {all, part}, join);
    to.out().set_quant(all, x.quant);
  }
  return all;
}

ValueId pick_axes(Lowering& to, const Activation& x,
                  const std::vector<std::vector<std::int64_t>>& indices, const std::string& name) {
  Activation y = x;
  for (std::size_t d = 0; d < indices.size(); ++d)
    y.id = pick(to, y, d, indices[d], fmt::format("{}_axis{}", name, d));
  return y.id;
}

std::vector<std::vector<std::int64_t>> picked_elements(Lowering& to, const Node& node) {
  const Shape &in = to.shape(node.inputs[0]), &out = to.shape(node.outputs.front());
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(element_count(in)));
  std::iota(numbers.begin(), numbers.end(), 0);
  const Tensor numbered = Tensor::from<std::int32_t>(in, numbers);
  std::vector<const Tensor*> inputs{&numbered};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.inputs[i].valid() && !to.is_constant(node.inputs[i]))
      to.refuse(fmt::format("its input {} is computed at run time", i));
    inputs.push_back(node.inputs[i].valid() ? &to.source().constant(node.inputs[i]) : nullptr);
  }
  if (element_count(out) == 0 || in.size() != out.size())
    to.refuse(fmt::format("{} to {} has no integer form", to_string(in), to_string(out)));
  const std::vector<std::int64_t> source =
      to_int64(evaluate_node(to.source(), node, inputs).front());
  const std::vector<std::int64_t> from = strides_of(in), strides = strides_of(out);
  std::vector<std::vector<std::int64_t>> indices(out.size());
  for (std::size_t d = 0; d < out.size(); ++d)
    for (std::int64_t o = 0; o < out[d]; ++o)
      indices[d].push_back(source[static_cast<std::size_t>(o * strides[d])] / from[d] % in[d]);
  return indices;
}

/// Tile, Expand: each axis is its own elements over again. Which element of the input each element
/// of the output is says the node itself, run on their numbers.
void lower_repetition(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  const Shape &in = to.shape(node.inputs[0]), &out = to.shape(y);
  const Activation x = to.activation(node.inputs[0], to.width("Concat"));
  if (in.size() == out.size()) {
    const Activation all{pick_axes(to, x, picked_elements(to, node), to.name_for(y)), x.quant};
    return to.define(y, all);
  }
  Shape longer(out.size() - in.size(), 1);
  longer.insert(longer.end(), in.begin(), in.end());
  Activation raised{to.emit("Reshape", to.name_for(y, "_rows"),
                            {x.id, to.constant_i64(to.name_for(y, "_rows_shape"), longer)}),
                    x.quant};
  to.out().set_quant(raised.id, x.quant);
  std::vector<std::vector<std::int64_t>> indices(out.size());
  for (std::size_t d = 0; d < out.size(); ++d)
    for (std::int64_t o = 0; o < out[d]; ++o) indices[d].push_back(o % longer[d]);
  raised.id = pick_axes(to, raised, indices, to.name_for(y));
  to.define(y, raised);
}

}  // namespace waveq
