#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "waveq/graph/executor.h"
#include "waveq/graph/graph.h"
#include "waveq/integerize/evaluate.h"
#include "waveq/integerize/integerize.h"

/// Small networks for the lowering tests: build, measure ranges, lower, compare.
namespace waveq::test {

using Ints = std::vector<std::int64_t>;

inline Attrs attributes(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (const auto& [name, value] : pairs) attrs.set(name, value);
  return attrs;
}

/// Uniform in [lo, hi), the same on every host.
inline Tensor random_tensor(Shape shape, double lo, double hi, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  Tensor t(DType::f32, std::move(shape));
  for (float& v : t.as<float>())
    v = static_cast<float>(lo + (hi - lo) * static_cast<double>(engine() >> 11) * 0x1p-53);
  return t;
}

struct FloatNet {
  Graph graph;

  ValueId input(const std::string& name, Shape shape) {
    return graph.add_input(name, {DType::f32, std::move(shape)});
  }
  ValueId random(Shape shape, double lo, double hi, std::uint64_t seed) {
    return graph.add_constant("c", random_tensor(std::move(shape), lo, hi, seed));
  }
  ValueId floats(Shape shape, const std::vector<float>& values) {
    return graph.add_constant("c", Tensor::from<float>(std::move(shape), values));
  }
  ValueId ints(const Ints& values) {
    return graph.add_constant(
        "s", Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values));
  }
  ValueId op(const std::string& name, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return graph.emit(name, name, std::move(inputs), std::move(attrs));
  }
  FloatNet& output(ValueId id) {
    graph.add_output(id);
    return *this;
  }
};

/// `count` random inputs for the network, uniform in [lo, hi).
inline std::vector<std::vector<Tensor>> samples_for(const Graph& graph, std::size_t count,
                                                    double lo = -1, double hi = 1) {
  std::vector<std::vector<Tensor>> samples(count);
  std::uint64_t seed = 1000;
  for (auto& sample : samples)
    for (ValueId in : graph.inputs())
      sample.push_back(random_tensor(graph.value(in).type.shape, lo, hi, ++seed));
  return samples;
}

/// Smallest and largest value of every tensor over the samples.
inline std::map<std::string, Range> measure_ranges(
    const Graph& graph, const std::vector<std::vector<Tensor>>& samples) {
  std::map<std::string, Range> ranges;
  Executor executor(graph);
  for (const auto& sample : samples)
    executor.run(sample, [&](ValueId id, const Tensor& t) {
      if (t.dtype() != DType::f32 || t.size() == 0) return;
      const auto [lo, hi] = std::ranges::minmax(to_double(t));
      const auto [it, fresh] = ranges.emplace(graph.value(id).name, Range{lo, hi});
      if (!fresh) it->second = {std::min(it->second.lo, lo), std::max(it->second.hi, hi)};
    });
  return ranges;
}

inline RangeLookup lookup(std::map<std::string, Range> ranges) {
  return [ranges](const std::string& name, const QuantSpec&) -> std::optional<Range> {
    const auto it = ranges.find(name);
    return it == ranges.end() ? std::nullopt : std::optional(it->second);
  };
}

struct Lowered {
  IntegerNetwork network;
  double worst_steps = 0;  ///< largest |float - dequantized| over all outputs, in output steps

  const Graph& graph() const { return network.graph; }
  std::vector<const Node*> nodes(std::string_view op) const {
    std::vector<const Node*> found;
    for (NodeId id : graph().topological_order())
      if (graph().node(id).op == op) found.push_back(&graph().node(id));
    return found;
  }
  std::size_t count(std::string_view op) const { return nodes(op).size(); }
  const QuantParams& out(std::size_t i = 0) const {
    return graph().value(graph().outputs().at(i)).quant.value();
  }
};

/// The rules of the dialect that every lowered network keeps.
inline void check_structure(const Graph& g) {
  g.verify();
  for (NodeId id : g.topological_order()) {
    const Node& n = g.node(id);
    INFO("node ", n.name);
    CHECK(is_integer(g.value(n.outputs.front()).type.dtype));
    if (n.op != "RequantShift") continue;
    const std::vector<std::int64_t> mul = to_int64(g.constant(n.inputs[1])),
                                    add = to_int64(g.constant(n.inputs[2]));
    const std::int64_t div = n.attrs.require_int("div");
    for (std::size_t c = 0; c < mul.size(); ++c) {
      REQUIRE(mul[c] != 0);
      CHECK(std::abs(mul[c]) < div);
      CHECK(add[c] % mul[c] == 0);
      CHECK(std::abs(add[c] / mul[c]) < 500 * std::abs(mul[c]));
    }
    CHECK(n.attrs.require_int("signed") ==
          (lowest(g.value(n.outputs.front()).type.dtype) < 0 ? 1 : 0));
  }
  for (ValueId out : g.outputs()) {
    CHECK(g.value(out).producer.valid());
    CHECK(g.value(out).quant.has_value());
  }
}

/// Lowers with the ranges of `samples`, checks the structure, and compares both networks on them.
/// Float inputs are first rounded to the input's grid, so that its rounding does not count.
inline Lowered lower_and_compare(const Graph& graph,
                                 const std::vector<std::vector<Tensor>>& samples,
                                 const IntegerizeOptions& options = {}) {
  Lowered result;
  result.network = integerize(graph, lookup(measure_ranges(graph, samples)), options);
  const Graph& q = result.network.graph;
  INFO(dump(q));
  check_structure(q);
  REQUIRE(q.outputs().size() == graph.outputs().size());
  REQUIRE(q.inputs().size() == graph.inputs().size());
  Executor real(graph), integer(q);
  for (const auto& sample : samples) {
    std::vector<Tensor> codes, rounded;
    for (std::size_t i = 0; i < sample.size(); ++i) {
      const QuantParams& p = q.value(q.inputs()[i]).quant.value();
      codes.push_back(quantize_tensor(sample[i], p));
      Tensor back(DType::f32, sample[i].shape());
      const auto code = to_double(codes.back());
      for (std::size_t k = 0; k < code.size(); ++k)
        back.as<float>()[k] =
            static_cast<float>((code[k] - static_cast<double>(p.zero_point)) * p.scale);
      rounded.push_back(std::move(back));
    }
    const auto want = real.run(rounded), got = integer.run(codes);
    for (std::size_t o = 0; o < want.size(); ++o) {
      REQUIRE(want[o].shape() == got[o].shape());
      const auto x = to_double(want[o]), y = to_double(got[o]);
      const auto zero = static_cast<double>(result.out(o).zero_point);
      for (std::size_t k = 0; k < x.size(); ++k)
        result.worst_steps =
            std::max(result.worst_steps, std::abs(x[k] / result.out(o).scale + zero - y[k]));
    }
  }
  return result;
}

inline Lowered lower_and_compare(const FloatNet& net, double lo = -1, double hi = 1,
                                 const IntegerizeOptions& options = {}) {
  return lower_and_compare(net.graph, samples_for(net.graph, 20, lo, hi), options);
}

}  // namespace waveq::test
