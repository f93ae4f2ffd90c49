#include "waveq/integerize/witness.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "input_families.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/op.h"

namespace waveq {

const Wrap* WitnessSearch::find(const std::string& node) const {
  const auto it = std::ranges::find(wraps, node, &Wrap::node);
  return it == wraps.end() ? nullptr : &*it;
}

namespace {

using Sample = std::vector<Tensor>;
using Wraps = std::map<std::size_t, std::string>;  ///< target -> the evaluator's words

/// An unproven node, and the input that came closest to making it wrap.
struct Target {
  NodeId node;
  double closest = -1;  ///< largest |intermediate| over its limit
  Sample sample;
};

/// Evaluates the network as its target computes it, and asks of each unproven node whether it left
/// its type.
class Prober {
 public:
  Prober(const Graph& graph, const ProofReport& proof, std::vector<Target>& targets)
      : graph_(graph),
        targets_(targets),
        order_(graph.topological_order()),
        executor_(graph, Overflow::wrap),
        seen_(graph.value_count(), nullptr),
        closeness_(targets.size(), -1) {
    for (std::size_t i = 0; i < targets.size(); ++i) by_node_[targets[i].node] = i;
    for (const NodeProof& n : proof.nodes)
      if (n.proven) proven_.insert(n.node);
  }

  Wraps run(const Sample& sample) {
    Wraps found;
    std::ranges::fill(seen_, nullptr);
    std::ranges::fill(closeness_, -1.0);
    try {
      executor_.run(sample, [&](ValueId id, const Tensor& t) {
        seen_[static_cast<std::size_t>(id.index)] = &t;
        const auto target = by_node_.find(graph_.value(id).producer);
        if (target != by_node_.end()) judge(target->second, t, found);
      });
    } catch (const Error& e) {
      // No result even with wrapping (a divisor of 0): nodes behind it are not reached.
      if (e.code() != ErrorCode::overflow) throw;
      const NodeId failed = first_without_output();
      const auto target = by_node_.find(failed);
      if (target == by_node_.end()) disproved(failed, e);
      found.emplace(target->second, e.found());
    }
    for (std::size_t i = 0; i < targets_.size(); ++i)
      if (closeness_[i] > targets_[i].closest) {
        targets_[i].closest = closeness_[i];
        targets_[i].sample = sample;
      }
    return found;
  }

 private:
  void judge(std::size_t target, const Tensor& output, Wraps& found) {
    const Node& node = graph_.node(targets_[target].node);
    std::vector<const Tensor*> inputs;
    for (ValueId in : node.inputs)
      inputs.push_back(!in.valid()              ? nullptr
                       : graph_.is_constant(in) ? &graph_.constant(in)
                                                : seen_[static_cast<std::size_t>(in.index)]);
    closeness_[target] = closeness(node, inputs, output);
    if (node.op == "RequantShift" && closeness_[target] < 1) return;
    try {
      evaluate_node(graph_, node, inputs, Overflow::error);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::overflow) throw;
      found.emplace(target, e.found());
    }
  }

  /// At least the largest |intermediate| of a requant; of other nodes what their output shows.
  static double closeness(const Node& node, const std::vector<const Tensor*>& inputs,
                          const Tensor& output) {
    const auto largest = [](const Tensor& t) {
      double most = 0;
      for (std::int64_t v : to_int64(t)) most = std::max(most, std::abs(static_cast<double>(v)));
      return most;
    };
    if (node.op != "RequantShift")
      return largest(output) / (static_cast<double>(highest(output.dtype())) + 1);
    const double half = static_cast<double>(node.attrs.require_int("div")) / 2;
    return (largest(*inputs[0]) * largest(*inputs[1]) + largest(*inputs[2]) + half) / 2147483648.0;
  }

  NodeId first_without_output() const {
    for (NodeId id : order_)
      for (ValueId out : graph_.node(id).outputs)
        if (out.valid() && !seen_[static_cast<std::size_t>(out.index)]) return id;
    return {};
  }

  [[noreturn]] void disproved(NodeId id, const Error& e) const {
    const std::string name = id.valid() ? graph_.node(id).name : graph_.name;
    throw Error(ErrorCode::internal, name,
                fmt::format("{}, and the node counts as {}", e.found(),
                            proven_.contains(name) ? "proven" : "one that only moves data"),
                "please report the network");
  }

  const Graph& graph_;
  std::vector<Target>& targets_;
  std::vector<NodeId> order_;
  Executor executor_;
  std::vector<const Tensor*> seen_;
  std::vector<double> closeness_;
  std::map<NodeId, std::size_t> by_node_;
  std::set<std::string> proven_;
};

/// Evaluations that take some seconds, from the network's size.
std::size_t default_trials(const Graph& graph) {
  std::int64_t macs = 0;
  for (NodeId id : graph.nodes())
    if (const OpDef* op = find_op(graph.node(id).op); op && op->macs)
      macs += op->macs(graph, graph.node(id));
  constexpr std::int64_t kMacs = 10'000'000'000;
  return static_cast<std::size_t>(
      std::clamp<std::int64_t>(kMacs / std::max<std::int64_t>(macs, 1), 50, 3000));
}

struct Finding {
  Sample sample;
  Wraps wraps;
};

/// The fewest findings, greedily, that show every node that wraps.
void choose_samples(std::vector<Finding> findings, const std::vector<Target>& targets,
                    const Graph& graph, WitnessSearch& result) {
  std::map<std::size_t, Wrap> shown;
  for (;;) {
    const auto fresh = [&](const Finding& f) {
      return std::ranges::count_if(f.wraps,
                                   [&](const auto& w) { return !shown.contains(w.first); });
    };
    const auto best = std::ranges::max_element(findings, std::less<>{}, fresh);
    if (best == findings.end() || fresh(*best) == 0) break;
    for (const auto& [target, what] : best->wraps) {
      const Node& node = graph.node(targets[target].node);
      shown.emplace(target, Wrap{node.name, node.op, result.samples.size(), what});
    }
    result.samples.push_back(std::move(best->sample));
    findings.erase(best);
  }
  for (auto& [target, wrap] : shown) result.wraps.push_back(std::move(wrap));
}

}  // namespace

WitnessSearch search_wraps(const Graph& graph, const ProofReport& proof,
                           const SearchOptions& options) {
  WitnessSearch result;
  const std::set<std::string> unproven(proof.unproven.begin(), proof.unproven.end());
  std::vector<Target> targets;
  for (NodeId id : graph.topological_order())
    if (unproven.contains(graph.node(id).name)) targets.push_back({id, -1, {}});
  if (targets.empty()) return result;
  const std::size_t budget = options.trials ? options.trials : default_trials(graph);
  Prober prober(graph, proof, targets);
  InputFamilies families(graph, options.seed);
  std::vector<Finding> findings;
  std::vector<bool> wraps(targets.size(), false);
  const auto open = [&](std::size_t i) { return !wraps[i] && targets[i].closest >= 0; };
  std::size_t turn = 0;
  while (result.trials < budget && std::ranges::find(wraps, false) != wraps.end()) {
    // The second half climbs from the closest inputs, one open node after the other.
    std::optional<Sample> climbed;
    for (std::size_t k = 0; 2 * result.trials >= budget && k < targets.size() && !climbed; ++k)
      if (const std::size_t i = turn++ % targets.size(); open(i))
        climbed = families.changed(targets[i].sample);
    Sample sample = climbed ? std::move(*climbed) : families.draw(result.trials);
    ++result.trials;
    Wraps found = prober.run(sample);
    const bool news = std::ranges::any_of(found, [&](const auto& w) { return !wraps[w.first]; });
    for (const auto& [target, what] : found) wraps[target] = true;
    if (news) findings.push_back({std::move(sample), std::move(found)});
  }
  choose_samples(std::move(findings), targets, graph, result);
  return result;
}

}  // namespace waveq
