#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "cli.h"
#include "waveq/calibration/dataset.h"
#include "waveq/export/target.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/integerize/evaluate.h"

namespace waveq::cli {

namespace {

struct Options {
  Common common;
  std::string model, inputs, out, as = "auto", overflow = "wrap";
  bool all = false;
};

/// What the data deliver: arrays by the inputs' names, or by position where no name agrees (dumps
/// of other tools).
std::vector<DatasetInput> wanted(const Graph& graph, const NpzReader& npz) {
  std::vector<DatasetInput> by_name, by_position;
  bool any_name = false;
  for (ValueId in : graph.inputs()) {
    const Value& v = graph.value(in);
    any_name = any_name || npz.find(v.name) || npz.find(v.name + "_int16");
    by_name.push_back({v.name, v.type});
    if (by_position.size() < npz.arrays().size())
      by_position.push_back({npz.arrays()[by_position.size()].name, v.type});
  }
  const bool position_fits =
      by_position.size() == by_name.size() && npz.arrays().size() == by_name.size();
  if (any_name || !position_fits) return by_name;
  spdlog::info("no array is named as an input; taking them in order");
  return by_position;
}

bool is_integer_network(const Graph& graph, const Options& o, const NpzReader& npz) {
  if (o.as != "auto") return o.as == "integer";
  std::vector<Tensor> samples;
  for (const NpzArray& a : npz.arrays())
    if (a.dtype != DType::undefined && samples.size() < graph.inputs().size()) {
      // Headers tell for integer arrays; float arrays count as float unless the graph itself is of
      // the dialect.
      samples.push_back(a.dtype == DType::f32 ? Tensor::scalar(0.5f)
                                              : Tensor::scalar<std::int64_t>(1));
    }
  return looks_integer(graph) && (looks_integer(graph, samples));
}

int run(const CLI::App& app, const Options& o) {
  keep_inputs(o.out, {o.model, o.inputs, o.common.recipe_file});
  const Recipe recipe = o.common.recipe(app);
  Graph graph = read_onnx(o.model, {.input_shapes = recipe.input_shapes});
  const NpzReader npz(o.inputs);
  const bool integer = is_integer_network(graph, o, npz);
  if (integer) graph = to_integer_network(graph);
  if (integer && !o.common.target.empty())
    graph = as_computed_on(find_target(o.common.target), std::move(graph));
  spdlog::info("{}: {} network, {} nodes", o.model, integer ? "integer" : "float",
               graph.nodes().size());
  Dataset data(o.inputs, wanted(graph, npz));
  const std::vector<std::pair<std::string, Tensor>> arrays =
      run_samples(graph, data, o.all, o.overflow == "error" ? Overflow::error : Overflow::wrap,
                  progress_line());
  std::vector<NpzItem> items;
  for (const auto& [name, tensor] : arrays) items.push_back({name, &tensor});
  write_npz(o.out, items);
  end_progress();
  spdlog::info("{}: {} arrays, {} samples", o.out, items.size(), *data.size());
  return kDone;
}

}  // namespace

Action add_run(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "float or integer ONNX network")->required();
  app.add_option("--inputs", o->inputs,
                 "samples: .npz, arrays named as the network's inputs, samples first")
      ->required()
      ->type_name("NPZ");
  app.add_option("-o,--output", o->out, "npz to write")->required()->type_name("NPZ");
  app.add_flag("--all", o->all, "dump every tensor, not only the outputs");
  app.add_option("--as", o->as,
                 "read the network as float or integer (default: by its operators and data)")
      ->check(CLI::IsMember({"auto", "float", "integer"}));
  app.add_option("--overflow", o->overflow,
                 "an integer network's arithmetic that leaves int32: wrap, as its target does "
                 "(default), or end with an error that names the node and the element")
      ->check(CLI::IsMember({"wrap", "error"}));
  o->common.add(app, Common::kRecipe | Common::kShapes | Common::kTarget);
  app.get_option("--target")
      ->description(
          "compute an integer network as this target does (default: as its attributes say)");
  app.footer(
      "\nExamples:\n  waveq run model.onnx --inputs test.npz -o logits.npz\n  waveq run "
      "out/network.onnx --inputs out/inputs.npz -o all.npz --all\n\n"
      "An integer network is computed as its target does it: int32, two's complement. "
      "--overflow error\nshows where that happens, and exits with 4.");
  return [&app, o] { return run(app, *o); };
}

}  // namespace waveq::cli
