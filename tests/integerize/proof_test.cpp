#include "waveq/integerize/proof.h"

#include <doctest/doctest.h>

#include <cmath>

#include "shared_data.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {
namespace {

ValueId requant(Graph& g, ValueId x, std::int32_t mul, std::int64_t div, const std::string& name) {
  Attrs attrs;
  attrs.set("div", div);
  attrs.set("n_levels_out", std::int64_t{256});
  attrs.set("signed", std::int64_t{1});
  return g.emit("RequantShift", name, {x, g.add_constant("m", Tensor::scalar(mul)), g.add_constant("a", Tensor::scalar<std::int32_t>(0))}, attrs);
}

TEST_CASE("proof: a requant that can wrap is unproven and named, its neighbour is not") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  // 127 * 2^24 + 2^23 < 2^31 <= |-128 * 2^24|: the last multiplier that fits is one below.
  g.add_output(requant(g, x, (1 << 24) - 1, 1 << 24, "fits"));
  g.add_output(requant(g, x, 1 << 24, 1 << 25, "wraps"));
  const ProofReport p = prove(g);
  CHECK(!p.overflow_free());
  CHECK(p.unproven == std::vector<std::string>{"wraps"});
  REQUIRE(p.nodes.size() == 2);
  CHECK(p.nodes[0].bound == 128.0 * ((1 << 24) - 1));
  CHECK(p.nodes[0].headroom_bits == doctest::Approx(std::log2(2147483648.0 / p.nodes[0].bound)));
  CHECK(p.nodes[1].bound == 2147483648.0);
  CHECK(p.nodes[1].reason.find("int32") != std::string::npos);
  CHECK(p.min_headroom_bits == p.nodes[0].headroom_bits);  // of the proven ones
}

TEST_CASE("proof: a partial sum that leaves int32 counts, although the total does not") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2}});
  // Weights beyond 8 bits, as other tools write them: w*x reaches 2^31 - 128 and 2*that; the sum cancels for equal inputs only.
  const ValueId y = g.emit("Gemm", "y", {x, g.add_constant("w", Tensor::from<std::int32_t>({2, 1}, {16777215, -16777215}))});
  g.add_output(y);
  CHECK(prove(g).unproven == std::vector<std::string>{"y"});
}

TEST_CASE("proof: data movement is left out, operators without a rule are named") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  const ValueId r = g.emit("Reshape", "r", {x, g.add_constant("s", Tensor::from<std::int64_t>({2}, {4, 1}))});
  Node unknown;
  unknown.op = "Mystery";
  unknown.name = "m";
  unknown.inputs = {r};
  unknown.outputs = {g.add_value("y", {DType::i8, {4, 1}})};
  const ValueId y = unknown.outputs[0];
  g.add_node(unknown);
  g.add_output(requant(g, y, 3, 8, "after"));
  const ProofReport p = prove(g);
  REQUIRE(p.nodes.size() == 2);
  CHECK(p.unproven == std::vector<std::string>{"m", "after"});
}

TEST_CASE("proof: a chain deeper than the call stack") {
  Graph g;
  ValueId v = g.add_input("x", {DType::i8, {1, 2}});
  for (int i = 0; i < 20000; ++i) v = requant(g, v, 3, 4, "r");
  g.add_output(v);
  {
    const ProofReport p = prove(g);
    CHECK(p.overflow_free());
    CHECK(p.nodes.size() == 20000);
  }
}

struct Counts {
  std::size_t requants = 0, unproven_requants = 0, divisions = 0, nodes = 0;
  std::vector<std::string> unproven;
};

std::optional<Counts> counts_of(const std::string& folder) {
  const auto dir = test::shared(folder);
  if (!dir) return std::nullopt;
  const ProofReport p = prove(to_integer_network(read_onnx(*dir / "network.onnx")));
  Counts c;
  c.unproven = p.unproven;
  c.nodes = p.nodes.size();
  for (const NodeProof& n : p.nodes) {
    c.requants += n.op == "RequantShift";
    c.unproven_requants += n.op == "RequantShift" && !n.proven;
    c.divisions += n.op == "IntegerDiv";
    if (!n.proven) CHECK((n.op == "RequantShift" || n.op == "IntegerDiv"));
  }
  return c;
}

TEST_CASE("proof: of a Waveformer that QuantLib exported, the requants behind its divisions alone are open") {
  const auto c = counts_of("vectors/deeploy/Models/WaveFormer");
  if (!c) return;
  CHECK(c->requants == 182);
  CHECK(c->unproven_requants == 9);
  CHECK(c->divisions == 9);
  CHECK(c->unproven.size() == 18);  // the divisions themselves and what requantizes them
}

TEST_CASE("proof: MLPerf networks of another tool are proven") {
  for (const char* name : {"AnomalyDetection", "ImageClassification", "KeywordSpotting"}) {
    const auto c = counts_of(std::string("vectors/deeploy/Models/MLPerf/") + name);
    if (!c) continue;
    INFO(name);
    CHECK(c->nodes > 0);
    CHECK(c->unproven.empty());
  }
}

}  // namespace
}  // namespace waveq
