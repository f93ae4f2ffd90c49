#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "transfer.h"
#include "waveq/integerize/quotient.h"

namespace waveq {

namespace {

using i128 = __int128;

constexpr double kInt32Limit = 2147483647.0;

NodeBound check_requant(const TransferContext& ctx) {
  const Bounds& x = ctx.input(0);
  const std::size_t sets = requant_channels(ctx);
  const bool aligned = x.per_channel() && x.channels.size() == sets;
  double worst = 0;
  if (const int shift = requant_params(ctx, 0).shift; shift > 31)
    return {0, false, fmt::format("div = 2^{} does not fit int32", shift)};
  if (!requant_follows_axis_1(ctx)) {
    for (const RequantParams& rq : all_requant_params(ctx))
      worst = std::max(worst, requant_worst(x.hull(), rq));
    return fits_int32(worst);
  }
  for (std::size_t c = 0; c < sets; ++c) {
    const RequantParams rq = requant_params(ctx, c);
    worst = std::max(worst, requant_worst(sets == 1 || !aligned ? x.hull() : x.of(c), rq));
  }
  return fits_int32(worst);
}

NodeBound check_division(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t delta = attrs.require_int("Delta"), eta = attrs.require_int("eta");
  if (i128{delta} * eta > 2147483647) return {0, false, "Delta*eta leaves int32"};
  try {
    const Bounds y = transfer(ctx);
    NodeBound bound = fits_int32(magnitude(y.hull()));
    bound.reason = bound.proven
                       ? bound_quotient(ctx.analysis, ctx.node.inputs[0], ctx.node.inputs[1], eta,
                                        attrs.require_int("eps"), "")
                             .argument
                       : bound.reason;
    return bound;
  } catch (const Error& e) {
    return {0, false, e.found()};
  }
}

NodeBound check_gelu(const TransferContext& ctx) {
  const std::int64_t b = ctx.node.attrs.require_int("b"), one = ctx.node.attrs.require_int("one");
  if (b < -128 || b > 0) return {0, false, fmt::format("b = {} does not fit the kernel's int8", b)};
  if (one < 0 || one > 32767)
    return {0, false, fmt::format("one = {} does not fit the kernel's int16", one)};
  return fits_int32(magnitude(transfer(ctx).hull()));
}

}  // namespace

NodeBound fits_int32(double worst) {
  if (worst <= kInt32Limit) return {worst, true, ""};
  return {worst, false,
          fmt::format("an intermediate can reach 2^{:.2f}, int32 ends at 2^31", std::log2(worst))};
}

NodeBound check_node(const TransferContext& ctx) {
  const std::string& op = ctx.node.op;
  if (op == "RequantShift") return check_requant(ctx);
  if (op == "IntegerDiv") return check_division(ctx);
  if (op == "iGELU") return check_gelu(ctx);
  if (op == "Conv" || op == "Gemm" || op == "MatMul") {
    const AccumulatorBounds acc = accumulator_bounds(ctx);
    return fits_int32(std::max(acc.prefix, magnitude(acc.value.hull())));
  }
  if (op == "IntegerMean" || op == "ReduceMean") {
    const auto n = static_cast<double>(reduced_count(ctx));
    return fits_int32(magnitude(ctx.input(0).hull()) * n + n / 2);
  }
  if (op == "iSoftmax") return check_isoftmax(ctx);
  if (op == "ITAMax" || op == "ITAPartialMax") return check_itamax(ctx);
  if (op == "iLayerNorm") return check_layer_norm(ctx);
  if (op == "iRMSNorm") return check_rms_norm(ctx);
  if (op == "iNoNorm")
    return {
        0, false,
        "the kernel narrows its result to 8 bits without a clip, and no bound shows that it fits"};
  if (op == "TrueIntegerDiv") return {0, false, "no proof rule for this operator"};
  return fits_int32(magnitude(transfer(ctx).hull()));
}

}  // namespace waveq
