#include "waveq/integerize/proof.h"

#include <algorithm>
#include <cmath>

#include "waveq/graph/op.h"
#include "waveq/integerize/bounds.h"

namespace waveq {

bool ProofReport::overflow_free() const { return unproven.empty(); }

ProofReport prove(const Graph& graph) {
  ProofReport report;
  BoundsAnalysis bounds(graph);
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const OpDef* op = find_op(node.op);
    if (op && op->moves_data) continue;
    NodeProof proof{node.name, node.op, 0, 0, false, ""};
    try {
      const NodeBound bound = bounds.check(id);
      proof.bound = bound.worst;
      proof.proven = bound.proven;
      proof.reason = bound.reason;
    } catch (const Error& e) {
      proof.reason = e.found();
    }
    proof.headroom_bits = proof.bound >= 1 ? std::log2(2147483648.0 / proof.bound) : 31;
    if (proof.proven)
      report.min_headroom_bits = std::min(report.min_headroom_bits, proof.headroom_bits);
    else
      report.unproven.push_back(node.name);
    report.nodes.push_back(std::move(proof));
  }
  return report;
}

}  // namespace waveq
