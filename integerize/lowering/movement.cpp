#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "join_sums.h"
#include "lowering/rules.h"

namespace waveq {

namespace {

/// Bounds within the axis, as non-negative numbers: the consumer stores them in a byte.
Attrs plain_slice(Lowering& to, const Node& node) {
  const Shape& shape = to.shape(node.inputs[0]);
  const auto starts = node.attrs.require_ints("starts"), ends = node.attrs.require_ints("ends");
  std::vector<std::int64_t> axes = node.attrs.get_ints("axes", {}),
                            steps = node.attrs.get_ints(
                                "steps", std::vector<std::int64_t>(starts.size(), 1));
  for (std::size_t i = axes.size(); i < starts.size(); ++i)
    axes.push_back(static_cast<std::int64_t>(i));
  std::vector<std::int64_t> from, until;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    axes[i] = normalize_axis(axes[i], shape.size(), node.name);
    const std::int64_t length = shape[static_cast<std::size_t>(axes[i])];
    const auto inside = [&](std::int64_t v) {
      return std::clamp<std::int64_t>(v < 0 ? v + length : v, 0, length);
    };
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

/// The part [from, until) of one axis of an 8-bit tensor.
ValueId slice(Lowering& to, ValueId x, std::int64_t axis, std::int64_t from, std::int64_t until,
              const std::string& name) {
  Attrs attrs;
  attrs.set("starts", std::vector<std::int64_t>{from});
  attrs.set("ends", std::vector<std::int64_t>{until});
  attrs.set("axes", std::vector<std::int64_t>{axis});
  attrs.set("steps", std::vector<std::int64_t>{1});
  return to.emit("Slice", name, {x}, std::move(attrs));
}

void define_moved(Lowering& to, ValueId y, ValueId id, const QuantParams& quant) {
  to.out().set_quant(id, quant);
  to.define(y, Activation{id, quant});
}

bool runs_backwards(const Node& slice) {
  return std::ranges::any_of(slice.attrs.get_ints("steps", {}),
                             [](std::int64_t step) { return step < 0; });
}

/// A node that moves data, element by element along each axis.
void lower_by_elements(Lowering& to, const Node& node) {
  const Activation x = to.activation(node.inputs[0], to.width("Slice"));
  const ValueId y = node.outputs.front();
  define_moved(to, y, pick_axes(to, x, picked_elements(to, node), to.name_for(y)), x.quant);
}

}  // namespace

/// Gather of constant indices: Slices, and one Slice without its axis where the index is a scalar.
/// The consumer's own Gather takes one non-negative index, and not of the last axis.
void lower_gather(Lowering& to, const Node& node) {
  if (!to.is_constant(node.inputs[1])) to.refuse("its indices are computed at run time");
  const Shape& shape = to.shape(node.inputs[0]);
  const auto axis = static_cast<std::size_t>(
      normalize_axis(node.attrs.get_int("axis", 0), shape.size(), node.name));
  std::vector<std::int64_t> indices = to_int64(to.source().constant(node.inputs[1]));
  if (indices.empty()) to.refuse("it picks nothing");
  for (std::int64_t& index : indices)
    if (index < 0) index += shape[axis];
  const Activation x = to.activation(node.inputs[0], to.width("Slice"));
  const ValueId y = node.outputs.front();
  const ValueId part = pick(to, x, axis, indices, to.name_for(y, "_part"));
  const ValueId target = to.constant_i64(to.name_for(y, "_shape"), to.shape(y));
  define_moved(to, y, to.emit("Reshape", to.name_for(y), {part, target}), x.quant);
}

/// Split: a Slice an output.
void lower_split(Lowering& to, const Node& node) {
  if (node.inputs.size() > 1 && node.inputs[1].valid())
    to.refuse("its sizes were not brought into the node; run the rewrites first");
  const Activation x = to.activation(node.inputs[0], to.width("Slice"));
  const std::int64_t axis =
      normalize_axis(node.attrs.get_int("axis", 0), to.shape(node.inputs[0]).size(), node.name);
  const std::int64_t length = to.shape(node.inputs[0])[static_cast<std::size_t>(axis)];
  const auto count = static_cast<std::int64_t>(node.outputs.size()),
             each = (length + count - 1) / count;
  const std::vector<std::int64_t> sizes =
      node.attrs.get_ints("split", std::vector<std::int64_t>(node.outputs.size(), each));
  std::int64_t from = 0;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const std::int64_t until = std::min(from + sizes.at(i), length);
    if (const ValueId y = node.outputs[i]; y.valid())
      define_moved(to, y, slice(to, x.id, axis, from, until, to.name_for(y)), x.quant);
    from = until;
  }
}

/// Reshape, Transpose, Slice, Gather and the like: the same operator on the 8-bit tensor, which
/// keeps its scale.
void lower_movement(Lowering& to, const Node& node) {
  if (node.op == "Slice" && runs_backwards(node)) return lower_by_elements(to, node);
  const Activation x = to.activation(node.inputs[0], to.width(node.op));
  std::vector<ValueId> inputs{x.id};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (!node.inputs[i].valid()) {
      inputs.push_back({});
      continue;
    }
    if (!to.is_constant(node.inputs[i]))
      to.refuse(fmt::format("its input {} is computed at run time", i));
    inputs.push_back(
        to.out().add_constant(to.name_for(node.inputs[i]), to.source().constant(node.inputs[i])));
  }
  const ValueId y = node.outputs.front();
  // ONNX lets a Transpose without perm reverse the axes; the consumer wants it spelled out.
  Attrs attrs = node.op == "Slice" && node.inputs.size() == 1 ? plain_slice(to, node) : node.attrs;
  if (node.op == "Transpose" && !attrs.has("perm")) {
    std::vector<std::int64_t> perm;
    for (std::size_t i = to.shape(node.inputs[0]).size(); i-- > 0;)
      perm.push_back(static_cast<std::int64_t>(i));
    attrs.set("perm", perm);
  }
  const ValueId out = node.op == "Transpose"
                          ? to.transpose(x.id, attrs.require_ints("perm"), to.name_for(y))
                          : to.emit(node.op, to.name_for(y), inputs, attrs);
  const Activation moved{out, x.quant};
  to.out().set_quant(moved.id, x.quant);
  to.define(y, moved);
}

namespace {

/// Smallest scale at which a constant operand fits this many signed levels.
double constant_scale(Lowering& to, ValueId id, std::int64_t levels) {
  double largest = 0;
  for (double v : to_double(to.source().constant(id))) largest = std::max(largest, std::abs(v));
  if (!std::isfinite(largest))
    to.refuse(fmt::format("operand '{}' holds a non-finite number", to.source().value(id).name));
  return largest / static_cast<double>(levels / 2 - 1);
}

ValueId constant_at(Lowering& to, ValueId id, const QuantParams& quant) {
  const Tensor& real = to.source().constant(id);
  std::vector<std::int32_t> codes;
  for (double v : to_double(real))
    codes.push_back(static_cast<std::int32_t>(std::clamp(std::round(v / quant.scale),
                                                         static_cast<double>(quant.lo()),
                                                         static_cast<double>(quant.hi()))));
  return to.out().add_constant(
      to.name_for(id, "_codes"),
      cast(Tensor::from<std::int32_t>(real.shape(), codes), quant.storage()));
}

}  // namespace

namespace {

/// Concat of int8 channels as they are, each input on its own scale and zero point.
void concat_as_they_are(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  Quantity all;
  all.scale.clear();
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Activation a = to.shifted_activation(node.inputs[i]);
    const auto channels = static_cast<std::size_t>(to.shape(node.inputs[i])[1]);
    all.scale.insert(all.scale.end(), channels, a.quant.scale);
    all.offset.insert(all.offset.end(), channels,
                      -a.quant.scale * static_cast<double>(a.quant.zero_point));
    const std::string suffix = i + 1 == node.inputs.size() ? "" : fmt::format("_part{}", i);
    all.id = i == 0 ? a.id : to.emit("Concat", to.name_for(y, suffix), {all.id, a.id}, node.attrs);
  }
  if (std::ranges::all_of(all.offset, [](double o) { return o == 0; })) all.offset.clear();
  to.define_with_own_scales(y, std::move(all));
}

}  // namespace

/// Concat of 8-bit tensors brought to the coarsest of their scales; constants are rounded to it.
/// Where convolutions that can take its channels' scales into their weights read it: as they are.
void lower_concat(Lowering& to, const Node& node) {
  // One type for all: 16 bits where every input has them.
  Width width = to.width("Concat");
  for (ValueId in : node.inputs) {
    if (to.is_constant(in)) continue;
    to.quantity(in);
    if (to.carried(in, width) == Width::bits8) width = Width::bits8;
  }
  if (width == Width::bits8 && to.options().join_sums && keeps_own_scales(to.source(), node))
    return concat_as_they_are(to, node);
  const std::int64_t levels = width == Width::bits16 ? 65536 : to.options().activation_levels;
  std::vector<ValueId> computed;
  double scale = 0;
  for (ValueId in : node.inputs)
    if (to.is_constant(in))
      scale = std::max(scale, constant_scale(to, in, levels));
    else
      computed.push_back(in);
  scale = std::max(scale, to.common_scale(computed, width));
  Activation a;
  for (ValueId in : node.inputs)
    if (!to.is_constant(in)) a = to.signed_activation_at(in, scale, width);
  std::vector<ValueId> inputs;
  for (ValueId in : node.inputs)
    inputs.push_back(to.is_constant(in) ? constant_at(to, in, a.quant)
                                        : to.signed_activation_at(in, scale, width).id);
  const ValueId y = node.outputs.front();
  // The consumer takes two inputs at a time.
  ValueId joined = inputs.front();
  for (std::size_t i = 1; i < inputs.size(); ++i)
    joined =
        to.emit("Concat", to.name_for(y, i + 1 == inputs.size() ? "" : fmt::format("_part{}", i)),
                {joined, inputs[i]}, node.attrs);
  const Activation out{joined, a.quant};
  to.out().set_quant(joined, a.quant);
  to.define(y, out);
}

namespace {

/// Reflections and edges are elements of x, and so is what a crop leaves: all but what a constant
/// Pad fills in.
bool picks_elements(const Node& pad, const std::vector<std::int64_t>& pads) {
  return pad.attrs.get_string("mode", "constant") != "constant" ||
         std::ranges::all_of(pads, [](std::int64_t p) { return p <= 0; });
}

}  // namespace

/// Padding with a constant: its code fills. Exact where it is a multiple of the scale, as 0 is.
void lower_pad(Lowering& to, const Node& node) {
  if (node.inputs.size() > 1)
    to.refuse("its amounts or its fill were not brought into the node; run the rewrites first");
  const std::size_t rank = to.shape(node.inputs[0]).size();
  std::vector<std::int64_t> pads = node.attrs.require_ints("pads");
  if (pads.size() != 2 * rank) to.refuse("its pads are not two for each axis");
  if (picks_elements(node, pads)) return lower_by_elements(to, node);
  if (std::ranges::any_of(pads, [](std::int64_t p) { return p < 0; }))
    to.refuse("it crops some sides and pads others; write it as Slice and Pad");
  const double fill = node.attrs.get_float("value", 0.0);
  const Activation x = to.activation(node.inputs[0], to.width("Pad"));
  const double code = std::round(fill / x.quant.scale) + static_cast<double>(x.quant.zero_point);
  if (!(code >= static_cast<double>(x.quant.lo()) && code <= static_cast<double>(x.quant.hi())))
    to.refuse(fmt::format("pads with {:g}, which the tensor's {} levels of {:.3g} do not reach",
                          fill, x.quant.n_levels, x.quant.scale));
  const ValueId y = node.outputs.front();
  define_moved(to, y, pad(to, x, pads, static_cast<std::int64_t>(code), to.name_for(y)), x.quant);
}

}  // namespace waveq
