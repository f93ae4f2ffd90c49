#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "waveq/graph/op.h"

namespace waveq {

/// Everything about evaluating a graph that does not depend on the data: order, operators, buffer
/// assignment. Immutable and shared by any number of Executors (one per thread).
/// The graph must outlive the plan and stay unchanged.
class Plan {
 public:
  /// `keep_all`: every value keeps its own buffer until the next run (for dumping all tensors).
  /// \throws Error{unsupported} listing the nodes without an implementation.
  explicit Plan(const Graph& graph, bool keep_all = false);

  const Graph& graph() const { return *graph_; }
  std::size_t buffer_bytes() const;  ///< memory one Executor needs for intermediate tensors

 private:
  friend class Executor;
  struct Step {
    NodeId node;
    const OpDef* op;
  };
  const Graph* graph_;
  std::vector<Step> steps_;
  std::vector<int> slot_;  ///< per value: buffer index, -1 for constants and unused values
  std::vector<std::size_t> slot_bytes_;
};

/// Evaluates a planned graph again and again in the same buffers. Not thread-safe; make one each
/// thread.
class Executor {
 public:
  /// `overflow`: what becomes of an integer that leaves its type.
  explicit Executor(std::shared_ptr<const Plan> plan, Overflow overflow = Overflow::error);
  /// With a plan of its own. \throws Error{unsupported} as Plan does.
  explicit Executor(const Graph& graph, Overflow overflow = Overflow::error);

  /// Sees a value and what it holds, which is gone after the call.
  using Visitor = std::function<void(ValueId, const Tensor&)>;

  /// `inputs`: one tensor per graph input, in graph order, of the input's exact type.
  /// `visit` sees every graph input and every node output as soon as it is computed.
  /// Returned tensors are copies of the graph outputs, in graph order.
  /// \throws Error{data} for a wrong input type; errors of operators, with the node named.
  std::vector<Tensor> run(std::span<const Tensor> inputs, const Visitor& visit = {});

 private:
  std::shared_ptr<const Plan> plan_;
  Overflow overflow_;
  std::vector<std::unique_ptr<std::byte[]>> buffers_;
  std::vector<Tensor> values_;                      ///< views into buffers_, or of constants
  std::vector<std::vector<const Tensor*>> inputs_;  ///< per step
  std::vector<std::vector<Tensor*>> outputs_;
};

/// One-off evaluation of a single node on given inputs (constant folding, tests).
std::vector<Tensor> evaluate_node(const Graph& graph, const Node& node,
                                  std::span<const Tensor* const> inputs,
                                  Overflow overflow = Overflow::error);

}  // namespace waveq
