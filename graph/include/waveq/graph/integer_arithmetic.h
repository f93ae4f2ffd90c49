#pragma once

#include <cstdint>
#include <span>

#include "waveq/graph/op.h"

/// The arithmetic of the integer dialect, one plain function an operator. These functions are the
/// specification: golden vectors come from them. All of them compute in wider integers and narrow
/// explicitly where the target's C narrows, so nothing here is undefined behaviour.
///
/// Notation: `>>` is arithmetic (floor), `/` truncates toward zero.
/// Under Overflow::error a value that leaves the target's type is an Error{overflow}; under
/// Overflow::wrap it is reduced to that type's low bits, as the target does.
/// Row functions throw Error{invalid_argument} for an empty row, sizes that do not match and
/// elements outside -128..255. Kernel files are those of pulp-platform/Deeploy (devel, bf64cfa),
/// TargetLibraries/*/src.
namespace waveq {

/// What happens to the bits that a right shift drops.
enum class Rounding : std::uint8_t {
  half_up,  ///< floor(v + 1/2): half of the divisor is added first
  floor,    ///< dropped
};

/// Rescaling of an accumulator: real scale_in / scale_out = mul * 2^-shift.
struct Requant {
  std::int32_t mul = 1;  ///< any sign
  std::int64_t add = 0;  ///< units of acc*mul; never contains the rounding half; int32, see below
  int shift = 0;         ///< 0..31
  std::int64_t lo = -128, hi = 127;       ///< ends of the output's codes, lo <= hi
  Rounding rounding = Rounding::half_up;  ///< of the shift
  /// What holds product and sums. 32 is Deeploy's kernels. 64 is the form of waveq's own domain:
  /// add is then up to kMaxWideAdd in magnitude, and nothing can overflow.
  int product_bits = 32;
};

inline constexpr std::int64_t kMaxWideAdd = std::int64_t{1} << 61;

/// clamp((acc*mul + add + half) >> shift, lo, hi), half = 2^(shift-1), or 0 for Rounding::floor and
/// for shift 0. The product and both sums must fit int32, as the target computes them there, or
/// int64 where product_bits says so.
/// \throws Error{overflow}; Error{invalid_argument} for a shift outside 0..31, lo > hi, an add
///   beyond its type and other product_bits.
/// Source: Generic/src/RequantShift_s8.c.
std::int32_t requant(std::int32_t acc, const Requant& rq);

/// The same with product and sums reduced modulo 2^32 where product_bits is 32.
std::int32_t requant_wrapped(std::int32_t acc, const Requant& rq);

/// An interval of integers; empty when lo > hi.
struct IntRange {
  std::int64_t lo = 0, hi = -1;
  bool empty() const { return lo > hi; }
  bool contains(std::int64_t x) const { return lo <= x && x <= hi; }
};

/// All int32 accumulators for which `requant` does not overflow. x -> x*mul + add is affine, so
/// they form one interval.
IntRange requant_safe_range(const Requant& rq);

/// floor(sqrt(n)), exact for every n >= 0; 0 for negative n, as the target's root returns.
std::int64_t isqrt(std::int64_t n);

/// Mean of `count` >= 1 integers with the given sum. A power of two: (sum + count/2) >>
/// log2(count), half towards +inf. Any other count: (sum + sgn(sum)*(count/2)) / count, half away
/// from zero (no kernel exists for it: the target refuses such lengths). Source: Generic template
/// IntegerMean / ReduceMean.
std::int64_t integer_mean(std::int64_t sum, std::int64_t count);

/// Integer division with a stretched numerator; eta and eps keep the divisor away from zero.
struct IntegerDiv {
  /// Factor of the numerator; offset and factor of the divisor.
  std::int32_t delta = 1, eps = 0, eta = 1;
};

/// d = eta*den + eps, n = delta*eta*num, (n + sgn(n)*(d >> 1)) / d with sgn(0) = 1: half away from
/// zero for d > 0. delta*eta and the result are int32, all else 64 bit.
/// \throws Error{overflow} (also under wrap) where d is 0: the target has no result there.
/// Source: Generic/src/Div_s32.c.
std::int32_t integer_div(std::int32_t num, std::int32_t den, const IntegerDiv& p,
                         Overflow overflow = Overflow::error);

/// Division by the constant y as one integer factor: floor(delta*eta / (y*eta + eps)).
/// The operator is x times this; the target knows it only merged into the requant behind it, where
/// the factor multiplies mul. \throws Error{invalid_argument} where y*eta + eps is 0,
/// Error{overflow} where the factor leaves int32. Source: Generic Passes.py, merging of
/// TrueIntegerDiv.
std::int32_t true_integer_div_factor(std::int64_t delta, std::int64_t eta, std::int64_t eps,
                                     std::int64_t y);

/// x * factor in int32.
std::int32_t int32_product(std::int32_t x, std::int32_t factor,
                           Overflow overflow = Overflow::error);

struct IGelu {
  std::int32_t b = -1;   ///< -128..-1 on the target (int8)
  std::int32_t one = 1;  ///< up to 32767 on the target (int16)
};

/// q = min(|x|, -b), L = sgn(x)*(one - (q + b)^2), x * ((one + L) >> 1). x in -128..255, b in int8
/// and one in int16: then nothing leaves int32. Source: Generic/src/GELU_s8.c.
std::int32_t igelu(std::int32_t x, const IGelu& p);

/// Parameters as the kernel's int8 and int16 arguments receive them.
/// \throws Error{overflow} where they do not fit; under wrap the low bits are kept.
IGelu igelu_arguments(std::int64_t b, std::int64_t one, Overflow overflow = Overflow::error);

struct IHardswish {
  /// 3 and 6 in units of x; 1/6 in units of its own.
  std::int32_t three = 0, six = 0, one_over_six = 1;
};

/// x * (clamp(x + three, 0, six) * one_over_six), every step int32. Source:
/// Generic/src/Hardswish_s8.c.
std::int32_t ihardswish(std::int32_t x, const IHardswish& p, Overflow overflow = Overflow::error);

struct ISoftmax {
  std::int32_t coeff_a = 1, coeff_b = 0;  ///< exp ~ A*(p + B)^2 + C over one octave
  std::int64_t coeff_c = 0;               ///< C
  std::int32_t log2 = 1;  ///< integer units of one octave; not 0, >= 2 for a meaningful result
  std::int32_t n_levels = 256;   ///< 2..256
  bool unsigned_octave = false;  ///< z passes through uint8 (PULP) instead of int8 (Generic)
};

/// One row of x in -128..255, written as unsigned probabilities 0..n_levels-1:
///   t = x - max, z = clamp(-(t / log2), 0, 31), p = t + z*log2, e = (A*(p+B)^2 + C) >> z,
///   y = e*(n-1) / sum(e).
/// z passes through int8 (or uint8); A*(p+B)^2 is int32; e, sum(e) and e*(n-1) are uint32.
/// \throws Error{overflow}, also under wrap, where sum(e) is 0 (the target divides by it);
/// Error{invalid_argument} for log2 = 0. Source: Generic/src/Softmax_s8.c.
void isoftmax(std::span<const std::int32_t> row, const ISoftmax& p, std::span<std::int32_t> out,
              Overflow overflow = Overflow::error);

/// h = (max - x + 16) >> 5, S = sum(256 >> h), y = ((n-1)*256 / S) >> h, 0..n-1. x in -128..255.
/// Source: Generic/src/Softmax_s8.c, ITAMax_s8.
void itamax(std::span<const std::int32_t> row, std::int32_t n_levels, std::span<std::int32_t> out,
            Overflow overflow = Overflow::error);

/// Streaming form: the row is read in groups of `group_width`, which must divide its length. Where
/// a group raises the maximum by r, S is first shifted right by (r + 16) >> 5; then S += sum(256 >>
/// ((max - x + 16) >> 5)) over the group. y = ((n/2 - 1)*256 / S) >> ((max - x + 16) >> 5),
/// 0..n/2-1. x in -128..255. \throws Error{invalid_argument} where group_width does not divide the
/// row. Source: Generic/src/Softmax_s8.c, ITAPartialMax_s8.
void ita_partial_max(std::span<const std::int32_t> row, std::int32_t n_levels,
                     std::int64_t group_width, std::span<std::int32_t> out,
                     Overflow overflow = Overflow::error);

/// m = sum(x)/N, t = x - m, v = sum(t^2)/N + 1, y = (t*w / isqrt(v) + bias) >> log2_d, where sums
/// of squares and v are int32, the product 64 bit. The target stores the low 8 bits of y and does
/// not saturate: outside int8 is an overflow. x in -128..255. Source: Generic/src/Layernorm_s8.c.
void ilayernorm(std::span<const std::int32_t> row, std::span<const std::int32_t> weight,
                std::span<const std::int32_t> bias, int log2_d, std::span<std::int32_t> out,
                Overflow overflow = Overflow::error);

/// The form that waveq's own domain has beside it: x in -32768..65535, v = sum(t^2)/N + epsilon
/// with sums of squares in int64, results int32; outside of that is an overflow. The sum of x stays
/// int32. `epsilon`: in squared steps of x, 1..2^40.
inline constexpr std::int64_t kLayerNormLargestEpsilon = std::int64_t{1} << 40;
void ilayernorm_wide(std::span<const std::int32_t> row, std::span<const std::int32_t> weight,
                     std::span<const std::int32_t> bias, int log2_d, std::int64_t epsilon,
                     std::span<std::int32_t> out, Overflow overflow = Overflow::error);

/// v = sum(x^2)/N + 1, y = clamp((x*w / isqrt(v)) >> log2_d, -128, 127), the product int32.
/// x in -128..255. Source: Generic/src/iRMSNorm_s8.c.
void irmsnorm(std::span<const std::int32_t> row, std::span<const std::int32_t> weight, int log2_d,
              std::span<std::int32_t> out, Overflow overflow = Overflow::error);

/// ((x*weight + bias) * mul) >> log2_d in int32, low 8 bits, no rounding and no saturation: outside
/// int8 is an overflow. Source: Snitch/src/iNoNorm.c.
std::int32_t inonorm(std::int32_t x, std::int32_t weight, std::int32_t bias, std::int32_t mul,
                     int log2_d, Overflow overflow = Overflow::error);

/// The value as int32. \throws Error{overflow} naming `where` and `what` where it does not fit;
/// under wrap its low 32 bits.
std::int32_t narrow_int32(std::int64_t value, Overflow overflow, const char* where,
                          const char* what);

/// Exponent of a power of two in 1..2^31. \throws Error{parse} naming attribute `name` otherwise.
int exact_log2(std::int64_t value, std::string_view name);

}  // namespace waveq
