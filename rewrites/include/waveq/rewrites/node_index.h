#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// True if two nodes compute the same: operator, attributes, and inputs that are the same values or
/// constants with the same contents.
bool same_computation(const Graph& graph, const Node& a, const Node& b);

/// Finds nodes that compute the same thing. Entries may go stale while the graph changes; a hit is
/// checked against the graph as it is.
class NodeIndex {
 public:
  /// A live node other than `id` that computes the same, or nothing, in which case `id` is entered.
  std::optional<NodeId> find_or_insert(const Graph& graph, NodeId id);

 private:
  std::map<std::uint64_t, std::vector<NodeId>> nodes_;
};

}  // namespace waveq
