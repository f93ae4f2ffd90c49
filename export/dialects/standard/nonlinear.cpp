// Activations, softmax forms and normalizations.
#include "dialects/standard/expansion.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq::standard {

namespace {

/// (max - x + 16) >> 5 for max >= x: the ITA's exponent.
ValueId ita_exponent(Expansion& e, ValueId max, ValueId x) {
  return e.div(e.add(e.sub(max, x), 16), 32);
}

/// 256 >> exponent, summed over the last axis.
ValueId ita_sum(Expansion& e, ValueId exponent) {
  return e.reduce_last("ReduceSum", e.shift_right(e.constant(256), exponent));
}

/// floor(sqrt(v)) for v in 1..2^16: how many of 1^2, 2^2, ... are at most v. The mean of squares
/// of differences of 8-bit values, plus 1, is at most 65026. v is [..., 1].
ValueId small_root(Expansion& e, ValueId v) {
  std::vector<std::int64_t> squares;
  for (std::int64_t k = 1; k <= 256; ++k) squares.push_back(k * k);
  const ValueId at_most = e.op("GreaterOrEqual", {v, e.constants(squares)});
  return e.reduce_last("ReduceSum", e.wide(at_most));
}

/// floor(sqrt(v)) for v in 1..`largest`, bit by bit from the top: one is set where the square stays
/// at most v. v is [..., 1].
ValueId large_root(Expansion& e, ValueId v, std::int64_t largest) {
  ValueId root = e.mul(v, 0);
  std::int64_t bit = 1;
  while (bit * 2 <= isqrt(largest)) bit *= 2;
  for (; bit > 0; bit /= 2) {
    const ValueId next = e.add(root, bit);
    const ValueId fits = e.op("GreaterOrEqual", {v, e.mul(next, next)});
    root = e.add(root, e.mul(e.wide(fits), bit));
  }
  return root;
}

/// sqrt(sum(t^2)/N + epsilon), floored, of 8- or 16-bit values less their mean.
ValueId deviation(Expansion& e, ValueId t) {
  const std::int64_t length = e.shape(t).back(), epsilon = e.attrs().get_int("epsilon", 1);
  const ValueId sum = e.reduce_last("ReduceSum", e.mul(t, t));
  const ValueId v = e.add(e.div(sum, length), epsilon);
  if (e.attrs().get_int("output_bits", 8) == 8) return small_root(e, v);
  return large_root(e, v, std::int64_t{98303} * 98303 + epsilon);
}

/// Weights of a row, whatever shape they come in.
ValueId row_parameter(Expansion& e, std::size_t i) {
  return e.constants(to_int64(e.constant_input(i)));
}

}  // namespace

/// q = min(|x|, -b), L = sgn(x)*(one - (q + b)^2), x * ((one + L) >> 1).
ValueId expand_igelu(Expansion& e) {
  const std::int64_t b = e.attrs().require_int("b"), one = e.attrs().require_int("one");
  const ValueId x = e.wide(0);
  const ValueId q = e.op("Min", {e.op("Abs", {x}), e.constant(-b)});
  const ValueId d = e.add(q, b);
  const ValueId bump = e.add(e.mul(e.mul(d, d), -1), one);
  const ValueId l = e.mul(bump, e.sign(x));
  return e.mul(x, e.floor_div(e.add(l, one), 2));
}

/// x * (clamp(x + three, 0, six) * one_over_six).
ValueId expand_ihardswish(Expansion& e) {
  const ValueId x = e.wide(0);
  const ValueId t =
      e.clip(e.add(x, e.attrs().require_int("three")), 0, e.attrs().require_int("six"));
  return e.mul(x, e.mul(t, e.attrs().require_int("one_over_six")));
}

/// table[clamp(x - first, 0, N-1)], of a table [C,N] in the row of x's index on axis 1.
ValueId expand_table(Expansion& e) {
  const Shape table = e.shape(e.input(1)), x_shape = e.shape(e.input(0));
  const std::int64_t entries = table.back();
  ValueId at = e.clip(e.add(e.wide(0), -e.attrs().require_int("first")), 0, entries - 1);
  if (table.size() == 2) {
    std::vector<std::int64_t> rows;
    for (std::int64_t c = 0; c < table[0]; ++c) rows.push_back(c * entries);
    Shape along(x_shape.size() - 1, 1);
    along.front() = table[0];
    at = e.add(at, e.constant(Tensor::from<std::int64_t>(along, rows)));
  }
  return e.op("Gather", {e.constant(e.constant_input(1).reshaped({element_count(table)})), at});
}

/// t = x - max, z = clamp(-(t / log2), 0, 31), p = t + z*log2, y = ((A*(p+B)^2 + C) >> z) * (n-1)
/// over the row's sum.
ValueId expand_isoftmax(Expansion& e) {
  const Attrs& attrs = e.attrs();
  const std::int64_t log2 = attrs.require_int("log2");
  const ValueId x = e.wide(0);
  const ValueId t = e.sub(x, e.reduce_last("ReduceMax", x));
  const ValueId z = e.clip(e.mul(e.div(t, log2), -1), 0, 31);
  const ValueId root = e.add(e.add(t, e.mul(z, log2)), attrs.require_int("coeffB"));
  const ValueId polynomial =
      e.add(e.mul(e.mul(root, root), attrs.get_int("coeffA", 1)), attrs.require_int("coeffC"));
  const ValueId exponential = e.shift_right(polynomial, z);
  const ValueId sum = e.reduce_last("ReduceSum", exponential);
  return e.div(e.mul(exponential, attrs.require_int("n_levels") - 1), sum);
}

/// h = (max - x + 16) >> 5, y = ((n-1)*256 / sum(256 >> h)) >> h.
ValueId expand_itamax(Expansion& e) {
  const ValueId x = e.wide(0);
  const ValueId h = ita_exponent(e, e.reduce_last("ReduceMax", x), x);
  const std::int64_t top = (e.attrs().require_int("n_levels") - 1) * 256;
  const ValueId sum = ita_sum(e, h);
  return e.shift_right(e.div(e.constant(top), sum), h);
}

/// Group by group: the sum so far is shifted by what the running maximum rises (0 where it does
/// not: (0 + 16) >> 5), then the group's terms are added.
ValueId expand_ita_partial_max(Expansion& e) {
  const ValueId x = e.wide(0);
  const Shape shape = e.shape(x);
  const std::int64_t length = shape.back(), width = e.attrs().require_int("group_width");
  ValueId max, sum;
  for (std::int64_t first = 0; first < length; first += width) {
    Attrs slice;
    slice.set("starts", std::vector<std::int64_t>{first});
    slice.set("ends", std::vector<std::int64_t>{first + width});
    slice.set("axes", std::vector<std::int64_t>{static_cast<std::int64_t>(shape.size()) - 1});
    const ValueId group = e.op("Slice", {x}, std::move(slice));
    const ValueId group_max = e.reduce_last("ReduceMax", group);
    if (!max.valid()) {
      max = group_max;
      sum = ita_sum(e, ita_exponent(e, max, group));
      continue;
    }
    const ValueId raised = e.op("Max", {max, group_max});
    const ValueId kept = e.shift_right(sum, ita_exponent(e, raised, max));
    max = raised;
    sum = e.add(kept, ita_sum(e, ita_exponent(e, max, group)));
  }
  const std::int64_t top = (e.attrs().require_int("n_levels") / 2 - 1) * 256;
  const ValueId h = ita_exponent(e, max, x);
  return e.shift_right(e.div(e.constant(top), sum), h);
}

/// m = sum(x)/N, t = x - m, y = (t*w / root + bias) >> log2(D); y fits its type.
ValueId expand_ilayernorm(Expansion& e) {
  const ValueId x = e.wide(0);
  const ValueId mean = e.div(e.reduce_last("ReduceSum", x), e.shape(x).back());
  const ValueId t = e.sub(x, mean);
  const ValueId weighted = e.mul(t, row_parameter(e, 1));
  const ValueId scaled = e.div(weighted, deviation(e, t));
  return e.floor_div(e.add(scaled, row_parameter(e, 2)), e.attrs().require_int("D"));
}

/// y = clamp((x*w / root) >> log2(D), -128, 127).
ValueId expand_irmsnorm(Expansion& e) {
  const ValueId x = e.wide(0);
  const ValueId weighted = e.mul(x, row_parameter(e, 1));
  const ValueId scaled = e.div(weighted, deviation(e, x));
  return e.clip(e.floor_div(scaled, e.attrs().require_int("D")), -128, 127);
}

}  // namespace waveq::standard
