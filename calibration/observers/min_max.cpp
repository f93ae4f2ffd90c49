#include <algorithm>

#include "observers/methods.h"

namespace waveq::observers_detail {

Range min_max(const TensorStatistics& s, double factor) {
  return {s.min() * factor, s.max() * factor};
}

Range clipped(const TensorStatistics& s, double limit) {
  const double lo = s.min(), hi = s.max();
  // With data on one side of zero the limit can fall short of the inner end: keep the order.
  return {std::min(std::max(lo, -limit), hi), std::max(std::min(hi, limit), lo)};
}

}  // namespace waveq::observers_detail
