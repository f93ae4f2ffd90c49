#include "waveq/export/verify.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli.h"

namespace waveq::cli {

namespace {

std::string sentence(const Mismatch& m) {
  return fmt::format("tensor '{}' at {}: expected {}, got {} ({} of {} elements differ)", m.tensor,
                     to_string(m.index), m.expected, m.got, m.differing, m.elements);
}

nlohmann::ordered_json to_json(const Mismatch& m) {
  return {{"tensor", m.tensor}, {"index", m.index},         {"expected", m.expected},
          {"got", m.got},       {"differing", m.differing}, {"elements", m.elements}};
}

int verify(const std::string& dir, const Common& common) {
  VerifyOptions options;
  if (!common.target.empty()) options.target = &find_target(common.target);
  const VerifyReport report = verify_folder(dir, options);
  if (common.json) {
    nlohmann::ordered_json j = {{"folder", dir},
                                {"outputs", report.outputs},
                                {"activations", report.activations},
                                {"unmatched", report.unmatched}};
    j["mismatches"] = nlohmann::ordered_json::array();
    for (const Mismatch& m : report.mismatches) j["mismatches"].push_back(to_json(m));
    fmt::print("{}\n", j.dump(1));
  } else {
    for (const std::string& name : report.unmatched)
      spdlog::info("activation '{}' names no tensor of the network", name);
    if (!report.mismatches.empty()) fmt::print("{}\n", sentence(report.mismatches.front()));
    fmt::print("{}: {} outputs and {} activations compared, {} tensors differ\n", dir,
               report.outputs, report.activations, report.mismatches.size());
  }
  if (report.mismatches.empty()) return kDone;
  fmt::print(stderr, "waveq: {}: {}\n", dir, sentence(report.mismatches.front()));
  return kGateMissed;
}

int compare(const std::string& a, const std::string& b, const Common& common) {
  bool same = true;
  std::vector<std::vector<std::string>> rows = {
      {"tensor", "elements", "differing", "SQNR", "cosine", "first difference"}};
  nlohmann::ordered_json j = nlohmann::ordered_json::array();
  for (const Comparison& c : compare_dumps(a, b)) {
    const bool equal = c.extra || (c.problem.empty() && c.differing == 0);
    same = same && equal;
    const std::string first = !c.problem.empty() ? c.problem
                              : c.first ? fmt::format("{}: {} | {}", to_string(c.first->index),
                                                      c.first->expected, c.first->got)
                                        : "";
    rows.push_back({c.tensor, fmt::format("{}", c.elements), fmt::format("{}", c.differing),
                    c.integer || !c.problem.empty() ? ""
                    : std::isfinite(c.sqnr_db)      ? fmt::format("{:.1f} dB", c.sqnr_db)
                                                    : "equal",
                    c.integer || !c.problem.empty() ? "" : fmt::format("{:.6f}", c.cosine), first});
    nlohmann::ordered_json entry = {{"tensor", c.tensor},
                                    {"integer", c.integer},
                                    {"elements", c.elements},
                                    {"differing", c.differing}};
    entry["sqnr_db"] = c.integer || !std::isfinite(c.sqnr_db) ? nlohmann::ordered_json(nullptr)
                                                              : nlohmann::ordered_json(c.sqnr_db);
    entry["cosine"] = c.cosine;
    entry["problem"] = c.problem;
    if (c.first) entry["first"] = to_json(*c.first);
    j.push_back(std::move(entry));
  }
  if (common.json)
    fmt::print("{}\n", j.dump(1));
  else
    print_table(rows);
  if (!same) fmt::print(stderr, "waveq: {} and {} differ\n", a, b);
  return same ? kDone : kGateMissed;
}

}  // namespace

Action add_verify(CLI::App& app) {
  auto dir = std::make_shared<std::string>();
  auto common = std::make_shared<Common>();
  app.add_option("DIR", *dir,
                 "folder with network.onnx, inputs.npz, outputs.npz and perhaps activations.npz")
      ->required();
  common->add(app, Common::kTarget | Common::kJson);
  app.get_option("--target")
      ->description("compute as this target does (default: as the network's attributes say)");
  app.footer(
      "\nExample:\n  waveq verify out\n\nExit code 5 and the first mismatch (tensor, index, "
      "expected, got) where anything differs.");
  return [dir, common] { return verify(*dir, *common); };
}

Action add_compare(CLI::App& app) {
  auto a = std::make_shared<std::string>(), b = std::make_shared<std::string>();
  auto common = std::make_shared<Common>();
  app.add_option("A", *a, "reference dump (.npz)")->required();
  app.add_option("B", *b, "dump to compare with it (.npz)")->required();
  common->add(app, Common::kJson);
  app.footer(
      "\nExample:\n  waveq compare out/activations.npz device.npz\n\nInteger tensors must be "
      "equal; float tensors get SQNR and cosine. Exit code 5 where anything differs.");
  return [a, b, common] { return compare(*a, *b, *common); };
}

}  // namespace waveq::cli
