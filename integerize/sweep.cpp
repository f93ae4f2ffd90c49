#include "waveq/integerize/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

#include "waveq/calibration/observer.h"
#include "waveq/graph/executor.h"

namespace waveq {

namespace {

/// f(0) .. f(count - 1) on several threads; the exception of the smallest index is passed on.
void for_each_index(std::size_t count, unsigned threads,
                    const std::function<void(std::size_t)>& f) {
  std::atomic<std::size_t> next{0};
  std::vector<std::exception_ptr> failures(count);
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        f(i);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  };
  std::vector<std::thread> pool;
  for (unsigned t = 1; t < std::max(threads, 1u); ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  for (const std::exception_ptr& e : failures)
    if (e) std::rethrow_exception(e);
}

/// Samples in memory with what the float network makes of them.
class Referee {
 public:
  Referee(const Graph& graph, SampleSource& data, std::size_t limit)
      : labelled_(data.has_labels()) {
    Executor executor(graph);
    Sample sample;
    while (samples_.size() < limit && data.next(sample)) {
      real_.push_back(executor.run(sample.inputs));
      samples_.push_back(sample);
    }
  }

  std::size_t size() const { return samples_.size(); }

  /// A float or integer network on the samples, against the float network.
  Accuracy judge(const Graph& graph) const {
    Executor executor(graph);
    std::vector<SampleScore> scores;
    for (std::size_t i = 0; i < samples_.size(); ++i)
      scores.push_back(score_sample(graph, real_[i],
                                    executor.run(network_inputs(graph, samples_[i].inputs)),
                                    samples_[i].label));
    return summarize(scores, labelled_);
  }

 private:
  bool labelled_;
  std::vector<Sample> samples_;
  std::vector<std::vector<Tensor>> real_;
};

/// The float graph with one tensor rounded to a grid: scale*clamp(round(x/scale), lo, hi).
Graph with_rounded(const Graph& graph, ValueId value, double scale, const QuantParams& levels) {
  Graph copy = graph;
  const auto scalar = [&](double v) {
    return copy.add_constant("grid", Tensor::scalar(static_cast<float>(v)));
  };
  const auto first = copy.emit("Div", "grid_steps", {value, scalar(scale)});
  const auto shifted = copy.emit("Add", "grid_half", {first, scalar(0.5)});
  const auto whole = copy.emit("Floor", "grid_round", {shifted});
  const auto zero = static_cast<double>(levels.zero_point);
  const auto clipped = copy.emit("Clip", "grid_clip",
                                 {whole, scalar(static_cast<double>(levels.lo()) - zero),
                                  scalar(static_cast<double>(levels.hi()) - zero)});
  const auto back = copy.emit("Mul", "grid_back", {clipped, scalar(scale)});
  const NodeId start = copy.value(first).producer;
  copy.replace_uses(value, back);
  copy.set_input(start, 0, value);
  return copy;
}

/// The tensors that a requant or the network's input rounds, each once, at its coarsest grid.
std::vector<std::pair<ValueId, TensorCost>> rounded_tensors(const Graph& real,
                                                            const IntegerNetwork& network,
                                                            std::vector<QuantParams>& grids) {
  std::map<ValueId, std::size_t> seen;
  std::vector<std::pair<ValueId, TensorCost>> found;
  for (const Correspondence& c : network.correspondences) {
    const auto f = real.find_value(c.float_value);
    const auto i = network.graph.find_value(c.integer_value);
    if (!f || !i || real.is_constant(*f)) continue;  // merged away by a clean-up
    const Value& codes = network.graph.value(*i);
    const bool is_input = !codes.producer.valid();
    if (!codes.quant || (!is_input && network.graph.node(codes.producer).op != "RequantShift"))
      continue;
    const auto [it, fresh] = seen.emplace(*f, found.size());
    if (!fresh && found[it->second].second.scale >= c.scale) continue;
    TensorCost cost;
    cost.tensor = c.float_value;
    const NodeId producer = real.value(*f).producer;
    cost.made_by = producer.valid()
                       ? fmt::format("{} '{}'", real.node(producer).op, real.node(producer).name)
                       : "input";
    cost.scale = c.scale;
    cost.levels = codes.quant->n_levels;
    if (fresh) {
      found.emplace_back(*f, std::move(cost));
      grids.push_back(*codes.quant);
    } else {
      found[it->second].second = std::move(cost);
      grids[it->second] = *codes.quant;
    }
  }
  return found;
}

/// Ranges times 1 - kJitter .. 1 + kJitter, the same for a tensor and a repeat whatever the recipe.
std::function<double(const std::string&)> jitter(std::uint64_t seed, std::size_t repeat) {
  constexpr double kJitter = 0.03;
  return [seed, repeat](const std::string& tensor) {
    // FNV-1a of the name: std::hash differs between libraries.
    std::uint64_t hash = 14695981039346656037ULL;
    for (const char c : tensor) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    std::mt19937_64 engine(hash ^ (seed * 2654435761ULL + repeat));
    return 1.0 + kJitter * (2.0 * static_cast<double>(engine() >> 11) * 0x1p-53 - 1.0);
  };
}

Recipe with_range(const Recipe& base, const std::string& tensor, const RangeChoice& choice) {
  Recipe r = base;
  RangeChoice& mine = r.ranges[tensor];
  if (!choice.observer.empty()) mine.observer = choice.observer;
  mine.scale *= choice.scale;
  return r;
}

bool has_16_bits(const TargetAbilities& target) {
  return target.int16.contains("RequantShift") ||
         std::ranges::any_of(target.integers_of, has_16_bits);
}

std::vector<Remedy> remedies_for(const Recipe& base, const TensorCost& cost, bool wider) {
  const std::string& tensor = cost.tensor;
  std::vector<Remedy> list;
  if (wider && cost.levels <= 256) {
    Remedy r{.tensor = tensor, .change = "16 bits", .recipe = base};
    r.recipe.precision[tensor] = 16;
    list.push_back(std::move(r));
  }
  const auto current = base.ranges.find(tensor);
  const ObserverSpec used = parse_observer(
      current != base.ranges.end() && !current->second.observer.empty() ? current->second.observer
                                                                        : base.observer);
  for (const char* observer :
       {"mse", "min_max", "percentile:99.9", "percentile:99.99", "percentile:99.999"})
    if (parse_observer(observer) != used)
      list.push_back({.tensor = tensor,
                      .change = fmt::format("observer {}", observer),
                      .recipe = with_range(base, tensor, {observer, 1})});
  for (const double scale : {0.5, 0.75, 1.5, 2.0})
    list.push_back({.tensor = tensor,
                    .change = fmt::format("range x {}", scale),
                    .recipe = with_range(base, tensor, {"", scale})});
  return list;
}

/// Integer networks of one recipe under each repeat's jitter, judged.
std::vector<Accuracy> jittered(const QuantizeJob& job, const Recipe& recipe, const Graph& graph,
                               const CalibrationTable& table, const FakeQuantization& fake,
                               const Referee& referee, std::size_t repeats) {
  QuantizeJob changed = job;
  changed.recipe = recipe;
  std::vector<Accuracy> results;
  for (std::size_t r = 0; r < repeats; ++r)
    results.push_back(referee.judge(
        lower_to_integers(graph, table, changed, fake, jitter(job.recipe.seed, r)).graph));
  return results;
}

void compare(const std::vector<Accuracy>& base, const std::vector<Accuracy>& changed, Remedy& out) {
  for (std::size_t r = 0; r < base.size(); ++r) {
    out.gains_db.push_back(changed[r].output_sqnr_db - base[r].output_sqnr_db);
    out.agreement_change += changed[r].agreement - base[r].agreement;
  }
  const auto n = static_cast<double>(base.size());
  out.agreement_change /= n;
  out.gain_db = std::accumulate(out.gains_db.begin(), out.gains_db.end(), 0.0) / n;
  out.recommended =
      out.gain_db >= kNoiseDb && std::ranges::all_of(out.gains_db, [](double g) { return g > 0; });
}

/// The best recommended remedy of each tensor.
std::vector<const Remedy*> best_of_each(const std::vector<Remedy>& remedies) {
  std::vector<const Remedy*> best;
  for (const Remedy& r : remedies) {
    if (!r.recommended) continue;
    const auto same = std::ranges::find(best, r.tensor, &Remedy::tensor);
    if (same == best.end())
      best.push_back(&r);
    else if (r.gain_db > (*same)->gain_db)
      *same = &r;
  }
  std::ranges::stable_sort(best, std::greater<>{}, &Remedy::gain_db);
  return best;
}

/// What rounding each tensor alone costs, the costliest first.
std::vector<TensorCost> costs_of(const Graph& graph, const IntegerNetwork& network,
                                 const Referee& referee, unsigned threads, const Progress& told) {
  std::vector<QuantParams> grids;
  auto tensors = rounded_tensors(graph, network, grids);
  std::atomic<std::size_t> done{0};
  for_each_index(tensors.size(), threads, [&](std::size_t i) {
    TensorCost& cost = tensors[i].second;
    cost.alone = referee.judge(with_rounded(graph, tensors[i].first, cost.scale, grids[i]));
    told("tensors", ++done, tensors.size());
  });
  std::vector<TensorCost> costs;
  for (auto& [id, cost] : tensors) costs.push_back(std::move(cost));
  std::ranges::stable_sort(costs, std::less<>{},
                           [](const TensorCost& c) { return c.alone.output_sqnr_db; });
  return costs;
}

}  // namespace

SweepResult sweep(const QuantizeJob& job, const SweepOptions& options) {
  check_recipe(job.recipe);
  SweepResult result;
  FakeQuantization fake;
  Graph graph = load_canonical(job.model, job.recipe, nullptr, &fake);
  const std::unique_ptr<SampleSource> calibration_data = job.calibration_data.open(graph);
  const CalibrationTable table = calibrate_for(job, graph, *calibration_data, fake);
  const IntegerNetwork network = lower_to_integers(graph, table, job, fake);
  result.measured_on_calibration_data = !job.evaluation_data;
  const std::unique_ptr<SampleSource> data =
      (job.evaluation_data ? *job.evaluation_data : job.calibration_data)
          .open(graph, {.labels = true, .classes = {}});
  const Referee referee(graph, *data, options.samples);
  result.samples = referee.size();
  result.repeats = options.repeats;
  result.integer = referee.judge(network.graph);
  const auto told = [&](std::string_view stage, std::size_t done, std::size_t total) {
    static std::mutex turn;
    const std::lock_guard lock(turn);
    if (job.progress) job.progress(stage, done, total);
  };

  result.costs = costs_of(graph, network, referee, job.threads, told);
  const std::vector<Accuracy> base =
      jittered(job, job.recipe, graph, table, fake, referee, options.repeats);
  for (std::size_t i = 0; i < std::min(options.offenders, result.costs.size()); ++i)
    for (Remedy& r : remedies_for(job.recipe, result.costs[i], has_16_bits(job.target)))
      result.remedies.push_back(std::move(r));
  std::atomic<std::size_t> done{0};
  for_each_index(result.remedies.size(), job.threads, [&](std::size_t i) {
    Remedy& remedy = result.remedies[i];
    try {
      compare(base, jittered(job, remedy.recipe, graph, table, fake, referee, options.repeats),
              remedy);
    } catch (const Error& e) {
      // No provably safe requant, or nothing the target runs: not a remedy.
      if (e.code() == ErrorCode::internal) throw;
      remedy.refused = e.found();
    }
    told("remedies", ++done, result.remedies.size());
  });

  // One after the other, the largest gain first, each kept where the whole network gains by it.
  result.best = job.recipe;
  for (const Remedy* r : best_of_each(result.remedies)) {
    Recipe joined = result.best;
    for (const auto& [tensor, choice] : r->recipe.ranges) joined.ranges[tensor] = choice;
    for (const auto& [tensor, bits] : r->recipe.precision) joined.precision[tensor] = bits;
    Remedy together{.tensor = "", .change = "", .recipe = joined};
    compare(base, jittered(job, joined, graph, table, fake, referee, options.repeats), together);
    if (!result.changes.empty() && together.gain_db < result.best_gain_db + kNoiseDb) continue;
    result.best = std::move(joined);
    result.best_gain_db = together.gain_db;
    result.changes.push_back(fmt::format("{}: {}", r->tensor, r->change));
  }
  return result;
}

}  // namespace waveq
