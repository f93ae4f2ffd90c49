#include <cmath>

#include "methods.h"

namespace waveq::methods {

QuantParams symmetric_pow2(Range range, const QuantSpec& spec) {
  QuantParams params = symmetric(range, spec);
  int exponent = 0;
  const double mantissa = std::frexp(params.scale, &exponent);  // in [0.5, 1)
  const double finer = params.scale;
  params.scale = std::ldexp(1.0, mantissa == 0.5 ? exponent - 1 : exponent);
  const double zero = static_cast<double>(params.zero_point) * (finer / params.scale);
  params.zero_point = static_cast<std::int64_t>(std::floor(zero + 0.5));
  return params;
}

}  // namespace waveq::methods
