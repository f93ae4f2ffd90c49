// Networks and vectors of other tools, below shared/vectors: every integer network must reproduce
// its stored outputs element for element.

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "shared_data.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {
namespace {

namespace fs = std::filesystem;

/// Folders below `root` that hold a network with vectors, sorted.
std::vector<fs::path> cases_below(const fs::path& root) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const fs::path dir = entry.path().parent_path();
    if (entry.path().filename() == "network.onnx" && fs::exists(dir / "inputs.npz") &&
        fs::exists(dir / "outputs.npz"))
      found.push_back(dir);
  }
  std::ranges::sort(found);
  return found;
}

std::vector<Tensor> read_arrays(const fs::path& path) {
  const NpzReader reader(path);
  std::vector<Tensor> arrays;
  for (const NpzArray& array : reader.arrays()) arrays.push_back(reader.read(array.name));
  return arrays;
}

/// Arrays belong to graph inputs by position; a surplus is ignored.
std::vector<Tensor> feed(const Graph& graph, const std::vector<Tensor>& arrays) {
  REQUIRE(arrays.size() >= graph.inputs().size());
  std::vector<Tensor> fed;
  for (std::size_t i = 0; i < graph.inputs().size(); ++i) {
    const Value& value = graph.value(graph.inputs()[i]);
    REQUIRE(arrays[i].size() == element_count(value.type.shape));
    fed.push_back(value.type.dtype == DType::f32
                      ? cast(arrays[i], DType::f32)
                      : to_integer_tensor(arrays[i], value.type.dtype, value.name));
    fed.back() = fed.back().reshaped(value.type.shape);
  }
  return fed;
}

/// Number of elements that differ, by more than `tolerance`.
std::int64_t differing(const Tensor& got, const Tensor& expected, double tolerance) {
  if (got.size() != expected.size()) return std::max<std::int64_t>(got.size(), 1);
  const std::vector<double> a = to_double(got), b = to_double(expected);
  std::int64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += !(std::abs(a[i] - b[i]) <= tolerance);
  return count;
}

struct Outcome {
  bool integer = false;
  std::int64_t elements = 0, wrong = 0;
};

Outcome replay(const fs::path& dir) {
  const Graph read = read_onnx(dir / "network.onnx");
  const std::vector<Tensor> arrays = read_arrays(dir / "inputs.npz"),
                            expected = read_arrays(dir / "outputs.npz");
  Outcome outcome;
  // A float network may come with its weights as further arrays; only the inputs count as samples.
  const std::size_t count = std::min(arrays.size(), read.inputs().size());
  outcome.integer = looks_integer(read, std::span(arrays).first(count));
  const Graph graph = outcome.integer ? to_integer_network(read) : read;
  Executor executor(graph, Overflow::wrap);
  const std::vector<Tensor> got = executor.run(feed(graph, arrays));
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const NodeId producer = graph.value(graph.outputs()[i]).producer;
    const bool leaves = producer.valid() && graph.node(producer).op == "Dequant";
    if (outcome.integer) CHECK(is_integer(got[i].dtype()) == !leaves);
    outcome.elements += expected[i].size();
    outcome.wrong += differing(got[i], expected[i], outcome.integer ? 0.0 : 1e-4);
  }
  return outcome;
}

void replay_all(const fs::path& root, const std::set<std::string>& floats) {
  for (const fs::path& dir : cases_below(root)) {
    const std::string name = fs::relative(dir, root).generic_string();
    CAPTURE(name);
    Outcome outcome;
    CHECK_NOTHROW(outcome = replay(dir));
    std::cout << name << ": " << outcome.elements - outcome.wrong << " of " << outcome.elements
              << (outcome.integer ? " elements, integer\n" : " elements, float\n");
    CHECK(outcome.integer == !floats.contains(name));
    CHECK(outcome.wrong == 0);
    CHECK(outcome.elements > 0);
  }
}

/// Deeploy's spelling of a tensor name: letters, digits and underscores are kept.
std::string deeploy_name(const std::string& name) {
  std::string out;
  for (char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') out += c;
  return out;
}

}  // namespace

TEST_CASE("vectors: every network of Deeploy reproduces its stored outputs") {
  const auto root = test::shared("vectors/deeploy");
  if (!root) return;
  replay_all(*root, {"Models/Autoencoder1D", "Models/Transformer_DeepQuant"});
}

TEST_CASE("vectors: the Waveformer reproduces what Deeploy's C computes") {
  const auto root = test::shared("vectors/ours");
  if (!root) return;
  replay_all(*root, {});
}

TEST_CASE("vectors: every intermediate tensor of the Waveformer equals Deeploy's buffer") {
  const auto dir = test::shared("vectors/ours/WaveFormer_tone");
  if (!dir) return;
  const Graph graph = to_integer_network(read_onnx(*dir / "network.onnx"));
  const NpzReader trace(*dir / "trace.npz");
  int compared = 0;
  Executor executor(graph, Overflow::wrap);
  executor.run(feed(graph, read_arrays(*dir / "inputs.npz")),
               [&](ValueId id, const Tensor& tensor) {
                 const std::string name = deeploy_name(graph.value(id).name);
                 const std::string key = trace.find(name + "_tensor") ? name + "_tensor" : name;
                 if (!trace.find(key)) return;
                 CAPTURE(graph.value(id).name);
                 CHECK(differing(tensor, trace.read(key), 0) == 0);
                 ++compared;
               });
  MESSAGE(compared << " of " << trace.arrays().size() << " buffers have a tensor of their name");
  CHECK(compared == 373);
}

TEST_CASE(
    "vectors: the Waveformer on speech and noise needs no wrap, so both overflow modes agree") {
  for (const char* name : {"WaveFormer_speech3", "WaveFormer_uniform", "WaveFormer_tone"}) {
    const auto dir = test::shared(fs::path("vectors/ours") / name);
    if (!dir) return;
    const Graph graph = to_integer_network(read_onnx(*dir / "network.onnx"));
    const std::vector<Tensor> in = feed(graph, read_arrays(*dir / "inputs.npz"));
    CAPTURE(name);
    CHECK(Executor(graph, Overflow::error).run(in) == Executor(graph, Overflow::wrap).run(in));
  }
}

}  // namespace waveq
