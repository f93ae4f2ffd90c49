#include "waveq/integerize/coarse_operands.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "waveq/graph/executor.h"
#include "waveq/integerize/evaluate.h"

namespace waveq {

namespace {

struct Watched {
  bool denominator = false;
  std::vector<double> sizes;  ///< |q - zero_point|
};

/// A mean or a sum as lowering writes it: a requant behind a product with ones. Or the operator.
bool is_mean(const Graph& graph, const Node& node) {
  if (node.op == "IntegerMean" || node.op == "ReduceMean") return true;
  if (node.op != "RequantShift" || !graph.value(node.inputs[0]).producer.valid()) return false;
  const Node& product = graph.node(graph.value(node.inputs[0]).producer);
  return product.op == "MatMul" && graph.is_constant(product.inputs[1]) &&
         std::ranges::all_of(to_int64(graph.constant(product.inputs[1])),
                             [](std::int64_t w) { return w == 1; });
}

std::map<ValueId, Watched> watched_tensors(const Graph& graph) {
  std::map<ValueId, Watched> watched;
  for (const NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (is_mean(graph, node)) watched[node.outputs.front()];
    if ((node.op == "IntegerDiv" || node.op == "TrueIntegerDiv") &&
        !graph.is_constant(node.inputs[1]))
      watched[node.inputs[1]].denominator = true;
  }
  return watched;
}

/// The middle one, or the mean of the two in the middle; `values` is not empty.
double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  if (values.size() % 2 != 0) return *middle;
  return 0.5 * (*middle + *std::max_element(values.begin(), middle));
}

}  // namespace

std::vector<CoarseOperand> coarse_operands(const Graph& graph, SampleSource& data,
                                           std::size_t samples) {
  std::map<ValueId, Watched> watched = watched_tensors(graph);
  if (watched.empty()) return {};
  data.rewind();
  Executor executor(graph);
  Sample sample;
  for (std::size_t n = 0; n < samples && data.next(sample); ++n)
    executor.run(network_inputs(graph, sample.inputs), [&](ValueId id, const Tensor& tensor) {
      const auto it = watched.find(id);
      if (it == watched.end()) return;
      const QuantParams q = graph.value(id).quant.value_or(QuantParams{});
      for (const double code : to_double(tensor))
        it->second.sizes.push_back(std::abs(code - static_cast<double>(q.zero_point)));
    });
  std::vector<CoarseOperand> coarse;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const auto it = watched.find(node.outputs.front());
    if (it == watched.end() || it->second.sizes.empty()) continue;
    const double middle = median(it->second.sizes);
    if (middle < kCoarseMedian)
      coarse.push_back({graph.value(node.outputs.front()).name,
                        node.origin.empty() ? node.name : node.origin, it->second.denominator,
                        middle});
  }
  return coarse;
}

}  // namespace waveq
