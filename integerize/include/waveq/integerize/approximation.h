#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

/// Scales of iSoftmax's input for which its parameters exist: log2 >= 2 (an octave of one step
/// leaves the kernel's int8) and B^2 + C < 2^24 (its exponentials times 255 are uint32).
inline constexpr double kSoftmaxFinest = 5.0e-4, kSoftmaxCoarsest = 0.34;

/// iSoftmax for rows of this scale: I-BERT's exponential, exp(-r) ~ (A*(p + B)^2 + C) >> z with
/// octaves of ln 2, its three constants searched around I-BERT's (B = 1.353/scale, C =
/// 0.959/scale^2, log2 = ln 2/scale) for the least sum over all differences d = 0..255 of
/// (E(d)/E(0) - exp(-scale*d))^2. Same kernel, several dB more at coarse scales than rounding each
/// constant. `scale` within [kSoftmaxFinest, kSoftmaxCoarsest]. Source: Kim et al., I-BERT (arXiv
/// 2101.01321), 3.5; integer-approximations.md 6.1.
ISoftmax search_isoftmax(double scale);

/// What a step of iSoftmax's result stands for. The kernel rounds p*255 down, half a step on
/// average, which long rows of small probabilities feel: the scale of least squared error,
/// sum(p*q)/sum(q^2), where the distribution of p is known, else 1/255. `counts[c]`: how often p's
/// nearest multiple of 1/255 is c, c = 0..255; half of these are rounded down to c - 1.
double isoftmax_scale(const std::vector<double>& counts);

/// The constants as QuantLib exports them, log2 = round(1/scale) where ln 2/scale would be right:
/// for networks trained with its fake quantization.
ISoftmax quantlib_isoftmax(double scale);

/// Scale of ITAMax's input at which its powers of two are exponentials: a shift each 32 steps, so
/// 32*scale = ln 2.
inline constexpr double kItaMaxScale = 0.021660849392498291;

/// E(d) = round(65535*exp(-scale*d)), d = 0..255: the exponential of softmax by a table, exact to
/// half a step. Source: integer-approximations.md 5.3(a), 6.2.
std::vector<std::int32_t> exponential_table(double scale);
/// E/sum(E) in steps of 1/32640 = 1/(255*2^7), rounded half away from zero; the 1 that is added to
/// the sum, at least 65535, keeps the bound of the quotient finite. Shifted by 7, steps of 1/255.
inline constexpr IntegerDiv kSoftmaxQuotient{32640, 1, 1};
/// Longest row whose sum stays in int32.
inline constexpr std::int64_t kSoftmaxLongest = 32768;

/// Constants of iGELU for an input of this scale: gelu(x) = x*(1 + erf(x/sqrt 2))/2 with I-BERT's
/// erf(t) ~ sgn(t)*(a*(min(|t|, -b) + b)^2 + 1), a = -0.2888, b = -1.769; in steps e = scale/sqrt
/// 2: b_int = round(b/e), one = round(1/(0.2888*e^2)). The kernel holds b in 8 and one in 16 bits,
/// so `scale` is at least kGeluFinest. Source: Kim et al., I-BERT (arXiv 2101.01321), section 3.4;
/// Deeploy Generic/src/GELU_s8.c.
IGelu choose_igelu(double scale);

/// The constants of the same kernel that fit inputs of this scale best, where `counts[q + 128]`
/// says how often the code q of -128..127 occurs (256 values, not negative; a uniform share of
/// 1/64 is added to them): for each b the `one` of least squared error of igelu(q)*scale/one
/// against gelu(scale*q), a linear problem in 1/one; of these the pair with the least error as the
/// kernel computes it. Around a deviation of 0.5 the error is a sixth of that with I-BERT's
/// constants, which spread it over all inputs alike. I-BERT's where all counts are 0.
IGelu fit_igelu(double scale, const std::vector<double>& counts);

/// Scale of what iGELU computes from an input of this scale: x*(one + L)/2 ~ one*gelu(x).
double igelu_scale(double scale, const IGelu& p);
/// -b <= 128 needs scale >= 1.769*sqrt(2)/128.5, one <= 32767 less.
inline constexpr double kGeluFinest = 0.019484;

/// Parameters of iLayerNorm.
struct LayerNormParameters {
  std::vector<std::int32_t> weight, bias;  ///< one of each a feature
  int log2_d = 0;                          ///< D = 2^log2_d, 0..22
  double scale = 1.0;                      ///< of the output
};

/// gain*(x - mean)/deviation + bias as integers of the coarsest of `wanted_scale` and the scale at
/// which no row of N integers in [lo, hi] can leave -top-1..top (127: int8, where the kernel
/// wraps): one element's share of the deviation bounds it (row_bounds.h, layer_norm_interval).
/// weight = k*gain*D/scale with k = 1 - 0.49/`deviation_steps` against the floor of the root, bias
/// = b*D/scale + D/2 against the floor of the shift; D the largest power of two that keeps both
/// within 2^24, or 2^30 where `top` is above 127. `epsilon` is the operator's, in squared steps.
/// \throws Error{invalid_argument} for vectors of different length, values that are not finite.
/// Source: integer-approximations.md 9.1.
LayerNormParameters choose_layer_norm(const std::vector<double>& gain,
                                      const std::vector<double>& bias, std::int64_t lo,
                                      std::int64_t hi, double wanted_scale, double deviation_steps,
                                      std::int64_t top = 127, std::int64_t epsilon = 1);

/// Parameters of iRMSNorm.
struct RmsNormParameters {
  std::vector<std::int32_t> weight;  ///< one a feature
  int log2_d = 0;                    ///< D = 2^log2_d, 0..22
  double scale = 1.0;                ///< of the output
};

/// gain*x/rms as integers of this scale, > 0: weight = k*gain*D/scale with k as for iLayerNorm, D
/// the largest power of two that keeps the weights below 2^24, where their product with 8 bits is
/// in int32. The kernel saturates, and rounds down. \throws Error{invalid_argument} for values that
/// are not finite, for weights that leave 2^24 at D = 1 and for a scale of 0 or less.
/// Source: Deeploy iRMSNorm_s8.c; deeploy-dialect.md 6.5.
RmsNormParameters choose_rms_norm(const std::vector<double>& gain, double scale,
                                  double deviation_steps);

/// Largest |x - mean|/deviation that iLayerNorm computes of a row of `n` integers whose range is
/// `width`, with this epsilon in squared steps.
double largest_normalized(std::int64_t n, std::int64_t width, std::int64_t epsilon = 1);

/// An approximation's error against the function it stands for, on the dequantized integer input.
struct ApproximationError {
  std::string name, setting;  ///< operator; scale, range or width it was measured at
  double decibel = 0;         ///< 10*log10(sum(f^2) / sum((f - got)^2))
  double handbook = 0;        ///< the figure of integer-approximations.md
  std::string section;        ///< of the handbook
};

/// Runs each approximation on random rows (fixed seeds) or on all its inputs.
std::vector<ApproximationError> measure_approximations();

}  // namespace waveq
