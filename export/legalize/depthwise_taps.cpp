#include <vector>

#include "legalize/legalize.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// Weights [C,1,kh,kw] with `extra` columns of zeros on either side.
Tensor with_zero_columns(const Tensor& w, std::int64_t extra) {
  const std::int64_t rows = w.shape()[0] * w.shape()[2], from = w.shape()[3], to = from + 2 * extra;
  Tensor wide(DType::i8, {w.shape()[0], 1, w.shape()[2], to});
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < from; ++k)
      wide.as<std::int8_t>()[static_cast<std::size_t>(r * to + extra + k)] =
          w.as<std::int8_t>()[static_cast<std::size_t>(r * from + k)];
  return wide;
}

}  // namespace

void widen_depthwise_kernels(Graph& graph, std::int64_t least_taps) {
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (node.op != "Conv" || !graph.is_constant(node.inputs[1])) continue;
    const Tensor& w = graph.constant(node.inputs[1]);
    const std::int64_t group = node.attrs.get_int("group", 1);
    if (group == 1 || w.shape().size() != 4 || w.shape()[1] != 1 || w.shape()[0] != group ||
        w.dtype() != DType::i8)
      continue;
    std::int64_t extra = 0;
    while (w.shape()[2] * (w.shape()[3] + 2 * extra) < least_taps) ++extra;
    if (extra == 0) continue;
    Attrs attrs = node.attrs;
    Ints pads = attrs.get_ints("pads", {0, 0, 0, 0});
    pads[1] += extra;
    pads[3] += extra;
    attrs.set("pads", pads);
    attrs.set("kernel_shape", Ints{w.shape()[2], w.shape()[3] + 2 * extra});
    graph.set_input(id, 1,
                    graph.add_constant(graph.value(node.inputs[1]).name + "_wide",
                                       with_zero_columns(w, extra)));
    graph.set_attrs(id, attrs);
  }
}

}  // namespace waveq
