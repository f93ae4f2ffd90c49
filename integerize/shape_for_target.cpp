#include "shape_for_target.h"

#include <algorithm>
#include <set>

#include "waveq/rewrites/driver.h"

namespace waveq {

namespace {

bool lacks_means(const TargetAbilities& target) {
  return !target.operators.contains("iLayerNorm") && target.operators.contains("iRMSNorm");
}

bool moves(const Node& node) {
  static const std::set<std::string, std::less<>> ops{"Flatten", "Reshape", "Squeeze", "Transpose",
                                                      "Unsqueeze"};
  return ops.contains(node.op);
}

/// Tensors without a range that are others, moved, get the range of these.
void share_ranges(ShapedNetwork& network, const RangeLookup& ranges) {
  const Graph& graph = network.graph;
  const QuantSpec levels{256, Signedness::automatic};
  const auto is_known = [&](ValueId id) {
    const std::string& name = graph.value(id).name;
    return network.ranges.contains(name) || ranges(name, levels).has_value();
  };
  const auto share = [&](ValueId to, ValueId from) {
    if (graph.is_constant(to) || is_known(to) || !is_known(from)) return;
    const auto derived = network.ranges.find(graph.value(from).name);
    network.ranges[graph.value(to).name] = derived == network.ranges.end()
                                               ? DerivedRange{.tensor = graph.value(from).name}
                                               : derived->second;
  };
  std::vector<NodeId> order = graph.topological_order();
  for (NodeId id : order)
    if (moves(graph.node(id))) share(graph.node(id).outputs.front(), graph.node(id).inputs[0]);
  std::ranges::reverse(order);
  for (NodeId id : order)
    if (moves(graph.node(id))) share(graph.node(id).inputs[0], graph.node(id).outputs.front());
}

}  // namespace

std::vector<FloatForm> float_forms(const TargetAbilities& target) {
  std::vector<FloatForm> forms;
  if (lacks_means(target))
    forms.push_back({"without_row_means", "LN(x, g, b) = RMSNormalization(x.(I - 1/N), g) + b",
                     "it has iRMSNorm and no iLayerNorm; rows without a mean are not multiplied"});
  if (target.form.rows_as_channels)
    forms.push_back({"rows_as_channels", "x.W + b = Transpose(1x1 Conv(Transpose(x), W^T, b))",
                     "a requant behind MatMul has no scale for each output, and its kernels are "
                     "wrong at some sizes (deeploy-dialect.md T9, T15)"});
  return forms;
}

bool asks_for_shape(const TargetAbilities& target) { return !float_forms(target).empty(); }

ShapedNetwork shape_for_target(const Graph& canonical, const RangeLookup& ranges,
                               const IntegerizeOptions& options) {
  ShapedNetwork network{canonical, {}, {}};
  if (lacks_means(options.target)) without_row_means(network, ranges, options);
  if (options.target.form.rows_as_channels) {
    rows_as_channels(network);
    rewrite(network.graph,
            {.passes = {"merge_transposes", "merge_reshapes", "replace_transpose_with_reshape",
                        "eliminate_identity", "eliminate_duplicates"}});
  }
  network.graph.remove_dead_nodes();
  network.graph.compact();
  share_ranges(network, ranges);
  return network;
}

}  // namespace waveq
