// Quant and Dequant, the borders to float32.
#include "waveq/graph/quantizer.h"

#include <fmt/format.h>

#include <cmath>

#include "dialects/standard/expansion.h"

namespace waveq::standard {

namespace {

ValueId number(Expansion& e, double value) {
  return e.constant(Tensor::scalar(static_cast<float>(value)));
}

}  // namespace

/// With a divisor clip(round(x/divisor + zero_point)), else clip(trunc(v + sign(v)/2)) of
/// v = x*scale + zero_point: at v = 0 the kernel adds 1/2 and this 0, which truncation hides.
ValueId expand_quant(Expansion& e) {
  const QuantParameters q = read_quant_parameters(e.attrs());
  const ValueId factor = number(e, q.divisor.value_or(q.scale));
  const ValueId scaled = e.op(q.divisor ? "Div" : "Mul", {e.input(0), factor});
  const ValueId moved = e.add(scaled, number(e, q.zero_point));
  if (q.divisor) {
    const ValueId lo = number(e, static_cast<double>(q.lo)),
                  hi = number(e, static_cast<double>(q.hi));
    return e.op("Clip", {e.op("Round", {moved}), lo, hi});
  }
  const ValueId half = e.mul(e.op("Sign", {moved}), number(e, 0.5));
  return e.clip(e.wide(e.add(moved, half)), q.lo, q.hi);
}

/// The difference as integers, so that it is rounded once.
ValueId expand_dequant(Expansion& e) {
  const double zero_point = e.attrs().get_float("zero_point", 0);
  if (std::floor(zero_point) != zero_point || std::abs(zero_point) > 0x1p31)
    throw Error(ErrorCode::not_integer, e.node().name,
                fmt::format("its zero point {} is no integer", zero_point));
  const ValueId moved = e.add(e.wide(0), -static_cast<std::int64_t>(zero_point));
  const ValueId scale = number(e, e.attrs().get_float("scale", 1));
  return e.mul(e.cast(moved, DType::f32), scale);
}

}  // namespace waveq::standard
