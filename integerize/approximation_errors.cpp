// Errors of the integer approximations, measured as in integer-approximations.md: the reference is
// the real function of the dequantized integer input, the measure the signal-to-noise ratio.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <random>

#include "waveq/integerize/approximation.h"

namespace waveq {

namespace {

using Row = std::vector<std::int32_t>;

class Ratio {
 public:
  void add(double wanted, double got) {
    signal_ += wanted * wanted;
    noise_ += (wanted - got) * (wanted - got);
  }
  double decibel() const { return 10.0 * std::log10(signal_ / noise_); }

 private:
  double signal_ = 0, noise_ = 0;
};

/// Normal deviates from uniform ones (Box and Muller 1958); the standard library's differ by host.
class Gaussian {
 public:
  explicit Gaussian(std::uint64_t seed) : engine_(seed) {}
  double uniform() { return static_cast<double>((engine_() >> 11) + 1) * 0x1p-53; }
  double operator()() {
    return std::sqrt(-2.0 * std::log(uniform())) * std::cos(2.0 * std::numbers::pi * uniform());
  }
  Row row(std::size_t length, double steps) {
    Row x(length);
    for (std::int32_t& q : x)
      q = static_cast<std::int32_t>(std::clamp(std::round((*this)() * steps), -128.0, 127.0));
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

using Softmax = std::function<void(const Row&, Row&)>;

double softmax_ratio(double sigma, double scale, std::size_t length, const Softmax& f) {
  Gaussian draw(7);
  Ratio ratio;
  Row y(length);
  for (int k = 0; k < 1000; ++k) {
    const Row x = draw.row(length, sigma / scale);
    f(x, y);
    const std::int32_t top = *std::ranges::max_element(x);
    double sum = 0;
    for (std::int32_t q : x) sum += std::exp(scale * (q - top));
    for (std::size_t i = 0; i < length; ++i)
      ratio.add(std::exp(scale * (x[i] - top)) / sum, y[i] / 255.0);
  }
  return ratio.decibel();
}

double layer_norm_ratio(double steps) {
  Gaussian draw(11);
  Ratio ratio;
  for (int k = 0; k < 300; ++k) {
    const std::size_t length = 64;
    std::vector<double> gain(length), bias(length, 0.0);
    for (double& g : gain) g = 0.8 + 0.4 * draw.uniform();
    const LayerNormParameters p = choose_layer_norm(gain, bias, -128, 127, 5.0 / 127, steps);
    const Row x = draw.row(length, steps);
    Row y(length);
    ilayernorm(x, p.weight, p.bias, p.log2_d, y);
    double mean = 0, variance = 0;
    for (std::int32_t q : x) mean += q / static_cast<double>(length);
    for (std::int32_t q : x) variance += (q - mean) * (q - mean) / static_cast<double>(length);
    for (std::size_t i = 0; i < length; ++i)
      ratio.add(gain[i] * (x[i] - mean) / std::sqrt(variance), p.scale * y[i]);
  }
  return ratio.decibel();
}

/// With the half step that the consumer adds.
double rms_norm_ratio(double steps) {
  Gaussian draw(17);
  Ratio ratio;
  for (int k = 0; k < 300; ++k) {
    const std::size_t length = 64;
    std::vector<double> gain(length);
    for (double& g : gain) g = 0.8 + 0.4 * draw.uniform();
    const RmsNormParameters p = choose_rms_norm(gain, 5.0 / 127, steps);
    const Row x = draw.row(length, steps);
    Row y(length);
    irmsnorm(x, p.weight, p.log2_d, y);
    double square = 0;
    for (std::int32_t q : x) square += static_cast<double>(q) * q / static_cast<double>(length);
    for (std::size_t i = 0; i < length; ++i)
      ratio.add(gain[i] * x[i] / std::sqrt(square), p.scale * (y[i] + 0.5));
  }
  return ratio.decibel();
}

double gelu_ratio(double scale) {
  const IGelu p = choose_igelu(scale);
  Ratio ratio;
  for (std::int32_t q = -128; q < 128; ++q) {
    const double x = scale * q;
    ratio.add(0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2)),
              igelu_scale(scale, p) * igelu(q, p));
  }
  return ratio.decibel();
}

double division_ratio(const IntegerDiv& p) {
  Gaussian draw(13);
  Ratio ratio;
  for (int k = 0; k < 20000; ++k) {
    const double num = std::round((2.0 * draw.uniform() - 1.0) * 60000.0),
                 den = std::round(500.0 + 59500.0 * draw.uniform());
    const std::int32_t q =
        integer_div(static_cast<std::int32_t>(num), static_cast<std::int32_t>(den), p);
    ratio.add(num / den, q / static_cast<double>(p.delta));
  }
  return ratio.decibel();
}

}  // namespace

std::vector<ApproximationError> measure_approximations() {
  std::vector<ApproximationError> out;
  const auto searched = [](double scale) {
    return [p = search_isoftmax(scale)](const Row& x, Row& y) { isoftmax(x, p, y); };
  };
  for (const auto& [sigma, scale, handbook] :
       {std::tuple{2.0, 0.25, 23.4}, {2.0, 0.125, 27.1}, {2.0, 0.0625, 27.6}, {1.0, 0.03125, 20.6}})
    out.push_back({"softmax = ibert", fmt::format("scale {}, sigma {}, rows of 64", scale, sigma),
                   softmax_ratio(sigma, scale, 64, searched(scale)), handbook, "6.1"});
  out.push_back(
      {"softmax = quantlib", "scale 0.0625, sigma 2, rows of 64",
       softmax_ratio(2.0, 0.0625, 64,
                     [p = quantlib_isoftmax(0.0625)](const Row& x, Row& y) { isoftmax(x, p, y); }),
       9.3, "6.1"});
  out.push_back(
      {"softmax = itamax", "scale ln 2/32, sigma 1, rows of 64",
       softmax_ratio(1.0, kItaMaxScale, 64, [](const Row& x, Row& y) { itamax(x, 256, y); }), 14.9,
       "6.3"});
  const auto by_table = [](double scale) {
    return [table = exponential_table(scale)](const Row& x, Row& y) {
      const std::int32_t top = *std::ranges::max_element(x);
      std::int32_t sum = 0;
      for (std::int32_t q : x) sum += table[static_cast<std::size_t>(top - q)];
      for (std::size_t i = 0; i < x.size(); ++i)
        y[i] = (integer_div(table[static_cast<std::size_t>(top - x[i])], sum, kSoftmaxQuotient) +
                64) >>
               7;
    };
  };
  for (const auto& [sigma, scale, handbook] :
       {std::tuple{1.0, 0.03125, 26.7}, {2.0, 0.0625, 33.6}, {4.0, 0.125, 42.7}})
    out.push_back({"softmax = lut", fmt::format("scale {}, sigma {}, rows of 64", scale, sigma),
                   softmax_ratio(sigma, scale, 64, by_table(scale)), handbook, "6.3"});
  out.push_back({"layer norm", "sigma 20 steps, rows of 64, none can wrap", layer_norm_ratio(20.0),
                 26.2, "9.1"});
  out.push_back({"rms norm", "sigma 20 steps, rows of 64", rms_norm_ratio(20.0), 28.6, "9.2"});
  for (const auto& [scale, handbook] : {std::pair{0.0195, 40.3}, {0.0313, 45.9}, {0.05, 52.1}})
    out.push_back(
        {"gelu", fmt::format("scale {}, all inputs", scale), gelu_ratio(scale), handbook, "7.1"});
  out.push_back({"division", "Delta 256, eta 1", division_ratio({256, 1, 1}), 58.7, "5.1"});
  out.push_back({"division", "Delta 256, eta 7", division_ratio({256, 1, 7}), 72.3, "5.1"});
  return out;
}

}  // namespace waveq
