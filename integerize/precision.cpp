#include "precision.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <tuple>

#include "name_pattern.h"
#include "unary_chains.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

/// Weights of one output of a linear node with constant weights, at most: 16 bits times 8 then
/// leave an accumulator of 31, if all weights are the largest.
constexpr std::int64_t kMaxFanIn = 256;

bool is_arithmetic(const Node& node) {
  return node.op == "Add" || node.op == "Sub" || node.op == "Mul";
}

bool has_constant(const Graph& graph, const Node& node) {
  return std::ranges::any_of(node.inputs, [&](ValueId in) { return graph.is_constant(in); });
}

bool is_linear(const Node& node) {
  return node.op == "Conv" || node.op == "Gemm" || node.op == "MatMul";
}

/// A sum or a product of two activations.
bool is_combination(const Graph& graph, const Node& node) {
  return is_arithmetic(node) && !has_constant(graph, node);
}

std::int64_t fan_in(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 2 || !graph.is_constant(node.inputs[1])) return kMaxFanIn + 1;
  const Shape& w = graph.value(node.inputs[1]).type.shape;
  if (w.size() < 2 || w[0] == 0) return kMaxFanIn + 1;
  return node.op == "Conv" || node.attrs.get_int("transB", 0) != 0 ? element_count(w) / w[0]
                                                                   : w[w.size() - 2];
}

bool all_readers_gain(const Graph& graph, ValueId y);

/// Of a product of two activations the right operand (Lowering: both are too much), in attention
/// the sums.
bool gains_by_16_bits(const Graph& graph, const Node& reader, ValueId x) {
  if (reader.op == "MatMul" && !has_constant(graph, reader)) return reader.inputs[1] == x;
  if (is_linear(reader)) return fan_in(graph, reader) <= kMaxFanIn;
  // Initial states, which have 16 bits.
  if (reader.op == "GRU" || reader.op == "LSTM" || reader.op == "RNN")
    return std::ranges::find(reader.inputs, x) - reader.inputs.begin() >= 5;
  const OpDef* op = find_op(reader.op);
  if (reader.op == "MaxPool" || (op && op->moves_data))
    return reader.inputs.front() == x && all_readers_gain(graph, reader.outputs.front());
  return is_combination(graph, reader) || reader.op == "LayerNormalization";
}

bool all_readers_gain(const Graph& graph, ValueId y) {
  const Value& value = graph.value(y);
  return !graph.is_output(y) && !value.uses.empty() &&
         std::ranges::all_of(
             value.uses, [&](NodeId user) { return gains_by_16_bits(graph, graph.node(user), y); });
}

/// y and what constant factors and terms make of it, one after the other.
std::vector<ValueId> with_affine_readers(const Graph& graph, ValueId y) {
  std::vector<ValueId> all{y};
  while (graph.use_count(all.back()) == 1 && !graph.is_output(all.back())) {
    const Node& user = graph.node(graph.value(all.back()).uses.front());
    if (!is_arithmetic(user) || !has_constant(graph, user)) break;
    all.push_back(user.outputs.front());
  }
  return all;
}

bool is_computed_once(const Graph& graph, ValueId x) {
  return graph.value(x).producer.valid() && graph.use_count(x) == 1;
}

/// x and the values that movement alone leads from to it, where nothing else reads them.
void add_moved(const Graph& graph, ValueId x, std::set<ValueId>& found) {
  for (;;) {
    found.insert(x);
    const Node& producer = graph.node(graph.value(x).producer);
    const OpDef* op = find_op(producer.op);
    if (!op || !op->moves_data || !is_computed_once(graph, producer.inputs.front())) return;
    x = producer.inputs.front();
  }
}

/// The values that sums, scaled and moved, make x of, down to products, squares and the like.
void add_terms(const Graph& graph, ValueId x, std::set<ValueId>& found) {
  const Node& producer = graph.node(graph.value(x).producer);
  const OpDef* op = find_op(producer.op);
  const bool sums = producer.op == "Add" || producer.op == "Sub" || producer.op == "ReduceSum";
  const bool scales =
      producer.op == "Neg" || (producer.op == "Mul" && has_constant(graph, producer));
  if (!sums && !scales && !(op && op->moves_data)) return;
  for (const ValueId in : producer.inputs) {
    if (!in.valid() || !is_computed_once(graph, in)) continue;
    found.insert(in);
    add_terms(graph, in, found);
  }
}

/// x and most of most - x or x - most, most = ReduceMax(x), where nothing else reads them.
void add_distance(const Graph& graph, const Node& sub, std::set<ValueId>& found) {
  for (std::size_t i = 0; i < 2; ++i) {
    const ValueId x = sub.inputs[i], most = sub.inputs[1 - i];
    const NodeId producer = graph.value(most).producer;
    if (!producer.valid() || graph.node(producer).op != "ReduceMax" ||
        graph.node(producer).inputs.front() != x)
      continue;
    if (graph.use_count(x) != 2 || graph.use_count(most) != 1) continue;
    found.insert({x, most});
    if (graph.value(x).producer.valid()) add_terms(graph, x, found);
  }
}

/// What a LayerNormalization reads, up to where it is computed: it removes what the elements of a
/// row have in common, as they do behind a clip at zero, and leaves the rounding.
void add_normalized(const Graph& graph, const UnaryChains& tables, ValueId x,
                    std::set<ValueId>& found) {
  while (graph.value(x).producer.valid() && !tables.source(x) && all_readers_gain(graph, x)) {
    found.insert(x);
    const Node& producer = graph.node(graph.value(x).producer);
    const OpDef* op = find_op(producer.op);
    if (producer.op != "MaxPool" && !(op && op->moves_data)) return;
    x = producer.inputs.front();
  }
}

}  // namespace

std::set<ValueId> values_of_distances(const Graph& graph) {
  std::set<ValueId> found;
  for (const NodeId id : graph.nodes())
    if (graph.node(id).op == "Sub") add_distance(graph, graph.node(id), found);
  return found;
}

std::set<ValueId> values_of_streams(const Graph& graph, const UnaryChains& tables) {
  std::set<ValueId> found;
  for (const ValueId in : graph.inputs())
    if (!graph.is_constant(in) && all_readers_gain(graph, in)) found.insert(in);
  for (const NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    const ValueId y = node.outputs.front();
    if (node.op == "LayerNormalization") add_normalized(graph, tables, node.inputs.front(), found);
    const bool combines = is_combination(graph, node) && !tables.source(y);
    if (!combines && !is_linear(node) && node.op != "ReduceMean" && node.op != "ReduceSum")
      continue;
    const std::vector<ValueId> stream = with_affine_readers(graph, y);
    if (all_readers_gain(graph, stream.back())) found.insert(stream.begin(), stream.end());
    for (const ValueId in : node.inputs)
      if (combines && node.op != "Mul" && is_computed_once(graph, in)) add_moved(graph, in, found);
  }
  return found;
}

namespace {

using Rules = std::map<std::string, std::int64_t>;

/// What the closest rule says of each value that `concerns` lets through. `kind`: of rule, for the
/// message about one that matches nothing, `what` they are to match.
template <class Concerns>
std::map<ValueId, std::int64_t> by_closest_rule(const Graph& graph, const Rules& rules,
                                                const Concerns& concerns, const char* kind,
                                                const char* what) {
  std::map<ValueId, std::int64_t> found;
  std::set<std::string> used;
  for (std::size_t i = 0; i < graph.value_count() && !rules.empty(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    const Value& value = graph.value(id);
    if (value.constant || !concerns(value)) continue;
    std::size_t closest = 0;
    for (const auto& [pattern, wanted] : rules) {
      const std::size_t close = closeness(pattern, graph, value);
      if (close > 0) used.insert(pattern);
      if (close > closest) std::tie(closest, found[id]) = std::pair{close, wanted};
    }
  }
  for (const auto& [pattern, wanted] : rules)
    if (!used.contains(pattern))
      throw Error(ErrorCode::invalid_argument, fmt::format("{} rule '{}'", kind, pattern),
                  fmt::format("matches no {} of the network", what),
                  "patterns see names after rewriting: `waveq rewrite MODEL -o FILE` writes them");
  return found;
}

}  // namespace

std::set<ValueId> values_of_16_bits(const Graph& graph, const Rules& rules,
                                    std::set<ValueId> wide) {
  const auto computed = [](const Value& v) { return v.producer.valid() || !v.uses.empty(); };
  for (const auto& [id, bits] : by_closest_rule(graph, rules, computed, "precision", "node"))
    if (bits == 16)
      wide.insert(id);
    else
      wide.erase(id);
  return wide;
}

std::map<ValueId, std::int64_t> weight_levels_by_rule(const Graph& graph, const Rules& rules) {
  static const std::set<std::string_view> kWeighted{"Conv", "Gemm", "MatMul", "GRU", "LSTM"};
  const auto weighted = [&](const Value& v) {
    if (!v.producer.valid()) return false;
    const Node& node = graph.node(v.producer);
    return kWeighted.contains(node.op) && graph.is_constant(node.inputs.at(1));
  };
  return by_closest_rule(graph, rules, weighted, "weight_levels", "node with constant weights");
}

}  // namespace waveq
