#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"
#include "waveq/integerize/quotient.h"

namespace waveq {

namespace {

constexpr std::int64_t kMaxEta = 256;
constexpr double kInt32 = 2147483647.0;

/// eps/eta, the constant in front of the divisor in units of its steps, as small integers.
struct Guard {
  std::int64_t eta = 1, eps = 1;
};

/// The fraction with the smallest relative error; the smaller eta wins unless the gain is above one
/// in a thousand.
Guard guard_for(double steps) {
  if (steps >= static_cast<double>(kMaxEta))
    return {1, static_cast<std::int64_t>(std::floor(steps + 0.5))};
  Guard best{kMaxEta, 1};
  double best_error = 1e300;
  for (std::int64_t eta = 1; eta <= kMaxEta; ++eta) {
    const auto eps = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(std::floor(steps * static_cast<double>(eta) + 0.5)));
    const double error = std::abs(static_cast<double>(eps) / static_cast<double>(eta) - steps) /
                         std::max(steps, 1e-300);
    if (error < best_error - 1e-3) {
      best_error = error;
      best = {eta, eps};
    }
  }
  return best;
}

/// num [..., M, d] and den [..., M, 1]: from the first axis where they differ, den has one element
/// (deeploy-dialect.md T13).
bool shapes_fit(const Shape& num, const Shape& den) {
  if (num.size() != den.size() || num == den) return false;
  std::size_t axis = 0;
  while (num[axis] == den[axis]) ++axis;
  return std::all_of(den.begin() + static_cast<std::ptrdiff_t>(axis), den.end(),
                     [](std::int64_t d) { return d == 1; });
}

/// Delta that costs least: rounding of the quotient, r/Delta output steps, against the few bits of
/// a small multiplier behind it. Both shrink the other through the int32 product
/// Delta*quotient*mul. Where Delta cannot exceed r (a result of 16 bits), the result is coarser
/// than wanted.
std::int64_t choose_delta(double quotient_bound, double r, RequantLimits limits) {
  limits.free_scale = true;
  std::int64_t best = 0;
  double best_cost = 1e300;
  for (int k = 0; k <= 24; ++k) {
    const std::int64_t delta = std::int64_t{1} << k;
    const auto d = static_cast<double>(delta);
    const double worst = std::floor(d * quotient_bound + 1.0);
    if (worst > kInt32 || d * static_cast<double>(kMaxEta) > kInt32) break;
    const auto bound = static_cast<std::int64_t>(worst);
    const auto rq = choose_scalar_requant(r / d, Interval{-bound, bound}, limits);
    if (!rq) continue;
    const double cost = std::pow(r / d, 2.0) + std::pow(2.0 / rq->mul, 2.0);
    if (cost < best_cost) {
      best_cost = cost;
      best = delta;
    }
  }
  return best;
}

void divide_by_constant(Lowering& to, const Node& node) {
  const auto divisor =
      per_channel_constant(to.source().constant(node.inputs[1]), to.shape(node.inputs[0]));
  if (!divisor || divisor->size() != 1 || divisor->front() == 0 ||
      !std::isfinite(divisor->front()) ||
      to.shape(node.inputs[0]) != to.shape(node.outputs.front()))
    to.refuse("its constant divisor is not one non-zero number");
  Quantity q = to.accumulator(node.inputs[0]);
  q.linear.reset();
  for (double& s : q.scale) s /= divisor->front();
  for (double& o : q.offset) o /= divisor->front();
  to.define(node.outputs.front(), std::move(q));
}

/// Refuses what IntegerDiv cannot take.
void check_operands(Lowering& to, const Quantity& num, const Quantity& den) {
  const auto is_int32 = [&](const Quantity& q) {
    return to.out().value(q.id).type.dtype == DType::i32 && q.scale.size() == 1 &&
           q.scale.front() > 0;
  };
  if (!is_int32(num) || !is_int32(den))
    to.refuse("the target divides int32 accumulators of one scale");
  if (std::ranges::any_of(num.offset, [](double o) { return o != 0; }))
    to.refuse("its numerator carries a constant term");
  if (den.offset.size() > 1 || (den.offset.size() == 1 && den.offset.front() < 0))
    to.refuse("its denominator carries a term that is negative or differs by channel");
  if (to.bounds().of(den.id).hull().lo < 0)
    to.refuse("its denominator cannot be shown to be non-negative");
}

}  // namespace

/// num/den with accumulators in int32:
///   num*s_n / (den*s_d + o) = s_n/s_d * num / (den + eps/eta),  eps/eta = o/s_d,
/// by IntegerDiv, whose output has the scale s_n/(s_d*Delta), and a requant without add.
void lower_div(Lowering& to, const Node& node) {
  if (to.is_constant(node.inputs[1])) return divide_by_constant(to, node);
  if (to.is_constant(node.inputs[0]))
    to.refuse("a constant divided by an activation has no integer form");
  if (!shapes_fit(to.shape(node.inputs[0]), to.shape(node.inputs[1])))
    to.refuse("the target divides [..., M, d] by [..., M, 1] only");
  const Quantity num = to.accumulator(node.inputs[0]), den = to.accumulator(node.inputs[1]);
  check_operands(to, num, den);
  const double offset = den.offset.empty() ? 0.0 : den.offset.front();
  const double sn = num.scale.front(), sd = den.scale.front();
  if (offset / sd > 1.0e9)
    throw Error(ErrorCode::overflow, node.name,
                fmt::format("the constant in its denominator is {:.3g} steps of the rest of it",
                            offset / sd),
                "divide by the constant instead: the rest does not count");
  const ValueId y = node.outputs.front();
  const QuantParams wanted = to.wanted(y, Signedness::signed_);
  const double r = sn / (sd * wanted.scale);
  // A stabilizing constant far below one step of the denominator (1e-6 in many models, or none)
  // lets the quotient grow beyond int32 where the denominator is zero: it is raised, at most to one
  // step, until it is proven not to.
  Guard guard = guard_for(offset / sd);
  std::int64_t delta = 0;
  double quotient = 0;
  for (;; guard.eta /= 2) {
    const QuotientBound bound =
        bound_quotient(to.bounds(), num.id, den.id, guard.eta, guard.eps, node.name);
    quotient = static_cast<double>(guard.eta) * static_cast<double>(bound.numerator) /
               static_cast<double>(bound.denominator);
    delta = choose_delta(quotient, r, to.options().requant);
    if (delta != 0 || guard.eta == 1) break;
  }
  const double applied = sd * static_cast<double>(guard.eps) / static_cast<double>(guard.eta);
  if (delta != 0 && applied > 1.5 * offset)
    spdlog::warn(
        "{}: the constant in the denominator is {:.3g} instead of {:.3g}, so that the quotient "
        "provably fits int32",
        node.name, applied, offset);
  if (delta == 0)
    throw Error(ErrorCode::overflow, node.name,
                fmt::format("no Delta keeps the quotient (up to {:.3g}) in int32", quotient),
                "the model's stabilizing constant in the denominator is too small; train with a "
                "larger one");
  Attrs attrs;
  attrs.set("Delta", delta);
  attrs.set("eps", guard.eps);
  attrs.set("eta", guard.eta);
  const ValueId q = to.emit("IntegerDiv", to.name_for(y, "_quotient"), {num.id, den.id}, attrs);
  to.define(y, to.requant_free(q, sn / (sd * static_cast<double>(delta)), wanted, to.name_for(y)));
}

}  // namespace waveq
