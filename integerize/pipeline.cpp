#include "waveq/integerize/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "channel_means.h"
#include "name_pattern.h"
#include "waveq/calibration/calibrate.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/graph/op.h"
#include "waveq/integerize/equalize.h"

namespace waveq {

namespace {

// Samples on which single tensors are compared: enough for a stable ratio, far from dominating the
// run.
constexpr std::size_t kQualitySamples = 8;
// Samples on which the features of linear attentions are measured: extremes of a row need more than
// one, and the choice is not sensitive.
constexpr std::size_t kEqualizationSamples = 16;
// Samples that the means of channels are taken over; with 4 in place of 128 the networks of
// ../shared/models gain the same.
constexpr std::size_t kMeansSamples = 32;

/// Measures each stage's wall time into the result.
class Stopwatch {
 public:
  explicit Stopwatch(std::map<std::string, double>& seconds) : seconds_(seconds) {}
  template <class F>
  auto operator()(const std::string& stage, F&& f) {
    const auto start = std::chrono::steady_clock::now();
    struct Stop {
      std::map<std::string, double>& seconds;
      const std::string& stage;
      std::chrono::steady_clock::time_point start;
      ~Stop() {
        seconds[stage] +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      }
    } stop{seconds_, stage, start};
    return f();
  }

 private:
  std::map<std::string, double>& seconds_;
};

IntegerizeOptions integerize_options(const Recipe& r, const TargetAbilities& target) {
  IntegerizeOptions o;
  o.target = target;
  o.precision = r.precision;
  o.activation_levels = r.activation_levels;
  o.weight_levels = r.weight_levels;
  o.weight_levels_of = r.weight_levels_of;
  o.per_channel_weights = r.per_channel_weights;
  o.quantizer = r.quantizer;
  o.effective_scales = r.effective_scales;
  o.exact_multipliers = r.exact_multipliers;
  o.merge_requants = r.merge_requants;
  o.own_mean_scale = r.own_mean_scale;
  o.join_sums = r.join_sums;
  o.correct_biases = r.correct_biases;
  o.zero_points = r.zero_points;
  o.fitted_gelu = r.fitted_gelu;
  o.softmax = r.softmax;
  o.requant.product_bits = static_cast<int>(r.requant_bits);
  o.requant.max_shift = static_cast<int>(r.max_shift);
  return o;
}

/// The table of a job that brings its own, checked to be this network's.
CalibrationTable given_table(const QuantizeJob& job, const Graph& graph) {
  const auto* file = std::get_if<std::filesystem::path>(&*job.calibration_table);
  CalibrationTable table =
      file ? CalibrationTable::load(*file) : std::get<CalibrationTable>(*job.calibration_table);
  if (table.fingerprint != fingerprint(graph))
    throw Error(ErrorCode::data, file ? file->string() : "the calibration table",
                "was made from another network or with other rewrites",
                "calibrate this model again: waveq calibrate MODEL --calib DATA -o TABLE");
  return table;
}

/// Data movement keeps the meaning of the integers; clean-up rewrites make new values without it.
void restore_quant(Graph& graph) {
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const OpDef* op = find_op(node.op);
    if (!op || !op->moves_data) continue;
    for (ValueId out : node.outputs)
      if (out.valid() && !graph.value(out).quant)
        graph.set_quant(out, graph.value(node.inputs.front()).quant);
  }
}

/// The ranges that a quantized model states, except where the user pinned another.
void pin_ranges(CalibrationTable& table, const FakeQuantization& fake, const Graph& graph) {
  for (const auto& [name, grid] : fake.tensors) {
    if (!graph.find_value(name)) continue;
    TensorCalibration& entry = table.tensors[name];
    if (entry.pinned) continue;
    entry.range = grid.range();
    entry.pinned = true;
  }
}

/// The recipe's choice for each tensor that one of its rules names.
std::map<std::string, RangeChoice> choices_by_tensor(const Graph& graph, const Recipe& recipe) {
  std::map<std::string, RangeChoice> chosen;
  std::set<std::string> used;
  for (std::size_t i = 0; i < graph.value_count() && !recipe.ranges.empty(); ++i) {
    const Value& value = graph.value({static_cast<std::int32_t>(i)});
    if (value.constant) continue;
    std::size_t closest = 0;
    for (const auto& [rule, choice] : recipe.ranges) {
      const std::size_t close = closeness(rule, graph, value);
      if (close > 0) used.insert(rule);
      if (close <= closest) continue;
      closest = close;
      chosen[value.name] = choice;
    }
  }
  for (const auto& [rule, choice] : recipe.ranges)
    if (!used.contains(rule))
      throw Error(ErrorCode::invalid_argument, fmt::format("range rule '{}'", rule),
                  "names no tensor of the network",
                  "rules see names after rewriting: `waveq rewrite MODEL -o FILE` writes them");
  return chosen;
}

void require_proof(const Graph& graph, const ProofReport& proof) {
  if (proof.overflow_free()) return;
  std::map<std::string, std::string> origins;
  for (const NodeId id : graph.nodes()) origins[graph.node(id).name] = graph.node(id).origin;
  std::string list;
  for (const NodeProof& n : proof.nodes)
    if (!n.proven)
      list += fmt::format("\n  {} '{}' (of '{}'): {}", n.op, n.node, origins[n.node], n.reason);
  throw Error(ErrorCode::overflow, "overflow proof",
              fmt::format("{} of {} nodes cannot be shown to stay in int32:{}",
                          proof.unproven.size(), proof.nodes.size(), list));
}

/// The first sample in which every signed input has a negative code: the consumer derives an
/// input's signedness from the values it sees (deeploy-dialect.md T20).
std::vector<Tensor> golden_inputs(const Graph& graph, SampleSource& data) {
  data.rewind();
  Sample sample;
  std::vector<Tensor> first;
  while (data.next(sample)) {
    std::vector<Tensor> codes;
    bool shows_sign = true;
    for (std::size_t i = 0; i < sample.inputs.size(); ++i) {
      const QuantParams& q = *graph.value(graph.inputs()[i]).quant;
      codes.push_back(quantize_tensor(sample.inputs[i], q));
      const std::vector<std::int64_t> values = to_int64(codes.back());
      shows_sign =
          shows_sign &&
          (!q.is_signed || std::ranges::any_of(values, [](std::int64_t v) { return v < 0; }));
    }
    if (shows_sign) return codes;
    if (first.empty()) first = std::move(codes);
  }
  spdlog::warn(
      "no sample shows a negative value in every signed input; the consumer will take an input for "
      "unsigned");
  return first;
}

GoldenVectors golden_vectors(const Graph& graph, SampleSource& data) {
  GoldenVectors golden;
  golden.inputs = golden_inputs(graph, data);
  Executor executor(graph, Overflow::error);
  golden.outputs = executor.run(golden.inputs, [&](ValueId id, const Tensor& t) {
    if (graph.value(id).producer.valid()) golden.activations.emplace(graph.value(id).name, t);
  });
  return golden;
}

}  // namespace

const std::vector<PassInfo>& pipeline_passes() {
  static const std::vector<PassInfo> passes = {
      {"import", "ONNX file -> graph with static shapes", "exact", "graph/onnx"},
      {"rewrite", "float graph -> canonical float graph, rules below", "reassociates",
       "rewrites/registry.cpp"},
      {"equalize", "Q.(K^T V) = (Q/c).((cK)^T V), a factor for each feature", "reassociates",
       "integerize/equalize.cpp"},
      {"calibrate", "samples -> range of every float tensor", "measures", "calibration"},
      {"shape", "the float operators that the target's kernels take, see `waveq targets --explain`",
       "reassociates", "integerize/shape_for_target.h"},
      {"join", "W.x + z = [W I].[x; z], one rounding in place of three", "reassociates",
       "integerize/join_sums.cpp"},
      {"lower", "canonical float graph -> integer operators, rules below", "approximates",
       "integerize/lowering"},
      {"clean_up", "merges reshapes and transposes between integer operators", "exact",
       "rewrites/registry.cpp"},
      {"legalize", "the forms the target's kernels take, see `waveq targets --explain`", "exact",
       "export/legalize"},
      {"prove", "interval analysis: no int32 intermediate can wrap, no divisor can be zero",
       "checks", "integerize/proof.cpp"},
      {"golden", "inputs, outputs and every intermediate tensor of one sample", "measures",
       "integerize/pipeline.cpp"},
      {"evaluate", "float and integer network on the evaluation data", "measures",
       "integerize/evaluate.cpp"},
      {"export", "folder in the target's dialect, written as a whole", "exact",
       "export/folder.cpp"},
      {"verify", "the written folder read back and run again", "checks", "export/verify.cpp"},
  };
  return passes;
}

Graph read_model(const ModelData& model, const ReadOptions& options) {
  if (model.graph) return *model.graph;
  Graph graph = model.bytes.empty() ? read_onnx(model.path, options)
                                    : read_onnx(std::as_bytes(std::span(model.bytes)),
                                                model.path.string(), {}, options);
  const auto training = std::ranges::count_if(graph.nodes(), [&](NodeId id) {
    const Node& node = graph.node(id);
    return node.op == "BatchNormalization" &&
           (node.outputs.size() > 1 || node.attrs.get_int("training_mode", 0) != 0);
  });
  if (training > 0)
    spdlog::warn(
        "{}: {} BatchNormalization nodes are in training mode; as everywhere outside of "
        "training, their stored statistics are used",
        model.path.string(), training);
  return graph;
}

Graph load_canonical(const ModelData& model, const Recipe& recipe, RewriteReport* report,
                     FakeQuantization* fake) {
  Graph graph = read_model(model, {.input_shapes = recipe.input_shapes});
  FakeQuantization roundings = take_out_fake_quantization(graph);
  // Tensors with a grid of the model's own must stay what the grid was chosen for.
  const std::vector<std::string> changes_tensors = {"center_norm_input",
                                                    "fold_norm_bias_into_linear"};
  RewriteReport done = rewrite(
      graph, {.passes = recipe.passes,
              .except = roundings.tensors.empty() ? std::vector<std::string>{} : changes_tensors});
  for (const auto& [name, grid] : roundings.tensors)
    if (!graph.find_value(name))
      roundings.notes.push_back(fmt::format(
          "'{}' is rounded inside what became one operator: its grid is not used", name));
  if (fake) *fake = std::move(roundings);
  if (report) *report = std::move(done);
  return graph;
}

CalibrationTable calibrate_for(const QuantizeJob& job, Graph& graph, SampleSource& data,
                               const FakeQuantization& fake) {
  CalibrateOptions options;
  options.threads = static_cast<int>(std::max(job.threads, 1u));
  options.observer = parse_observer(job.recipe.observer);
  options.quant = QuantSpec{job.recipe.activation_levels, Signedness::automatic};
  CalibrationTable table;
  if (job.calibration_table) {
    table = given_table(job, graph);
    apply_equalization(graph, table.equalization);
    table.choose_ranges(options.observer, options.quant, options.threads);
  } else {
    for (const std::string& note : data.notes()) spdlog::info("{}", note);
    if (job.progress)
      options.progress = [&](std::uint64_t done, std::uint64_t total) {
        job.progress("calibrate", done, total);
      };
    const std::string canonical = fingerprint(graph);
    ChannelFactors factors;
    // A model that states its grids has chosen them for the tensors as they are.
    if (job.recipe.equalize && fake.tensors.empty())
      factors = choose_equalization(graph, data, kEqualizationSamples);
    apply_equalization(graph, factors);
    data.rewind();
    table = calibrate(graph, data, options);
    table.fingerprint = canonical;
    table.equalization = std::move(factors);
  }
  // A table of `waveq calibrate` has none; one of an earlier run keeps those of its data.
  const bool has_means = std::ranges::any_of(
      table.tensors, [](const auto& entry) { return !entry.second.means.empty(); });
  if (job.recipe.correct_biases && !has_means) measure_means(graph, data, kMeansSamples, table);
  pin_ranges(table, fake, graph);
  return table;
}

IntegerNetwork lower_to_integers(const Graph& graph, const CalibrationTable& table,
                                 const QuantizeJob& job, const FakeQuantization& fake,
                                 const RangeFactor& factor) {
  const Recipe& recipe = job.recipe;
  const ObserverSpec observer = parse_observer(recipe.observer);
  const std::map<std::string, RangeChoice> choices = choices_by_tensor(graph, recipe);
  const auto ranges = [&](const std::string& tensor,
                          const QuantSpec& levels) -> std::optional<Range> {
    const TensorCalibration* found = table.find(tensor);
    if (!found || (!found->pinned && found->statistics.count() == 0)) return std::nullopt;
    const auto choice = choices.find(tensor);
    const bool own = choice != choices.end();
    Range r = table.range(tensor,
                          own && !choice->second.observer.empty()
                              ? parse_observer(choice->second.observer)
                              : observer,
                          levels);
    // 16 bits can spare one for what calibration has not seen (waveformer-accuracy.md 2, fact 2).
    const double headroom = levels.n_levels > 256 && !found->pinned ? 2.0 : 1.0;
    const double times =
        headroom * (own ? choice->second.scale : 1.0) * (factor ? factor(tensor) : 1.0);
    return Range{r.lo * times, r.hi * times};
  };
  IntegerizeOptions options = integerize_options(recipe, job.target);
  options.grids = fake.tensors;
  options.code_counts = [&](const std::string& tensor, const QuantParams& grid) {
    const TensorCalibration* found = table.find(tensor);
    return found && found->statistics.count() > 0 ? code_counts(found->statistics, grid)
                                                  : std::vector<double>{};
  };
  options.means = [&](const std::string& tensor, std::size_t axis) {
    const TensorCalibration* found = table.find(tensor);
    return found && found->channel_axis == axis ? found->means : std::vector<double>{};
  };
  options.keep_weight_grids = fake.weights;
  IntegerNetwork network = integerize(graph, ranges, options);
  rewrite(network.graph, {.passes = {"merge_reshapes", "merge_transposes", "eliminate_identity",
                                     "eliminate_duplicates"}});
  for (const Legalization& l : job.target.form.legalizations) l.apply(network.graph);
  restore_quant(network.graph);
  network.graph.compact();
  network.graph.verify();
  return network;
}

namespace {

/// Notes on the asymmetric grids of tensors that came out without a zero point.
void note_widened_grids(FakeQuantization& fake, const IntegerNetwork& network, const Graph& graph) {
  for (const auto& [name, grid] : fake.tensors) {
    const auto keeps = [&tensor = name](const Correspondence& c) {
      return c.float_value == tensor && c.zero_point != 0;
    };
    const bool kept = std::ranges::any_of(network.correspondences, keeps);
    if (kept || !grid.needs_zero_point() || !graph.find_value(name)) continue;
    fake.notes.push_back(
        fmt::format("'{}' is asymmetric ({} to {} steps of {:.4g}): the smallest symmetric grid "
                    "that covers it",
                    name, grid.lo, grid.hi, grid.scale));
  }
}

/// \throws Error{not_integer} listing all nodes without an integer form.
void require_integer_form(const Graph& graph, const QuantizeJob& job) {
  const auto refused = explain_refusals(graph, integerize_options(job.recipe, job.target));
  if (refused.empty()) return;
  std::string list;
  for (const NotInteger& r : refused)
    list += fmt::format("\n  {} '{}': {}", r.op, r.node, r.reason);
  throw Error(ErrorCode::not_integer, job.model.path.string(),
              fmt::format("{} of {} nodes cannot be made integer:{}", refused.size(),
                          graph.nodes().size(), list));
}

}  // namespace

QuantizeResult quantize(const QuantizeJob& job) {
  check_recipe(job.recipe);
  QuantizeResult result;
  result.recipe = job.recipe;
  Stopwatch timed(result.seconds);
  result.float_graph = timed("import", [&] {
    return load_canonical(job.model, job.recipe, &result.rewrites, &result.fake_quantization);
  });
  Graph& graph = result.float_graph;
  const FakeQuantization& fake = result.fake_quantization;

  // What has no integer form is told before minutes are spent on calibration, unusable data too.
  require_integer_form(graph, job);
  const std::unique_ptr<SampleSource> calibration_data = job.calibration_data.open(graph);
  std::unique_ptr<SampleSource> evaluation;
  std::unique_ptr<Metric> metric;
  if (job.recipe.metric != "top1") {
    if (!job.evaluation_data || !job.evaluation_data->file())
      throw Error(ErrorCode::invalid_argument, "metric",
                  fmt::format("'{}' needs an evaluation file", job.recipe.metric), "pass --eval");
    metric = make_metric(job.recipe.metric, *job.evaluation_data->file(), graph);
    evaluation = metric->inputs();
  }
  if (job.evaluation_data && !evaluation) {
    const Shape& logits = graph.value(graph.outputs().front()).type.shape;
    DatasetOptions labels{.labels = !metric, .classes = {}};
    if (logits.size() == 2) labels.classes = logits[1];
    evaluation = job.evaluation_data->open(graph, labels);
  }

  result.calibration =
      timed("calibrate", [&] { return calibrate_for(job, graph, *calibration_data, fake); });
  result.network =
      timed("lower", [&] { return lower_to_integers(graph, result.calibration, job, fake); });
  note_widened_grids(result.fake_quantization, result.network, graph);
  for (const std::string& note : fake.notes) spdlog::info("{}: {}", job.model.path.string(), note);
  result.proof = timed("prove", [&] { return prove(result.network.graph); });
  require_proof(result.network.graph, result.proof);
  result.golden =
      timed("golden", [&] { return golden_vectors(result.network.graph, *calibration_data); });
  result.evaluated_on_calibration_data = !evaluation;
  result.accuracy = timed("evaluate", [&] {
    return evaluate(fake.reference ? *fake.reference : graph, result.network.graph,
                    evaluation ? *evaluation : *calibration_data, job.threads, job.progress,
                    metric.get());
  });
  if (metric) result.accuracy.metric = job.recipe.metric;
  result.tensors = timed("measure", [&] {
    return tensor_quality(graph, result.network, *calibration_data, kQualitySamples, job.progress);
  });
  result.coarse_operands = timed("measure", [&] {
    return coarse_operands(result.network.graph, *calibration_data, kQualitySamples);
  });
  return result;
}

}  // namespace waveq
