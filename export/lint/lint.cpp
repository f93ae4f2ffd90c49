#include "waveq/export/lint.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "lint/context.h"

namespace waveq {

namespace {

constexpr std::pair<LintPlatform, const char*> kNames[] = {{kGeneric, "Generic"},
                                                           {kCortexM, "CortexM"},
                                                           {kMemPool, "MemPool"},
                                                           {kPulp, "PULP"},
                                                           {kSnitch, "Snitch"}};

/// "T12" comes before "S2" and "T9" before "T12".
std::pair<int, int> order_of(const LintCheck& check) {
  if (check.id.starts_with("T")) return {0, std::atoi(check.id.c_str() + 1)};
  if (check.id.starts_with("S")) return {1, std::atoi(check.id.c_str() + 1)};
  return {2, 0};
}

}  // namespace

std::vector<std::string> platform_names(LintPlatforms platforms) {
  std::vector<std::string> names;
  for (const auto& [bit, name] : kNames)
    if (platforms & bit) names.emplace_back(name);
  return names;
}

std::string_view to_string(LintEffect effect) {
  switch (effect) {
    case LintEffect::rejected:
      return "rejected";
    case LintEffect::wrong:
      return "wrong";
    case LintEffect::fragile:
      return "fragile";
    case LintEffect::coarse:
      return "coarse";
  }
  return "";
}

LintContext::LintContext(const LintInput& network) : input_(&network), analysis_(network.integer) {
  for (NodeId id : network.integer.topological_order()) nodes_.emplace_back(network.integer, id);
  proof_ = prove(network.integer);
}

std::optional<Interval> LintContext::bounds(ValueId id) {
  if (!id.valid()) return std::nullopt;
  try {
    return analysis_.of(id).hull();
  } catch (const Error&) {
    return std::nullopt;  // an operator the analysis does not cover
  }
}

const std::vector<LintCheck>& lint_checks() {
  static const std::vector<LintCheck> all = [] {
    std::vector<LintCheck> rows = lint_requant_checks();
    for (const auto& more :
         {lint_conv_checks(), lint_operator_checks(), lint_accuracy_checks(), lint_file_checks()})
      rows.insert(rows.end(), more.begin(), more.end());
    std::ranges::stable_sort(rows, {}, order_of);
    return rows;
  }();
  return all;
}

std::size_t LintReport::count(LintEffect effect) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      findings, [&](const LintFinding& f) { return f.applies && f.check->effect == effect; }));
}

LintPlatforms platforms_of(const TargetProfile& target) {
  if (target.name == "deeploy-generic") return kGeneric;
  if (target.name == "deeploy-siracusa") return kPulp;
  throw Error(ErrorCode::invalid_argument, fmt::format("target '{}'", target.name),
              "has no lint checks", "lint for deeploy-generic");
}

LintReport lint(const LintInput& input, const TargetProfile& target) {
  const LintPlatforms platforms = platforms_of(target);
  LintReport report;
  LintContext context(input);
  for (const LintCheck& check : lint_checks()) {
    try {
      check.run(context);
    } catch (Error& e) {
      e.while_doing(fmt::format("checking {} {}", check.id, check.name));
      throw;
    }
    for (LintProblem& p : context.take())
      report.findings.push_back(
          {&check, std::move(p.node), std::move(p.problem), (check.platforms & platforms) != 0});
  }
  return report;
}

}  // namespace waveq
