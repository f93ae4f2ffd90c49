#include "waveq/integerize/proof.h"

#include <algorithm>
#include <cmath>

#include "waveq/graph/op.h"
#include "waveq/integerize/bounds.h"

namespace waveq {

bool ProofReport::overflow_free() const { return unproven.empty(); }

namespace {

NodeProof prove_node(const Graph& graph, BoundsAnalysis& bounds, NodeId id) {
  const Node& node = graph.node(id);
  NodeProof proof;
  proof.node = node.name;
  proof.op = node.op;
  try {
    const NodeBound bound = bounds.check(id);
    proof.bound = bound.worst;
    proof.proven = bound.proven;
    proof.reason = bound.reason;
    proof.range = bounds.of(node.outputs.front()).hull();
    if (bound.proven) proof.attained = bounds.attained(id);
  } catch (const Error& e) {
    proof.proven = false;
    proof.reason = e.found();
  }
  proof.headroom_bits = std::log2(2147483648.0 / std::max(proof.bound, 1.0));
  return proof;
}

bool computes_float(const Graph& graph, const Node& node) {
  return std::ranges::any_of(node.outputs, [&](ValueId v) {
    return v.valid() && graph.value(v).type.dtype == DType::f32;
  });
}

}  // namespace

ProofReport prove(const Graph& graph) {
  ProofReport report;
  // Only before a Quant and behind a Dequant floats are meant; elsewhere a node of floats is
  // unproven.
  const bool has_borders = std::ranges::any_of(graph.nodes(), [&](NodeId id) {
    return graph.node(id).op == "Quant" || graph.node(id).op == "Dequant";
  });
  BoundsAnalysis bounds(graph);
  for (NodeId id : graph.topological_order()) {
    const OpDef* op = find_op(graph.node(id).op);
    if (op && op->moves_data) continue;
    if (has_borders && computes_float(graph, graph.node(id))) continue;
    NodeProof proof = prove_node(graph, bounds, id);
    if (proof.proven)
      report.min_headroom_bits = std::min(report.min_headroom_bits, proof.headroom_bits);
    else
      report.unproven.push_back(proof.node);
    report.nodes.push_back(std::move(proof));
  }
  return report;
}

}  // namespace waveq
