#include <fmt/format.h>

#include <algorithm>

#include "lowering/rules.h"

namespace waveq {

namespace {

/// x with every element of an axis `factor` times in a row: [outer, axis*inner...] seen as [1,
/// outer*axis, inner], beside itself along the last axis.
ValueId repeat(Lowering& to, const Activation& x, Shape shape, std::size_t axis,
               std::int64_t factor, const std::string& name) {
  std::int64_t rows = 1, inner = 1;
  for (std::size_t d = 0; d <= axis; ++d) rows *= shape[d];
  for (std::size_t d = axis + 1; d < shape.size(); ++d) inner *= shape[d];
  Attrs attrs;
  attrs.set("axis", std::int64_t{2});
  const ValueId once = to.emit("Reshape", name + "_rows",
                               {x.id, to.constant_i64(name + "_rows_shape", {1, rows, inner})});
  ValueId all = once;
  for (std::int64_t i = 1; i < factor; ++i)
    all = to.emit("Concat", fmt::format("{}_times{}", name, i + 1), {all, once}, attrs);
  shape[axis] *= factor;
  return to.emit("Reshape", name, {all, to.constant_i64(name + "_shape", shape)});
}

}  // namespace

/// Nearest-neighbour Resize and Upsample: a map of positions for each axis. A whole factor repeats
/// elements, any other map picks them.
void lower_resize(Lowering& to, const Node& node) {
  if (node.attrs.get_string("mode", "nearest") != "nearest")
    to.refuse("interpolation has no integer kernel; nearest has");
  const ValueId y = node.outputs.front();
  const Shape &in = to.shape(node.inputs[0]), &out = to.shape(y);
  const auto indices = picked_elements(to, node);
  Activation x = to.activation(node.inputs[0], to.width("Concat"));
  Shape shape = in;
  for (std::size_t d = 0; d < in.size(); ++d) {
    const std::int64_t factor = in[d] > 0 ? out[d] / in[d] : 1;
    bool repeats = factor * in[d] == out[d];
    for (std::int64_t o = 0; o < out[d] && repeats; ++o)
      repeats = indices[d][static_cast<std::size_t>(o)] == o / factor;
    if (repeats && factor == 1) continue;
    const std::string name = to.name_for(y, fmt::format("_axis{}", d));
    x.id = repeats ? repeat(to, x, shape, d, factor, name) : pick(to, x, d, indices[d], name);
    shape[d] = out[d];
    to.out().set_quant(x.id, x.quant);
  }
  to.define(y, x);
}

}  // namespace waveq
