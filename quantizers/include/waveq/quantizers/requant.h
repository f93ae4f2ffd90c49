#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "waveq/quantizers/range.h"

namespace waveq {

/// What a requant, y = clamp((x*mul + add + 2^(shift-1)) >> shift), may use on a target. The
/// defaults are the form in which Deeploy's Generic, PULP and CortexM kernels agree, with
/// parameters that float32 carries exactly.
struct RequantLimits {
  /// A multiplier below this is rounded by more than 1/2^8.
  static constexpr std::int64_t kFineMul = 128;

  int min_shift = 1;      ///< >= 1: PULP kernels shift by shift-1
  int max_shift = 24;     ///< <= 31
  int product_bits = 32;  ///< x*mul, x*mul+add, x*mul+add+half lie in (-2^(bits-1), 2^(bits-1))
  bool require_mul_below_div = true;  ///< |mul| < 2^shift (CMSIS multipliers are below 1)
  std::int64_t max_mul = std::int64_t{1} << 24;  ///< largest |mul|; float32 is exact up to here
  std::int64_t max_add = std::int64_t{1} << 24;  ///< largest |add|
  std::int64_t max_add_per_mul =
      500;  ///< |q| < this * |mul|: CortexM's round(add/(mul+1e-3)) then gives q back
  /// choose_scalar_requant only: the output scale follows the requant, so a ratio of 1 or more may
  /// be lowered to the largest legal one (the output is then as fine as the accumulator).
  bool free_scale = false;
  /// The target has the form of 64-bit products, too (Requant::product_bits): used where the one of
  /// `product_bits` has no legal parameters or only multipliers below kFineMul.
  bool wide_products = false;

  /// The limits of the 64-bit form: shifts up to 31, |x + q| < 2^31 for add = q*mul, so that a
  /// kernel may add q in int32 before it multiplies.
  RequantLimits widened() const;
};

/// Parameters of one RequantShift.
struct RequantChoice {
  std::vector<std::int32_t> mul;  ///< per channel, never 0
  std::vector<std::int64_t>
      add;                ///< per channel, q*mul with an integer q; without the rounding half
  int shift = 1;          ///< the same for all channels
  int product_bits = 32;  ///< 64 where the form of 64-bit products was taken
  std::vector<double> effective_scale;  ///< mul * 2^-shift: the factor that is really applied
  std::int64_t min_mul()
      const;  ///< smallest |mul|: below 64 costs whole output steps at full scale
};

/// Chooses the largest shift at which every channel keeps all limits. With
///   mul = round_half_up(ratio * 2^shift),  add = round_half_up(bias) * mul,
/// every x in its bounds is proved by exact (128-bit) arithmetic at the two ends, which suffices as
/// x*mul + add is affine in x.
///
/// `ratio[c]`: s_acc,c / s_out, finite and not 0 (negative where a gain is). `bias_in_acc_lsb[c]`:
/// real offset / s_acc,c; empty for none. `acc_bounds`: what the accumulator can reach before the
/// offset; one per channel, or one for all. Returns nothing where no shift does; `why`, if given,
/// then gets one sentence naming channel and limit. \throws Error{invalid_argument} for spans of
/// different length, bad numbers or limits. Source: deeploy-dialect.md 4.2 (agreement of backends),
/// integer-approximations.md 2.3.
std::optional<RequantChoice> choose_requant(std::span<const double> ratio,
                                            std::span<const double> bias_in_acc_lsb,
                                            std::span<const Interval> acc_bounds,
                                            const RequantLimits& limits = {},
                                            std::string* why = nullptr);

/// One multiplier for a whole tensor, add = 0.
struct ScalarRequant {
  std::int32_t mul = 1;          ///< within the limits; never 0
  int shift = 1;                 ///< within the limits
  int product_bits = 32;         ///< as in RequantChoice
  double effective_scale = 0.5;  ///< mul * 2^-shift
  /// Scale of the output that makes the requant exact up to rounding: s_acc * 2^shift / mul
  /// (effective-scale snapping). Carry this on instead of the scale that was asked for.
  double output_scale(double s_acc) const;
};

/// choose_requant for one channel without offset; see RequantLimits::free_scale.
std::optional<ScalarRequant> choose_scalar_requant(double ratio, Interval acc_bounds,
                                                   const RequantLimits& limits = {},
                                                   std::string* why = nullptr);

}  // namespace waveq
