#pragma once

#include <cmath>

namespace waveq {

/// floor(x + 1/2) of the real number x: adding 0.5 in double first would lift 0.5 - 2^-54 to 1.
inline double round_half_up(double x) {
  const double below = std::floor(x);
  return x - below >= 0.5 ? below + 1.0 : below;  // the difference is exact
}

/// Nearest integer, ties to the even one; unlike std::nearbyint independent of the rounding mode.
inline double round_half_even(double x) {
  const double below = std::floor(x);
  const double rest = x - below;
  if (rest != 0.5) return rest > 0.5 ? below + 1.0 : below;
  return std::fmod(below, 2.0) == 0.0 ? below : below + 1.0;
}

}  // namespace waveq
