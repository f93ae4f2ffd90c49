#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// The rule does not speak about this node after all.
struct NoMatch {};

/// The rule recognizes the node and refuses, for a reason worth telling the user.
struct Declined {
  std::string reason;
};

template <class... Args>
Declined declined(fmt::format_string<Args...> text, Args&&... args) {
  return {fmt::format(text, std::forward<Args>(args)...)};
}

/// What a rule did with a match.
class Outcome {
 public:
  /// One value for each output of the root; an invalid id for an output without uses.
  struct Replaced {
    std::vector<ValueId> values;
  };
  /// The root stays, with other attributes and inputs.
  struct Edited {
    Attrs attrs;
    std::vector<ValueId> inputs;  ///< at most as many as the root has
  };

  Outcome(NoMatch n) : kind_(n) {}                      // NOLINT: `return NoMatch{};`
  Outcome(Declined d) : kind_(std::move(d)) {}          // NOLINT: `return declined(...);`
  Outcome(ValueId value) : kind_(Replaced{{value}}) {}  // NOLINT: `return patch.node(...);`
  Outcome(std::vector<ValueId> v) : kind_(Replaced{std::move(v)}) {}  // NOLINT: one per output
  Outcome(Edited e) : kind_(std::move(e)) {}  // NOLINT: `return patch.edit(...);`

  const Declined* as_declined() const { return std::get_if<Declined>(&kind_); }
  const Replaced* as_replaced() const { return std::get_if<Replaced>(&kind_); }
  const Edited* as_edited() const { return std::get_if<Edited>(&kind_); }

 private:
  std::variant<NoMatch, Declined, Replaced, Edited> kind_;
};

/// Collects what a rule adds to the graph. Additions of a rule that then declines are taken back,
/// so a rule may look at inferred types before it makes up its mind.
class Patch {
 public:
  /// `origin`: the user's node that new nodes are attributed to.
  Patch(Graph& graph, NodeId root, std::string rule);

  /// A new node with one output, typed by the operator's inference, named after root and rule.
  /// \throws Error{unsupported}, here and below, for an input of unknown type and for an operator
  /// waveq does not know; the driver makes a refusal of it.
  ValueId node(std::string op, std::vector<ValueId> inputs, Attrs attrs = {});
  /// A new node with operator, attributes and origin of an existing one.
  ValueId like(NodeId model, std::vector<ValueId> inputs);
  ValueId like(NodeId model, std::vector<ValueId> inputs, Attrs attrs);
  /// A new constant, named after root and rule, or after the constant it derives from.
  ValueId constant(Tensor tensor, ValueId derived_from = {});
  /// Changes the root in place; types of its outputs must stay.
  Outcome::Edited edit(Attrs attrs, std::vector<ValueId> inputs) const {
    return {std::move(attrs), std::move(inputs)};
  }
  /// Text for the explanation; without one the driver says what replaced what.
  void note(std::string detail) { detail_ = std::move(detail); }

  const std::vector<NodeId>& created() const { return created_; }
  const std::string& detail() const { return detail_; }
  void roll_back();

 private:
  ValueId emit(const std::string& op, const Node& model, std::vector<ValueId> inputs, Attrs attrs);

  Graph& graph_;
  NodeId root_;
  std::string rule_, detail_;
  std::vector<NodeId> created_;
};

}  // namespace waveq
