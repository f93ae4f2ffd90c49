#include "name_pattern.h"

namespace waveq {

bool matches_glob(std::string_view pattern, std::string_view text) {
  // Greedy with one point of return: the last star may always take one character more.
  constexpr std::size_t kNone = std::string_view::npos;
  std::size_t p = 0, t = 0, after_star = kNone, star_end = 0;
  while (t < text.size()) {
    const bool more = p < pattern.size();
    if (more && pattern[p] == '*') {
      after_star = ++p;
      star_end = t;
    } else if (more && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (after_star != kNone) {
      p = after_star;
      t = ++star_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == kNone;
}

std::size_t closeness(std::string_view rule, const Graph& graph, const Value& value) {
  constexpr std::string_view kOperator = "op:";
  constexpr std::size_t kFullName = std::size_t{1} << 32;
  const Node* node = value.producer.valid() ? &graph.node(value.producer) : nullptr;
  if (rule.starts_with(kOperator)) return node && node->op == rule.substr(kOperator.size()) ? 1 : 0;
  std::size_t best = 0;
  const auto consider = [&](const std::string& name) {
    if (name == rule) best = kFullName;
    if (best == 0 && !name.empty() && matches_glob(rule, name)) best = 2 + rule.size();
  };
  consider(value.name);
  if (node) {
    consider(node->name);
    consider(node->origin);
  }
  return best;
}

}  // namespace waveq
