#include "waveq/calibration/calibrate.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli.h"

namespace waveq::cli {

namespace {

struct Options {
  Common common;
  std::string model, calib, out;
  std::vector<std::string> shards;
  std::string merged;
};

int run(const CLI::App& app, const Options& o) {
  if (o.model.empty() || o.calib.empty() || o.out.empty())
    throw CLI::ValidationError("calibrate", "MODEL, --calib and -o are needed");
  keep_inputs(o.out, {o.model, o.calib, o.common.recipe_file});
  const Recipe recipe = o.common.recipe(app);
  const Graph graph = load_canonical(o.model, recipe);
  Dataset data(o.calib, graph);
  CalibrateOptions options;
  options.threads = static_cast<int>(o.common.thread_count());
  options.observer = parse_observer(recipe.observer);
  options.quant = QuantSpec{recipe.activation_levels, Signedness::automatic};
  if (const Progress progress = progress_line())
    options.progress = [progress](std::uint64_t done, std::uint64_t total) {
      progress("calibrate", done, total);
    };
  const CalibrationTable table = calibrate(graph, data, options);
  table.save(o.out);
  end_progress();
  spdlog::info("{}: {} tensors, {} samples, observer {}", o.out, table.tensors.size(),
               table.samples, to_string(table.observer));
  return kDone;
}

int merge_shards(const Options& o) {
  CalibrationTable table = CalibrationTable::load(o.shards.front());
  for (std::size_t i = 1; i < o.shards.size(); ++i)
    table = merge(table, CalibrationTable::load(o.shards[i]));
  table.save(o.merged);
  spdlog::info("{}: {} tables, {} samples", o.merged, o.shards.size(), table.samples);
  return kDone;
}

}  // namespace

Action add_calibrate(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "float ONNX model");
  app.add_option("--calib", o->calib,
                 "samples: .npz, arrays named as the model's inputs, samples first")
      ->type_name("NPZ");
  app.add_option("-o,--output", o->out, "table to write")->type_name("FILE");
  o->common.add(app, Common::kRecipe | Common::kObserver | Common::kThreads | Common::kShapes |
                         Common::kPasses);
  CLI::App* merging = app.add_subcommand(
      "merge", "join tables of shards: the same bytes as one calibration over all samples");
  merging->add_option("TABLES", o->shards, "two or more tables of one model")
      ->required()
      ->expected(2, 100000);
  merging->add_option("-o,--output", o->merged, "table to write")->required()->type_name("FILE");
  app.footer(
      "\nExamples:\n  waveq calibrate model.onnx --calib calib.npz -o table.json\n  waveq "
      "calibrate merge a.json b.json -o table.json\n"
      "  waveq quantize model.onnx --calib calib.npz --table table.json -o out\n\nTo fix a range "
      "by hand, edit its \"range\" and add \"pinned\": true.");
  return [&app, merging, o] { return merging->parsed() ? merge_shards(*o) : run(app, *o); };
}

}  // namespace waveq::cli
