// RequantShift and iNoNorm: multiply, add, shift, clip.
#include <algorithm>

#include "dialects/standard/expansion.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq::standard {

namespace {

/// A parameter of RequantShift so that it broadcasts: one value, one for each row of a matrix
/// ([M,1]), or one for each index of axis 1 whatever its rank (see ops/requant.cpp).
Tensor broadcast_parameter(const Tensor& parameter, const Shape& x) {
  const Tensor wide = cast(parameter, DType::i64);
  if (wide.size() == 1) return wide.reshaped({});
  const Shape& own = parameter.shape();
  if (x.size() == 2 && own.size() == 2 && own[1] == 1 && own[0] == x[0]) return wide;
  Shape per_channel(x.size() - 1, 1);
  per_channel.front() = wide.size();
  return wide.reshaped(per_channel);
}

}  // namespace

/// clip((x*mul + add + half) >> shift).
ValueId expand_requant(Expansion& e) {
  const Attrs& attrs = e.attrs();
  const std::int64_t div = attrs.require_int("div");
  const int shift = exact_log2(div, "div");
  const bool half_up = attrs.get_string("rounding", "half_up") == "half_up";
  const std::int64_t n = attrs.require_int(attrs.has("n_levels_out") ? "n_levels_out" : "n_levels");
  const bool is_signed = attrs.require_int("signed") == 1;

  const Shape x = e.shape(e.input(0));
  const Tensor mul = broadcast_parameter(e.constant_input(1), x);
  Tensor add = broadcast_parameter(e.constant_input(2), x);
  if (half_up && shift > 0)
    for (std::int64_t& a : add.as<std::int64_t>()) a += div / 2;
  const ValueId product = e.op("Mul", {e.wide(0), e.constant(mul)});
  const ValueId sum = e.op("Add", {product, e.constant(add)});
  const std::int64_t lo = is_signed ? -(n / 2) : 0, hi = is_signed ? n / 2 - 1 : n - 1;
  ValueId y = e.floor_div(sum, div);
  if (attrs.get_int("product_bits", 32) == 64) y = e.into_int32(y);
  return e.clip(y, lo, hi);
}

/// ((x*weight + bias)*mul) >> log2(D); the result fits int8 (proven, or the evaluator refuses it).
ValueId expand_inonorm(Expansion& e) {
  const ValueId product = e.op("Mul", {e.wide(0), e.wide(1)});
  const ValueId sum = e.op("Add", {product, e.wide(2)});
  return e.floor_div(e.mul(sum, e.attrs().require_int("mul")), e.attrs().require_int("D"));
}

}  // namespace waveq::standard
