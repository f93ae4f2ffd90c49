// Graph: what holds of references to its parts while it is built.

#include "waveq/graph/graph.h"

#include <doctest/doctest.h>

#include <vector>

namespace waveq {
namespace {

TEST_CASE("references to nodes and values stay valid while the graph grows") {
  constexpr int kAdditions = 2000;  // far beyond any container's first block
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 4}});
  std::vector<const Node*> nodes;
  std::vector<const Value*> values;
  ValueId last = x;
  for (int i = 0; i < kAdditions; ++i) {
    last = g.emit("Relu", "relu", {last});
    values.push_back(&g.value(last));
    nodes.push_back(&g.node(g.value(last).producer));
    g.add_constant("c", Tensor::scalar(1.0f));
  }
  g.add_output(last);

  const std::vector<NodeId> ids = g.nodes();
  REQUIRE(ids.size() == nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = g.node(ids[i]);
    REQUIRE(nodes[i] == &node);
    REQUIRE(values[i] == &g.value(node.outputs[0]));
  }
}

TEST_CASE("a reference shows changes of the node and survives its removal") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {4}});
  const ValueId y = g.emit("Relu", "y", {x});
  const NodeId id = g.value(y).producer;
  const Node& node = g.node(id);
  const Value& value = g.value(y);
  g.rename(y, "z");
  CHECK(value.name == "z");
  g.remove_node(id);
  CHECK(node.removed);
  CHECK(!value.producer.valid());
}

}  // namespace
}  // namespace waveq
