// From accumulators to tensors of few bits: one scale, one for each channel, in two steps.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lowering.h"

namespace waveq {

namespace {

/// A factor of one is spelled as the largest multiplier below the divisor, so that the node is not
/// mistaken for one that may be dropped together with its clip (deeploy-dialect.md T24). No code
/// changes; but multipliers of uint16 have 15 bits, and those codes change by up to 2^-15 of them.
double nearly_one(const Interval& reach) {
  return 1.0 - std::ldexp(1.0, reach.hi > 32767 ? -15 : -16);
}

/// Scales that differ by rounding, or by no more than nearly_one does, are one.
bool is_one(double ratio) { return ratio > 1 - 1e-9 && ratio < 1 + std::ldexp(1.0, -15); }

/// A factor that leaves all that the accumulator reaches within half an output step. A channel
/// below it, a batch normalization's that is switched off, adds its constant term alone; a
/// multiplier it has to have all the same, one large enough for that term.
double negligible(const Interval& reach) {
  const auto most = static_cast<double>(std::max({reach.hi, -reach.lo, std::int64_t{1}}));
  return 1.0 / (2 * most);
}

[[noreturn]] void unsafe(const Node* node, const std::string& name, const std::string& why) {
  const auto place = [&] { return node->origin.empty() ? node->name : node->origin; };
  throw Error(ErrorCode::overflow, node ? fmt::format("{} '{}'", node->op, place()) : name,
              "no requant parameters are provably safe: " + why,
              "use fewer levels, or a wider calibration range");
}

}  // namespace

Activation Lowering::requant_vector(ValueId acc, const std::vector<double>& scale,
                                    const std::vector<double>& offset, const QuantParams& wanted,
                                    bool scale_is_fixed, const std::string& name) {
  if (wanted.zero_point != 0) return requant_affine(acc, scale, offset, wanted, name);
  const bool no_offset = std::ranges::all_of(offset, [](double o) { return o == 0; });
  if (scale.size() == 1 && no_offset && !scale_is_fixed && scale.front() > 0)
    return requant_free(acc, scale.front(), wanted, name);
  std::string why;
  if (const auto a = try_requant_vector(acc, scale, offset, wanted, name, why)) return *a;
  if (const auto a = requant_centred(acc, scale, offset, wanted, name)) return *a;
  unsafe(node_, name, why);
}

/// To codes with a zero point, which is one more offset. The scale is what the rounded multiplier
/// of the first channel makes of the wanted one, and the zero point is added in its steps. Where
/// its add would leave the limits: codes without a zero point.
Activation Lowering::requant_affine(ValueId acc, const std::vector<double>& scale,
                                    const std::vector<double>& offset, QuantParams wanted,
                                    const std::string& name) {
  const double own = std::abs(scale.front());
  RequantLimits limits = options_.requant;
  limits.free_scale = true;
  if (const auto one = choose_scalar_requant(own / wanted.scale, bounds_.of(acc).hull(), limits))
    wanted.scale = own / one->effective_scale;
  // The lowest code there is becomes 0: sums over codes that all are positive would pass values
  // that no input leaves them at.
  const Interval reach = bounds_.of(acc).hull();
  const double lowest = std::min(scale.front() * static_cast<double>(reach.lo),
                                 scale.front() * static_cast<double>(reach.hi)) +
                        (offset.empty() ? 0.0 : *std::ranges::min_element(offset));
  const auto below = static_cast<std::int64_t>(std::floor(0.49 - lowest / wanted.scale));
  if (!wanted.is_signed)
    wanted.zero_point =
        std::clamp<std::int64_t>(wanted.zero_point, 0, std::max<std::int64_t>(below, 0));
  std::string why;
  if (const auto a = try_requant_vector(acc, scale, offset, wanted, name, why)) return *a;
  return requant_vector(acc, scale, offset, without_zero_point(wanted), false, name);
}

std::optional<Activation> Lowering::try_requant_vector(ValueId acc,
                                                       const std::vector<double>& scale,
                                                       std::vector<double> offset,
                                                       const QuantParams& wanted,
                                                       const std::string& name, std::string& why) {
  if (wanted.zero_point != 0) {
    if (offset.empty()) offset = {0.0};
    for (double& o : offset) o += static_cast<double>(wanted.zero_point) * wanted.scale;
  }
  std::vector<double> ratio, bias, lifted, lifted_bias;
  std::vector<Interval> acc_bounds;
  const std::size_t sets = std::max(scale.size(), offset.size());
  for (std::size_t c = 0; c < sets; ++c) {
    const double s = scale[scale.size() > 1 ? c : 0];
    double r = s / wanted.scale;
    acc_bounds.push_back(sets > 1 ? bounds_.of(acc).of(c) : bounds_.of(acc).hull());
    if (is_one(std::abs(r))) r = std::copysign(nearly_one(acc_bounds.back()), r);
    ratio.push_back(r);
    lifted.push_back(std::copysign(std::max(std::abs(r), negligible(acc_bounds.back())), r));
    if (offset.empty()) continue;
    const double o = offset[offset.size() > 1 ? c : 0];
    bias.push_back(o / s);
    lifted_bias.push_back(lifted.back() == r ? bias.back() : o / (lifted.back() * wanted.scale));
  }
  auto choice = choose_requant(ratio, bias, acc_bounds, options_.requant, &why);
  if (!choice && lifted != ratio)
    choice = choose_requant(lifted, lifted_bias, acc_bounds, options_.requant, &why);
  if (!choice) return std::nullopt;
  return emit_requant(acc, *choice, wanted, name);
}

/// clip(x + offset) to lo..hi as clip(round(x + offset - h) + h), all in steps of the result, where
/// x + offset - h saturates as int8 at -128 and 127 no sooner than the clip does: the offset of a
/// single requant is bounded in steps of the accumulator (RequantLimits::max_add_per_mul), which
/// one of fine steps leaves. What is left of the offset beside h goes into the first requant.
std::optional<Activation> Lowering::requant_centred(ValueId acc, const std::vector<double>& scale,
                                                    const std::vector<double>& offset,
                                                    const QuantParams& wanted,
                                                    const std::string& name) {
  const std::int64_t least = wanted.hi() - 127, most = wanted.lo() + 128;
  if (offset.empty() || least > most) return std::nullopt;
  const double mean = std::accumulate(offset.begin(), offset.end(), 0.0) /
                      (static_cast<double>(offset.size()) * wanted.scale);
  const double h =
      std::clamp(std::round(mean), static_cast<double>(least), static_cast<double>(most));
  if (h == 0) return std::nullopt;
  QuantParams centred;
  centred.scale = wanted.scale;
  centred.is_signed = true;
  std::string why;
  // Less than the second rounding leaves: an accumulator of very fine steps has no room for it.
  for (const double negligible : {0.0, 0.5}) {
    std::vector<double> rest = offset;
    for (double& o : rest) {
      o -= h * wanted.scale;
      if (std::abs(o) <= 1.000001 * negligible * wanted.scale) o = 0;
    }
    const auto x = try_requant_vector(acc, scale, rest, centred, name + "_centred", why);
    if (x) return try_requant_vector(x->id, {wanted.scale}, {h * wanted.scale}, wanted, name, why);
  }
  return std::nullopt;
}

Activation Lowering::requant_free(ValueId acc, double acc_scale, const QuantParams& wanted,
                                  const std::string& name) {
  RequantLimits limits = options_.requant;
  limits.free_scale = true;
  std::string why;
  double ratio = acc_scale / wanted.scale;
  if (is_one(ratio)) ratio = nearly_one(bounds_.of(acc).hull());
  const auto choice = choose_scalar_requant(ratio, bounds_.of(acc).hull(), limits, &why);
  if (!choice) unsafe(node_, name, why);
  RequantChoice all;
  all.mul = {choice->mul};
  all.add = {0};
  all.shift = choice->shift;
  all.product_bits = choice->product_bits;
  QuantParams quant = wanted;
  if (options_.effective_scales || ratio >= 1) quant.scale = choice->output_scale(acc_scale);
  return emit_requant(acc, all, quant, name);
}

}  // namespace waveq
