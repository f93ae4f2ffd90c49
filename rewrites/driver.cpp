#include "waveq/rewrites/driver.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "waveq/graph/infer.h"
#include "waveq/rewrites/node_index.h"
#include "waveq/rewrites/rules.h"

namespace waveq {

std::string_view to_string(Effect effect) {
  switch (effect) {
    case Effect::exact:
      return "exact";
    case Effect::reassociates:
      return "reassociates";
    case Effect::approximates:
      return "approximates";
  }
  return "?";
}

namespace {

constexpr int kStages = 3;
/// How far below a change a pattern's root is looked for at once; what lies deeper is found by the
/// next sweep.
constexpr int kReach = 3;
/// Nodes put back to work for one change, so that one change costs a bounded amount.
constexpr int kNeighbours = 32;

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }
const std::string& user_name(const Node& node) {
  return node.origin.empty() ? node.name : node.origin;
}

class Driver {
 public:
  Driver(Graph& graph, std::span<const Rule> rules, const RewriteOptions& options)
      : graph_(graph), rules_(rules), options_(options) {}

  RewriteReport run();

 private:
  using RuleList = std::vector<std::size_t>;
  /// One application in the history of a node: which rule made it, out of which earlier node.
  struct Step {
    std::size_t depth = 0;
    std::size_t rule = 0;
    int parent = -1;
  };

  const std::array<RuleList, kStages>& rules_for(const std::string& op);
  bool sweep();
  void enqueue(NodeId id, int stage);
  void enqueue_users(ValueId value);
  bool visit(NodeId id, int stage);
  bool try_rule(std::size_t rule, NodeId id);
  bool replace(std::size_t rule, NodeId id, const std::vector<ValueId>& values, Patch& patch);
  std::optional<std::string> obstacle(NodeId id, const std::vector<ValueId>& values) const;
  void check_replacement(const Rule& rule, NodeId id, ValueId old, ValueId now,
                         const Patch& patch) const;
  void take_name(ValueId old, ValueId now);
  void edit(std::size_t rule, NodeId id, const Outcome::Edited& edited, const Patch& patch);
  void remove_unused(std::vector<NodeId> work);
  void record(std::size_t rule, NodeId root, const std::string& user, std::string detail);
  void remember(NodeId id, std::size_t rule, int parent);
  int history(NodeId id) const;
  void check_budget(NodeId id) const;

  Graph& graph_;
  std::span<const Rule> rules_;
  RewriteOptions options_;
  RewriteReport report_;
  std::map<std::string, std::array<RuleList, kStages>> by_op_;
  NodeIndex index_;

  /// (stage, position in topological order, node): the next to visit is the first.
  std::set<std::tuple<int, std::size_t, std::int32_t>> queue_;
  std::vector<int> queued_stage_;      ///< by node; -1: not queued
  std::vector<std::size_t> position_;  ///< by node; new nodes share their root's
  std::vector<Step> steps_;
  std::vector<int> history_;  ///< by node: index into steps_, -1: the user's own
  std::map<std::size_t, std::vector<Refusal>> refusals_;  ///< of this sweep, by position
  std::size_t chain_budget_ = 0, total_budget_ = 0;
};

const std::array<Driver::RuleList, kStages>& Driver::rules_for(const std::string& op) {
  const auto [it, fresh] = by_op_.try_emplace(op);
  if (fresh) {
    for (std::size_t i = 0; i < rules_.size(); ++i) {
      const auto& ops = rules_[i].root.ops();
      if (ops.empty() || std::ranges::find(ops, op) != ops.end())
        it->second[static_cast<std::size_t>(rules_[i].stage)].push_back(i);
    }
  }
  return it->second;
}

void Driver::enqueue(NodeId id, int stage) {
  const auto i = static_cast<std::size_t>(id.index);
  if (graph_.node(id).removed) return;
  const auto& lists = rules_for(graph_.node(id).op);
  while (stage < kStages && lists[static_cast<std::size_t>(stage)].empty()) ++stage;
  if (stage >= kStages) return;
  if (queued_stage_[i] >= 0) {
    if (queued_stage_[i] <= stage) return;
    queue_.erase({queued_stage_[i], position_[i], id.index});
  }
  queued_stage_[i] = stage;
  queue_.insert({stage, position_[i], id.index});
}

void Driver::enqueue_users(ValueId value) {
  std::vector<ValueId> layer = {value};
  int budget = kNeighbours;
  for (int depth = 0; depth < kReach; ++depth) {
    std::vector<ValueId> next;
    for (ValueId v : layer)
      for (NodeId user : graph_.value(v).uses) {
        if (budget-- == 0) return;
        enqueue(user, 0);
        for (ValueId out : graph_.node(user).outputs)
          if (out.valid()) next.push_back(out);
      }
    layer = std::move(next);
  }
}

RewriteReport Driver::run() {
  graph_.remove_dead_nodes();
  const std::size_t nodes = graph_.nodes().size();
  report_.nodes_before = nodes;
  // Moving one operator to the front of a chain takes as many steps as the chain is long; a node
  // with a longer history than that goes round in circles.
  chain_budget_ = nodes + 100;
  total_budget_ = 100 * (nodes + 100);
  // A sweep without an application proves the fixpoint, and its refusals are those that stand.
  while (sweep()) {
  }
  for (auto& [position, refusals] : refusals_)
    for (Refusal& refusal : refusals) report_.refused.push_back(std::move(refusal));
  graph_.remove_dead_nodes();
  graph_.compact();
  graph_.verify();
  report_.nodes_after = graph_.nodes().size();
  spdlog::debug("rewrite: {} applications, {} refusals, {} nodes -> {}", report_.applied.size(),
                report_.refused.size(), report_.nodes_before, report_.nodes_after);
  return std::move(report_);
}

bool Driver::sweep() {
  refusals_.clear();
  queue_.clear();
  queued_stage_.assign(graph_.node_count(), -1);
  position_.assign(graph_.node_count(), 0);
  history_.resize(graph_.node_count(), -1);
  std::size_t position = 0;
  for (NodeId id : graph_.topological_order()) {
    position_[static_cast<std::size_t>(id.index)] = position++;
    enqueue(id, 0);
  }
  bool changed = false;
  while (!queue_.empty()) {
    const auto [stage, unused, index] = *queue_.begin();
    queue_.erase(queue_.begin());
    queued_stage_[static_cast<std::size_t>(index)] = -1;
    if (visit({index}, stage))
      changed = true;
    else
      enqueue({index}, stage + 1);
  }
  return changed;
}

bool Driver::visit(NodeId id, int stage) {
  if (graph_.node(id).removed) return false;
  // A copy: applying a rule may meet operators for the first time and grow the table.
  const RuleList rules = rules_for(graph_.node(id).op)[static_cast<std::size_t>(stage)];
  return std::ranges::any_of(rules, [&](std::size_t rule) { return try_rule(rule, id); });
}

bool Driver::try_rule(std::size_t index, NodeId id) {
  const Rule& rule = rules_[index];
  const std::optional<Match> found = match(graph_, rule.root, id, &index_);
  if (!found) return false;
  Patch patch(graph_, id, rule.name);
  const auto refuse = [&](std::string reason) {
    patch.roll_back();
    std::vector<Refusal>& here = refusals_[position_[static_cast<std::size_t>(id.index)]];
    Refusal refusal{rule.name, user_name(graph_.node(id)), std::move(reason)};
    if (std::ranges::find(here, refusal) == here.end()) here.push_back(std::move(refusal));
    return false;
  };
  try {
    const Outcome outcome = rule.apply(*found, patch);
    if (const Declined* declined = outcome.as_declined()) return refuse(declined->reason);
    if (const auto* edited = outcome.as_edited()) {
      WAVEQ_CHECK(patch.created().empty());
      edit(index, id, *edited, patch);
      return true;
    }
    if (const auto* replaced = outcome.as_replaced()) {
      if (const auto reason = obstacle(id, replaced->values)) return refuse(*reason);
      return replace(index, id, replaced->values, patch);
    }
    patch.roll_back();
    return false;
  } catch (Error& e) {
    if (e.code() == ErrorCode::unsupported) return refuse(e.found());
    e.while_doing(fmt::format("applying rule {} to {}", rule.name, place(graph_.node(id))));
    throw;
  }
}

/// Why a replacement, right as it may be, cannot be put in: outputs keep their names, each its own
/// value.
std::optional<std::string> Driver::obstacle(NodeId id, const std::vector<ValueId>& values) const {
  const Node& root = graph_.node(id);
  for (std::size_t i = 0; i < root.outputs.size(); ++i) {
    const ValueId old = root.outputs[i];
    if (!old.valid() || graph_.use_count(old) == 0) continue;
    const ValueId now = i < values.size() ? values[i] : ValueId{};
    const std::string& name = graph_.value(old).name;
    if (!now.valid()) return fmt::format("output {} ('{}') is used too", i, name);
    if (!graph_.is_output(old)) continue;
    const Value& value = graph_.value(now);
    if (!value.producer.valid() || graph_.is_output(now))
      return fmt::format("the network output '{}' would be {} '{}'", name,
                         value.constant           ? "the constant"
                         : value.producer.valid() ? "the other output"
                                                  : "the input",
                         value.name);
  }
  return std::nullopt;
}

void Driver::check_replacement(const Rule& rule, NodeId id, ValueId old, ValueId now,
                               const Patch& patch) const {
  const Value& before = graph_.value(old);
  const Value& after = graph_.value(now);
  const auto fail = [&](std::string what) {
    throw Error(
        ErrorCode::internal, place(graph_.node(id)), std::move(what),
        fmt::format("rule {} is wrong; leave it out with --passes and report this", rule.name));
  };
  if (old == now) fail("would be replaced by itself");
  if (before.type.known() && before.type != after.type)
    fail(fmt::format("'{}' would change from {} to {}", before.name, to_string(before.type),
                     to_string(after.type)));
  for (NodeId created : patch.created())
    for (ValueId in : graph_.node(created).inputs)
      if (in == old)
        fail(fmt::format("the replacement reads '{}', which it replaces", before.name));
}

/// Outputs of the network keep their names; so does any other value as long as it is a new one.
void Driver::take_name(ValueId old, ValueId now) {
  const std::string name = graph_.value(old).name;
  std::string spare;
  for (std::size_t i = graph_.value_count(); spare.empty() || graph_.find_value(spare); ++i)
    spare = fmt::format("{}_replaced_{}", name, i);
  graph_.rename(old, spare);
  // What goes keeps the new name taken: nodes are named after it, and no two alike.
  const std::string made = graph_.value(now).name;
  graph_.rename(now, name);
  graph_.rename(old, made);
}

bool Driver::replace(std::size_t index, NodeId id, const std::vector<ValueId>& values,
                     Patch& patch) {
  const Node& root = graph_.node(id);
  const Rule& rule = rules_[index];
  queued_stage_.resize(graph_.node_count(), -1);
  position_.resize(graph_.node_count(), position_[static_cast<std::size_t>(id.index)]);
  history_.resize(graph_.node_count(), -1);
  std::string detail = patch.detail();
  std::vector<NodeId> users;
  for (std::size_t i = 0; i < root.outputs.size(); ++i) {
    const ValueId old = root.outputs[i];
    if (!old.valid() || graph_.use_count(old) == 0) continue;
    const ValueId now = values[i];
    check_replacement(rule, id, old, now, patch);
    const auto& uses = graph_.value(old).uses;
    users.insert(users.end(), uses.begin(), uses.end());
    const NodeId producer = graph_.value(now).producer;
    const bool is_new =
        producer.valid() && std::ranges::find(patch.created(), producer) != patch.created().end();
    const bool was_output = graph_.is_output(old);
    graph_.replace_uses(old, now);
    if (is_new || was_output) take_name(old, now);
    if (graph_.value(old).quant && !graph_.value(now).quant)
      graph_.set_quant(now, graph_.value(old).quant);
    if (detail.empty())
      detail = fmt::format("{} -> {}", root.op,
                           producer.valid() ? place(graph_.node(producer))
                                            : fmt::format("'{}'", graph_.value(now).name));
  }
  const int parent = history(id);
  for (NodeId created : patch.created()) remember(created, index, parent);
  record(index, id, user_name(root), std::move(detail));
  remove_unused({id});
  for (NodeId created : patch.created()) enqueue(created, 0);
  for (ValueId now : values)
    if (now.valid() && graph_.value(now).producer.valid()) enqueue(graph_.value(now).producer, 0);
  int budget = kNeighbours;
  for (NodeId user : users) {
    enqueue(user, 0);
    for (ValueId out : graph_.node(user).outputs)
      if (out.valid() && budget-- > 0) enqueue_users(out);
  }
  return true;
}

void Driver::edit(std::size_t index, NodeId id, const Outcome::Edited& edited, const Patch& patch) {
  const Rule& rule = rules_[index];
  std::vector<NodeId> orphans;
  for (ValueId in : graph_.node(id).inputs)
    if (in.valid() && graph_.value(in).producer.valid())
      orphans.push_back(graph_.value(in).producer);
  WAVEQ_CHECK(edited.inputs.size() <= graph_.node(id).inputs.size());
  graph_.set_attrs(id, edited.attrs);
  for (std::size_t slot = 0; slot < edited.inputs.size(); ++slot)
    if (graph_.node(id).inputs[slot] != edited.inputs[slot])
      graph_.set_input(id, slot, edited.inputs[slot]);
  graph_.resize_inputs(id, edited.inputs.size());
  const bool typed = std::ranges::all_of(graph_.node(id).inputs, [&](ValueId in) {
    return !in.valid() || graph_.value(in).type.known();
  });
  const std::vector<TensorType> types =
      typed ? infer_node(graph_, graph_.node(id)) : std::vector<TensorType>{};
  for (std::size_t i = 0; typed && i < graph_.node(id).outputs.size(); ++i) {
    const ValueId out = graph_.node(id).outputs[i];
    if (!out.valid() || !graph_.value(out).type.known()) continue;
    if (i >= types.size() || types[i] != graph_.value(out).type)
      throw Error(
          ErrorCode::internal, place(graph_.node(id)),
          fmt::format("rule {} changed the type of '{}'", rule.name, graph_.value(out).name),
          "leave the rule out with --passes and report this");
  }
  remember(id, index, history(id));
  record(index, id, user_name(graph_.node(id)),
         patch.detail().empty() ? fmt::format("now {}", to_string(graph_.node(id).attrs))
                                : patch.detail());
  remove_unused(std::move(orphans));
  enqueue(id, 0);
  for (ValueId out : graph_.node(id).outputs)
    if (out.valid()) enqueue_users(out);
}

void Driver::remove_unused(std::vector<NodeId> work) {
  while (!work.empty()) {
    const NodeId id = work.back();
    work.pop_back();
    const Node node = graph_.node(id);
    const bool used = std::ranges::any_of(
        node.outputs, [&](ValueId out) { return out.valid() && graph_.use_count(out) > 0; });
    if (node.removed || used) continue;
    if (int& stage = queued_stage_[static_cast<std::size_t>(id.index)]; stage >= 0) {
      queue_.erase({stage, position_[static_cast<std::size_t>(id.index)], id.index});
      stage = -1;
    }
    graph_.remove_node(id);
    for (ValueId in : node.inputs) {
      if (!in.valid()) continue;
      const NodeId producer = graph_.value(in).producer;
      if (producer.valid()) work.push_back(producer);
      // A pattern that insists on a single use may match its last reader now.
      if (!graph_.is_constant(in) && graph_.value(in).uses.size() == 1) enqueue_users(in);
    }
  }
}

int Driver::history(NodeId id) const { return history_[static_cast<std::size_t>(id.index)]; }

void Driver::remember(NodeId id, std::size_t rule, int parent) {
  Step step{1, rule, parent};
  if (parent >= 0) step.depth = steps_[static_cast<std::size_t>(parent)].depth + 1;
  history_[static_cast<std::size_t>(id.index)] = static_cast<int>(steps_.size());
  steps_.push_back(step);
  check_budget(id);
}

void Driver::check_budget(NodeId id) const {
  const Step& last = steps_.back();
  if (last.depth <= chain_budget_ && report_.applied.size() <= total_budget_) return;
  std::set<std::string> names;
  int step = static_cast<int>(steps_.size()) - 1;
  for (int i = 0; i < 16 && step >= 0; ++i) {
    names.insert(rules_[steps_[static_cast<std::size_t>(step)].rule].name);
    step = steps_[static_cast<std::size_t>(step)].parent;
  }
  std::string list;
  for (const std::string& name : names) list.append(list.empty() ? "" : ", ").append(name);
  throw Error(ErrorCode::internal, place(graph_.node(id)),
              fmt::format("rules undo each other without end: {} ({} applications in a row)", list,
                          last.depth),
              "leave one of them out with --passes and report this");
}

void Driver::record(std::size_t rule, NodeId root, const std::string& user, std::string detail) {
  report_.applied.push_back({rules_[rule].name, user, std::move(detail)});
  if (options_.verify_every > 0 && report_.applied.size() % options_.verify_every == 0) {
    try {
      graph_.verify();
    } catch (Error& e) {
      e.while_doing(fmt::format("checking the graph after rule {} at {}", rules_[rule].name,
                                place(graph_.node(root))));
      throw;
    }
  }
}

}  // namespace

RewriteReport apply_rules(Graph& graph, std::span<const Rule> rules,
                          const RewriteOptions& options) {
  return Driver(graph, rules, options).run();
}

RewriteReport rewrite(Graph& graph, const RewriteOptions& options) {
  for (const auto* names : {&options.passes, &options.except})
    for (const std::string& name : *names) find_rule(name);
  const auto names = [](const std::vector<std::string>& list, const Rule& rule) {
    return std::ranges::find(list, rule.name) != list.end();
  };
  std::vector<Rule> chosen;
  for (const Rule& rule : all_rules())
    if ((options.passes.empty() || names(options.passes, rule)) && !names(options.except, rule))
      chosen.push_back(rule);
  return apply_rules(graph, chosen, options);
}

}  // namespace waveq
