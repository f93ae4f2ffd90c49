#include "waveq/integerize/evaluate.h"

#include <cmath>
#include <limits>

#include "net.h"
#include "shared_data.h"
#include "waveq/graph/npz.h"

namespace waveq {
namespace {

using namespace test;

std::filesystem::path write_data(const std::vector<std::pair<std::string, Tensor>>& arrays) {
  const auto path = scratch_dir() / "data.npz";
  std::vector<NpzItem> items;
  for (const auto& [name, tensor] : arrays) items.push_back({name, &tensor});
  write_npz(path, items);
  return path;
}

TEST_CASE("quantize_tensor: rounds half away from zero and clips") {
  const QuantParams q{.scale = 0.5, .n_levels = 256, .is_signed = true};
  const Tensor x = Tensor::from<float>({8}, {0.25F, -0.25F, 0.2F, 0.75F, -0.75F, 63.5F, 1000.0F, -1000.0F});
  CHECK(to_int64(quantize_tensor(x, q)) == Ints{1, -1, 0, 2, -2, 127, 127, -128});
  const QuantParams u{.scale = 0.5, .zero_point = 3, .n_levels = 16, .is_signed = false};
  CHECK(quantize_tensor(x, u).dtype() == DType::u8);
  CHECK(to_int64(quantize_tensor(x, u)) == Ints{4, 2, 3, 5, 1, 15, 15, 0});
}

/// Float: y = x * 2. Integer: the same codes, whose output scale is 1 in place of 2: half of the value is lost.
struct Pair {
  FloatNet real;
  Graph integer;
  Pair() {
    const ValueId x = real.input("x", {1, 2});
    real.output(real.op("Mul", {x, real.floats({}, {2.0F})}));
    const ValueId q = integer.add_input("x", {DType::i8, {1, 2}});
    integer.set_quant(q, QuantParams{});
    Attrs attrs;
    attrs.set("axis", std::int64_t{1});
    const ValueId y = integer.emit("Flatten", "y", {q}, attrs);
    integer.set_quant(y, QuantParams{.scale = 1.5});
    integer.add_output(y);
  }
};

TEST_CASE("evaluate: SQNR, agreement and top-1 of a case computed by hand") {
  const Pair p;
  // Codes are x rounded. Sample 0: 2x = [6, 4], 1.5 q = [4.5, 3]: signal 52, noise 3.25.
  // Sample 1: x = [0.4, 0.3], 2x = [0.8, 0.6], codes [0, 0]: signal 1, noise 1; argmax 0 and 0.
  // Sample 2: x = [1.6, 2.4], 2x = [3.2, 4.8], codes [2, 2]: 1.5 q = [3, 3]: signal 33.28, noise 3.28; argmax 1 and 0.
  const auto path = write_data({{"x", Tensor::from<float>({3, 2}, {3, 2, 0.4F, 0.3F, 1.6F, 2.4F})}, {"labels", Tensor::from<std::int64_t>({3}, {0, 1, 1})}});
  for (unsigned threads : {1U, 3U}) {
    Dataset data(path, p.real.graph, DatasetOptions{.labels = true, .classes = {}});
    std::size_t calls = 0;
    const Accuracy a = evaluate(p.real.graph, p.integer, data, threads, [&](std::string_view, std::size_t done, std::size_t total) {
      ++calls;
      CHECK(done == calls);
      CHECK(total == 3);
    });
    CHECK(calls == 3);
    CHECK(a.samples == 3);
    CHECK(a.metric == "top1");
    CHECK(a.agreement == doctest::Approx(2.0 / 3));
    CHECK(a.float_top1.value() == doctest::Approx(2.0 / 3));    // 0 1(label 1, argmax 0) 1
    CHECK(a.integer_top1.value() == doctest::Approx(1.0 / 3));
    CHECK(a.output_sqnr_db == doctest::Approx(10 * std::log10((52 + 1 + 33.28) / (3.25 + 1 + 3.28))).epsilon(1e-6));
    CHECK(a.median_sqnr_db == doctest::Approx(10 * std::log10(33.28 / 3.28)).epsilon(1e-6));
    CHECK(a.trimmed_sqnr_db == a.output_sqnr_db);  // 2 % of three samples is none
  }
}

TEST_CASE("evaluate: without labels there is no metric; equal networks have infinite SQNR") {
  const Pair p;
  Graph integer = p.integer;
  integer.set_quant(integer.outputs()[0], QuantParams{.scale = 2.0});
  const auto path = write_data({{"x", Tensor::from<float>({2, 2}, {3, -2, 5, 7})}});
  Dataset data(path, p.real.graph);
  const Accuracy a = evaluate(p.real.graph, integer, data, 1);
  CHECK(a.metric == "none");
  CHECK(!a.float_top1);
  CHECK(a.agreement == 1.0);
  CHECK(a.output_sqnr_db == std::numeric_limits<double>::infinity());
}

TEST_CASE("evaluate: the trimmed ratio leaves out the 2 % of samples with the largest error") {
  const Pair p;
  std::vector<float> x(200, 2.0F);
  x[0] = x[1] = 100.0F;  // one of 100 samples has almost all of the error
  Dataset data(write_data({{"x", Tensor::from<float>({100, 2}, x)}}), p.real.graph);
  const Accuracy a = evaluate(p.real.graph, p.integer, data, 2);
  CHECK(a.trimmed_sqnr_db == doctest::Approx(10 * std::log10(16.0)).epsilon(1e-9));  // 2x = 4, error 1
}

TEST_CASE("evaluate: any number of threads gives the same bits, and an error of any of them arrives") {
  const Pair p;
  const auto path = write_data({{"x", random_tensor({64, 2}, -20, 20, 5)}});
  Dataset one(path, p.real.graph), three(path, p.real.graph);
  const Accuracy a = evaluate(p.real.graph, p.integer, one, 1), b = evaluate(p.real.graph, p.integer, three, 3);
  CHECK(a.output_sqnr_db == b.output_sqnr_db);
  CHECK(a.median_sqnr_db == b.median_sqnr_db);
  CHECK(a.trimmed_sqnr_db == b.trimmed_sqnr_db);
  CHECK(a.agreement == b.agreement);
  Tensor bad = random_tensor({64, 2}, -20, 20, 5);
  bad.as<float>()[100] = NAN;
  Dataset broken(write_data({{"x", bad}}), p.real.graph);
  CHECK_THROWS_AS(evaluate(p.real.graph, p.integer, broken, 3), Error);
}

TEST_CASE("tensor_quality: ratio and saturation of a case computed by hand") {
  const Pair p;
  IntegerNetwork network;
  network.graph = p.integer;
  network.correspondences = {{"Mul", "y", 1.5}, {"gone", "y", 1.0}};
  // 2x = [6, 4], 1.5 q = [4.5, 3]; then codes 127 and -128: both ends.
  Dataset data(write_data({{"x", Tensor::from<float>({3, 2}, {3, 2, 200, -200, 0, 1})}}), p.real.graph);
  const auto q = tensor_quality(p.real.graph, network, data, 2);
  REQUIRE(q.size() == 1);
  CHECK(q[0].float_value == "Mul");
  CHECK(q[0].saturation == 0.5);
  const double noise = 2.25 + 1 + std::pow(400 - 190.5, 2) + std::pow(400 - 192.0, 2);
  CHECK(q[0].sqnr_db == doctest::Approx(10 * std::log10((52 + 320000) / noise)));
}

}  // namespace
}  // namespace waveq
