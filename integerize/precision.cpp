#include "precision.h"

#include <fmt/format.h>

#include <tuple>

#include "name_pattern.h"

namespace waveq {

std::set<ValueId> values_of_16_bits(const Graph& graph,
                                    const std::map<std::string, std::int64_t>& rules) {
  std::set<ValueId> wide;
  std::set<std::string> used;
  for (std::size_t i = 0; i < graph.value_count() && !rules.empty(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    const Value& value = graph.value(id);
    if (value.constant || (!value.producer.valid() && value.uses.empty())) continue;
    std::size_t closest = 0;
    std::int64_t bits = 8;
    for (const auto& [pattern, wanted] : rules) {
      const std::size_t close = closeness(pattern, graph, value);
      if (close > 0) used.insert(pattern);
      if (close > closest) std::tie(closest, bits) = std::pair{close, wanted};
    }
    if (bits == 16) wide.insert(id);
  }
  for (const auto& [pattern, bits] : rules)
    if (!used.contains(pattern))
      throw Error(ErrorCode::invalid_argument, fmt::format("precision rule '{}'", pattern),
                  "matches no node of the network",
                  "patterns see names after rewriting: `waveq rewrite MODEL -o FILE` writes them");
  return wide;
}

}  // namespace waveq
