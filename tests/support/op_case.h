#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "waveq/graph/executor.h"
#include "waveq/graph/graph.h"
#include "waveq/graph/infer.h"

/// One-node graphs for operator tests: build, infer, evaluate.
namespace waveq::test {

/// An attribute written as {"strides", {2, 1}}, {"axis", -1}, {"mode", "edge"}, ...
struct NamedAttr {
  std::string name;
  Attr value;
  NamedAttr(std::string n, int v) : name(std::move(n)), value(std::int64_t{v}) {}
  NamedAttr(std::string n, double v) : name(std::move(n)), value(v) {}
  NamedAttr(std::string n, const char* v) : name(std::move(n)), value(std::string(v)) {}
  NamedAttr(std::string n, std::initializer_list<int> v)
      : name(std::move(n)), value(std::vector<std::int64_t>(v.begin(), v.end())) {}
  NamedAttr(std::string n, Attr v) : name(std::move(n)), value(std::move(v)) {}
};

struct OpCase {
  std::string op;
  std::vector<std::optional<Tensor>> inputs;  ///< nullopt: an absent optional input
  std::vector<NamedAttr> attrs = {};
  std::size_t outputs = 1;
  std::int64_t opset = 13;
  Overflow overflow = Overflow::error;
};

/// The one-node graph of a case, all inputs constant; the node is called "node". Untyped.
inline Graph untyped_graph_of(const OpCase& c) {
  Graph graph;
  graph.opset = c.opset;
  Node node;
  node.op = c.op;
  node.name = "node";
  for (const auto& input : c.inputs)
    node.inputs.push_back(input ? graph.add_constant("in", *input) : ValueId{});
  for (std::size_t i = 0; i < c.outputs; ++i) node.outputs.push_back(graph.add_value("out"));
  for (const NamedAttr& a : c.attrs) node.attrs.set(a.name, a.value);
  const std::vector<ValueId> outputs = node.outputs;
  graph.add_node(std::move(node));
  for (ValueId out : outputs) graph.add_output(out);
  return graph;
}

/// As above, types inferred.
inline Graph graph_of(const OpCase& c) {
  Graph graph = untyped_graph_of(c);
  infer_types(graph);
  return graph;
}

/// Outputs of the case, whose types must be the inferred ones.
inline std::vector<Tensor> run_all(const OpCase& c) {
  const Graph graph = untyped_graph_of(c);
  const Node& node = graph.node(graph.nodes().front());
  std::vector<const Tensor*> inputs;
  for (const auto& input : c.inputs) inputs.push_back(input ? &*input : nullptr);
  const std::vector<TensorType> types = infer_node(graph, node);
  std::vector<Tensor> results = evaluate_node(graph, node, inputs, c.overflow);
  REQUIRE(types.size() == results.size());
  for (std::size_t i = 0; i < types.size(); ++i) CHECK(results[i].type() == types[i]);
  return results;
}

/// The first output.
inline Tensor run(const OpCase& c) { return run_all(c).front(); }

/// Code of the Error that a case ends with; fails the test when it ends well.
inline ErrorCode error_of(const OpCase& c) {
  try {
    run_all(c);
  } catch (const Error& e) {
    INFO(e.what());
    CHECK(std::string(e.what()).find("node") != std::string::npos);
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

template <class T = float>
Tensor tensor(Shape shape, const std::vector<T>& values) {
  return Tensor::from<T>(std::move(shape), values);
}
inline Tensor ints(const std::vector<std::int64_t>& values) {
  return Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

/// Same type, and elements that differ by at most `tolerance`, relative to 1 or to the element.
inline void check_near(const Tensor& got, const Tensor& want, double tolerance) {
  REQUIRE(got.type() == want.type());
  const std::vector<double> a = to_double(got), b = to_double(want);
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO("element " << i << ": " << a[i] << ", wanted " << b[i]);
    CHECK(std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(b[i])));
  }
}

/// Uniform integers in [low, high] stored as T.
template <class T>
Tensor random_ints(Shape shape, std::int64_t low, std::int64_t high, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  Tensor t(dtype_of<T>::value, std::move(shape));
  for (T& v : t.as<T>())
    v = static_cast<T>(
        low + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(high - low + 1)));
  return t;
}

/// Floats with a few significant bits: sums of a few hundred products of them are exact in float32.
inline Tensor random_floats(Shape shape, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  Tensor t(DType::f32, std::move(shape));
  for (float& v : t.as<float>())
    v = static_cast<float>(static_cast<std::int64_t>(engine() % 65) - 32) / 8.0f;
  return t;
}

}  // namespace waveq::test
