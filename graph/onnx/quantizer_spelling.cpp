#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

/// The only reader of a node's result; null where there are more, or the graph hands it out.
const NodeId* only_user(const Graph& graph, NodeId id) {
  const std::vector<ValueId>& outputs = graph.node(id).outputs;
  if (outputs.size() != 1 || graph.use_count(outputs[0]) != 1) return nullptr;
  const std::vector<NodeId>& uses = graph.value(outputs[0]).uses;
  return uses.size() == 1 ? &uses[0] : nullptr;
}

/// The one finite element of a constant input.
std::optional<double> scalar(const Graph& graph, const Node& node, std::size_t slot) {
  if (slot >= node.inputs.size() || !graph.is_constant(node.inputs[slot])) return std::nullopt;
  const Tensor& t = graph.constant(node.inputs[slot]);
  if (t.size() != 1 || t.dtype() == DType::boolean) return std::nullopt;
  const double x = to_double(t)[0];
  return std::isfinite(x) ? std::optional(x) : std::nullopt;
}

bool is_integral(double x) { return std::floor(x) == x && std::abs(x) < 2147483648.0; }

/// Takes the chain's nodes out and lets one node compute the last one's result from the first one's
/// input, under the last one's name.
void replace_chain(Graph& graph, std::span<const NodeId> chain, std::string op, Attrs attrs) {
  Node merged = graph.node(chain.back());
  const ValueId old = merged.outputs[0];
  const std::string name = graph.value(old).name;
  const ValueId y = graph.add_value(name, graph.value(old).type);
  merged.op = std::move(op);
  merged.attrs = std::move(attrs);
  merged.inputs = {graph.node(chain.front()).inputs[0]};
  merged.outputs = {y};
  graph.replace_uses(old, y);
  for (auto id = chain.rbegin(); id != chain.rend(); ++id) graph.remove_node(*id);
  graph.add_node(std::move(merged));
  std::string unused = name + "_unused";
  while (graph.find_value(unused)) unused += "_";
  graph.rename(old, unused);
  graph.rename(y, name);
}

bool keeps_shape(const Graph& graph, std::span<const NodeId> chain) {
  return graph.value(graph.node(chain.front()).inputs[0]).type.shape ==
         graph.value(graph.node(chain.back()).outputs[0]).type.shape;
}

/// Whether it has the inputs it needs: behind an unknown operator nothing has checked that.
bool is_complete(const Node& node) {
  const std::size_t wanted = node.op == "Round" ? 1 : node.op == "Clip" ? 3 : 2;
  return node.inputs.size() == wanted &&
         std::ranges::all_of(node.inputs, [](ValueId v) { return v.valid(); });
}

/// The nodes from `first` on whose operators are `ops`, each the only reader of the one before.
template <std::size_t N>
std::optional<std::array<NodeId, N>> chain_from(const Graph& graph, NodeId first,
                                                const std::array<const char*, N>& ops) {
  std::array<NodeId, N> chain;
  for (std::size_t i = 0; i < N; ++i) {
    const NodeId* next = i == 0 ? &first : only_user(graph, chain[i - 1]);
    if (!next || graph.node(*next).op != ops[i] || !is_complete(graph.node(*next)))
      return std::nullopt;
    chain[i] = *next;
  }
  for (std::size_t i = 1; i < N; ++i) {
    const Node& node = graph.node(chain[i]);
    const bool second = node.op == "Mul" && node.inputs[1] == graph.node(chain[i - 1]).outputs[0];
    if (!second && node.inputs[0] != graph.node(chain[i - 1]).outputs[0]) return std::nullopt;
  }
  return keeps_shape(graph, chain) ? std::optional(chain) : std::nullopt;
}

bool merge_quant(Graph& graph, NodeId first) {
  const auto chain = chain_from<4>(graph, first, {"Div", "Add", "Round", "Clip"});
  if (!chain) return false;
  const Node& clip = graph.node((*chain)[3]);
  const auto divisor = scalar(graph, graph.node(first), 1),
             zero = scalar(graph, graph.node((*chain)[1]), 1), lo = scalar(graph, clip, 1),
             hi = scalar(graph, clip, 2);
  constexpr double kMost = 65535;  // 16 bits, as read_quant_parameters wants them
  if (!divisor || *divisor == 0 || !zero || !lo || !hi || !is_integral(*lo) || !is_integral(*hi) ||
      *lo >= *hi || *hi - *lo > kMost || std::abs(*lo) > kMost)
    return false;
  const double scale = static_cast<double>(static_cast<float>(1 / *divisor));
  // Deeploy's rule; bounds that are no power of two apart lose a bit there.
  const bool is_signed = *lo < 0;
  const auto bits = static_cast<std::int64_t>(std::log2(is_signed ? *hi - *lo + 1 : *hi + 1));
  if (!std::isfinite(scale) || bits < 1 || bits > 16) return false;
  Attrs attrs;
  attrs.set("scale", scale);
  attrs.set("zero_point", *zero);
  attrs.set("bit_width", bits);
  attrs.set("signed", std::int64_t{is_signed ? 1 : 0});
  attrs.set("divisor", *divisor);
  attrs.set("min_val", static_cast<std::int64_t>(*lo));
  attrs.set("max_val", static_cast<std::int64_t>(*hi));
  replace_chain(graph, *chain, "Quant", std::move(attrs));
  return true;
}

bool merge_dequant(Graph& graph, NodeId first) {
  const auto chain = chain_from<2>(graph, first, {"Sub", "Mul"});
  if (!chain || graph.is_constant(graph.node(first).inputs[0])) return false;
  const Node& mul = graph.node((*chain)[1]);
  const std::size_t slot = graph.is_constant(mul.inputs[1]) ? 1 : 0;
  const auto zero = scalar(graph, graph.node(first), 1), scale = scalar(graph, mul, slot);
  if (!zero || !scale || (is_integral(*zero) && is_integral(*scale))) return false;
  Attrs attrs;
  attrs.set("scale", *scale);
  attrs.set("zero_point", *zero);
  attrs.set("bit_width", std::int64_t{8});
  attrs.set("signed", std::int64_t{1});
  replace_chain(graph, *chain, "Dequant", std::move(attrs));
  return true;
}

}  // namespace

std::size_t merge_quantizers(Graph& graph) {
  std::size_t merged = 0;
  for (const NodeId id : graph.nodes()) {
    if (graph.node(id).removed) continue;
    merged += merge_quant(graph, id) || merge_dequant(graph, id) ? 1 : 0;
  }
  if (merged > 0) graph.compact();
  return merged;
}

}  // namespace waveq
