#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "waveq/rewrites/rule.h"

namespace waveq {

struct RewriteOptions {
  /// Names of the rules to use, in any order; empty: all.
  std::vector<std::string> passes = {};
  /// Names of rules to leave out of those.
  std::vector<std::string> except = {};
  /// Graph::verify after every so many applications; 0: only at the end.
  std::size_t verify_every = 0;
};

/// A rule that changed the graph.
struct Application {
  std::string rule;
  std::string node;    ///< the user's node
  std::string detail;  ///< what became of it
};

/// A rule that recognized a node of the final graph and refused.
struct Refusal {
  std::string rule;
  std::string node;
  std::string reason;  ///< what keeps it from firing, for the user
  friend bool operator==(const Refusal&, const Refusal&) = default;
};

struct RewriteReport {
  std::vector<Application> applied;  ///< in order
  std::vector<Refusal> refused;      ///< still standing at the end, in topological order, each once
  std::size_t nodes_before = 0, nodes_after = 0;  ///< live nodes of the graph
};

/// Applies rules from `all_rules()` until none applies, then drops what nothing uses; ids change.
/// Names and types of graph inputs and outputs stay.
/// \throws Error{invalid_argument} for an unknown pass, naming the known ones;
///         Error{internal} for rules that undo each other or change a type.
RewriteReport rewrite(Graph& graph, const RewriteOptions& options = {});

/// The same with rules of one's own; their order is their priority within a stage.
RewriteReport apply_rules(Graph& graph, std::span<const Rule> rules,
                          const RewriteOptions& options = {});

}  // namespace waveq
