#include <algorithm>

#include <fmt/format.h>

#include "lowering/rules.h"

namespace waveq {

namespace {

/// Bounds within the axis, as non-negative numbers: the consumer stores them in a byte.
Attrs plain_slice(Lowering& to, const Node& node) {
  const Shape& shape = to.shape(node.inputs[0]);
  const auto starts = node.attrs.require_ints("starts"), ends = node.attrs.require_ints("ends");
  std::vector<std::int64_t> axes = node.attrs.get_ints("axes", {}), steps = node.attrs.get_ints("steps", std::vector<std::int64_t>(starts.size(), 1));
  for (std::size_t i = axes.size(); i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  std::vector<std::int64_t> from, until;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    if (steps[i] < 1) to.refuse("a Slice that runs backwards has no integer kernel");
    axes[i] = normalize_axis(axes[i], shape.size(), node.name);
    const std::int64_t length = shape[static_cast<std::size_t>(axes[i])];
    const auto inside = [&](std::int64_t v) { return std::clamp<std::int64_t>(v < 0 ? v + length : v, 0, length); };
    from.push_back(inside(starts[i]));
    until.push_back(inside(ends[i]));
  }
  Attrs attrs;
  attrs.set("starts", from);
  attrs.set("ends", until);
  attrs.set("axes", axes);
  attrs.set("steps", steps);
  return attrs;
}

}  // namespace

/// Reshape, Transpose, Slice, Gather and the like: the same operator on the 8-bit tensor, which keeps its scale.
void lower_movement(Lowering& to, const Node& node) {
  const Activation x = to.activation(node.inputs[0]);
  std::vector<ValueId> inputs{x.id};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (!node.inputs[i].valid()) {
      inputs.push_back({});
      continue;
    }
    if (!to.is_constant(node.inputs[i])) to.refuse(fmt::format("its input {} is computed at run time", i));
    inputs.push_back(to.out().add_constant(to.name_for(node.inputs[i]), to.source().constant(node.inputs[i])));
  }
  const ValueId y = node.outputs.front();
  // ONNX lets a Transpose without perm reverse the axes; the consumer wants it spelled out.
  Attrs attrs = node.op == "Slice" && node.inputs.size() == 1 ? plain_slice(to, node) : node.attrs;
  if (node.op == "Transpose" && !attrs.has("perm")) {
    std::vector<std::int64_t> perm;
    for (std::size_t i = to.shape(node.inputs[0]).size(); i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
    attrs.set("perm", perm);
  }
  const ValueId out = node.op == "Transpose" ? to.transpose(x.id, attrs.require_ints("perm"), to.name_for(y)) : to.emit(node.op, to.name_for(y), inputs, attrs);
  const Activation moved{out, x.quant};
  to.out().set_quant(moved.id, x.quant);
  to.define(y, moved);
}

/// Concat of 8-bit tensors brought to the coarsest of their scales.
void lower_concat(Lowering& to, const Node& node) {
  double scale = 0;
  for (ValueId in : node.inputs) {
    if (to.is_constant(in)) to.refuse(fmt::format("operand '{}' is a constant", to.source().value(in).name));
    scale = std::max(scale, to.signed_scale(in));
  }
  std::vector<ValueId> inputs;
  Activation a;
  for (ValueId in : node.inputs) {
    a = to.signed_activation_at(in, scale);
    inputs.push_back(a.id);
  }
  const ValueId y = node.outputs.front();
  // The consumer takes two inputs at a time.
  ValueId joined = inputs.front();
  for (std::size_t i = 1; i < inputs.size(); ++i)
    joined = to.emit("Concat", to.name_for(y, i + 1 == inputs.size() ? "" : fmt::format("_part{}", i)), {joined, inputs[i]}, node.attrs);
  const Activation out{joined, a.quant};
  to.out().set_quant(joined, a.quant);
  to.define(y, out);
}

void lower_max_pool(Lowering& to, const Node& node) {
  const auto pads = node.attrs.get_ints("pads", {});
  const std::string auto_pad = node.attrs.get_string("auto_pad", "NOTSET");
  if (auto_pad != "NOTSET" && auto_pad != "VALID") to.refuse("auto_pad was not resolved to explicit pads; run the rewrites first");
  if (std::ranges::any_of(pads, [](std::int64_t p) { return p != 0; })) to.refuse("padded MaxPool: the target pads with zero, not with the smallest value");
  const auto dilations = node.attrs.get_ints("dilations", {});
  if (node.attrs.get_int("ceil_mode", 0) != 0 || std::ranges::any_of(dilations, [](std::int64_t d) { return d != 1; }))
    to.refuse("ceil_mode and dilations have no integer kernel");
  const Activation x = to.activation(node.inputs[0]);
  const std::size_t spatial = to.shape(node.inputs[0]).size() - 2;
  Attrs attrs;
  attrs.set("ceil_mode", std::int64_t{0});
  attrs.set("kernel_shape", node.attrs.require_ints("kernel_shape"));
  attrs.set("pads", std::vector<std::int64_t>(2 * spatial, 0));
  attrs.set("strides", node.attrs.get_ints("strides", std::vector<std::int64_t>(spatial, 1)));
  const ValueId y = node.outputs.front();
  const Activation pooled{to.emit("MaxPool", to.name_for(y), {x.id}, attrs), x.quant};
  to.out().set_quant(pooled.id, x.quant);
  to.define(y, pooled);
}

/// Zero padding: the zero point is 0, so the integer padding value is 0 too.
void lower_pad(Lowering& to, const Node& node) {
  if (node.attrs.get_string("mode", "constant") != "constant") to.refuse("only constant padding has an integer kernel");
  if (node.attrs.get_float("value", 0.0) != 0.0 || node.inputs.size() > 1) to.refuse("padding with a value other than a constant 0 has no integer kernel");
  const Activation x = to.activation(node.inputs[0]);
  Attrs attrs;
  attrs.set("mode", std::string("constant"));
  attrs.set("pads", node.attrs.require_ints("pads"));
  attrs.set("value", 0.0);
  const ValueId y = node.outputs.front();
  const Activation padded{to.emit("Pad", to.name_for(y), {x.id}, attrs), x.quant};
  to.out().set_quant(padded.id, x.quant);
  to.define(y, padded);
}

}  // namespace waveq
