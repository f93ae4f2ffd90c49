#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// Which values of a float graph are functions of one other value, element by element:
///   y[n,c,...] = f_c(x[n,c,...]),
/// where f is any composition of elementwise operators and constants (one number, or one for each
/// index of axis 1), x used any number of times: x*sigmoid(x), exp(-x^2), 1/(1+|x|). Conditions on
/// x may choose: x > 20 ? x : log(1 + exp(x)).
///
/// A chain ends where a lookup table would no longer do, and starts behind everything that a
/// requant does for nothing (ReLU, clips at 0, constant factors and terms): what stands in front of
/// the first other operator is no part of it, so that it keeps all levels of its own.
class UnaryChains {
 public:
  explicit UnaryChains(const Graph& graph);

  /// The x that y is a table of; nothing for values that need no table, or have none.
  std::optional<ValueId> source(ValueId y) const;
  /// Whether somebody reads y itself, not just tables of which y is an intermediate value.
  bool is_read(ValueId y) const;
  /// f_c at the points `x`, in float32: a row for each index of axis 1 where f differs between
  /// them, else one.
  std::vector<std::vector<double>> evaluate(ValueId y, std::span<const double> x) const;

 private:
  struct Operands;
  std::optional<Operands> operands(const Node& node) const;
  void visit(const Node& node);

  const Graph& graph_;
  /// Values that a value is an elementwise function of, nearest first; itself, unless it needs a
  /// table.
  std::map<ValueId, std::vector<ValueId>> ancestors_;
  std::map<ValueId, ValueId> sources_;
};

/// Operators that have an integer form as a table alone.
bool needs_table(const Node& node);

}  // namespace waveq
