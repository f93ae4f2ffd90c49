#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"

namespace waveq {

namespace {

std::vector<std::int64_t> each(const std::vector<WindowAxis>& axes,
                               std::int64_t WindowAxis::*member) {
  std::vector<std::int64_t> out;
  for (const WindowAxis& w : axes) out.push_back(w.*member);
  return out;
}

/// Pads that make every window complete: in front as given, behind as far as the last one reads.
std::vector<std::int64_t> complete_pads(const std::vector<WindowAxis>& axes) {
  std::vector<std::int64_t> pads = each(axes, &WindowAxis::begin);
  for (const WindowAxis& w : axes)
    pads.push_back(std::max<std::int64_t>(w.read() - w.begin - w.in, 0));
  return pads;
}

bool any_nonzero(const std::vector<std::int64_t>& values) {
  return std::ranges::any_of(values, [](std::int64_t v) { return v != 0; });
}

Activation max_pool(Lowering& to, const Activation& x, const std::vector<std::int64_t>& kernel,
                    const std::vector<std::int64_t>& strides, const std::string& name) {
  Attrs attrs;
  attrs.set("ceil_mode", std::int64_t{0});
  attrs.set("kernel_shape", kernel);
  attrs.set("pads", std::vector<std::int64_t>(2 * kernel.size(), 0));
  attrs.set("strides", strides);
  const Activation y{to.emit("MaxPool", name, {x.id}, attrs), x.quant};
  to.out().set_quant(y.id, x.quant);
  return y;
}

/// How many positions of a padded axis window `o` divides by.
std::int64_t divisor(const WindowAxis& w, std::int64_t o, bool with_pads) {
  std::int64_t count = 0;
  for (std::int64_t k = 0; k < w.kernel; ++k) {
    const std::int64_t at = o * w.stride - w.begin + k * w.dilation;
    count += with_pads ? at < w.in + w.end : at >= 0 && at < w.in;
  }
  return count;
}

/// window / divisor at each output position, in the shape of the output; empty where it is 1
/// everywhere.
std::vector<double> corrections(const std::vector<WindowAxis>& axes, const Shape& out,
                                bool with_pads) {
  std::vector<double> factors(static_cast<std::size_t>(element_count(out)), 1.0);
  std::int64_t inner = element_count(out);
  for (std::size_t d = 0; d < 2; ++d) inner /= std::max<std::int64_t>(out[d], 1);
  for (const WindowAxis& w : axes) {
    inner /= w.out;
    for (std::size_t i = 0; i < factors.size(); ++i) {
      const std::int64_t o = static_cast<std::int64_t>(i) / inner % w.out;
      factors[i] *= static_cast<double>(w.kernel) / static_cast<double>(divisor(w, o, with_pads));
    }
  }
  if (std::ranges::all_of(factors, [](double f) { return f == 1.0; })) return {};
  return factors;
}

/// Ones at the taps of each channel's window, zeros where a dilation leaves something out.
Tensor window_of_ones(const std::vector<WindowAxis>& axes, std::int64_t channels) {
  Shape shape{channels, 1};
  for (const WindowAxis& w : axes) shape.push_back((w.kernel - 1) * w.dilation + 1);
  std::vector<std::int8_t> ones(static_cast<std::size_t>(element_count(shape)), 1);
  const std::vector<std::int64_t> strides = strides_of(shape);
  for (std::size_t i = 0; i < ones.size(); ++i)
    for (std::size_t d = 0; d < axes.size(); ++d)
      if (static_cast<std::int64_t>(i) / strides[d + 2] % shape[d + 2] % axes[d].dilation != 0)
        ones[i] = 0;
  return Tensor::from<std::int8_t>(shape, ones);
}

}  // namespace

/// On integers, the scale kept. Padding takes no part: the lowest code stands in for it, which no
/// element is below (the consumer's own padding is 0, deeploy-dialect.md T16).
void lower_max_pool(Lowering& to, const Node& node) {
  if (node.outputs.size() > 1 && node.outputs[1].valid())
    to.refuse("its indices are used; they have no integer kernel");
  const Activation x = to.activation(node.inputs[0], to.width("MaxPool"));
  const ValueId y = node.outputs.front();
  const auto axes = window_axes(to, node, node.attrs.require_ints("kernel_shape"));
  if (std::ranges::any_of(axes, [](const WindowAxis& w) { return w.dilation != 1; }))
    to.refuse("dilations have no integer kernel");
  Activation in = x;
  if (const auto pads = complete_pads(axes); any_nonzero(pads)) {
    std::vector<std::int64_t> all{0, 0};
    all.insert(all.end(), pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(axes.size()));
    all.insert(all.end(), {0, 0});
    all.insert(all.end(), pads.begin() + static_cast<std::ptrdiff_t>(axes.size()), pads.end());
    in.id = pad(to, x, all, x.quant.lo(), to.name_for(y, "_padded"));
  }
  to.define(y, max_pool(to, in, each(axes, &WindowAxis::kernel), each(axes, &WindowAxis::stride),
                        to.name_for(y)));
}

/// MaxPool over the whole map.
void lower_global_max_pool(Lowering& to, const Node& node) {
  const Activation x = to.activation(node.inputs[0], to.width("MaxPool"));
  const Shape& shape = to.shape(node.inputs[0]);
  const std::vector<std::int64_t> map(shape.begin() + 2, shape.end());
  to.define(node.outputs.front(), max_pool(to, x, map, std::vector<std::int64_t>(map.size(), 1),
                                           to.name_for(node.outputs.front())));
}

/// The sum over each window as a depthwise convolution of ones, whose requant divides by the size
/// of the window. Where windows at the border divide by less (count_include_pad = 0, ceil_mode),
/// the quotients come as one factor for each position: the requantized sum times
/// round(2^k * window / divisor), k <= 12 such that all fit int16, in int32.
void lower_average_pool(Lowering& to, const Node& node) {
  const auto axes = window_axes(to, node, node.attrs.require_ints("kernel_shape"));
  const ValueId y = node.outputs.front();
  const Shape &shape = to.shape(node.inputs[0]), &out = to.shape(y);
  const std::vector<double> factors =
      corrections(axes, out, node.attrs.get_int("count_include_pad", 0) != 0);
  const double largest = factors.empty() ? 1.0 : std::ranges::max(factors);
  if (!std::isfinite(largest)) to.refuse("one of its windows holds no element");
  const double unit = std::ldexp(1.0, std::min(12, std::ilogb(32767 / largest)));
  const auto window = static_cast<double>(element_count(each(axes, &WindowAxis::kernel)));
  to.quantity(node.inputs[0]);
  const Activation x =
      to.activation(node.inputs[0], to.width_within("Conv", node.inputs[0], window));
  std::vector<std::int64_t> pads = complete_pads(axes);
  const ValueId in = padded_for_conv(to, x, pads, to.name_for(y, "_padded"));
  const Tensor ones = window_of_ones(axes, shape[1]);
  Attrs attrs;
  attrs.set("dilations", std::vector<std::int64_t>(axes.size(), 1));
  attrs.set("group", shape[1]);
  attrs.set("kernel_shape",
            std::vector<std::int64_t>(ones.shape().begin() + 2, ones.shape().end()));
  attrs.set("pads", pads);
  attrs.set("strides", each(axes, &WindowAxis::stride));
  const ValueId w = to.out().add_constant(to.name_for(y, "_ones"), ones);
  Quantity sum;
  sum.id = to.emit("Conv", to.name_for(y, "_acc"), {in, w}, attrs);
  sum.scale = {x.quant.scale / window};
  if (factors.empty()) return to.define(y, std::move(sum));
  // Before the factors no mean is larger than the final one: its own range holds them.
  const QuantParams wanted =
      to.wanted(y, x.quant.is_signed ? Signedness::signed_ : Signedness::unsigned_);
  const Activation mean =
      to.requant_free(sum.id, sum.scale.front(), wanted, to.name_for(y, "_unweighted"));
  std::vector<std::int16_t> codes;
  for (double f : factors) codes.push_back(static_cast<std::int16_t>(std::round(f * unit)));
  Quantity weighted;
  weighted.id = to.emit("Mul", to.name_for(y, "_weighted"),
                        {mean.id, to.out().add_constant(to.name_for(y, "_factors"),
                                                        Tensor::from<std::int16_t>(out, codes))});
  weighted.scale = {mean.quant.scale / unit};
  to.define(y, std::move(weighted));
}

}  // namespace waveq
