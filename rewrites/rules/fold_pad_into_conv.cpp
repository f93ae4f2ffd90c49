// Conv(Pad(x, p, 0), pads=q)  =>  Conv(x, pads=p+q);  AveragePool(Pad(x, p, 0))  =>  AveragePool(x,
// pads=p) Zero padding in space only, and equal on both sides in the end: padded one side more, the
// Pad stays.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Why the pool cannot count padded zeros as the Pad made it count them; empty if it can.
std::string pool_obstacle(const Node& pool, const std::vector<std::int64_t>& own) {
  const bool padded = std::ranges::any_of(own, [](std::int64_t p) { return p != 0; });
  if (padded && pool.attrs.get_int("count_include_pad", 0) == 0)
    return "the pool has pads of its own that do not count";
  if (pool.attrs.get_int("ceil_mode", 0) != 0) return "the pool rounds its size up";
  return {};
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const Node* producer = producer_of(graph, root.inputs.at(0));
  if (!producer || producer->op != "Pad") return NoMatch{};
  const Node& pad = *producer;
  const IntsParam padded = ints_of(graph, pad, "pads", 1);
  if (padded.dynamic) return declined("the pads of Pad '{}' are not constant", pad.name);
  if (!padded.values || (pad.inputs.size() > 3 && pad.inputs[3].valid())) return NoMatch{};
  if (pad.attrs.get_string("mode", "constant") != "constant")
    return declined("Pad '{}' does not pad with a constant", pad.name);
  const auto fill = pad.inputs.size() > 2 && pad.inputs[2].valid()
                        ? scalar_of(graph, pad.inputs[2])
                        : std::optional(pad.attrs.get_float("value", 0.0));
  if (fill != 0.0) return declined("Pad '{}' does not pad with zero", pad.name);
  const std::size_t rank = shape_of(graph, pad.inputs[0]).size(), space = rank - 2;
  if (rank < 3 || padded.values->size() != 2 * rank) return NoMatch{};
  const std::string automatic = root.attrs.get_string("auto_pad", "NOTSET");
  if (automatic.starts_with("SAME")) return declined("its own padding is automatic");
  std::vector<std::int64_t> pads =
      root.attrs.get_ints("pads", std::vector<std::int64_t>(2 * space, 0));
  if (pads.size() != 2 * space) return NoMatch{};
  if (automatic == "VALID") std::ranges::fill(pads, 0);
  if (root.op == "AveragePool")
    if (std::string obstacle = pool_obstacle(root, pads); !obstacle.empty())
      return Declined{std::move(obstacle)};
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t before = (*padded.values)[d], behind = (*padded.values)[rank + d];
    if (before < 0 || behind < 0) return declined("Pad '{}' crops", pad.name);
    if (d < 2 && (before > 0 || behind > 0))
      return declined("Pad '{}' pads batch or channels", pad.name);
    if (d < 2) continue;
    pads[d - 2] += before;
    pads[space + d - 2] += behind;
    if (pads[d - 2] != pads[space + d - 2])
      return declined("the padding would be {} in front and {} behind", pads[d - 2],
                      pads[space + d - 2]);
  }
  if (root.op == "AveragePool")
    for (std::size_t d = 0; d < space; ++d)
      if (pads[d] >= root.attrs.get_ints("kernel_shape", {}).at(d))
        return declined("a window would see only padding");
  Attrs attrs = root.attrs;
  attrs.erase("auto_pad");
  attrs.set("pads", pads);
  if (root.op == "AveragePool") attrs.set("count_include_pad", std::int64_t{1});
  std::vector<ValueId> inputs = root.inputs;
  inputs[0] = pad.inputs[0];
  return patch.like(m.root_id(), inputs, attrs);
}

}  // namespace

Rule fold_pad_into_conv() {
  return {.name = "fold_pad_into_conv",
          .formula = "Conv(Pad(x,p,0), pads=q) = Conv(x, pads=p+q)",
          .effect = Effect::exact,
          .source = "ONNX Conv-11, AveragePool-11, Pad-13: padding with zeros",
          .stage = Stage::fuse,
          .root = op_in({"Conv", "AveragePool"}),
          .apply = apply};
}

}  // namespace waveq::rules
