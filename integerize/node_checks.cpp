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
  const RequantParams first = requant_params(ctx, 0);
  if (first.shift > 31)
    return {0, false, fmt::format("div = 2^{} does not fit int32", first.shift)};
  if (first.wide) {
    NodeBound bound = fits_int32(magnitude(x.hull()));
    if (bound.proven) bound.reason = "64 bits hold the product of any int32 and mul, and add";
    return bound;
  }
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
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  const std::int64_t b = ctx.node.attrs.require_int("b"), one = ctx.node.attrs.require_int("one");
  if (b < -128 || b > 0) return {0, false, fmt::format("b = {} does not fit the kernel's int8", b)};
  if (one < 0 || one > 32767)
    return {0, false, fmt::format("one = {} does not fit the kernel's int16", one)};
  return fits_int32(magnitude(transfer(ctx).hull()));
}

NodeBound check_hardswish(const TransferContext& ctx) {
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  const Attrs& attrs = ctx.node.attrs;
  const Interval three{attrs.require_int("three"), attrs.require_int("three")};
  const auto six = static_cast<double>(attrs.require_int("six")),
             oos = static_cast<double>(attrs.require_int("one_over_six"));
  return fits_int32(std::max({magnitude(sum_interval(ctx.input(0).hull(), three)),
                              std::abs(six * oos), magnitude(transfer(ctx).hull())}));
}

NodeBound check_cast(const TransferContext& ctx) {
  const DType to = ctx.graph.value(ctx.node.outputs.front()).type.dtype;
  const Interval x = ctx.input(0).hull();
  if (to == DType::f32) return {0, false, "turns integers into floats"};
  if (x.lo < lowest(to) || x.hi > highest(to))
    return {0, false,
            fmt::format("[{}, {}] does not fit {}, which keeps the low bits", x.lo, x.hi,
                        to_string(to))};
  return fits_int32(magnitude(x));
}

/// The sum, and the sum with the rounding half that integer_mean adds.
NodeBound check_mean(const TransferContext& ctx) {
  const std::int64_t n = reduced_count(ctx);
  const Interval sum = product(ctx.input(0).hull(), {n, n});
  const bool away = (n & (n - 1)) != 0;
  const Interval rounded = sum_interval(sum, {away && sum.lo < 0 ? -(n >> 1) : n >> 1, n >> 1});
  return fits_int32(std::max(magnitude(sum), magnitude(rounded)));
}

/// iGRU, iLSTM: the sums of both products; what follows saturates.
NodeBound check_recurrent(const TransferContext& ctx) {
  const auto bits = static_cast<int>(ctx.node.attrs.get_int("state_bits", 8));
  const double operands[] = {magnitude(ctx.input(0).hull()), std::ldexp(1.0, bits - 1)};
  double worst = 0;
  for (std::size_t i : {0u, 1u}) {
    const Tensor* weights = ctx.constant(i + 1);
    if (!weights) return {0, false, "its weights are not constant"};
    const std::vector<std::int64_t> q = to_int64(*weights);
    const auto columns = static_cast<std::size_t>(weights->shape()[1]);
    for (std::size_t row = 0; columns > 0 && row + columns <= q.size(); row += columns) {
      double sum = 0;
      for (std::size_t k = 0; k < columns; ++k) sum += std::abs(static_cast<double>(q[row + k]));
      worst = std::max(worst, sum * operands[i]);
    }
  }
  return fits_int32(worst);
}

}  // namespace

NodeBound fits_int32(double worst) {
  if (worst <= kInt32Limit) return {worst, true, ""};
  return {worst, false,
          fmt::format("an intermediate can reach 2^{:.2f}, int32 ends at 2^31", std::log2(worst))};
}

std::optional<std::string> not_8_bit(const TransferContext& ctx, std::size_t input) {
  const Value& value = ctx.graph.value(ctx.node.inputs.at(input));
  const Interval x = ctx.input(input).hull();
  if (size_of(value.type.dtype) == 1 || (x.lo >= -128 && x.hi <= 127) || (x.lo >= 0 && x.hi <= 255))
    return std::nullopt;
  return fmt::format("the input can be in [{}, {}], the kernel reads 8 bits", x.lo, x.hi);
}

NodeBound check_node(const TransferContext& ctx) {
  const std::string& op = ctx.node.op;
  if (op == "RequantShift") return check_requant(ctx);
  if (op == "IntegerDiv") return check_division(ctx);
  if (op == "iGELU") return check_gelu(ctx);
  if (op == "Cast") return check_cast(ctx);
  if (op == "Sum") {
    double most = 0;
    for (std::size_t i = 0; i < ctx.node.inputs.size(); ++i) most += magnitude(ctx.input(i).hull());
    return fits_int32(most);
  }
  if (op == "Quant") {
    NodeBound bound = fits_int32(magnitude(transfer(ctx).hull()));
    bound.reason = "for inputs with |x*scale + zero_point| < 2^31";
    return bound;
  }
  if (op == "iGRU" || op == "iLSTM") return check_recurrent(ctx);
  if (op == "iHardswish") return check_hardswish(ctx);
  if (op == "Conv" || op == "Gemm" || op == "MatMul")
    return fits_int32(magnitude(accumulator_bounds(ctx).partial.hull()));
  if (op == "IntegerMean" || op == "ReduceMean") return check_mean(ctx);
  if (op == "iSoftmax") return check_isoftmax(ctx);
  if (op == "ITAMax" || op == "ITAPartialMax") return check_itamax(ctx);
  if (op == "iLayerNorm") return check_layer_norm(ctx);
  if (op == "iRMSNorm") return check_rms_norm(ctx);
  if (op == "iNoNorm") return check_no_norm(ctx);
  return fits_int32(magnitude(transfer(ctx).hull()));
}

}  // namespace waveq
