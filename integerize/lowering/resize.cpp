#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lowering/rules.h"
#include "waveq/graph/executor.h"

namespace waveq {

namespace {

/// Which element of the input each element of the output is, by running the node on indices: every
/// rounding and coordinate mode is covered by the operator itself.
std::vector<std::int64_t> sources(Lowering& to, const Node& node) {
  const Shape& shape = to.shape(node.inputs[0]);
  std::vector<std::int32_t> index(static_cast<std::size_t>(element_count(shape)));
  std::iota(index.begin(), index.end(), 0);
  const Tensor indices = Tensor::from<std::int32_t>(shape, index);
  std::vector<const Tensor*> inputs{&indices};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.inputs[i].valid() && !to.is_constant(node.inputs[i]))
      to.refuse(fmt::format("its input {} is computed at run time", i));
    inputs.push_back(node.inputs[i].valid() ? &to.source().constant(node.inputs[i]) : nullptr);
  }
  return to_int64(evaluate_node(to.source(), node, inputs).front());
}

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
/// elements, any other map picks them with Gather.
void lower_resize(Lowering& to, const Node& node) {
  if (node.attrs.get_string("mode", "nearest") != "nearest")
    to.refuse("interpolation has no integer kernel; nearest has");
  const ValueId y = node.outputs.front();
  const Shape &in = to.shape(node.inputs[0]), &out = to.shape(y);
  const std::vector<std::int64_t> source = sources(to, node), in_strides = strides_of(in),
                                  out_strides = strides_of(out);
  Activation x = to.activation(node.inputs[0], to.width("Concat"));
  Shape shape = in;
  for (std::size_t d = 0; d < in.size() && element_count(out) > 0; ++d) {
    std::vector<std::int64_t> map;
    for (std::int64_t o = 0; o < out[d]; ++o)
      map.push_back(source[static_cast<std::size_t>(o * out_strides[d])] / in_strides[d] % in[d]);
    const std::int64_t factor = in[d] > 0 ? out[d] / in[d] : 1;
    bool repeats = factor * in[d] == out[d];
    for (std::int64_t o = 0; o < out[d] && repeats; ++o)
      repeats = map[static_cast<std::size_t>(o)] == o / factor;
    if (repeats && factor == 1) continue;
    const std::string name = to.name_for(y, fmt::format("_axis{}", d));
    if (repeats) {
      x.id = repeat(to, x, shape, d, factor, name);
    } else {
      Attrs attrs;
      attrs.set("axis", static_cast<std::int64_t>(d));
      x.id = to.emit("Gather", name, {x.id, to.constant_i64(name + "_indices", map)}, attrs);
    }
    shape[d] = out[d];
    to.out().set_quant(x.id, x.quant);
  }
  to.define(y, x);
}

}  // namespace waveq
