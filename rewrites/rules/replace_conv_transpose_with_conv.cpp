// ConvTranspose(x, W) stride s  =>  the s interleaved parts of its output, one Conv for all:
// Conv(x, V) with s times the channels, Reshape, Transpose, Reshape, and a Slice where s does not
// divide the length.
//
// Along one axis y[j] = sum over i, k with i*s + k*d - begin = j of x[i]*W[k]. With the taps spread
// by d, j = q*s + r and m = q - i: y[q*s + r] = sum_m x[q - m] * W[m*s + r + begin], for each phase
// r a convolution of stride 1 over the same taps m = first..last.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

struct Axis {
  std::int64_t in, out, kernel, stride, dilation, begin, output_padding;
  std::int64_t first, last;  ///< taps m
  std::int64_t taps() const { return last - first + 1; }
  std::int64_t steps() const { return (out + stride - 1) / stride; }  ///< q
  /// Tap of W behind tap t of the Conv in phase r; outside the kernel where there is none.
  std::int64_t tap(std::int64_t t, std::int64_t r) const {
    const std::int64_t spread = (last - t) * stride + r + begin;
    return spread % dilation == 0 ? spread / dilation : -1;
  }
};

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/// What is cropped in front: as stated, or a share of what the output is shorter than everything.
/// Source: ONNX ConvTranspose-11, auto_pad and output_shape.
std::int64_t begin_of(const Node& node, const Axis& a) {
  const std::string mode = node.attrs.get_string("auto_pad", "NOTSET");
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (mode == "VALID" && !node.attrs.has("output_shape")) return 0;
  if (!same && !node.attrs.has("output_shape")) return a.begin;
  const std::int64_t full =
      (a.in - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 + a.output_padding;
  const std::int64_t total = std::max<std::int64_t>(0, full - a.out);
  return mode == "SAME_UPPER" ? total / 2 : total - total / 2;
}

/// The spatial axes, or why the node cannot be rewritten.
std::string read_axes(const Match& m, const Node& node, const Shape& w, std::vector<Axis>& axes) {
  const Shape &x = shape_of(m.graph(), node.inputs[0]), &y = shape_of(m.graph(), m.root_value());
  const std::size_t n = x.size() - 2;
  const std::vector<std::int64_t> ones(n, 1), zeros(2 * n, 0);
  const auto strides = node.attrs.get_ints("strides", ones),
             dilations = node.attrs.get_ints("dilations", ones),
             pads = node.attrs.get_ints("pads", zeros),
             extra = node.attrs.get_ints("output_padding", zeros);
  for (std::size_t d = 0; d < n; ++d) {
    Axis a{x[d + 2], y[d + 2], w[d + 2], strides[d], dilations[d], pads[d], extra[d], 0, 0};
    a.begin = begin_of(node, a);
    if (a.out < 1) return "its output is empty";
    a.first = -floor_div(a.stride - 1 + a.begin, a.stride);
    a.last = floor_div((a.kernel - 1) * a.dilation - a.begin, a.stride);
    if (a.last < 0) return "it crops more than the kernel is long";
    axes.push_back(a);
  }
  return {};
}

/// W [C, O/g, k...] as V [O*S, C/g, taps...]; channel o*S + r computes phase r of channel o.
Tensor phases(const Tensor& w, std::int64_t group, const std::vector<Axis>& axes) {
  std::int64_t phase_count = 1;
  for (const Axis& a : axes) phase_count *= a.stride;
  const std::int64_t per_group = w.shape()[1], channels = w.shape()[0] / group;
  Shape shape{per_group * group * phase_count, channels};
  for (const Axis& a : axes) shape.push_back(a.taps());
  Tensor v(DType::f32, shape);
  const std::vector<std::int64_t> to = strides_of(shape), from = strides_of(w.shape());
  for (std::int64_t i = 0; i < v.size(); ++i) {
    const std::int64_t filter = i / to[0], c = i / to[1] % channels, o = filter / phase_count;
    std::int64_t phase = filter % phase_count;
    std::int64_t at = (o / per_group * channels + c) * from[0] + o % per_group * from[1];
    bool inside = true;
    for (std::size_t d = axes.size(); d-- > 0;) {
      const std::int64_t t = i / to[d + 2] % axes[d].taps();
      const std::int64_t k = axes[d].tap(t, phase % axes[d].stride);
      phase /= axes[d].stride;
      inside = inside && k >= 0 && k < axes[d].kernel;
      at += k * from[d + 2];
    }
    if (inside)
      v.as<float>()[static_cast<std::size_t>(i)] = w.as<float>()[static_cast<std::size_t>(at)];
  }
  return v;
}

/// y [N, O*S, q...] with the phases beside their positions: [N, O, q*s...].
ValueId interleave(Patch& patch, ValueId y, std::int64_t batch, std::int64_t channels,
                   const std::vector<Axis>& axes, const Shape& steps) {
  if (std::ranges::all_of(axes, [](const Axis& a) { return a.stride == 1; })) return y;
  const auto n = static_cast<std::int64_t>(axes.size());
  std::vector<std::int64_t> apart{batch * channels}, perm{0}, together{batch, channels};
  for (const Axis& a : axes) apart.push_back(a.stride);
  for (std::int64_t d = 0; d < n; ++d) {
    apart.push_back(steps[static_cast<std::size_t>(d)]);
    perm.insert(perm.end(), {1 + n + d, 1 + d});
    together.push_back(steps[static_cast<std::size_t>(d)] *
                       axes[static_cast<std::size_t>(d)].stride);
  }
  Attrs attrs;
  attrs.set("perm", perm);
  y = patch.node("Reshape", {y, patch.constant(ints_tensor(apart))});
  y = patch.node("Transpose", {y}, attrs);
  return patch.node("Reshape", {y, patch.constant(ints_tensor(together))});
}

/// The first `out` elements of each spatial axis.
ValueId crop(Patch& patch, ValueId y, const std::vector<Axis>& axes, const Shape& steps) {
  std::vector<std::int64_t> starts, ends, dims;
  for (std::size_t d = 0; d < axes.size(); ++d) {
    if (steps[d] * axes[d].stride == axes[d].out) continue;
    starts.push_back(0);
    ends.push_back(axes[d].out);
    dims.push_back(static_cast<std::int64_t>(d) + 2);
  }
  if (starts.empty()) return y;
  return patch.node("Slice",
                    {y, patch.constant(ints_tensor(starts)), patch.constant(ints_tensor(ends)),
                     patch.constant(ints_tensor(dims))});
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& node = m.root();
  if (!is_f32(graph, node.inputs.at(0)) || !graph.is_constant(node.inputs.at(1))) return NoMatch{};
  const Tensor& w = graph.constant(node.inputs[1]);
  if (w.dtype() != DType::f32 || w.shape().size() < 3) return NoMatch{};
  // What a linear operator takes into its weights goes there first; with several readers it cannot.
  const auto& users = graph.value(m.root_value()).uses;
  if (users.size() == 1 && !graph.is_output(m.root_value())) {
    const Node& next = graph.node(users.front());
    if (next.op == "BatchNormalization") return NoMatch{};
    if ((next.op == "Mul" || next.op == "Add") &&
        std::ranges::any_of(next.inputs, [&](ValueId v) { return graph.is_constant(v); }))
      return NoMatch{};
  }
  std::vector<Axis> axes;
  if (const std::string why = read_axes(m, node, w.shape(), axes); !why.empty())
    return Declined{why};
  const std::int64_t group = node.attrs.get_int("group", 1);
  const std::size_t n = axes.size();
  std::vector<std::int64_t> pads(2 * n, 0), kernel, ones(n, 1);
  Shape steps;
  std::int64_t phase_count = 1;
  for (std::size_t d = 0; d < n; ++d) {
    const Axis& a = axes[d];
    pads[d] = a.last;
    pads[d + n] = std::max<std::int64_t>(a.steps() - a.first - a.in, 0);
    steps.push_back(a.in + pads[d] + pads[d + n] - a.taps() + 1);
    kernel.push_back(a.taps());
    phase_count *= a.stride;
  }
  std::vector<ValueId> inputs{node.inputs[0],
                              patch.constant(phases(w, group, axes), node.inputs[1])};
  if (node.inputs.size() > 2 && node.inputs[2].valid()) {
    if (!graph.is_constant(node.inputs[2])) return declined("its bias is computed at run time");
    std::vector<double> bias;
    for (double b : to_double(graph.constant(node.inputs[2])))
      bias.insert(bias.end(), static_cast<std::size_t>(phase_count), b);
    inputs.push_back(patch.constant(float_tensor({static_cast<std::int64_t>(bias.size())}, bias),
                                    node.inputs[2]));
  }
  Attrs attrs;
  attrs.set("dilations", ones);
  attrs.set("group", group);
  attrs.set("kernel_shape", kernel);
  attrs.set("pads", pads);
  attrs.set("strides", ones);
  const Shape shape = shape_of(graph, m.root_value());
  const ValueId y = patch.node("Conv", inputs, attrs);
  return crop(patch, interleave(patch, y, shape[0], shape[1], axes, steps), axes, steps);
}

}  // namespace

Rule replace_conv_transpose_with_conv() {
  return {.name = "replace_conv_transpose_with_conv",
          .formula = "ConvTranspose(x) = interleaved phases of Conv(x), stride 1",
          .effect = Effect::reassociates,
          .source = "ONNX ConvTranspose-11; sub-pixel form, Shi et al. 2016 (arXiv:1609.07009)",
          .stage = Stage::fold,
          .root = op_in({"ConvTranspose"}),
          .apply = apply};
}

}  // namespace waveq::rules
