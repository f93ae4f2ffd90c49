#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "waveq/export/lint.h"
#include "waveq/graph/op.h"
#include "waveq/integerize/bounds.h"

namespace waveq {

/// One node under a check. Accessors answer for missing inputs and unknown shapes too: networks
/// come from anybody.
class LintNode {
 public:
  LintNode(const Graph& graph, NodeId id) : graph_(&graph), node_(&graph.node(id)), id_(id) {}

  NodeId id() const { return id_; }
  const Node& operator*() const { return *node_; }
  const Node* operator->() const { return node_; }
  const Attrs& attrs() const { return node_->attrs; }
  bool has(std::size_t slot) const {
    return slot < node_->inputs.size() && node_->inputs[slot].valid();
  }
  ValueId input(std::size_t slot) const { return has(slot) ? node_->inputs[slot] : ValueId{}; }
  /// {} where absent or unknown.
  Shape shape(std::size_t slot) const {
    return has(slot) ? graph_->value(input(slot)).type.shape : Shape{};
  }
  DType dtype(std::size_t slot) const {
    return has(slot) ? graph_->value(input(slot)).type.dtype : DType::undefined;
  }
  Shape out_shape() const {
    return output().valid() ? graph_->value(output()).type.shape : Shape{};
  }
  ValueId output() const { return node_->outputs.empty() ? ValueId{} : node_->outputs.front(); }
  bool is_constant(std::size_t slot) const { return has(slot) && graph_->is_constant(input(slot)); }
  /// Elements of a constant integer input; empty for anything else.
  std::vector<std::int64_t> integers(std::size_t slot) const {
    if (!is_constant(slot) || graph_->constant(input(slot)).dtype() == DType::f32) return {};
    return to_int64(graph_->constant(input(slot)));
  }
  /// An integer attribute in whatever form; `fallback` where absent or no integer.
  std::int64_t integer(std::string_view name, std::int64_t fallback) const {
    try {
      return node_->attrs.get_int(name, fallback);
    } catch (const Error&) {
      return fallback;
    }
  }
  double real(std::string_view name, double fallback) const {
    try {
      return node_->attrs.get_float(name, fallback);
    } catch (const Error&) {
      return fallback;
    }
  }
  std::vector<std::int64_t> list(std::string_view name) const {
    try {
      return node_->attrs.get_ints(name, {});
    } catch (const Error&) {
      return {};
    }
  }
  /// The node that computes an input, if any.
  std::optional<LintNode> producer(std::size_t slot) const {
    if (!has(slot) || !graph_->value(input(slot)).producer.valid()) return std::nullopt;
    return LintNode(*graph_, graph_->value(input(slot)).producer);
  }
  /// The producer of input 0 where this node is its only reader: what the consumer's passes can
  /// merge.
  std::optional<LintNode> merged_producer() const {
    const auto before = producer(0);
    if (!before || graph_->use_count(input(0)) != 1) return std::nullopt;
    return before;
  }
  bool is(std::initializer_list<std::string_view> ops) const {
    return std::ranges::find(ops, node_->op) != ops.end();
  }

 private:
  const Graph* graph_;
  const Node* node_;
  NodeId id_;
};

/// A RequantShift with its parameters; `valid` is false where they are not constant.
struct LintRequant {
  explicit LintRequant(const LintNode& node)
      : mul(node.integers(1)),
        add(node.integers(2)),
        div(node.integer("div", 0)),
        n_levels(node.integer(node.attrs().has("n_levels_out") ? "n_levels_out" : "n_levels", 256)),
        is_signed(node.integer("signed", 1) != 0),
        valid(!mul.empty() && !add.empty() && div > 0 &&
              (mul.size() == 1 || add.size() == 1 || mul.size() == add.size())) {}

  std::vector<std::int64_t> mul, add;
  std::int64_t div, n_levels;
  bool is_signed, valid;

  std::size_t sets() const { return std::max(mul.size(), add.size()); }
  std::int64_t mul_of(std::size_t i) const { return mul[mul.size() > 1 ? i : 0]; }
  std::int64_t add_of(std::size_t i) const { return add[add.size() > 1 ? i : 0]; }
  bool has_add() const {
    return std::ranges::any_of(add, [](std::int64_t a) { return a != 0; });
  }
  bool per_channel() const { return sets() > 1; }
  std::int64_t lo() const { return is_signed ? -(n_levels / 2) : 0; }
  std::int64_t hi() const { return is_signed ? n_levels / 2 - 1 : n_levels - 1; }
};

/// What a check sees, and where it reports.
class LintContext {
 public:
  explicit LintContext(const LintInput& network);

  const LintInput& input() const { return *input_; }
  const Graph& graph() const { return input_->integer; }
  /// Live nodes in topological order.
  const std::vector<LintNode>& nodes() const { return nodes_; }
  const ProofReport& proof() const { return proof_; }
  /// Reachable values of a tensor; nothing where the analysis does not cover what computes it.
  std::optional<Interval> bounds(ValueId id);

  void report(const LintNode& node, std::string problem) {
    problems_.push_back({node->name, std::move(problem)});
  }
  void report(std::string where, std::string problem) {
    problems_.push_back({std::move(where), std::move(problem)});
  }
  std::vector<LintProblem> take() { return std::exchange(problems_, {}); }

 private:
  const LintInput* input_;
  std::vector<LintNode> nodes_;
  ProofReport proof_;
  BoundsAnalysis analysis_;
  std::vector<LintProblem> problems_;
};

/// Calls f(node) for every node of these operators.
template <class F>
void for_ops(LintContext& c, std::initializer_list<std::string_view> ops, F f) {
  for (const LintNode& node : c.nodes())
    if (node.is(ops)) f(node);
}

/// The rows, by what they look at.
std::vector<LintCheck> lint_requant_checks();   ///< T1..T10, T14, T18, T24: requantization
std::vector<LintCheck> lint_conv_checks();      ///< T15, T23, T25 and what Conv wants
std::vector<LintCheck> lint_operator_checks();  ///< the other traps, and what operators want
std::vector<LintCheck> lint_accuracy_checks();  ///< roundings that cost accuracy everywhere
std::vector<LintCheck> lint_file_checks();      ///< T3, T20, container rules, vectors, paths

}  // namespace waveq
