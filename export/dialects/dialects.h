#pragma once

#include "waveq/export/target.h"
#include "waveq/integerize/pipeline.h"

namespace waveq {

TargetProfile deeploy_generic();   ///< deeploy_generic.cpp
TargetProfile deeploy_siracusa();  ///< deeploy_siracusa.cpp
TargetProfile onnx_standard();     ///< onnx_standard.cpp
TargetProfile qdq();               ///< qdq.cpp
TargetProfile waveq_domain();      ///< waveq_domain.cpp

/// Inputs and outputs in graph order, with their integer dtypes, and every node's output by name.
TargetFiles integer_files(const TargetProfile& profile, const QuantizeResult& result);

/// What a translation of the network node by node (add, or leave_open after an Error) refuses.
template <class Translation>
std::vector<Finding> refusals(const Graph& graph, Translation translation) {
  std::vector<Finding> findings;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    try {
      translation.add(node);
    } catch (const Error& e) {
      findings.push_back({node.name, "operator", e.found()});
      translation.leave_open(node);
    }
  }
  return findings;
}

/// Rounding, wrap and saturation on the platforms that compute as Generic does, and on PULP
/// (Siracusa, PULPOpen, GAP9): arithmetic.cpp.
std::vector<ArithmeticRule> generic_arithmetic();
std::vector<ArithmeticRule> pulp_arithmetic();

}  // namespace waveq
