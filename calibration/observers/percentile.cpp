#include <algorithm>
#include <cmath>

#include "observers/methods.h"

namespace waveq::observers_detail {

Range percentile(const TensorStatistics& s, double percent) {
  const double rank = percent / 100.0 * static_cast<double>(s.count());
  double below = static_cast<double>(s.near_zero());
  if (percent >= 100.0 || rank <= below) return min_max(s, 1.0);
  const double unit = std::ldexp(1.0, s.exponent());
  for (int i = 0; i < TensorStatistics::kBins; ++i) {
    const double n = static_cast<double>(s.positive(i)) + static_cast<double>(s.negative(i));
    if (n > 0.0 && below + n >= rank) {
      const double from = TensorStatistics::edge(i) * unit;
      const double to = std::min(TensorStatistics::edge(i + 1) * unit, s.abs_max());
      return clipped(s, from + (to - from) * ((rank - below) / n));
    }
    below += n;
  }
  return min_max(s, 1.0);
}

}  // namespace waveq::observers_detail
