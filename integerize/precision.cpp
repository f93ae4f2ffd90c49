#include "precision.h"

#include <fmt/format.h>

#include <string_view>
#include <tuple>

namespace waveq {

namespace {

constexpr std::string_view kOperator = "op:";

bool has_wildcard(std::string_view pattern) {
  return pattern.find_first_of("*?") != std::string_view::npos;
}

/// Whether the whole text matches; `*` takes any text, `?` one character.
bool matches_glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;  // let the last star take one more character
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

/// How closely a rule names a value: 0 not at all; a name before a pattern, a longer pattern before
/// a shorter one, any of them before an operator.
std::size_t closeness(const std::string& pattern, const Graph& graph, const Value& value) {
  const Node* node = value.producer.valid() ? &graph.node(value.producer) : nullptr;
  if (pattern.starts_with(kOperator))
    return node && node->op == pattern.substr(kOperator.size()) ? 1 : 0;
  for (const std::string* name :
       {&value.name, node ? &node->name : nullptr, node ? &node->origin : nullptr}) {
    if (!name || name->empty()) continue;
    if (*name == pattern) return std::size_t{1} << 32;
    if (has_wildcard(pattern) && matches_glob(pattern, *name)) return 2 + pattern.size();
  }
  return 0;
}

}  // namespace

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
