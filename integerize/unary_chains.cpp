#include "unary_chains.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "lowering/rules.h"
#include "waveq/graph/executor.h"

namespace waveq {

namespace {

/// A table with a row for each channel is worth its memory up to here.
constexpr std::int64_t kMaxRows = 256;

/// Functions of one tensor that no requant computes.
const std::set<std::string_view>& functions() {
  static const std::set<std::string_view> names{
      "Abs",        "Acos",           "Asin",      "Atan",    "Ceil",  "Celu",
      "Cos",        "Cosh",           "Elu",       "Erf",     "Exp",   "Floor",
      "Gelu",       "HardSwish",      "LeakyRelu", "Log",     "Mish",  "Neg",
      "Reciprocal", "Round",          "Selu",      "Sigmoid", "Sign",  "Sin",
      "Sinh",       "Softplus",       "Softsign",  "Sqrt",    "Swish", "Tan",
      "Tanh",       "ThresholdedRelu"};
  return names;
}

/// Functions of several tensors, of which all but one may be constants.
const std::set<std::string_view>& combinations() {
  static const std::set<std::string_view> names{"Add", "Div",   "Max", "Min", "Mul",
                                                "Pow", "PRelu", "Sub", "Sum"};
  return names;
}

/// Conditions and what they choose between.
const std::set<std::string_view>& choices() {
  static const std::set<std::string_view> names{
      "And",  "Cast",        "Equal", "Greater", "GreaterOrEqual",
      "Less", "LessOrEqual", "Not",   "Or",      "Where"};
  return names;
}

bool is_real_or_condition(const TensorType& type) {
  return type.dtype == DType::f32 || type.dtype == DType::boolean;
}

bool is_requant_clip(const Node& node) {
  return node.op == "Clip" && node.inputs.size() == 1 && node.attrs.get_float("min", -1) == 0 &&
         node.attrs.get_float("max", 1) > 0;
}

/// What the requant behind an accumulator does anyway: clips at 0, a factor, a term.
bool is_free(const Graph& graph, const Node& node) {
  if (node.op == "Relu" || node.op == "HardSigmoid" || is_requant_clip(node)) return true;
  if (node.inputs.size() != 2) return false;
  const bool constant_left = graph.is_constant(node.inputs[0]);
  if (node.op == "Add" || node.op == "Mul")
    return constant_left || graph.is_constant(node.inputs[1]);
  return (node.op == "Sub" || node.op == "Div") && graph.is_constant(node.inputs[1]);
}

bool is_elementwise(const Node& node) {
  return functions().contains(node.op) || combinations().contains(node.op) ||
         choices().contains(node.op) || node.op == "Relu" || node.op == "HardSigmoid" ||
         node.op == "Clip";
}

}  // namespace

bool needs_table(const Node& node) { return functions().contains(node.op); }

/// The tensors a node combines, constants apart.
struct UnaryChains::Operands {
  std::vector<ValueId> data;
};

std::optional<UnaryChains::Operands> UnaryChains::operands(const Node& node) const {
  if (!is_elementwise(node) || node.outputs.size() != 1) return std::nullopt;
  const TensorType& type = graph_.value(node.outputs.front()).type;
  if (!is_real_or_condition(type)) return std::nullopt;
  Operands out;
  for (ValueId in : node.inputs) {
    if (!in.valid()) continue;
    if (!graph_.is_constant(in)) {
      const TensorType& own = graph_.value(in).type;
      if (!is_real_or_condition(own) || own.shape != type.shape) return std::nullopt;
      out.data.push_back(in);
      continue;
    }
    const Tensor& constant = graph_.constant(in);
    const auto values = is_real_or_condition(constant.type())
                            ? per_channel_constant(constant, type.shape)
                            : std::nullopt;
    if (!values || static_cast<std::int64_t>(values->size()) > kMaxRows ||
        constant.shape().size() > type.shape.size())
      return std::nullopt;
  }
  if (out.data.empty()) return std::nullopt;
  return out;
}

UnaryChains::UnaryChains(const Graph& graph) : graph_(graph) {
  for (NodeId id : graph.topological_order()) visit(graph.node(id));
}

void UnaryChains::visit(const Node& node) {
  const auto in = operands(node);
  if (!in) return;
  const auto ancestors = [&](ValueId v) {
    const auto it = ancestors_.find(v);
    return it == ancestors_.end() ? std::vector<ValueId>{v} : it->second;
  };
  const std::vector<ValueId> first = ancestors(in->data.front());
  const auto common = std::ranges::find_if(first, [&](ValueId candidate) {
    return graph_.value(candidate).type.dtype == DType::f32 &&
           std::ranges::all_of(in->data, [&](ValueId v) {
             return std::ranges::count(ancestors(v), candidate) > 0;
           });
  });
  if (common == first.end()) return;
  const ValueId y = node.outputs.front();
  std::vector<ValueId>& own = ancestors_[y];
  own.assign(common, first.end());
  if (is_free(graph_, node) && !sources_.contains(in->data.front()))
    own.insert(own.begin(), y);
  else
    sources_[y] = *common;
}

std::optional<ValueId> UnaryChains::source(ValueId y) const {
  const auto it = sources_.find(y);
  return it == sources_.end() ? std::nullopt : std::optional(it->second);
}

bool UnaryChains::is_read(ValueId y) const {
  if (graph_.is_output(y)) return true;
  return std::ranges::any_of(graph_.value(y).uses, [&](NodeId user) {
    return !sources_.contains(graph_.node(user).outputs.front());
  });
}

std::vector<std::vector<double>> UnaryChains::evaluate(ValueId y, std::span<const double> x) const {
  // The nodes between x and y, and how many rows their constants make.
  const ValueId source = sources_.at(y);
  std::set<NodeId> nodes;
  std::vector<ValueId> open{y};
  const Shape& type = graph_.value(y).type.shape;
  std::int64_t rows = 1;
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    if (graph_.is_constant(v)) rows = std::max(rows, graph_.constant(v).size());
    if (v == source || graph_.is_constant(v) || !nodes.insert(graph_.value(v).producer).second)
      continue;
    for (ValueId in : graph_.node(graph_.value(v).producer).inputs)
      if (in.valid()) open.push_back(in);
  }
  // Points along the first axis, rows along axis 1: constants of either kind then broadcast.
  Shape shape(std::max<std::size_t>(type.size(), 1), 1);
  shape[0] = static_cast<std::int64_t>(x.size());
  if (rows > 1) shape[1] = rows;
  Tensor points(DType::f32, shape);
  for (std::size_t i = 0; i < static_cast<std::size_t>(points.size()); ++i)
    points.as<float>()[i] = static_cast<float>(x[i / static_cast<std::size_t>(rows)]);
  std::map<ValueId, Tensor> values{{source, points}};
  for (NodeId id : graph_.topological_order()) {
    if (!nodes.contains(id)) continue;
    const Node& node = graph_.node(id);
    std::vector<const Tensor*> inputs;
    for (ValueId in : node.inputs)
      inputs.push_back(!in.valid()              ? nullptr
                       : graph_.is_constant(in) ? &graph_.constant(in)
                                                : &values.at(in));
    values[node.outputs.front()] = evaluate_node(graph_, node, inputs).front();
  }
  const Tensor& result = values.at(y);
  std::vector<std::vector<double>> out(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < static_cast<std::size_t>(result.size()); ++i)
    out[i % static_cast<std::size_t>(rows)].push_back(static_cast<double>(result.as<float>()[i]));
  return out;
}

}  // namespace waveq
