#include "waveq/rewrites/node_index.h"

#include <algorithm>

namespace waveq {

namespace {

// FNV-1a, 64 bits.
struct Hash {
  std::uint64_t state = 14695981039346656037ull;
  void byte(std::uint8_t b) { state = (state ^ b) * 1099511628211ull; }
  void number(std::int64_t n) {
    for (int i = 0; i < 8; ++i)
      byte(static_cast<std::uint8_t>(static_cast<std::uint64_t>(n) >> (8 * i)));
  }
  void text(std::string_view s) {
    number(static_cast<std::int64_t>(s.size()));
    for (char c : s) byte(static_cast<std::uint8_t>(c));
  }
};

/// Enough to tell constants apart; equality is checked on all of them afterwards.
constexpr std::size_t kHashedBytes = 64;

std::uint64_t hash_node(const Graph& graph, const Node& node) {
  Hash hash;
  hash.text(node.op);
  hash.text(to_string(node.attrs));
  for (ValueId in : node.inputs) {
    if (!graph.is_constant(in)) {
      hash.number(in.index);
      continue;
    }
    const Tensor& tensor = graph.constant(in);
    hash.byte(static_cast<std::uint8_t>(tensor.dtype()));
    for (std::int64_t dim : tensor.shape()) hash.number(dim);
    const auto bytes = tensor.bytes();
    for (std::byte b : bytes.first(std::min(bytes.size(), kHashedBytes)))
      hash.byte(static_cast<std::uint8_t>(b));
  }
  return hash.state;
}

bool same_value(const Graph& graph, ValueId a, ValueId b) {
  if (a == b) return true;
  return graph.is_constant(a) && graph.is_constant(b) && graph.constant(a) == graph.constant(b);
}

}  // namespace

bool same_computation(const Graph& graph, const Node& a, const Node& b) {
  if (a.op != b.op || a.inputs.size() != b.inputs.size() || !(a.attrs == b.attrs)) return false;
  for (std::size_t i = 0; i < a.inputs.size(); ++i)
    if (!same_value(graph, a.inputs[i], b.inputs[i])) return false;
  return true;
}

std::optional<NodeId> NodeIndex::find_or_insert(const Graph& graph, NodeId id) {
  std::vector<NodeId>& bucket = nodes_[hash_node(graph, graph.node(id))];
  std::erase_if(bucket, [&](NodeId other) { return graph.node(other).removed; });
  for (NodeId other : bucket)
    if (other != id && same_computation(graph, graph.node(other), graph.node(id))) return other;
  if (std::ranges::find(bucket, id) == bucket.end()) bucket.push_back(id);
  return std::nullopt;
}

}  // namespace waveq
