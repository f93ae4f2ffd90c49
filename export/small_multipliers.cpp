#include "waveq/export/small_multipliers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace waveq {

namespace {

std::int64_t largest_magnitude(const Tensor& t) {
  std::int64_t most = 0;
  for (std::int64_t v : to_int64(t)) most = std::max(most, std::abs(v));
  return most;
}

/// Which limit the same requant with another shift, and parameters of twice the size, would break.
std::string limit_of(const QuantizeResult& result, const Node& requant, double bound) {
  const Graph& graph = result.network.graph;
  const std::int64_t add = largest_magnitude(graph.constant(requant.inputs[2]));
  const int bits = static_cast<int>(result.recipe.requant_bits);
  const double product = std::ldexp(1.0, bits - 1);
  if (requant.attrs.require_int("div") >= std::int64_t{1} << result.recipe.max_shift)
    return fmt::format("the largest shift of the recipe is {}", result.recipe.max_shift);
  if (2.0 * bound >= product)
    return fmt::format("x*mul + add reaches {:.0f}, twice of it would leave {} bits", bound, bits);
  if (2 * add > std::int64_t{1} << 24)
    return fmt::format("add is {}, twice of it is beyond 2^24", add);
  return "another channel's multiplier or offset reaches its limit first";
}

}  // namespace

std::vector<SmallMultiplier> small_multipliers(const QuantizeResult& result) {
  const Graph& graph = result.network.graph;
  std::map<std::string, double> bounds;
  for (const NodeProof& p : result.proof.nodes) bounds[p.node] = p.bound;
  std::vector<SmallMultiplier> small;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.op != "RequantShift") continue;
    std::int64_t least = std::int64_t{1} << 31;
    for (std::int64_t m : to_int64(graph.constant(node.inputs[1])))
      least = std::min(least, std::abs(m));
    if (least >= kSmallMultiplier) continue;
    const auto bound = bounds.find(node.name);
    small.push_back({node.name, node.origin, least,
                     limit_of(result, node, bound == bounds.end() ? 0 : bound->second)});
  }
  return small;
}

}  // namespace waveq
