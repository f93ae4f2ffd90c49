#include "precision.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <tuple>

#include "name_pattern.h"

namespace waveq {

namespace {

/// Weights of one output of a linear node with constant weights, at most: 16 bits times 8 then
/// leave an accumulator of 30, and its requant a multiplier that is not zero.
constexpr std::int64_t kMaxFanIn = 128;

bool is_sum(const Graph& graph, const Node& node) {
  return (node.op == "Add" || node.op == "Sub") &&
         std::ranges::none_of(node.inputs, [&](ValueId in) { return graph.is_constant(in); });
}

std::int64_t fan_in(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 2 || !graph.is_constant(node.inputs[1])) return kMaxFanIn + 1;
  const Shape& w = graph.value(node.inputs[1]).type.shape;
  if (w.size() < 2 || w[0] == 0) return kMaxFanIn + 1;
  return node.op == "Conv" || node.attrs.get_int("transB", 0) != 0 ? element_count(w) / w[0]
                                                                   : w[w.size() - 2];
}

bool gains_by_16_bits(const Graph& graph, const Node& reader) {
  if (reader.op == "Conv" || reader.op == "Gemm" || reader.op == "MatMul")
    return fan_in(graph, reader) <= kMaxFanIn;
  return is_sum(graph, reader) || reader.op == "LayerNormalization";
}

/// x and most of most - x or x - most, most = ReduceMax(x), where nothing else reads them.
void add_distance(const Graph& graph, const Node& sub, std::set<ValueId>& found) {
  for (std::size_t i = 0; i < 2; ++i) {
    const ValueId x = sub.inputs[i], most = sub.inputs[1 - i];
    const NodeId producer = graph.value(most).producer;
    if (!producer.valid() || graph.node(producer).op != "ReduceMax" ||
        graph.node(producer).inputs.front() != x)
      continue;
    if (graph.use_count(x) == 2 && graph.use_count(most) == 1) found.insert({x, most});
  }
}

}  // namespace

std::set<ValueId> values_of_distances(const Graph& graph) {
  std::set<ValueId> found;
  for (const NodeId id : graph.nodes())
    if (graph.node(id).op == "Sub") add_distance(graph, graph.node(id), found);
  return found;
}

std::set<ValueId> values_of_sums(const Graph& graph) {
  std::set<ValueId> found;
  for (const NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (!is_sum(graph, node)) continue;
    for (const ValueId in : node.inputs)
      if (graph.value(in).producer.valid() && graph.use_count(in) == 1) found.insert(in);
    const ValueId y = node.outputs.front();
    if (!graph.is_output(y) && std::ranges::all_of(graph.value(y).uses, [&](NodeId user) {
          return gains_by_16_bits(graph, graph.node(user));
        }))
      found.insert(y);
  }
  return found;
}

namespace {

using Rules = std::map<std::string, std::int64_t>;

/// What the closest rule says of each value that `concerns` lets through. `kind`: of rule, for the
/// message about one that matches nothing, `what` they are to match.
template <class Concerns>
std::map<ValueId, std::int64_t> by_closest_rule(const Graph& graph, const Rules& rules,
                                                const Concerns& concerns, const char* kind,
                                                const char* what) {
  std::map<ValueId, std::int64_t> found;
  std::set<std::string> used;
  for (std::size_t i = 0; i < graph.value_count() && !rules.empty(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    const Value& value = graph.value(id);
    if (value.constant || !concerns(value)) continue;
    std::size_t closest = 0;
    for (const auto& [pattern, wanted] : rules) {
      const std::size_t close = closeness(pattern, graph, value);
      if (close > 0) used.insert(pattern);
      if (close > closest) std::tie(closest, found[id]) = std::pair{close, wanted};
    }
  }
  for (const auto& [pattern, wanted] : rules)
    if (!used.contains(pattern))
      throw Error(ErrorCode::invalid_argument, fmt::format("{} rule '{}'", kind, pattern),
                  fmt::format("matches no {} of the network", what),
                  "patterns see names after rewriting: `waveq rewrite MODEL -o FILE` writes them");
  return found;
}

}  // namespace

std::set<ValueId> values_of_16_bits(const Graph& graph, const Rules& rules,
                                    std::set<ValueId> wide) {
  const auto computed = [](const Value& v) { return v.producer.valid() || !v.uses.empty(); };
  for (const auto& [id, bits] : by_closest_rule(graph, rules, computed, "precision", "node"))
    if (bits == 16)
      wide.insert(id);
    else
      wide.erase(id);
  return wide;
}

std::map<ValueId, std::int64_t> weight_levels_by_rule(const Graph& graph, const Rules& rules) {
  static const std::set<std::string_view> kWeighted{"Conv", "Gemm", "MatMul", "GRU", "LSTM"};
  const auto weighted = [&](const Value& v) {
    if (!v.producer.valid()) return false;
    const Node& node = graph.node(v.producer);
    return kWeighted.contains(node.op) && graph.is_constant(node.inputs.at(1));
  };
  return by_closest_rule(graph, rules, weighted, "weight_levels", "node with constant weights");
}

}  // namespace waveq
