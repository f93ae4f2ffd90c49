#include <fmt/format.h>

#include <algorithm>

#include "lowering/rules.h"

// Windows and padding, as convolutions and pools share them.
namespace waveq {

std::vector<WindowAxis> window_axes(Lowering& to, const Node& node, const Shape& kernel) {
  const std::size_t spatial = kernel.size();
  const Shape &in = to.shape(node.inputs[0]), &out = to.shape(node.outputs[0]);
  const std::string mode = node.attrs.get_string("auto_pad", "NOTSET");
  const auto dilations = node.attrs.get_ints("dilations", std::vector<std::int64_t>(spatial, 1)),
             strides = node.attrs.get_ints("strides", std::vector<std::int64_t>(spatial, 1)),
             pads = node.attrs.get_ints("pads", std::vector<std::int64_t>(2 * spatial, 0));
  std::vector<WindowAxis> axes(spatial);
  for (std::size_t d = 0; d < spatial; ++d) {
    WindowAxis& w = axes[d];
    w = {.in = in[d + 2],
         .out = out[d + 2],
         .kernel = kernel[d],
         .stride = strides[d],
         .dilation = dilations[d]};
    if (mode == "NOTSET") {
      w.begin = pads[d];
      w.end = pads[d + spatial];
    } else if (mode != "VALID") {
      const std::int64_t total = std::max<std::int64_t>(w.read() - w.in, 0);
      w.begin = mode == "SAME_LOWER" ? total - total / 2 : total / 2;
      w.end = total - w.begin;
    }
  }
  return axes;
}

ValueId pad(Lowering& to, const Activation& x, const std::vector<std::int64_t>& pads,
            std::int64_t code, const std::string& name) {
  Shape shape = to.out().value(x.id).type.shape;
  const std::size_t rank = shape.size();
  const auto emit = [&](ValueId value, const std::vector<std::int64_t>& amounts,
                        const std::string& node) {
    Attrs attrs;
    attrs.set("mode", std::string("constant"));
    attrs.set("pads", amounts);
    attrs.set("value", static_cast<double>(code));
    const ValueId y = to.emit("Pad", node, {value}, std::move(attrs));
    to.out().set_quant(y, x.quant);
    return y;
  };
  std::vector<std::size_t> padded;
  for (std::size_t d = 0; d < rank; ++d)
    if (pads[d] != 0 || pads[rank + d] != 0) padded.push_back(d);
  // What the consumer has a kernel for: the axes behind the channels, with one amount on both ends
  // of all but the last.
  const bool is_space = (rank == 3 || rank == 4) && (padded.empty() || padded.front() >= 2) &&
                        (rank == 3 || pads[2] == pads[6]);
  if (is_space) return emit(x.id, pads, name);
  // Anything else: axis by axis, what follows the axis seen as part of it.
  ValueId value = x.id;
  for (std::size_t d : padded) {
    std::int64_t outer = 1, inner = 1;
    for (std::size_t k = 0; k < d; ++k) outer *= shape[k];
    for (std::size_t k = d + 1; k < rank; ++k) inner *= shape[k];
    const std::string part = fmt::format("{}_axis{}", name, d);
    value = to.emit("Reshape", part + "_rows",
                    {value, to.constant_i64(part + "_rows_shape", {1, outer, shape[d] * inner})});
    value = emit(value, {0, 0, pads[d] * inner, 0, 0, pads[rank + d] * inner}, part + "_pad");
    shape[d] += pads[d] + pads[rank + d];
    value = to.emit("Reshape", d == padded.back() ? name : part,
                    {value, to.constant_i64(part + "_shape", shape)});
    to.out().set_quant(value, x.quant);
  }
  return value;
}

ValueId padded_for_conv(Lowering& to, const Activation& x, std::vector<std::int64_t>& pads,
                        const std::string& name) {
  const std::size_t spatial = pads.size() / 2;
  bool equal_ends = true;
  std::int64_t total = 0;
  for (std::size_t d = 0; d < spatial; ++d) {
    equal_ends = equal_ends && pads[d] == pads[d + spatial];
    total += pads[d] + pads[d + spatial];
  }
  const bool fills_0 = x.quant.zero_point == 0;
  if (total == 0 || (fills_0 && (equal_ends || (spatial == 1 && total > 1)))) return x.id;
  std::vector<std::int64_t> all(2 * (spatial + 2), 0);
  for (std::size_t d = 0; d < spatial; ++d) {
    all[d + 2] = pads[d];
    all[spatial + d + 4] = pads[d + spatial];
  }
  std::ranges::fill(pads, 0);
  return pad(to, x, all, x.quant.zero_point, name);
}

}  // namespace waveq
