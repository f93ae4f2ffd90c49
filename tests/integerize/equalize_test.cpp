#include "waveq/integerize/equalize.h"

#include <filesystem>

#include "net.h"
#include "shared_data.h"
#include "waveq/graph/npz.h"

namespace waveq {
namespace {

using namespace test;

constexpr std::int64_t kHeads = 2, kFeatures = 3, kChannels = kHeads * kFeatures, kTime = 8;

/// Linear attention whose features of K differ by the factor `spread` from one to the next; with `shared`, V
/// reads the convolution of K, too. `extra`: another reader of Q that is no product.
Graph attention(double spread, bool shared, bool extra = false) {
  FloatNet n;
  const ValueId x = n.input("x", {1, 4, kTime});
  const Tensor row = random_tensor({4}, -1, 1, 5);
  Tensor wk(DType::f32, {kChannels, 4, 1});
  double gain = 1;
  for (std::size_t c = 0; c < kChannels; ++c, gain *= spread)
    for (std::size_t i = 0; i < 4; ++i)
      wk.as<float>()[c * 4 + i] = static_cast<float>(gain) * row.as<float>()[i];
  const ValueId k_conv = n.op("Conv", {x, n.graph.add_constant("wk", wk)});
  const ValueId k = n.graph.emit("Relu", "k", {k_conv});
  const ValueId q = n.graph.emit(
      "Relu", "q", {n.op("Conv", {x, n.random({kChannels, 4, 1}, -1, 1, 6)})});
  const ValueId v = shared ? k_conv : n.op("Conv", {x, n.random({kChannels, 4, 1}, -1, 1, 7)});
  const auto heads = [&](ValueId t) {
    return n.op("Reshape", {t, n.ints({1, kHeads, kFeatures, kTime})});
  };
  const auto turned = [&](ValueId t) {
    return n.op("Transpose", {t}, attributes({{"perm", Ints{0, 1, 3, 2}}}));
  };
  const ValueId key = heads(k), query = turned(heads(q));
  const ValueId kv = n.graph.emit("MatMul", "kv", {key, turned(heads(v))});
  const ValueId num = n.op("MatMul", {query, kv});
  const ValueId mean = n.op("ReduceMean", {key}, attributes({{"axes", Ints{3}}, {"keepdims", std::int64_t{1}}}));
  const ValueId den = n.op("Add", {n.op("MatMul", {query, mean}), n.floats({}, {0.1F})});
  n.output(n.op("Div", {num, den}));
  if (extra) n.output(n.op("Add", {q, n.floats({}, {1.0F})}));
  return n.graph;
}

/// The samples as a file that a Dataset reads.
Dataset dataset(const Graph& graph) {
  static int count = 0;
  const auto path = scratch_dir() / ("equalize_" + std::to_string(count++) + ".npz");
  const Tensor x = random_tensor({6, 4, kTime}, -1, 1, 99);
  write_npz(path, std::vector<NpzItem>{{"x", &x}});
  return Dataset(path, graph);
}

TEST_CASE("equalize: features that differ much get factors, and their inverses for Q") {
  for (bool shared : {false, true}) {
    const Graph graph = attention(4, shared);
    Dataset data = dataset(graph);
    const ChannelFactors factors = choose_equalization(graph, data, 6);
    REQUIRE(factors.size() == 2);
    const std::vector<double>&k = factors.at("k"), &q = factors.at("q");
    REQUIRE(k.size() == kChannels);
    CHECK(k.front() > 4 * k.back());
    for (std::size_t c = 0; c < k.size(); ++c) CHECK(k[c] * q[c] == doctest::Approx(1).epsilon(1e-6));
  }
}

TEST_CASE("equalize: features alike, and features that something else reads, stay") {
  const Graph alike = attention(1, false), read = attention(4, false, true);
  Dataset data = dataset(alike), other = dataset(read);
  CHECK(choose_equalization(alike, data, 6).empty());
  CHECK(choose_equalization(read, other, 6).empty());
}

TEST_CASE("equalize: the float network computes the same, the integer network better") {
  const Graph graph = attention(4, true);
  Dataset data = dataset(graph);
  Graph equalized = graph;
  apply_equalization(equalized, choose_equalization(graph, data, 6));
  equalized.verify();
  const auto samples = samples_for(graph, 4);
  Executor before(graph), after(equalized);
  for (const auto& sample : samples) {
    const Tensor a = before.run(sample).front(), b = after.run(sample).front();
    for (std::size_t i = 0; i < a.as<float>().size(); ++i)
      CHECK(b.as<float>()[i] == doctest::Approx(a.as<float>()[i]).epsilon(1e-4));
  }
  const auto worst = [&](const Graph& g) { return lower_and_compare(g, samples).worst_steps; };
  CHECK(worst(equalized) < 0.8 * worst(graph));
}

TEST_CASE("equalize: factors for another network are refused") {
  Graph graph = attention(1, false);
  CHECK_THROWS_AS(apply_equalization(graph, {{"nothing", {1.0}}}), Error);
  CHECK_THROWS_AS(apply_equalization(graph, {{"k", {1.0, 2.0}}}), Error);
}

}  // namespace
}  // namespace waveq
