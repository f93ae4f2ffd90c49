#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "integer_run.h"

/// What the range tests share: parameters drawn over everything that is legal, and arithmetic in
/// 128 bits that keeps book of what left its type on the target.
namespace waveq::test {

constexpr std::int64_t kLow32 = -(std::int64_t{1} << 31), kHigh32 = (std::int64_t{1} << 31) - 1;

/// Any integer of lo..hi: the ends, small ones, and every magnitude between equally often.
inline std::int64_t anywhere(Draw& draw, std::int64_t lo, std::int64_t hi) {
  switch (draw(0, 11)) {
    case 0:
      return lo;
    case 1:
      return hi;
    case 2:
      return std::clamp<std::int64_t>(draw(-1, 1), lo, hi);
    default:
      break;
  }
  const std::int64_t magnitude = std::int64_t{1} << draw(0, 61);  // Draw subtracts its ends
  return std::clamp(draw(-magnitude, magnitude), lo, hi);
}
inline std::int32_t any32(Draw& draw) {
  return static_cast<std::int32_t>(anywhere(draw, kLow32, kHigh32));
}

/// The target's narrowing steps, on exact values.
class Steps {
 public:
  /// The low bits; notes where that changed the value.
  Wide to_signed(int bits, Wide value) {
    const Wide kept = low_bits(value, bits);
    fits_ = fits_ && kept == value;
    return kept;
  }
  Wide to_unsigned(int bits, Wide value) {
    const Wide modulus = Wide{1} << bits, kept = value - floor_of(value, modulus) * modulus;
    fits_ = fits_ && kept == value;
    return kept;
  }
  void overflow() { fits_ = false; }
  void no_result() { has_result_ = false; }
  bool fits() const { return fits_; }
  bool has_result() const { return has_result_; }

 private:
  bool fits_ = true, has_result_ = true;
};

/// `f` under both policies against `g`: an Error exactly where a step left its type, else equal
/// values; wrapped, the low bits, and an Error only where there is no result at all. Returns
/// whether nothing left its type.
inline bool agree(const std::function<std::vector<std::int64_t>(Overflow)>& f,
                  const std::function<std::vector<Wide>(Steps&)>& g) {
  Steps steps;
  const std::vector<Wide> wide = g(steps);
  const std::vector<std::int64_t> expected(wide.begin(), wide.end());
  for (const Overflow overflow : {Overflow::error, Overflow::wrap}) {
    const bool answers = steps.has_result() && (overflow == Overflow::wrap || steps.fits());
    try {
      const std::vector<std::int64_t> got = f(overflow);
      REQUIRE(answers);
      REQUIRE(got == expected);
    } catch (const Error& e) {
      REQUIRE_FALSE(answers);
      REQUIRE(e.code() == ErrorCode::overflow);
    }
  }
  return steps.fits() && steps.has_result();
}

/// For functions of one result.
template <class F, class G>
bool agree_on_one(F&& f, G&& g) {
  return agree([&](Overflow o) { return std::vector<std::int64_t>{f(o)}; },
               [&](Steps& s) { return std::vector<Wide>{g(s)}; });
}

}  // namespace waveq::test
