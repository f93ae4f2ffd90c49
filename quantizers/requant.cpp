#include "waveq/quantizers/requant.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "rounding.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

using Wide = __int128;

constexpr Wide kTop32 = Wide{1} << 31;

Wide magnitude(Wide x) { return x < 0 ? -x : x; }

enum class Limit { none, mul_zero, mul_large, mul_above_div, offset, add_large, product, sum };

struct Refusal {
  Limit limit = Limit::none;
  std::size_t channel = 0;
  int shift = 0;
};

struct Channel {
  double ratio;
  double bias;
  Interval bounds;
};

struct Multiplier {
  std::int64_t mul = 0;
  std::int64_t add = 0;
};

/// One channel at one shift: the parameters, or the limit they break.
Limit try_channel(const Channel& channel, int shift, const RequantLimits& limits, Multiplier& out) {
  const double div = std::ldexp(1.0, shift);
  double mul = round_half_up(std::ldexp(channel.ratio, shift));
  if (limits.free_scale) {
    // Never mul = div either: targets delete such a requant, clip included.
    const double top = std::min(div - 1.0, static_cast<double>(limits.max_mul));
    if (std::fabs(mul) > top) mul = std::copysign(top, mul);
  }
  if (mul == 0.0) return Limit::mul_zero;
  if (limits.require_mul_below_div && std::fabs(mul) >= div) return Limit::mul_above_div;
  if (std::fabs(mul) > static_cast<double>(limits.max_mul)) return Limit::mul_large;
  out.mul = static_cast<std::int64_t>(mul);

  const double offset = round_half_up(channel.bias);
  const Wide offset_limit = Wide{limits.max_add_per_mul} * magnitude(out.mul);
  if (offset != 0.0 &&
      (std::fabs(offset) > 0x1p62 || magnitude(static_cast<std::int64_t>(offset)) >= offset_limit))
    return Limit::offset;
  const Wide add = Wide{static_cast<std::int64_t>(offset)} * out.mul;
  if (magnitude(add) > limits.max_add) return Limit::add_large;
  out.add = static_cast<std::int64_t>(add);

  const Wide half = Wide{1} << (shift - 1);
  const Wide top = Wide{1} << (limits.product_bits - 1);
  for (const std::int64_t x : {channel.bounds.lo, channel.bounds.hi}) {
    const Wide product = Wide{x} * out.mul;
    for (const Wide v : {product, product + add, product + add + half})
      if (magnitude(v) >= top) return Limit::product;
    if (limits.product_bits > 32 &&
        magnitude(x + Wide{static_cast<std::int64_t>(offset)}) >= kTop32)
      return Limit::sum;
  }
  return Limit::none;
}

std::string explain(const Refusal& refusal, const Channel& c, const RequantLimits& limits) {
  std::string reason;
  switch (refusal.limit) {
    case Limit::none:
      break;
    case Limit::mul_zero:
      reason = fmt::format("ratio {} rounds to mul 0", c.ratio);
      break;
    case Limit::mul_large:
      reason = fmt::format("ratio {} needs |mul| > {}", c.ratio, limits.max_mul);
      break;
    case Limit::mul_above_div:
      reason = fmt::format("ratio {} needs |mul| >= 2^shift", c.ratio);
      break;
    case Limit::offset:
      reason = fmt::format("offset {} is not below {}*|mul|", c.bias, limits.max_add_per_mul);
      break;
    case Limit::add_large:
      reason = fmt::format("offset {} needs |add| > {}", c.bias, limits.max_add);
      break;
    case Limit::product:
      reason = fmt::format("x*mul + add + half leaves {} bits for x in [{}, {}], ratio {}",
                           limits.product_bits, c.bounds.lo, c.bounds.hi, c.ratio);
      break;
    case Limit::sum:
      reason =
          fmt::format("x + {} leaves int32 for x in [{}, {}]", c.bias, c.bounds.lo, c.bounds.hi);
      break;
  }
  return fmt::format("shift {}, channel {}: {}", refusal.shift, refusal.channel, reason);
}

[[noreturn]] void reject(std::string what, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, "requant", std::move(what), std::move(hint));
}

void check(const RequantLimits& limits) {
  if (limits.min_shift < 1 || limits.max_shift > 31 || limits.min_shift > limits.max_shift)
    reject(fmt::format("shift limits {}..{}", limits.min_shift, limits.max_shift),
           "use 1 <= min <= max <= 31");
  if (limits.product_bits < 2 || limits.product_bits > 64)
    reject(fmt::format("product of {} bits", limits.product_bits), "use 2 to 64");
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  const std::int64_t max_add = limits.product_bits > 32 ? std::int64_t{1} << 61 : kMax;
  if (limits.max_mul < 1 || limits.max_mul > kMax || limits.max_add < 0 ||
      limits.max_add > max_add || limits.max_add_per_mul < 0)
    reject(fmt::format("limits |mul| <= {}, |add| <= {}, |q| < {}*|mul|", limits.max_mul,
                       limits.max_add, limits.max_add_per_mul),
           "mul is 32-bit, and so is add but for wider products");
}

std::vector<Channel> gather(std::span<const double> ratio, std::span<const double> bias,
                            std::span<const Interval> bounds) {
  if (ratio.empty() || (!bias.empty() && bias.size() != ratio.size()) ||
      (bounds.size() != 1 && bounds.size() != ratio.size()))
    reject(
        fmt::format("{} ratios, {} offsets, {} bounds", ratio.size(), bias.size(), bounds.size()),
        "give one of each per channel");
  std::vector<Channel> channels;
  channels.reserve(ratio.size());
  for (std::size_t c = 0; c < ratio.size(); ++c) {
    const Channel channel{ratio[c], bias.empty() ? 0.0 : bias[c],
                          bounds[bounds.size() == 1 ? 0 : c]};
    if (!std::isfinite(channel.ratio) || channel.ratio == 0.0 || !std::isfinite(channel.bias) ||
        channel.bounds.lo > channel.bounds.hi)
      reject(fmt::format("channel {}: ratio {}, offset {}, bounds [{}, {}]", c, channel.ratio,
                         channel.bias, channel.bounds.lo, channel.bounds.hi),
             "ratios are finite and not 0, offsets finite, bounds ordered");
    channels.push_back(channel);
  }
  return channels;
}

/// First refusal at this shift; Limit::none when all channels fit.
Refusal try_shift(std::span<const Channel> channels, int shift, const RequantLimits& limits,
                  RequantChoice& out) {
  out = RequantChoice{};
  out.shift = shift;
  out.product_bits = limits.product_bits > 32 ? 64 : 32;
  for (std::size_t c = 0; c < channels.size(); ++c) {
    Multiplier m;
    const Limit broken = try_channel(channels[c], shift, limits, m);
    if (broken != Limit::none) return {broken, c, shift};
    out.mul.push_back(static_cast<std::int32_t>(m.mul));
    out.add.push_back(m.add);
    out.effective_scale.push_back(std::ldexp(static_cast<double>(m.mul), -shift));
  }
  return {};
}

std::optional<RequantChoice> search_form(std::span<const Channel> channels,
                                         const RequantLimits& limits, std::string* why) {
  RequantChoice choice;
  Refusal blocked, last;  // `blocked`: what kept the larger shifts from being used
  for (int shift = limits.max_shift; shift >= limits.min_shift; --shift) {
    last = try_shift(channels, shift, limits, choice);
    if (last.limit == Limit::none) return choice;
    if (last.limit == Limit::mul_zero) break;  // smaller shifts only make mul smaller
    blocked = last;
  }
  if (why) {
    *why = explain(last, channels[last.channel], limits);
    if (last.limit == Limit::mul_zero && blocked.limit != Limit::none)
      *why = explain(blocked, channels[blocked.channel], limits) + "; " + *why;
  }
  return std::nullopt;
}

std::optional<RequantChoice> search(std::span<const Channel> channels, const RequantLimits& limits,
                                    std::string* why) {
  auto narrow = search_form(channels, limits, why);
  if (!limits.wide_products || (narrow && narrow->min_mul() >= RequantLimits::kFineMul))
    return narrow;
  auto wide = search_form(channels, limits.widened(), narrow ? nullptr : why);
  return wide ? wide : narrow;
}

}  // namespace

RequantLimits RequantLimits::widened() const {
  RequantLimits wide = *this;
  wide.max_shift = 31;
  wide.product_bits = 64;
  wide.max_mul = std::numeric_limits<std::int32_t>::max();
  wide.max_add = std::int64_t{1} << 61;
  wide.max_add_per_mul = std::int64_t{1} << 31;  // no bound beyond |x + q| < 2^31
  wide.wide_products = false;
  return wide;
}

std::int64_t RequantChoice::min_mul() const {
  std::int64_t least = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t m : mul)
    least = std::min(least, std::int64_t{m} < 0 ? -std::int64_t{m} : m);
  return least;
}

std::optional<RequantChoice> choose_requant(std::span<const double> ratio,
                                            std::span<const double> bias_in_acc_lsb,
                                            std::span<const Interval> acc_bounds,
                                            const RequantLimits& limits, std::string* why) {
  check(limits);
  RequantLimits fixed = limits;
  fixed.free_scale = false;  // channels share one output scale: none of them may bend it alone
  return search(gather(ratio, bias_in_acc_lsb, acc_bounds), fixed, why);
}

double ScalarRequant::output_scale(double s_acc) const {
  return std::ldexp(s_acc, shift) / static_cast<double>(mul);
}

std::optional<ScalarRequant> choose_scalar_requant(double ratio, Interval acc_bounds,
                                                   const RequantLimits& limits, std::string* why) {
  check(limits);
  const std::optional<RequantChoice> choice =
      search(gather({&ratio, 1}, {}, {&acc_bounds, 1}), limits, why);
  if (!choice) return std::nullopt;
  return ScalarRequant{choice->mul[0], choice->shift, choice->product_bits,
                       choice->effective_scale[0]};
}

}  // namespace waveq
