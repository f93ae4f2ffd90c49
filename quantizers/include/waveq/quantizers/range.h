#pragma once

#include <cstdint>

namespace waveq {

/// Real values a tensor takes, both ends included.
struct Range {
  double lo = 0.0;
  double hi = 0.0;
  friend bool operator==(const Range&, const Range&) = default;
};

/// Integers a value can reach, both ends included; lo <= hi.
struct Interval {
  std::int64_t lo = 0;
  std::int64_t hi = 0;
  friend bool operator==(const Interval&, const Interval&) = default;
};

}  // namespace waveq
