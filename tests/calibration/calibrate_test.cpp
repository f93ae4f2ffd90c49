#include "waveq/calibration/calibrate.h"

#include <doctest/doctest.h>

#include <cmath>

#include "npz_fixture.h"

using namespace waveq;

namespace {

/// x [1,4] -> MatMul W [4,3] -> Relu, and a Sqrt of the product beside it where wanted.
Graph network(bool with_root = false) {
  Graph g;
  g.name = "net";
  const ValueId x = g.add_input("x", {DType::f32, {1, 4}});
  const ValueId w = g.add_constant(
      "w", Tensor::from<float>({4, 3}, {1, -1, 0.5f, 2, 0, -0.25f, 0, 1, 1, 0.5f, -2, 0}));
  const ValueId product = g.emit("MatMul", "product", {x, w});
  g.add_output(g.emit("Relu", "relu", {product}));
  if (with_root) g.add_output(g.emit("Sqrt", "root", {product}));
  return g;
}

Tensor inputs(std::int64_t samples, int seed) {
  Tensor t(DType::f32, {samples, 4});
  std::uint64_t state = static_cast<std::uint64_t>(seed) + 1;
  for (float& v : t.as<float>()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = static_cast<float>(static_cast<double>(state >> 33) * 0x1p-31 - 0.5);
  }
  return t;
}

Tensor rows(const Tensor& all, std::int64_t from, std::int64_t to) {
  const std::span<const float> v = all.as<float>();
  return Tensor::from<float>({to - from, 4},
                             std::vector<float>(v.begin() + from * 4, v.begin() + to * 4));
}

CalibrationTable calibrated(const Graph& g, const Tensor& data, CalibrateOptions options = {}) {
  Dataset dataset(test::npz({{"x", data}}), g);
  return calibrate(g, dataset, options);
}

}  // namespace

TEST_CASE("calibrate: records inputs and node outputs, not constants") {
  const Graph g = network();
  const CalibrationTable t = calibrated(g, Tensor::from<float>({2, 4}, {1, 0, 0, 0, 0, 0, 2, -1}));
  REQUIRE(t.tensors.size() == 3);
  CHECK(t.model == "net");
  CHECK(t.samples == 2);
  CHECK(t.fingerprint.size() == 16);
  const TensorStatistics& x = t.find("x")->statistics;
  CHECK(x.count() == 8);
  CHECK(x.min() == -1.0f);
  CHECK(x.max() == 2.0f);
  const TensorStatistics& product = t.find("product")->statistics;  // [1,-1,0.5], [-0.5,4,2]
  CHECK(product.count() == 6);
  CHECK(product.min() == -1.0f);
  CHECK(product.max() == 4.0f);
  CHECK(t.find("relu")->statistics.min() == 0.0f);
  CHECK(t.find("relu")->statistics.near_zero() == 2);
  CHECK(t.find("w") == nullptr);
  CHECK(t.find("relu")->observer == "mse");
}

TEST_CASE("calibrate: the same bytes for every number of threads") {
  const Graph g = network();
  const Tensor data = inputs(101, 1);
  const std::string one = calibrated(g, data).to_text();
  for (const int threads : {0, 2, 3, 200})
    CHECK(calibrated(g, data, {.threads = threads}).to_text() == one);
}

TEST_CASE("calibrate: shards merge to the bytes of one run") {
  const Graph g = network();
  const Tensor data = inputs(50, 2);
  const CalibrationTable once = calibrated(g, data);
  const CalibrationTable joint =
      merge(calibrated(g, rows(data, 17, 50)), calibrated(g, rows(data, 0, 17), {.threads = 2}));
  CHECK(joint.to_text() == once.to_text());
}

TEST_CASE("calibrate: the order of samples does not matter") {
  const Graph g = network();
  const Tensor data = inputs(20, 3);
  Tensor reversed = data;
  for (std::int64_t i = 0; i < 20; ++i)
    for (std::int64_t k = 0; k < 4; ++k)
      reversed.as<float>()[i * 4 + k] = data.as<float>()[(19 - i) * 4 + k];
  CHECK(calibrated(g, reversed).to_text() == calibrated(g, data).to_text());
}

TEST_CASE("calibrate: starts with the first sample whatever was read before") {
  const Graph g = network();
  Dataset data(test::npz({{"x", inputs(5, 4)}}), g);
  Sample sample;
  REQUIRE(data.next(sample));
  const CalibrationTable first = calibrate(g, data), again = calibrate(g, data);
  CHECK(first.samples == 5);
  CHECK(first.find("x")->statistics.count() == 20);
  CHECK(first == again);
}

TEST_CASE("calibrate: filter, observer and progress are honoured") {
  const Graph g = network();
  CalibrateOptions options{.threads = 2, .observer = {"min_max", {}}};
  options.filter = [](const Value& v) { return v.name != "product"; };
  std::vector<std::uint64_t> done;
  options.progress = [&](std::uint64_t n, std::uint64_t all) {
    CHECK(all == 7);
    done.push_back(n);
  };
  const CalibrationTable t = calibrated(g, inputs(7, 5), options);
  CHECK(t.find("product") == nullptr);
  CHECK(t.tensors.size() == 2);
  CHECK(t.find("x")->observer == "min_max");
  CHECK(done == std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE(
    "calibrate: a tensor that becomes NaN is named with its sample, the first one for any thread "
    "count") {
  const Graph g = network(true);
  Tensor data(DType::f32, {40, 4});      // zeros: the root is 0
  data.as<float>()[23 * 4 + 1] = -1.0f;  // product -2 in sample 23
  data.as<float>()[31 * 4 + 1] = -1.0f;
  for (const int threads : {1, 2, 3}) {
    try {
      calibrated(g, data, {.threads = threads});
      FAIL("no error");
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::data);
      CHECK(e.where() == "tensor 'root'");
      CHECK(e.found().find("element 0 becomes") == 0);
      CHECK(e.found().find("in Sqrt 'root'") != std::string::npos);
      REQUIRE(e.context().size() == 1);
      CHECK(e.context()[0].find("running sample 23 of") == 0);
    }
  }
}

TEST_CASE("calibrate: unusable data stop every thread with the dataset's own message") {
  const Graph g = network();
  Tensor data = inputs(30, 6);
  data.as<float>()[12 * 4 + 2] = INFINITY;
  for (const int threads : {1, 3})
    CHECK_THROWS_WITH_AS(calibrated(g, data, {.threads = threads}),
                         doctest::Contains("sample 12, element 2 is inf"), Error);
}

TEST_CASE("calibrate: an unknown observer is refused before anything runs") {
  CHECK_THROWS_WITH_AS(calibrated(network(), inputs(1, 7), {.observer = {"ema", {}}}),
                       doctest::Contains("no observer"), Error);
}

TEST_CASE("fingerprint: follows structure, attributes and weights") {
  const Graph g = network();
  CHECK(fingerprint(g) == fingerprint(network()));
  CHECK(fingerprint(g) != fingerprint(network(true)));
  Graph weights = network();
  Tensor w = weights.constant(*weights.find_value("w"));
  w.as<float>()[0] = 1.5f;
  weights.set_constant(*weights.find_value("w"), w);
  CHECK(fingerprint(weights) != fingerprint(g));
  Graph attrs = network();
  Attrs a;
  a.set("alpha", 0.5);
  attrs.set_attrs(attrs.nodes()[0], a);
  CHECK(fingerprint(attrs) != fingerprint(g));
}
