#include "waveq/export/lint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "cli.h"

namespace waveq::cli {

namespace {

std::string platforms_text(const LintCheck& check) {
  return check.platforms == kAllPlatforms
             ? "all"
             : fmt::format("{}", fmt::join(platform_names(check.platforms), ", "));
}

/// One paragraph a check: what is wrong, why, what to do, where.
void print_findings(const LintReport& report, bool all) {
  constexpr std::size_t kShown = 5;  // places of one check, unless all are asked for
  for (const LintCheck& check : lint_checks()) {
    std::vector<const LintFinding*> places;
    for (const LintFinding& f : report.findings)
      if (f.check == &check && (f.applies || all)) places.push_back(&f);
    if (places.empty()) continue;
    const std::string effect =
        places.front()->applies ? std::string(to_string(check.effect)) : "elsewhere";
    fmt::print("{} {} [{}] {} ({})\n  why: {}\n  fix: {}\n", check.id, check.name, effect,
               places.size() == 1 ? "1 place" : fmt::format("{} places", places.size()),
               platforms_text(check), check.explanation, check.remedy);
    for (std::size_t i = 0; i < places.size() && (all || i < kShown); ++i)
      fmt::print("  - {}{}\n",
                 places[i]->node.empty() ? "" : fmt::format("'{}': ", places[i]->node),
                 places[i]->problem);
    if (!all && places.size() > kShown)
      fmt::print("  - and {} more (--all lists them)\n", places.size() - kShown);
  }
}

nlohmann::ordered_json to_json(const std::string& file, const std::string& target,
                               const LintReport& report) {
  nlohmann::ordered_json j = {{"file", file},
                              {"target", target},
                              {"rejected", report.count(LintEffect::rejected)},
                              {"wrong", report.count(LintEffect::wrong)},
                              {"fragile", report.count(LintEffect::fragile)},
                              {"coarse", report.count(LintEffect::coarse)}};
  j["findings"] = nlohmann::ordered_json::array();
  for (const LintFinding& f : report.findings)
    j["findings"].push_back({{"trap", f.check->id},
                             {"check", f.check->name},
                             {"effect", to_string(f.check->effect)},
                             {"applies", f.applies},
                             {"platforms", platform_names(f.check->platforms)},
                             {"node", f.node},
                             {"problem", f.problem},
                             {"explanation", f.check->explanation},
                             {"remedy", f.check->remedy}});
  return j;
}

int list_checks(const Common& common) {
  nlohmann::ordered_json j = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> rows = {{"trap", "check", "effect", "platforms", "why"}};
  for (const LintCheck& c : lint_checks()) {
    rows.push_back(
        {c.id, c.name, std::string(to_string(c.effect)), platforms_text(c), c.explanation});
    j.push_back({{"trap", c.id},
                 {"check", c.name},
                 {"effect", to_string(c.effect)},
                 {"platforms", platform_names(c.platforms)},
                 {"explanation", c.explanation},
                 {"remedy", c.remedy}});
  }
  if (common.json)
    fmt::print("{}\n", j.dump(1));
  else
    print_table(rows);
  return kDone;
}

int run(const std::string& file, const Common& common, bool all) {
  const TargetProfile& target =
      find_target(common.target.empty() ? "deeploy-generic" : common.target);
  const LintReport report = lint(read_lint_input(file), target);
  all = all || spdlog::should_log(spdlog::level::debug);  // -v
  const std::size_t rejected = report.count(LintEffect::rejected),
                    wrong = report.count(LintEffect::wrong),
                    fragile = report.count(LintEffect::fragile),
                    coarse = report.count(LintEffect::coarse);
  if (common.json) {
    // Names come from the file and need not be UTF-8.
    fmt::print("{}\n", to_json(file, target.name, report)
                           .dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    print_findings(report, all);
    const std::size_t elsewhere = report.findings.size() - rejected - wrong - fragile - coarse;
    fmt::print("{}: {} rejected, {} wrong, {} fragile, {} coarse on {}{}\n", file, rejected, wrong,
               fragile, coarse, target.name,
               elsewhere > 0 && !all
                   ? fmt::format("; {} on other platforms (--all lists them)", elsewhere)
                   : "");
  }
  return rejected > 0 ? kNotInteger : wrong > 0 ? kGateMissed : kDone;
}

}  // namespace

Action add_lint(CLI::App& app) {
  auto file = std::make_shared<std::string>();
  auto common = std::make_shared<Common>();
  auto all = std::make_shared<bool>(false), checks = std::make_shared<bool>(false);
  CLI::Option* positional =
      app.add_option("FILE", *file, "integer ONNX network, whoever made it, or its folder");
  app.add_flag("--all", *all, "every place, and what holds for other platforms");
  app.add_flag("--checks", *checks, "list the checks instead")->excludes(positional);
  common->add(app, Common::kTarget | Common::kJson);
  app.footer(
      "\nExample:\n  waveq lint out --target deeploy-generic --all\n\ninputs.npz and outputs.npz "
      "beside the network are looked at too. Exit code 3 where the target would reject it, else 5\n"
      "where it would compute something else, else 0; what is fragile or coarse, or holds "
      "for other platforms, changes no exit code.");
  return [file, common, all, checks] {
    if (*checks) return list_checks(*common);
    if (file->empty()) throw CLI::RequiredError("FILE");
    return run(*file, *common, *all);
  };
}

}  // namespace waveq::cli
