#pragma once

#include <string>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// What the overflow proof says about one node.
struct NodeProof {
  std::string node, op;
  double bound = 0;          ///< largest |int32 intermediate| that can be reached
  double headroom_bits = 0;  ///< log2(2^31 / bound)
  bool proven = false;
  std::string reason;  ///< why not proven, or what the bound rests on
};

/// Overflow proof of an integer network.
struct ProofReport {
  std::vector<NodeProof>
      nodes;  ///< nodes that compute, in topological order; data movement is left out
  bool overflow_free() const;         ///< every node proven
  std::vector<std::string> unproven;  ///< names of the others
  double min_headroom_bits = 31;
};

/// Interval analysis with the real weights, node by node; see bounds.h for the method.
/// Works on any integer network of the dialect, whoever made it.
ProofReport prove(const Graph& integer_graph);

}  // namespace waveq
