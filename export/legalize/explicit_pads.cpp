#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "legalize/legalize.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

bool needs_pad(const Graph& graph, const Node& conv, const Ints& pads) {
  if (std::ranges::all_of(pads, [](std::int64_t p) { return p == 0; })) return false;
  const std::int64_t channels = graph.value(conv.inputs[0]).type.shape[1];
  const bool depthwise = channels > 1 && conv.attrs.get_int("group", 1) == channels;
  const Ints strides = conv.attrs.get_ints("strides", {});
  const bool strided = std::ranges::any_of(strides, [](std::int64_t s) { return s != 1; });
  const bool equal = std::ranges::all_of(pads, [&](std::int64_t p) { return p == pads.front(); });
  return !equal || (depthwise && strided);
}

}  // namespace

void explicit_pads(Graph& graph) {
  std::map<std::pair<ValueId, Ints>, ValueId> padded;  // convolutions of one tensor share its Pad
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (node.op != "Conv") continue;
    const Ints pads = node.attrs.get_ints("pads", {});
    if (!needs_pad(graph, node, pads)) continue;
    const ValueId x = node.inputs[0];
    ValueId& with_pads = padded[{x, pads}];
    if (!with_pads.valid()) {
      const std::size_t spatial = pads.size() / 2;
      Ints all(2 * (spatial + 2), 0);
      std::copy_n(pads.begin(), spatial, all.begin() + 2);
      std::copy_n(pads.begin() + static_cast<std::ptrdiff_t>(spatial), spatial,
                  all.begin() + static_cast<std::ptrdiff_t>(spatial) + 4);
      Attrs attrs;
      attrs.set("mode", std::string("constant"));
      attrs.set("pads", all);
      attrs.set("value", 0.0);
      with_pads = graph.emit("Pad", graph.value(x).name + "_padded", {x}, attrs, node.origin);
      graph.set_quant(with_pads, graph.value(x).quant);
    }
    Attrs attrs = node.attrs;
    attrs.set("pads", Ints(pads.size(), 0));
    graph.set_attrs(id, attrs);
    graph.set_input(id, 0, with_pads);
  }
}

}  // namespace waveq
