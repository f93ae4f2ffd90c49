#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "cli.h"
#include "waveq/export/folder.h"
#include "waveq/export/small_multipliers.h"

namespace waveq::cli {

namespace {

struct Options {
  Common common;
  std::string model, calib, eval, table, out, metric;
  double min_sqnr = 0, min_agreement = 0, max_drop = 0;
  bool profile = false;
};

std::string percent(const std::optional<double>& share) {
  return share ? fmt::format("{:.2f} %", 100.0 * *share) : "-";
}
std::string db(double value) {
  return std::isfinite(value) ? fmt::format("{:.1f} dB", value) : "exact";
}

void print_summary(const QuantizeResult& r, const std::string& model, const std::string& out) {
  const Accuracy& a = r.accuracy;
  const Graph& g = r.network.graph;
  double total = 0;
  for (const auto& [stage, s] : r.seconds) total += s;
  std::string least = "-";
  for (const NodeProof& p : r.proof.nodes)
    if (p.proven && p.headroom_bits == r.proof.min_headroom_bits) least = p.node;
  fmt::print("\n{} -> {} ({})\n\n", model, out, r.recipe.target);
  std::vector<std::vector<std::string>> rows = {
      {"samples", fmt::format("{}{}", a.samples,
                              r.evaluated_on_calibration_data
                                  ? " (calibration data; pass --eval for a fair figure)"
                                  : "")}};
  if (a.float_top1) {
    rows.push_back({"top-1 float", percent(a.float_top1)});
    rows.push_back({"top-1 integer", percent(a.integer_top1)});
  }
  if (a.float_score) {
    const auto figure = [&](double v) {
      return in_decibel(a.metric) ? fmt::format("{:.2f} dB", v) : percent(v);
    };
    rows.push_back({a.metric + " float", figure(*a.float_score)});
    rows.push_back({a.metric + " integer", figure(*a.integer_score)});
  }
  rows.push_back({"agreement", percent(a.agreement)});
  rows.push_back({"output SQNR",
                  fmt::format("{} pooled, {} median, {} without the worst 2 %",
                              db(a.output_sqnr_db), db(a.median_sqnr_db), db(a.trimmed_sqnr_db))});
  rows.push_back({"nodes", fmt::format("{}, all integer", g.nodes().size())});
  rows.push_back(
      {"overflow",
       fmt::format("excluded for all {} computing nodes; least headroom {:.2f} bits ({})",
                   r.proof.nodes.size(), r.proof.min_headroom_bits, least)});
  if (const auto small = small_multipliers(r); !small.empty()) {
    const auto smallest = std::ranges::min_element(small, {}, &SmallMultiplier::mul);
    rows.push_back({"multipliers", fmt::format("{} below {}, the smallest {} ({}): {}",
                                               small.size(), kSmallMultiplier, smallest->mul,
                                               smallest->node, smallest->reason)});
  }
  if (!r.coarse_operands.empty()) {
    const auto smallest = std::ranges::min_element(r.coarse_operands, {}, &CoarseOperand::median);
    rows.push_back(
        {"coarse",
         fmt::format("{} means or denominators whose median is below {} steps, the "
                     "smallest {:.1f} ({}): `waveq sweep` tries remedies",
                     r.coarse_operands.size(), kCoarseMedian, smallest->median, smallest->tensor)});
  }
  rows.push_back({"time", fmt::format("{:.2f} s", total)});
  print_table(rows);
  std::vector<const TensorQuality*> worst;
  // Only where rounding happens: what merely moves a tensor repeats its figure.
  for (const TensorQuality& t : r.tensors)
    if (const auto v = g.find_value(t.integer_value);
        v && g.value(*v).producer.valid() && g.node(g.value(*v).producer).op == "RequantShift")
      worst.push_back(&t);
  std::ranges::stable_sort(worst, std::less<>{}, [](const TensorQuality* t) { return t->sqnr_db; });
  worst.resize(std::min<std::size_t>(worst.size(), 5));
  std::vector<std::vector<std::string>> table = {{"noisiest tensors", "SQNR", "saturated"}};
  for (const TensorQuality* t : worst)
    table.push_back(
        {t->integer_value, db(t->sqnr_db), fmt::format("{:.3f} %", 100 * t->saturation)});
  fmt::print("\n");
  print_table(table);
}

/// Gates that were missed, as sentences.
std::vector<std::string> missed_gates(const QuantizeResult& r) {
  std::vector<std::string> missed;
  const Accuracy& a = r.accuracy;
  if (r.recipe.min_sqnr_db > 0 && a.output_sqnr_db < r.recipe.min_sqnr_db)
    missed.push_back(fmt::format("output SQNR {} is below {:.1f} dB", db(a.output_sqnr_db),
                                 r.recipe.min_sqnr_db));
  if (a.agreement < r.recipe.min_agreement)
    missed.push_back(
        fmt::format("agreement {:.4f} is below {:.4f}", a.agreement, r.recipe.min_agreement));
  std::optional<double> fall;
  if (a.float_top1) fall = 100 * (*a.float_top1 - *a.integer_top1);
  if (a.float_score)
    fall = (*a.float_score - *a.integer_score) * (in_decibel(a.metric) ? 1 : 100) *
           (higher_is_better(a.metric) ? 1 : -1);
  if (r.recipe.max_top1_drop > 0 && fall && *fall > r.recipe.max_top1_drop)
    missed.push_back(fmt::format("{} {} by {:.2f} {}, {:.2f} are allowed",
                                 a.float_top1 ? "top-1" : a.metric,
                                 higher_is_better(a.metric) ? "falls" : "rises", *fall,
                                 in_decibel(a.metric) ? "dB" : "points", r.recipe.max_top1_drop));
  if (r.recipe.max_top1_drop > 0 && !fall)
    missed.push_back("max_top1_drop asks for labels, and the evaluation data have none");
  return missed;
}

int run(const CLI::App& app, const Options& o) {
  QuantizeJob job;
  job.model = o.model;
  job.calibration_data = o.calib;
  if (!o.table.empty()) job.calibration_table = std::filesystem::path(o.table);
  if (!o.eval.empty()) job.evaluation_data.emplace(o.eval);
  job.recipe = o.common.recipe(app);
  job.target = find_target(job.recipe.target).abilities();
  if (app.count("--min-sqnr")) job.recipe.min_sqnr_db = o.min_sqnr;
  if (app.count("--min-agreement")) job.recipe.min_agreement = o.min_agreement;
  if (app.count("--max-top1-drop")) job.recipe.max_top1_drop = o.max_drop;
  if (app.count("--metric")) job.recipe.metric = o.metric;
  job.threads = o.common.thread_count();
  job.progress = progress_line();
  check_output_dir(o.out);
  const QuantizeResult result = quantize(job);
  write_folder(result, job, o.out, {.profile = o.profile});
  end_progress();
  if (o.common.json)
    fmt::print("{}", report_json(result, find_target(result.recipe.target),
                                 job.model.path.filename().string(), {.profile = o.profile}));
  else if (spdlog::should_log(spdlog::level::info))
    print_summary(result, o.model, o.out);
  const std::vector<std::string> missed = missed_gates(result);
  for (const std::string& m : missed) fmt::print(stderr, "waveq: gate missed: {}\n", m);
  return missed.empty() ? kDone : kGateMissed;
}

}  // namespace

Action add_quantize(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "float ONNX model")->required();
  app.add_option("--calib", o->calib,
                 "calibration samples: .npz, arrays named as the model's inputs, samples first")
      ->required()
      ->type_name("NPZ");
  app.add_option("--eval", o->eval, "evaluation samples, with `labels` for top-1")
      ->type_name("NPZ");
  app.add_option("--metric", o->metric,
                 "top1 (default); cer, wer: error rate of greedy CTC decoding, with `labels` or "
                 "`digits` [N,L] padded with -1; si-sdr: improvement of noisy audio in dB, with "
                 "`clean` [N,L]")
      ->type_name("NAME")
      ->check(CLI::IsMember({"top1", "cer", "wer", "si-sdr"}));
  app.add_option("-o,--output", o->out, "folder to write; replaced as a whole if waveq wrote it")
      ->required()
      ->type_name("DIR");
  app.add_option("--table", o->table,
                 "ranges from this calibration table instead of a calibration run")
      ->type_name("FILE");
  o->common.add(app, Common::kRecipe | Common::kTarget | Common::kObserver | Common::kThreads |
                         Common::kShapes | Common::kPasses | Common::kSeed | Common::kJson);
  app.add_option("--min-sqnr", o->min_sqnr, "exit with 5 below this output SQNR")
      ->type_name("DB")
      ->check(CLI::Range(0.0, 1000.0));
  app.add_option("--min-agreement", o->min_agreement,
                 "exit with 5 below this share of equal argmax")
      ->type_name("0..1")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--max-top1-drop", o->max_drop, "exit with 5 where top-1 falls by more")
      ->type_name("POINTS")
      ->check(CLI::Range(0.0, 100.0));
  app.add_flag("--profile", o->profile,
               "write times and memory into report.json (the folder then differs from run to run)");
  app.footer(
      "\nExamples:\n  waveq quantize model.onnx --calib calib.npz --eval test.npz -o out\n"
      "  waveq quantize model.onnx --calib calib.npz -o out --observer percentile:99.99 "
      "--min-agreement 0.97\n"
      "  waveq quantize dynamic.onnx --calib calib.npz -o out --input-shape input=1,1,8192\n\n"
      "Writes network.onnx, inputs.npz, outputs.npz, activations.npz, quantization.json, "
      "calibration.json,\nrecipe.toml, report.json and manifest.json.");
  return [&app, o] { return run(app, *o); };
}

}  // namespace waveq::cli
