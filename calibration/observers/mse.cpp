#include <array>
#include <cmath>
#include <limits>

#include "observers/methods.h"

namespace waveq::observers_detail {

namespace {

constexpr int kOctaves = 8;
/// 2^(-i/16), correctly rounded.
constexpr std::array<double, 16> kSteps = {1.0,
                                           0.9576032806985737,
                                           0.9170040432046712,
                                           0.8781260801866497,
                                           0.8408964152537145,
                                           0.8052451659746271,
                                           0.7711054127039704,
                                           0.7384130729697497,
                                           0.7071067811865476,
                                           0.6771277734684463,
                                           0.6484197773255048,
                                           0.620928906036742,
                                           0.5946035575013605,
                                           0.5693943173783458,
                                           0.5452538663326288,
                                           0.5221368912137069};

}  // namespace

Range mse(const TensorStatistics& s, const QuantSpec& spec) {
  Range best = min_max(s, 1.0);
  double least = std::numeric_limits<double>::infinity();
  for (int k = 0; k <= kOctaves * 16; ++k) {
    const double limit =
        s.abs_max() * std::ldexp(kSteps[static_cast<std::size_t>(k % 16)], -(k / 16));
    const Range candidate = clipped(s, limit);
    const QuantizationError error = quantization_error(s, choose_params(candidate, spec));
    if (error.total < least) {
      least = error.total;
      best = candidate;
    }
    // Clipping alone only gets worse from here on, so no later candidate can win.
    if (error.clipped > least || least == 0.0) break;
  }
  return best;
}

}  // namespace waveq::observers_detail
