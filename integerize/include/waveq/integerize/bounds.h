#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/quantizers/requant.h"

namespace waveq {

/// What values a tensor of an integer network can take: one closed interval for each index of axis
/// 1, or a single one for all elements.
struct Bounds {
  std::vector<Interval> channels;  ///< never empty

  static Bounds all(Interval i) { return {{i}}; }
  bool per_channel() const { return channels.size() > 1; }
  Interval hull() const;
  const Interval& of(std::size_t channel) const { return channels[per_channel() ? channel : 0]; }
};

/// The largest magnitude any int32 intermediate of a node can reach, and whether that is shown to
/// fit.
struct NodeBound {
  double worst = 0;     ///< largest reachable |intermediate|
  bool proven = false;  ///< no intermediate can leave its type, no divisor can be zero
  std::string reason;   ///< why not proven; for a relational argument, what it rests on
};

/// Interval analysis of an integer network with its real weights (integer-approximations.md 15):
/// forward propagation from the levels of the graph inputs, one interval a channel, tightened for
/// quotients of linear attention by the relation between numerator and denominator (quotient.h).
/// Sound: every reachable value lies in its interval. The graph may grow; it must not change
/// otherwise.
class BoundsAnalysis {
 public:
  /// Graph inputs get the range of their QuantParams, else of their dtype (i32 inputs of foreign
  /// networks: signed 8 bit, which is what their dialect carries).
  explicit BoundsAnalysis(const Graph& graph) : graph_(&graph) {}

  const Bounds& of(ValueId id);
  /// States the bounds of a value instead of deriving them.
  void assume(ValueId id, Bounds bounds);
  /// Overflow check of one node.
  NodeBound check(NodeId id);
  /// For a linear node that is proven: the largest |accumulator| that the evaluator gives for
  /// operands built to reach the bound. A bound it meets cannot be lowered. Means: their sum,
  /// before the rounding half. nullopt for other operators.
  std::optional<double> attained(NodeId id);
  const Graph& graph() const { return *graph_; }

 private:
  bool is_float(ValueId id) const;

  const Graph* graph_;
  std::vector<std::optional<Bounds>> known_;
};

}  // namespace waveq
