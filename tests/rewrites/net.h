#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/rewrites/driver.h"
#include "waveq/rewrites/rules.h"

namespace waveq::test {

/// Small networks for rule tests. Inputs and constants are named as given, nodes by their operator.
struct Net {
  Graph graph;

  ValueId input(const std::string& name, Shape shape) {
    return graph.add_input(name, {DType::f32, std::move(shape)});
  }
  /// A float constant with distinct values of both signs, multiples of 1/4, none of them 0.
  ValueId weight(const std::string& name, Shape shape);
  ValueId floats(const std::string& name, Shape shape, std::vector<float> values) {
    return graph.add_constant(name, Tensor::from<float>(std::move(shape), values));
  }
  ValueId scalar(float value, Shape shape = {}) { return floats("c", std::move(shape), {value}); }
  ValueId ints(std::vector<std::int64_t> values);
  ValueId op(const std::string& name, std::vector<ValueId> inputs, Attrs attrs = {});
  /// The same with output types stated, for what inference alone cannot tell.
  std::vector<ValueId> typed(const std::string& name, std::vector<ValueId> inputs,
                             std::vector<TensorType> types);
  /// Marks a value as output "y", "y2", ... and gives it that name.
  Net& output(ValueId id);
};

/// Attributes from name, value pairs.
Attrs attrs(std::initializer_list<std::pair<std::string, Attr>> pairs);
std::vector<std::int64_t> ints(std::initializer_list<std::int64_t> values);

/// The outputs as one expression each, joined by "; ": operators with inputs and attributes, float
/// constants as their type, one-element and integer constants as their contents.
std::string expression(const Graph& graph);

/// One line a node, values numbered in the order in which a walk from the outputs meets them: equal
/// for graphs that differ in names, in order of nodes and in the contents of float constants only.
std::string structure(const Graph& graph);

/// Random inputs for the network, uniform in [-2, 2).
std::vector<Tensor> random_inputs(const Graph& graph, std::uint64_t seed);

struct Rewritten {
  Graph graph;
  RewriteReport report;
  std::string text;  ///< expression(graph)
  std::size_t count(std::string_view rule) const;
};

/// Applies the rules named (all: none named), verifying after every step, and holds every rule that
/// fired to its promise: outputs are equal in every bit (a zero's sign aside) if all are exact,
/// else within 1e-5 of the largest output, and 1e-3 where one approximates.
Rewritten rewrite_checked(const Net& net, std::vector<std::string> rules = {});

/// Reason of the only refusal; "" if there is none, all of them if there are more.
std::string refusal(const Rewritten& rewritten);

}  // namespace waveq::test
