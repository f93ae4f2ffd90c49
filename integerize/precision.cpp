#include "precision.h"

#include <fmt/format.h>

#include <string_view>
#include <tuple>

#include "name_pattern.h"

namespace waveq {

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

std::set<ValueId> values_of_16_bits(const Graph& graph, const Rules& rules) {
  const auto computed = [](const Value& v) { return v.producer.valid() || !v.uses.empty(); };
  std::set<ValueId> wide;
  for (const auto& [id, bits] : by_closest_rule(graph, rules, computed, "precision", "node"))
    if (bits == 16) wide.insert(id);
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
