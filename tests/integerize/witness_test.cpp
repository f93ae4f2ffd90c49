#include "waveq/integerize/witness.h"

#include <doctest/doctest.h>

#include "net.h"
#include "shared_data.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {
namespace {

using test::attributes;
using test::Ints;

ValueId requant(Graph& g, ValueId x, std::int32_t mul, int shift, const std::string& name) {
  return g.emit("RequantShift", name,
                {x, g.add_constant("m", Tensor::scalar(mul)),
                 g.add_constant("a", Tensor::scalar<std::int32_t>(0))},
                attributes({{"div", std::int64_t{1} << shift},
                            {"n_levels_out", std::int64_t{256}},
                            {"signed", std::int64_t{1}}}));
}

/// Every sample makes the evaluator throw, at the node that the search names where it comes first.
void check_wraps(const Graph& g, const WitnessSearch& found) {
  for (const auto& sample : found.samples)
    CHECK_THROWS_AS(Executor(g, Overflow::error).run(sample), Error);
  for (const Wrap& w : found.wraps) REQUIRE(w.sample < found.samples.size());
}

TEST_CASE("witness: a proven network needs no search") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  g.add_output(requant(g, x, 3, 4, "r"));
  const WitnessSearch found = search_wraps(g, prove(g));
  CHECK(found.trials == 0);
  CHECK(found.samples.empty());
}

TEST_CASE("witness: a requant that wraps at the end of its input's range") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  g.add_output(requant(g, x, 1 << 24, 24, "edge"));
  g.add_output(requant(g, x, (1 << 24) + 1, 24, "wraps"));
  const ProofReport p = prove(g);
  CHECK(p.unproven == std::vector<std::string>{"edge", "wraps"});
  const WitnessSearch found = search_wraps(g, p, {.trials = 60});
  // -128*2^24 is the smallest int32: the bound counts magnitudes, the evaluator the type itself.
  CHECK(found.find("edge") == nullptr);
  REQUIRE(found.find("wraps") != nullptr);
  CHECK(found.find("wraps")->what.find("-128*16777217") != std::string::npos);
  CHECK(found.samples.size() == 1);
  check_wraps(g, found);
}

TEST_CASE("witness: a divisor that becomes 0, and what lies behind it") {
  Graph g;
  const ValueId n = g.add_input("n", {DType::i8, {1, 4}});
  const ValueId d = g.add_input("d", {DType::u8, {1, 4}});
  const ValueId y = g.emit(
      "IntegerDiv", "quotient", {n, d},
      attributes(
          {{"Delta", std::int64_t{1} << 20}, {"eta", std::int64_t{1}}, {"eps", std::int64_t{0}}}));
  g.add_output(requant(g, y, 40, 20, "behind"));  // 127*2^20/1 * 40 leaves int32
  const WitnessSearch found = search_wraps(g, prove(g), {.trials = 200});
  REQUIRE(found.wraps.size() == 2);
  CHECK(found.wraps[0].node == "quotient");
  CHECK(found.wraps[1].node == "behind");
  check_wraps(g, found);
}

TEST_CASE("witness: climbing finds what random inputs miss") {
  // sum(w*x) of 64 elements wraps the requant beyond 0.6 of its largest value; random signs give
  // about 0.14 of it.
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 64}});
  Tensor w(DType::i8, {64, 1});
  std::mt19937_64 engine(9);
  for (auto& v : w.as<std::int8_t>())
    v = static_cast<std::int8_t>(static_cast<std::int64_t>(engine() % 255) - 127);
  const ValueId y = g.emit("Gemm", "y", {x, g.add_constant("w", w)});
  const double worst = prove(g).nodes.at(0).bound;
  const auto mul = static_cast<std::int32_t>(2147483648.0 / (0.6 * worst));
  g.add_output(requant(g, y, mul, 30, "r"));
  const WitnessSearch found = search_wraps(g, prove(g), {.trials = 3000});
  CHECK(found.trials > 1500);  // not by chance in the first half
  REQUIRE(found.wraps.size() == 1);
  CHECK(found.wraps[0].node == "r");
  check_wraps(g, found);
}

TEST_CASE("witness: the same seed finds the same samples, and inputs keep to their range") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i32, {1, 8}});  // of another tool: 8-bit data
  g.add_output(requant(g, g.emit("Mul", "square", {x, x}), 140000, 20, "r"));
  const ProofReport p = prove(g);
  const WitnessSearch a = search_wraps(g, p, {.trials = 100, .seed = 4}),
                      b = search_wraps(g, p, {.trials = 100, .seed = 4});
  REQUIRE(a.samples.size() == 1);
  CHECK(a.trials == b.trials);
  CHECK(a.samples == b.samples);
  for (std::int64_t v : to_int64(a.samples[0][0])) CHECK((v >= -128 && v <= 127));
}

TEST_CASE("witness: a proof that were wrong would be found out") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2}});
  const ValueId y = g.emit(
      "IntegerDiv", "q", {x, x},
      attributes({{"Delta", std::int64_t{1}}, {"eta", std::int64_t{1}}, {"eps", std::int64_t{0}}}));
  g.add_output(requant(g, y, 1 << 30, 25, "r"));
  ProofReport p = prove(g);
  p.nodes[0].proven = true;
  p.unproven = {"r"};
  CHECK_THROWS_AS(search_wraps(g, p, {.trials = 50}), Error);
}

TEST_CASE("witness: inputs on which a Waveformer that QuantLib exported wraps") {
  const auto dir = test::shared("vectors/deeploy/Models/WaveFormer");
  if (!dir) return;
  const Graph g = to_integer_network(read_onnx(*dir / "network.onnx"));
  const WitnessSearch found = search_wraps(g, prove(g), {.trials = 120});
  REQUIRE(!found.wraps.empty());
  for (const Wrap& w : found.wraps) CHECK(w.op == "RequantShift");  // those behind the divisions
  check_wraps(g, found);
}

TEST_CASE("witness: no proven node of the shared networks wraps on inputs that try to") {
  for (const char* name : {"Kernels/Integer/Attention", "Kernels/Integer/iNoNorm",
                           "Kernels/Integer/Conv/PW_2D_RQ/Unsigned_RQ", "Models/CCT/Int/ICCT",
                           "Models/CCT/Int/ICCT_ITA"}) {
    const auto dir = test::shared(std::string("vectors/deeploy/") + name);
    if (!dir) return;
    INFO(name);
    const Graph g = to_integer_network(read_onnx(*dir / "network.onnx"));
    check_wraps(g, search_wraps(g, prove(g), {.trials = 30}));
  }
}

}  // namespace
}  // namespace waveq
