#pragma once

#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/quantizers/range.h"

namespace waveq {

/// What the overflow proof says about one node.
struct NodeProof {
  std::string node, op;  ///< name and operator in the integer network
  double bound = 0;      ///< largest |intermediate| that can be reached
  /// Linear nodes: the largest |accumulator| that the evaluator gives for operands built to reach
  /// the bound (BoundsAnalysis::attained).
  std::optional<double> attained;
  double headroom_bits = 0;       ///< log2(2^31 / bound)
  bool proven = false;            ///< no input makes it leave its type
  std::string reason;             ///< why not proven, or what the bound rests on
  std::optional<Interval> range;  ///< of the output's elements; nullopt where none is known
};

/// Overflow proof of an integer network.
struct ProofReport {
  std::vector<NodeProof>
      nodes;  ///< nodes that compute, in topological order; data movement is left out
  bool overflow_free() const;         ///< every node proven
  std::vector<std::string> unproven;  ///< names of the others
  double min_headroom_bits = 31;      ///< the least of the nodes'
};

/// Interval analysis with the real weights, node by node; see bounds.h for the method.
/// Works on any integer network of the dialect, whoever made it.
ProofReport prove(const Graph& integer_graph);

}  // namespace waveq
