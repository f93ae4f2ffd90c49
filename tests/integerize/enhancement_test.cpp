#include "waveq/integerize/enhancement.h"

#include <cmath>
#include <filesystem>
#include <numbers>

#include "net.h"
#include "waveq/graph/infer.h"
#include "waveq/graph/npz.h"

namespace waveq {
namespace {

using namespace test;
using Audio = std::vector<double>;

Audio random_audio(std::size_t samples, std::uint64_t seed) {
  return to_double(random_tensor({static_cast<std::int64_t>(samples)}, -1, 1, seed));
}

TEST_CASE("stft: the definition, for lengths that are powers of two, even, and twice an odd number") {
  for (std::size_t window : {2U, 6U, 8U, 12U, 20U}) {
    const Stft stft(window);
    CHECK(stft.bins() == window / 2 + 1);
    const Audio x = random_audio(3 * window + window / 2 - 1, 3);
    const auto spectrum = stft.transform(x);
    CHECK(stft.frames(x.size()) == 5);
    REQUIRE(spectrum.size() == 5 * stft.bins());
    double worst = 0;
    for (std::size_t f = 0; f < 5; ++f)
      for (std::size_t k = 0; k < stft.bins(); ++k) {
        std::complex<double> sum = 0;
        for (std::size_t i = 0; i < window; ++i) {
          const double turn = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(window);
          sum += x[f * window / 2 + i] * std::sin(turn / 2) * std::polar(1.0, -turn * static_cast<double>(k));
        }
        worst = std::max(worst, std::abs(sum - spectrum[f * stft.bins() + k]));
      }
    CHECK(worst < 1e-12);
    // Back again wherever two windows overlap.
    const Audio back = stft.inverse(spectrum, x.size());
    for (std::size_t i = window / 2; i + window / 2 < 3 * window; ++i) CHECK(back[i] == doctest::Approx(x[i]));
  }
  CHECK(Stft(8).frames(7) == 0);
  CHECK_THROWS_AS(Stft(7), Error);
  CHECK_THROWS_AS(Stft(0), Error);
}

TEST_CASE("si_sdr: literal ratios, whatever the scale") {
  const Audio speech{1, -1, 1, -1}, noise{1, 1, -1, -1};
  const auto mix = [&](double a, double b) {
    Audio y;
    for (std::size_t i = 0; i < 4; ++i) y.push_back(a * speech[i] + b * noise[i]);
    return y;
  };
  CHECK(si_sdr(mix(1, 1), speech) == doctest::Approx(0.0).epsilon(1e-6));
  CHECK(si_sdr(mix(10, 1), speech) == doctest::Approx(20.0).epsilon(1e-6));
  CHECK(si_sdr(mix(-30, 3), speech) == doctest::Approx(20.0).epsilon(1e-6));
  CHECK(si_sdr(mix(0.5, 0.5), mix(8, 0)) == doctest::Approx(0.0).epsilon(1e-6));
  CHECK(si_sdr(noise, speech) == doctest::Approx(-90.0));
}

struct File {
  std::filesystem::path path = std::filesystem::temp_directory_path() / "waveq_enhancement_test.npz";
  File(const std::vector<std::pair<std::string, Tensor>>& arrays) {
    std::vector<NpzItem> items;
    for (const auto& [name, tensor] : arrays) items.push_back({name, &tensor});
    write_npz(path, items);
  }
  ~File() { std::filesystem::remove(path); }
};

Graph network(const Shape& shape) {
  FloatNet net;
  net.output(net.op("Sigmoid", {net.input("x", shape)}));
  infer_types(net.graph);
  return net.graph;
}

TEST_CASE("si-sdr: a mask network reads log spectra; a mask of ones improves nothing, the ideal one a lot") {
  // Noise in the bins that speech has none in.
  constexpr std::int64_t kSamples = 64, kWindow = 16, kFrames = 7, kBins = 9;
  Tensor clean(DType::f32, {2, kSamples}), noisy(DType::i16, {2, kSamples});
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t i = 8; i < kSamples - 8; ++i) {
      const double t = 2 * std::numbers::pi * static_cast<double>(i) / kWindow;
      const double speech = std::sin(t * (1.0 + static_cast<double>(n))), noise = std::sin(6 * t);
      clean.as<float>()[n * kSamples + i] = static_cast<float>(speech);
      noisy.as<std::int16_t>()[n * kSamples + i] = static_cast<std::int16_t>(std::lround((speech + noise) * 8000));
    }
  const Graph graph = network({1, kFrames, kBins});
  const File file({{"x_int16", noisy}, {"x_scale", Tensor::scalar(1.0F / 8000)}, {"clean", clean}});
  const auto metric = make_metric("si-sdr", file.path, graph);
  const auto inputs = metric->inputs();
  REQUIRE(inputs);
  CHECK(inputs->size() == 2);
  Sample sample;
  REQUIRE(inputs->next(sample));
  REQUIRE(sample.inputs.front().shape() == Shape{1, kFrames, kBins});
  Audio first;
  for (std::size_t i = 0; i < kSamples; ++i) first.push_back(noisy.as<std::int16_t>()[i] / 8000.0);
  const auto spectrum = Stft(kWindow).transform(first);
  for (std::size_t i = 0; i < kFrames * kBins; ++i)
    CHECK(sample.inputs.front().as<float>()[i] == doctest::Approx((std::log(std::abs(spectrum[i]) + 1e-3) + 2) / 2));
  REQUIRE(inputs->next(sample));
  CHECK_FALSE(inputs->next(sample));

  Tensor ones(DType::f32, {1, kFrames, kBins}), ideal = ones;
  for (float& v : ones.as<float>()) v = 1;
  for (std::size_t i = 0; i < kFrames * kBins; ++i) ideal.as<float>()[i] = i % kBins < 4 ? 1.0F : 0.0F;
  for (std::uint64_t n : {0U, 1U}) {
    const Metric::Score score = metric->judge(n, ones, ideal);
    CHECK(std::abs(score.real) < 0.1);
    CHECK(score.integer > 10);
    CHECK(score.weight == 1);
  }
}

TEST_CASE("si-sdr: a network from audio to audio is judged on its output") {
  const Graph graph = network({1, 1, 16});
  const Tensor clean = random_tensor({3, 16}, -1, 1, 5), noisy = random_tensor({3, 1, 16}, -1, 1, 6);
  const File file({{"x", noisy}, {"clean", clean}});
  const auto metric = make_metric("si-sdr", file.path, graph);
  CHECK_FALSE(metric->inputs());
  const auto clip = [&](const Tensor& t) {
    const auto all = to_double(t);
    return Tensor::from<float>({1, 1, 16}, std::vector<float>(all.begin() + 16, all.begin() + 32));
  };
  const Metric::Score score = metric->judge(1, clip(noisy), clip(clean));
  CHECK(score.real == doctest::Approx(0.0));
  CHECK(score.integer > 60);
}

TEST_CASE("si-sdr: what does not fit is named") {
  const Tensor audio = random_tensor({2, 64}, -1, 1, 5), other = random_tensor({2, 60}, -1, 1, 5);
  const auto reason = [&](const std::vector<std::pair<std::string, Tensor>>& arrays, const Shape& shape) {
    const File file(arrays);
    try {
      make_metric("si-sdr", file.path, network(shape));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("none");
  };
  CHECK(reason({{"x", audio}, {"clean", audio}}, {1, 7, 9}) == "none");
  CHECK(reason({{"x", audio}}, {1, 7, 9}).find("'clean'") != std::string::npos);
  CHECK(reason({{"clean", audio}}, {1, 7, 9}).find("'x'") != std::string::npos);
  CHECK(reason({{"x", audio}, {"clean", other}}, {1, 7, 9}).find("one shape") != std::string::npos);
  CHECK(reason({{"x", audio}, {"clean", audio}}, {1, 6, 9}).find("do not fit") != std::string::npos);
  CHECK(reason({{"x", audio}, {"clean", audio}}, {1, 7}).find("do not fit") != std::string::npos);
  CHECK_THROWS_AS(make_metric("snr", "none.npz", network({1, 7})), Error);
}

}  // namespace
}  // namespace waveq
