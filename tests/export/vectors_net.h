#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "waveq/export/vectors.h"

/// Small networks for the tests of vectors, and looking for cases by condition.
namespace waveq::test {

using Ints = std::vector<std::int64_t>;
using I8 = std::vector<std::int8_t>;
using I32 = std::vector<std::int32_t>;

inline Attrs attributes(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (const auto& [name, value] : pairs) attrs.set(name, value);
  return attrs;
}

inline Attrs requant_attrs(std::int64_t div, std::int64_t is_signed = 1) {
  return attributes({{"div", div}, {"n_levels_out", std::int64_t{256}}, {"signed", is_signed}});
}

/// x [1,2,6] -> Conv (3 filters of width 3, padded) -> RequantShift per channel.
inline Graph conv_requant() {
  Graph g;
  g.opset = 10;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2, 6}});
  const ValueId w = g.add_constant(
      "w", Tensor::from<std::int8_t>(
               {3, 2, 3}, I8{1, -2, 3, 0, 5, -6, 7, 7, 7, -7, -7, -7, -128, 127, 0, 1, 0, -1}));
  const ValueId acc =
      g.emit("Conv", "conv", {x, w},
             attributes({{"kernel_shape", Ints{3}}, {"pads", Ints{1, 1}}, {"strides", Ints{1}}}));
  const ValueId mul = g.add_constant("mul", Tensor::from<std::int32_t>({3, 1}, I32{5, -3, 5})),
                add = g.add_constant("add", Tensor::from<std::int32_t>({3, 1}, I32{10, 7, 10}));
  g.add_output(g.emit("RequantShift", "rq", {acc, mul, add}, requant_attrs(64)));
  return g;
}

inline NodeId node_named(const Graph& g, const std::string& name) {
  for (NodeId id : g.nodes())
    if (g.node(id).name == name) return id;
  FAIL("no node " << name);
  return {};
}

inline KernelVectors vectors_of(const Graph& g, const std::string& node,
                                const VectorOptions& options = {}) {
  BoundsAnalysis bounds(g);
  return kernel_vectors(bounds, node_named(g, node), options);
}

inline bool starts(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

/// The first case with a condition that starts like this.
inline const VectorCase* covering(const KernelVectors& v, const std::string& prefix) {
  for (const VectorCase& c : v.cases)
    for (const std::string& name : c.conditions)
      if (starts(name, prefix)) return &c;
  return nullptr;
}

inline bool lists(const std::vector<UnreachedCondition>& all, const std::string& prefix) {
  return std::ranges::any_of(all, [&](const UnreachedCondition& u) {
    return starts(u.condition, prefix) && !u.why.empty();
  });
}

inline std::int64_t mod(std::int64_t a, std::int64_t m) { return ((a % m) + m) % m; }

/// mul and add of channel c of conv_requant.
constexpr std::int64_t kMul[] = {5, -3, 5}, kAdd[] = {10, 7, 10};

}  // namespace waveq::test
