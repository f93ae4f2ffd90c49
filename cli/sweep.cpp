#include "waveq/integerize/sweep.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli.h"
#include "waveq/export/target.h"
#include "waveq/graph/file.h"

namespace waveq::cli {

namespace {

using Json = nlohmann::ordered_json;

struct Options {
  Common common;
  std::string model, calib, eval, out;
  SweepOptions sweep;
  bool all = false;
};

Json number(double v) {
  return std::isfinite(v) ? Json(std::round(v * 1000) / 1000) : Json(nullptr);
}

Json json_of(const Accuracy& a) {
  return {{"output_sqnr_db", number(a.output_sqnr_db)},
          {"median_sqnr_db", number(a.median_sqnr_db)},
          {"trimmed_sqnr_db", number(a.trimmed_sqnr_db)},
          {"agreement", a.agreement},
          {"top1", a.integer_top1 ? Json(*a.integer_top1) : Json(nullptr)}};
}

Json json_of(const SweepResult& r) {
  Json j = {{"samples", r.samples},
            {"repeats", r.repeats},
            {"noise_db", kNoiseDb},
            {"data", r.measured_on_calibration_data ? "calibration" : "evaluation"},
            {"integer", json_of(r.integer)},
            {"tensors", Json::array()},
            {"remedies", Json::array()},
            {"recommended", r.changes},
            {"recommended_gain_db", number(r.best_gain_db)}};
  for (const TensorCost& c : r.costs)
    j["tensors"].push_back({{"tensor", c.tensor},
                            {"made_by", c.made_by},
                            {"scale", c.scale},
                            {"n_levels", c.levels},
                            {"alone", json_of(c.alone)}});
  for (const Remedy& m : r.remedies) {
    Json gains = Json::array();
    for (const double g : m.gains_db) gains.push_back(number(g));
    j["remedies"].push_back({{"tensor", m.tensor},
                             {"change", m.change},
                             {"gain_db", number(m.gain_db)},
                             {"gains_db", gains},
                             {"agreement_change", m.agreement_change},
                             {"recommended", m.recommended},
                             {"refused", m.refused}});
  }
  return j;
}

std::string db(double v) { return std::isfinite(v) ? fmt::format("{:.1f} dB", v) : "exact"; }

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

void print_costs(const SweepResult& r, bool all) {
  const bool labelled = r.integer.integer_top1.has_value();
  std::vector<std::vector<std::string>> rows = {
      {"tensor rounded alone", "made by", "output SQNR", "agreement", labelled ? "top-1" : ""}};
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < r.costs.size() && (all || i < kShown); ++i) {
    const TensorCost& c = r.costs[i];
    rows.push_back({c.tensor, c.made_by, db(c.alone.output_sqnr_db), percent(c.alone.agreement),
                    labelled ? percent(c.alone.integer_top1.value_or(0)) : ""});
  }
  print_table(rows);
  if (!all && r.costs.size() > kShown)
    fmt::print("... and {} more (--all)\n", r.costs.size() - kShown);
  fmt::print("the integer network: {}, agreement {}{}; {} samples\n\n",
             db(r.integer.output_sqnr_db), percent(r.integer.agreement),
             labelled ? ", top-1 " + percent(*r.integer.integer_top1) : "", r.samples);
}

/// A tensor whose scale another one dictates (operands of a sum) does not answer to its own range.
std::string verdict(const Remedy& m) {
  if (m.recommended) return "recommended";
  if (std::ranges::all_of(m.gains_db, [](double g) { return g == 0; })) return "no effect";
  return m.gain_db >= kNoiseDb ? "not in every repeat" : "";
}

void print_remedies(const SweepResult& r) {
  std::vector<std::vector<std::string>> rows = {
      {"remedy, in the integer network", "", "gain", "worst", "agreement", ""}};
  for (const Remedy& m : r.remedies) {
    if (!m.refused.empty()) {
      rows.push_back({m.tensor, m.change, "-", "-", "-", m.refused});
      continue;
    }
    rows.push_back({m.tensor, m.change, fmt::format("{:+.2f} dB", m.gain_db),
                    fmt::format("{:+.2f} dB", std::ranges::min(m.gains_db)),
                    fmt::format("{:+.2f} points", 100 * m.agreement_change), verdict(m)});
  }
  print_table(rows);
  fmt::print(
      "\nMean and worst of {} repeats with all ranges jittered by 3 %; below {} dB is noise.\n",
      r.repeats, kNoiseDb);
  if (r.measured_on_calibration_data)
    fmt::print(
        "Measured on the calibration data, from which the ranges come: pass --eval to see what "
        "holds on other data.\n");
  fmt::print(
      "Ranges chosen by their effect on samples overfit: confirm on data that this choice has not "
      "seen.\n\n");
  if (r.changes.empty()) {
    fmt::print("No remedy exceeds the noise.\n");
    return;
  }
  fmt::print("Recommended, {:+.2f} dB together:\n", r.best_gain_db);
  for (const std::string& c : r.changes) fmt::print("  {}\n", c);
}

int run(const CLI::App& app, const Options& o) {
  QuantizeJob job;
  job.model = o.model;
  job.calibration_data = o.calib;
  if (!o.eval.empty()) job.evaluation_data.emplace(o.eval);
  job.recipe = o.common.recipe(app);
  job.target = find_target(job.recipe.target).abilities();
  job.threads = o.common.thread_count();
  job.progress = progress_line();
  keep_inputs(o.out, {o.model, o.calib, o.eval, o.common.recipe_file});
  const SweepResult result = sweep(job, o.sweep);
  end_progress();
  if (o.common.json) {
    fmt::print("{}\n", json_of(result).dump(1));
  } else {
    print_costs(result, o.all);
    print_remedies(result);
  }
  if (!o.out.empty()) write_file(o.out, to_toml(result.best));
  return kDone;
}

}  // namespace

Action add_sweep(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "float ONNX model")->required();
  app.add_option("--calib", o->calib, "calibration samples, as for quantize")
      ->required()
      ->type_name("NPZ");
  app.add_option("--eval", o->eval,
                 "samples to measure on: validation data, neither calibration data nor test set")
      ->type_name("NPZ");
  app.add_option("-o,--output", o->out, "recipe with the recommended remedies")->type_name("TOML");
  app.add_option("--offenders", o->sweep.offenders, "tensors for which remedies are tried")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--samples", o->sweep.samples, "samples to measure on, at most")
      ->capture_default_str()
      ->type_name("N")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1'000'000}));
  app.add_option("--repeats", o->sweep.repeats, "runs of each remedy with jittered ranges")
      ->capture_default_str()
      ->type_name("N")
      ->check(CLI::Range(std::size_t{1}, std::size_t{100}));
  app.add_flag("--all", o->all, "list every tensor");
  o->common.add(app, Common::kRecipe | Common::kTarget | Common::kObserver | Common::kThreads |
                         Common::kShapes | Common::kPasses | Common::kSeed | Common::kJson);
  app.footer(
      "\nExamples:\n  waveq sweep model.onnx --calib calib.npz --eval validation.npz -o "
      "recipe.toml\n"
      "  waveq quantize model.onnx --calib calib.npz --recipe recipe.toml -o out\n\n"
      "First what rounding each tensor alone costs in the float network, then what other "
      "observers\n"
      "and ranges, and 16 bits where the target has them, bring for the costliest in the integer\n"
      "network.");
  return [&app, o] { return run(app, *o); };
}

}  // namespace waveq::cli
