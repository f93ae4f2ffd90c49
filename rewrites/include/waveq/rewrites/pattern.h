#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// A description of a value: what produces it and from what. A Pat is an immutable handle; using
/// the same Pat twice in one pattern demands the same value in both places. The modifiers return a
/// new Pat with an identity of its own, so modify first and reuse the result.
class Pat {
 public:
  /// Matches only values with exactly one use: one input slot, and no graph output.
  Pat one_use() const;
  /// Also demands an integer attribute of the producing node (`fallback` where it is absent).
  Pat attr(std::string name, std::int64_t value, std::int64_t fallback) const;
  /// Also demands whatever the predicate says.
  Pat where(std::function<bool(const Graph&, ValueId)> predicate) const;

  /// Operators the value's producer may be; empty: the pattern says nothing about the producer.
  const std::vector<std::string>& ops() const;

 private:
  friend struct PatternMatcher;
  friend class Match;
  friend Pat make_pat(struct PatSpec spec);
  explicit Pat(std::shared_ptr<const PatSpec> spec) : spec_(std::move(spec)) {}
  std::shared_ptr<const PatSpec> spec_;
};

/// Any value.
Pat any();
/// As a root: any node, whatever its operator.
Pat any_node();
/// A value with known contents.
Pat constant();
/// A float32 constant of one element, whatever its rank ([] = [1] = [1,1]).
Pat scalar();
/// The same with the given element, up to a relative difference of `tolerance`.
Pat scalar(double value, double tolerance = 1e-6);
/// First output of a node of that type whose inputs match, one by one; the node has no further
/// inputs. Add, Mul, Max and Min of two operands match in either order.
Pat op(std::string name, std::vector<Pat> operands);
/// First output of a node of one of the types, its inputs matched as above.
Pat op_in(std::vector<std::string> names, std::vector<Pat> operands);
/// The same, with no statement about its inputs.
Pat op_in(std::vector<std::string> names);
/// An input that may be absent.
Pat optional(const Pat& pattern);
/// Whatever one of two patterns matches; the first is tried first.
Pat either(const Pat& a, const Pat& b);

class NodeIndex;

/// Where a pattern was found: the root node and the value bound to each Pat.
class Match {
 public:
  const Graph& graph() const { return *graph_; }
  NodeId root_id() const { return root_; }
  const Node& root() const { return graph_->node(root_); }
  /// First output of the root node.
  ValueId root_value() const { return root().outputs.front(); }

  /// True if the Pat took part in the match (false for the other branch of `either` and for an
  /// absent `optional`).
  bool has(const Pat& pattern) const;
  /// \throws Error{internal} for a Pat that took no part, here and below.
  ValueId operator[](const Pat& pattern) const;
  NodeId node_id(const Pat& pattern) const;
  const Node& node(const Pat& pattern) const { return graph_->node(node_id(pattern)); }
  const Tensor& tensor(const Pat& pattern) const { return graph_->constant((*this)[pattern]); }
  const TensorType& type(const Pat& pattern) const { return graph_->value((*this)[pattern]).type; }
  const Shape& shape(const Pat& pattern) const { return type(pattern).shape; }

  /// Nodes seen so far in this run, by what they compute; null outside the driver.
  NodeIndex* index() const { return index_; }

 private:
  friend struct PatternMatcher;
  friend std::optional<Match> match(const Graph&, const Pat&, NodeId, NodeIndex*);
  Match(const Graph& graph, NodeId root, NodeIndex* index)
      : graph_(&graph), root_(root), index_(index) {}
  const ValueId* lookup(const PatSpec* spec) const;

  const Graph* graph_;
  NodeId root_;
  NodeIndex* index_;
  std::vector<std::pair<const PatSpec*, ValueId>> bindings_;
};

/// Tries to match `pattern` at a node, its first output being the pattern's value.
std::optional<Match> match(const Graph& graph, const Pat& pattern, NodeId root,
                           NodeIndex* index = nullptr);

}  // namespace waveq
