#pragma once

#include <map>
#include <string>
#include <vector>

#include "waveq/export/target.h"
#include "waveq/graph/op.h"

// What the profiles of Deeploy's platforms share. Facts: deeploy-dialect.md 2, 4, 5, 6, 12, 13 and
// deeploy-import-notes.md, measured on pulp-platform/Deeploy bf64cfa.
namespace waveq::deeploy {

/// One node under check; `report` notes a broken rule.
struct Check {
  const Graph& graph;
  const Node& node;
  std::vector<Finding>& findings;

  void report(std::string rule, std::string problem) const {
    findings.push_back({node.name, std::move(rule), std::move(problem)});
  }
  void require(bool holds, const char* rule, const std::string& problem) const {
    if (!holds) report(rule, problem);
  }
  const Shape& shape(std::size_t i) const { return graph.value(node.inputs.at(i)).type.shape; }
  DType dtype(std::size_t i) const { return graph.value(node.inputs.at(i)).type.dtype; }
  std::int64_t elements(std::size_t i) const { return element_count(shape(i)); }
  const Node* producer(std::size_t i) const {
    const NodeId id = graph.value(node.inputs.at(i)).producer;
    return id.valid() ? &graph.node(id) : nullptr;
  }
  /// The one reader of the node's result; null where there are more or none.
  const Node* only_user() const;
};

/// A platform's operator: what it accepts in words, and the check of that.
struct Row {
  const char* accepts;
  void (*check)(const Check&);
};
using Rows = std::map<std::string, Row, std::less<>>;

bool is_eight_bit(DType d);

// Checks that hold on more than one platform.
void check_nothing(const Check&);
void check_conv(const Check&);              ///< bias, rank, group, dilation, padding, types
void check_matmul(const Check&);            ///< ranks and leading axes
void check_matmul_eight_bit(const Check&);  ///< the same, and two 8-bit operands
void check_gemm(const Check&);
void check_requant(const Check&);
void check_add(const Check&);
void check_division(const Check&);
void check_gelu(const Check&);
void check_isoftmax(const Check&);
void check_itamax(const Check&);
void check_layer_norm(const Check&);
void check_max_pool(const Check&);
void check_concat(const Check&);
void check_quant(const Check&);
void check_dequant(const Check&);
void check_slice(const Check&);
void check_gather(const Check&);

/// Every node against its row, then what holds for the whole network: names and batch.
std::vector<Finding> check_network(const TargetProfile& profile, const Graph& graph,
                                   const Rows& rows);

/// The file: float32 tensors, requant parameters as float32 tensor attributes.
std::string to_file(const TargetProfile& profile, const Graph& graph);

/// What every platform's Concat asks for.
Legalization distinct_concat_legalization();

/// Name, opset, domain and writer of a Deeploy profile; the rest is the platform's.
TargetProfile profile(std::string name, std::string summary, const Rows& rows);

}  // namespace waveq::deeploy
