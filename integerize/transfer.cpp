#include "transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/op.h"
#include "waveq/graph/quantizer.h"
#include "waveq/integerize/quotient.h"

namespace waveq {

namespace {

using i128 = __int128;

constexpr std::int64_t kEnd = std::int64_t{1} << 62;

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

/// Bounds of an elementwise operator of two inputs, per channel where both sides allow it.
Bounds combine(const TransferContext& ctx,
               const std::function<Interval(const Interval&, const Interval&)>& f) {
  const Bounds &a = ctx.input(0), &b = ctx.input(1);
  if (!a.per_channel() && !b.per_channel()) return Bounds::all(f(a.hull(), b.hull()));
  const Shape& y = ctx.graph.value(ctx.node.outputs.front()).type.shape;
  const std::size_t n = a.per_channel() ? a.channels.size() : b.channels.size();
  // Broadcasting may move axis 1 unless both operands have the output's rank.
  const bool aligned =
      ctx.input_shape(0).size() == y.size() &&
      (ctx.input_shape(1).size() == y.size() || !b.per_channel()) &&
      (!a.per_channel() || !b.per_channel() || a.channels.size() == b.channels.size());
  if (!aligned) return Bounds::all(f(a.hull(), b.hull()));
  Bounds out;
  for (std::size_t c = 0; c < n; ++c) out.channels.push_back(f(a.of(c), b.of(c)));
  return out;
}

Interval difference(const Interval& a, const Interval& b) {
  return {narrow_end(i128{a.lo} - b.hi), narrow_end(i128{a.hi} - b.lo)};
}

/// Bounds of maps [N,C,...] as [N,C*k,...], each channel cut into k of its parts, or as
/// [N,C/k,...], k channels in one; nullopt for other shapes.
std::optional<Bounds> regrouped(const Bounds& x, const Shape& in, const Shape& out) {
  if (in.size() < 3 || out.size() < 3 || in[0] != out[0] || out[1] == 0) return std::nullopt;
  if (in[1] % out[1] != 0 && out[1] % in[1] != 0) return std::nullopt;
  Bounds y;
  for (std::int64_t c = 0; c < out[1]; ++c) {
    const auto first = static_cast<std::size_t>(c * in[1] / out[1]),
               behind = std::max(first + 1, static_cast<std::size_t>((c + 1) * in[1] / out[1]));
    Interval part = x.of(first);
    for (std::size_t k = first + 1; k < behind; ++k) part = hull(part, x.of(k));
    y.channels.push_back(part);
  }
  return y;
}

/// Data movement: the channel structure survives where the batch stays in front and channels are
/// at most cut into parts or put together.
Bounds moved(const TransferContext& ctx) {
  const Bounds& x = ctx.input(0);
  if (!x.per_channel()) return x;
  const Shape &in = ctx.input_shape(0), &out = ctx.graph.value(ctx.node.outputs.front()).type.shape;
  if (ctx.node.op == "Reshape")
    if (const auto y = regrouped(x, in, out)) return *y;
  bool keeps = in.size() >= 2 && out.size() >= 2 && in[0] == out[0] && in[1] == out[1];
  if (ctx.node.op == "Transpose") {
    const auto perm = ctx.node.attrs.get_ints("perm", {});
    keeps = keeps && perm.size() >= 2 && perm[0] == 0 && perm[1] == 1;
  } else if (ctx.node.op != "Reshape" && ctx.node.op != "Squeeze" && ctx.node.op != "Unsqueeze" &&
             ctx.node.op != "Identity") {
    keeps = false;
  }
  return keeps ? x : Bounds::all(x.hull());
}

Bounds requant_bounds(const TransferContext& ctx) {
  const Bounds& x = ctx.input(0);
  const std::size_t sets = requant_channels(ctx);
  const std::size_t n = std::max(sets, x.channels.size());
  Bounds out;
  if (!requant_follows_axis_1(ctx)) {
    for (const RequantParams& rq : all_requant_params(ctx))
      out.channels.push_back(requant_interval(x.hull(), rq));
    return Bounds::all(out.hull());
  }
  for (std::size_t c = 0; c < n; ++c)
    out.channels.push_back(requant_interval(x.of(c), requant_params(ctx, sets > 1 ? c : 0)));
  return out;
}

Bounds gelu_bounds(const TransferContext& ctx) {
  const std::int64_t b = ctx.node.attrs.require_int("b"), one = ctx.node.attrs.require_int("one");
  const Interval x = ctx.input(0).hull();
  if (not_8_bit(ctx, 0)) return Bounds::all({lowest(DType::i32), highest(DType::i32)});
  Interval out{kEnd, -kEnd};
  for (std::int64_t q = std::max<std::int64_t>(x.lo, -128); q <= std::min<std::int64_t>(x.hi, 255);
       ++q) {
    const std::int64_t y = igelu(static_cast<std::int32_t>(q),
                                 {static_cast<std::int32_t>(b), static_cast<std::int32_t>(one)});
    out = {std::min(out.lo, y), std::max(out.hi, y)};
  }
  return Bounds::all(out);
}

Bounds division_bounds(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t delta = attrs.require_int("Delta"), eta = attrs.require_int("eta"),
                     eps = attrs.require_int("eps");
  if (delta < 0 || delta > 2147483647)
    throw Error(ErrorCode::unsupported, place(ctx.node),
                fmt::format("Delta = {} is outside 0..2^31-1", delta), "");
  const QuotientBound q = bound_quotient(ctx.analysis, ctx.node.inputs.at(0), ctx.node.inputs.at(1),
                                         eta, eps, place(ctx.node));
  // |y| <= Delta*eta*|num|/d + 1/2 rounded down, d = eta*den + eps.
  const i128 scaled = i128{delta} * eta * q.numerator;
  const std::int64_t worst = narrow_end((2 * scaled + q.denominator) / (2 * q.denominator));
  const Interval num = ctx.input(0).hull();
  return Bounds::all({num.lo < 0 ? -worst : 0, num.hi > 0 ? worst : 0});
}

Interval each_of(const TransferContext& ctx, std::size_t first,
                 Interval (*f)(const Interval&, const Interval&)) {
  Interval all = ctx.input(first).hull();
  for (std::size_t i = first + 1; i < ctx.node.inputs.size(); ++i)
    if (ctx.node.inputs[i].valid()) all = f(all, ctx.input(i).hull());
  return all;
}

Interval larger(const Interval& a, const Interval& b) {
  return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
}
Interval smaller(const Interval& a, const Interval& b) {
  return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
}

/// Limits are inputs, attributes before opset 11.
Bounds clip_bounds(const TransferContext& ctx) {
  const auto limit = [&](std::size_t i, const char* attr) -> std::optional<Interval> {
    if (i < ctx.node.inputs.size() && ctx.node.inputs[i].valid()) return ctx.input(i).hull();
    if (!ctx.node.attrs.has(attr)) return std::nullopt;
    const auto v = static_cast<std::int64_t>(std::clamp(
        ctx.node.attrs.get_float(attr, 0), -static_cast<double>(kEnd), static_cast<double>(kEnd)));
    return Interval{v, v};
  };
  Interval x = ctx.input(0).hull();
  if (const auto lo = limit(1, "min")) x = larger(x, *lo);
  if (const auto hi = limit(2, "max")) x = smaller(x, *hi);
  return Bounds::all(x);
}

/// Narrowing keeps the low bits: any value of the type, where the input does not fit.
Bounds cast_bounds(const TransferContext& ctx) {
  const DType to = ctx.graph.value(ctx.node.outputs.front()).type.dtype;
  const Interval x = ctx.input(0).hull();
  if (to == DType::f32) return ctx.input(0);
  return x.lo >= lowest(to) && x.hi <= highest(to) ? ctx.input(0)
                                                   : Bounds::all({lowest(to), highest(to)});
}

Bounds constant_division_bounds(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t factor =
      true_integer_div_factor(attrs.require_int("Delta"), attrs.require_int("eta"),
                              attrs.require_int("eps"), attrs.require_int("y"));
  Bounds out;
  for (const Interval& x : ctx.input(0).channels)
    out.channels.push_back(product(x, {factor, factor}));
  return out;
}

Bounds hardswish_bounds(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t three = attrs.require_int("three"), six = attrs.require_int("six"),
                     oos = attrs.require_int("one_over_six");
  const Interval x = ctx.input(0).hull();
  if (not_8_bit(ctx, 0)) return Bounds::all({lowest(DType::i32), highest(DType::i32)});
  Interval out{kEnd, -kEnd};
  for (std::int64_t q = std::max<std::int64_t>(x.lo, -128); q <= std::min<std::int64_t>(x.hi, 255);
       ++q) {
    const i128 y = i128{q} * (i128{std::clamp<std::int64_t>(q + three, 0, six)} * oos);
    out = {std::min(out.lo, narrow_end(y)), std::max(out.hi, narrow_end(y))};
  }
  return Bounds::all(out);
}

Bounds range_of_type(const TransferContext& ctx) {
  const DType dtype = ctx.graph.value(ctx.node.outputs.front()).type.dtype;
  return Bounds::all({lowest(dtype), highest(dtype)});
}

/// Padding inside of the channels leaves each its own bounds, next to the fill. Amounts on batch or
/// channels that cancel, as -1 and 1, would move channels.
Bounds padded(const TransferContext& ctx) {
  const std::size_t rank = ctx.input_shape(0).size();
  const std::vector<std::int64_t> pads = ctx.node.attrs.get_ints("pads", {});
  bool inside = rank > 2 && pads.size() == 2 * rank;
  for (const std::size_t side : {std::size_t{0}, rank})
    inside = inside && pads[side] == 0 && pads[side + 1] == 0;
  Bounds out = inside ? ctx.input(0) : Bounds::all(ctx.input(0).hull());
  if (ctx.node.attrs.get_string("mode", "constant") != "constant") return out;
  const auto value = static_cast<std::int64_t>(ctx.node.attrs.get_float("value", 0.0));
  Interval fill{value, value};
  if (ctx.node.inputs.size() > 2 && ctx.node.inputs[2].valid()) fill = ctx.input(2).hull();
  for (Interval& channel : out.channels) channel = hull(channel, fill);
  return out;
}

/// Channels one after the other where they are what is joined.
Bounds concatenated(const TransferContext& ctx) {
  const auto rank = ctx.input_shape(0).size();
  const std::int64_t axis = normalize_axis(ctx.node.attrs.require_int("axis"), rank, ctx.node.name);
  if (axis != 1 || rank < 2) return Bounds::all(each_of(ctx, 0, hull));
  Bounds out;
  for (std::size_t i = 0; i < ctx.node.inputs.size(); ++i) {
    const Bounds& x = ctx.input(i);
    for (std::int64_t c = 0; c < ctx.input_shape(i)[1]; ++c)
      out.channels.push_back(x.of(x.per_channel() ? static_cast<std::size_t>(c) : 0));
  }
  return out.channels.empty() ? Bounds::all(each_of(ctx, 0, hull)) : out;
}

/// Entries that the interval selects.
Bounds table_bounds(const TransferContext& ctx) {
  const Tensor* table = ctx.constant(1);
  if (!table) return Bounds::all(ctx.input(1).hull());
  const std::vector<std::int64_t> values = to_int64(*table);
  const std::int64_t first = ctx.node.attrs.require_int("first"), n = table->shape().back();
  const std::size_t rows = values.size() / static_cast<std::size_t>(n);
  const Bounds& x = ctx.input(0);
  Bounds out;
  for (std::size_t c = 0; c < std::max(rows, x.channels.size()); ++c) {
    const auto row = values.begin() + static_cast<std::ptrdiff_t>(rows > 1 ? c : 0) * n;
    const auto at = [&](std::int64_t code) {
      return row + std::clamp<std::int64_t>(code - first, 0, n - 1);
    };
    const auto [lo, hi] = std::minmax_element(at(x.of(c).lo), at(x.of(c).hi) + 1);
    out.channels.push_back({*lo, *hi});
  }
  return out;
}

}  // namespace

namespace {

/// Whether mul (1) or add (2) is one value, or one for each index of axis 1. What else there is:
/// [M,1] against a matrix, one for each row.
bool follows_axis_1(const TransferContext& ctx, std::size_t input) {
  const Shape &x = ctx.input_shape(0), &p = ctx.input_shape(input);
  const std::int64_t count = element_count(p);
  if (count == 1) return true;
  if (x.size() == 2 && p.size() == 2 && p[0] == count && count == x[0]) return false;
  return x.size() >= 2 && count == x[1];
}

}  // namespace

bool requant_follows_axis_1(const TransferContext& ctx) {
  return follows_axis_1(ctx, 1) && follows_axis_1(ctx, 2);
}

std::vector<RequantParams> all_requant_params(const TransferContext& ctx) {
  std::vector<RequantParams> all;
  RequantParams rq = requant_params(ctx, 0);
  for (std::int64_t mul : to_int64(*ctx.constant(1)))
    for (std::int64_t add : to_int64(*ctx.constant(2))) {
      rq.mul = mul;
      rq.add = add;
      all.push_back(rq);
    }
  return all;
}

std::int64_t narrow_end(__int128 x) {
  return static_cast<std::int64_t>(std::clamp<i128>(x, -kEnd, kEnd));
}

Interval product(const Interval& a, const Interval& b) {
  const i128 c[] = {i128{a.lo} * b.lo, i128{a.lo} * b.hi, i128{a.hi} * b.lo, i128{a.hi} * b.hi};
  return {narrow_end(*std::min_element(c, c + 4)), narrow_end(*std::max_element(c, c + 4))};
}

Interval sum_interval(const Interval& a, const Interval& b) {
  return {narrow_end(i128{a.lo} + b.lo), narrow_end(i128{a.hi} + b.hi)};
}

Interval with_zero(const Interval& i) {
  return {std::min<std::int64_t>(i.lo, 0), std::max<std::int64_t>(i.hi, 0)};
}

Interval hull(const Interval& a, const Interval& b) {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

double magnitude(const Interval& i) {
  return std::max(std::abs(static_cast<double>(i.lo)), std::abs(static_cast<double>(i.hi)));
}

std::int64_t reduced_count(const TransferContext& ctx) {
  const std::int64_t in = element_count(ctx.input_shape(0));
  const std::int64_t out = element_count(ctx.graph.value(ctx.node.outputs.front()).type.shape);
  return out == 0 ? 1 : in / out;
}

const Tensor* TransferContext::constant(std::size_t i) const {
  if (i >= node.inputs.size() || !graph.is_constant(node.inputs[i])) return nullptr;
  return graph.value(node.inputs[i]).constant.get();
}

std::size_t requant_channels(const TransferContext& ctx) {
  const auto size_of_input = [&](std::size_t i) {
    const Tensor* t = ctx.constant(i);
    if (!t)
      throw Error(ErrorCode::unsupported, place(ctx.node), "mul and add are not constants",
                  "make them initializers");
    return static_cast<std::size_t>(t->size());
  };
  return std::max(size_of_input(1), size_of_input(2));
}

RequantParams requant_params(const TransferContext& ctx, std::size_t channel) {
  const auto at = [&](std::size_t i) {
    const std::vector<std::int64_t> q = to_int64(*ctx.constant(i));
    return q[q.size() > 1 ? channel : 0];
  };
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t div = attrs.require_int("div");
  const std::int64_t n = attrs.has("n_levels_out") ? attrs.require_int("n_levels_out")
                                                   : attrs.get_int("n_levels", 256);
  const bool is_signed = attrs.get_int("signed", 1) != 0;
  RequantParams rq{};
  rq.mul = at(1);
  rq.add = at(2);
  while ((std::int64_t{1} << rq.shift) < div && rq.shift < 62) ++rq.shift;
  rq.half = rq.shift > 0 && attrs.get_string("rounding", "half_up") == "half_up"
                ? std::int64_t{1} << (rq.shift - 1)
                : 0;
  rq.wide = attrs.get_int("product_bits", 32) == 64;
  rq.lo = is_signed ? -(n / 2) : 0;
  rq.hi = is_signed ? n / 2 - 1 : n - 1;
  return rq;
}

Interval requant_interval(const Interval& x, const RequantParams& rq) {
  const auto apply = [&](std::int64_t q) {
    const i128 wide = (i128{q} * rq.mul + rq.add + rq.half) >> rq.shift;
    return static_cast<std::int64_t>(std::clamp<i128>(wide, rq.lo, rq.hi));
  };
  const std::int64_t a = apply(x.lo), b = apply(x.hi);
  return {std::min(a, b), std::max(a, b)};
}

double requant_worst(const Interval& x, const RequantParams& rq) {
  double worst = 0;
  for (std::int64_t q : {x.lo, x.hi}) {
    const i128 p = i128{q} * rq.mul;
    for (i128 v : {p, p + rq.add, p + rq.add + rq.half})
      worst = std::max(worst, static_cast<double>(v < 0 ? -v : v));
  }
  return worst;
}

Bounds transfer(const TransferContext& ctx) {
  using Transfer = Bounds (*)(const TransferContext&);
  static const Transfer accumulate = [](const TransferContext& c) {
    return accumulator_bounds(c).value;
  };
  static const Transfer keep = [](const TransferContext& c) {
    return Bounds::all(c.input(0).hull());
  };
  static const Transfer truth = [](const TransferContext&) { return Bounds::all({0, 1}); };
  static const std::map<std::string, Transfer, std::less<>> table = {
      {"Conv", accumulate},
      {"Gemm", accumulate},
      {"MatMul", accumulate},
      {"RequantShift", requant_bounds},
      {"Add", [](const TransferContext& c) { return combine(c, sum_interval); }},
      {"Sub", [](const TransferContext& c) { return combine(c, difference); }},
      {"Mul", [](const TransferContext& c) { return combine(c, product); }},
      {"Sum", [](const TransferContext& c) { return Bounds::all(each_of(c, 0, sum_interval)); }},
      {"iGELU", gelu_bounds},
      {"iHardswish", hardswish_bounds},
      {"IntegerDiv", division_bounds},
      {"TrueIntegerDiv", constant_division_bounds},
      {"IntegerMean", keep},
      {"ReduceMean", keep},
      {"ReduceSum",
       [](const TransferContext& c) {
         const std::int64_t n = reduced_count(c);
         return Bounds::all(product(c.input(0).hull(), {n, n}));
       }},
      {"MaxPool", keep},
      {"GlobalMaxPool", keep},
      {"ReduceMax", keep},
      {"ReduceMin", keep},
      {"Relu",
       [](const TransferContext& c) {
         return Bounds::all(larger(c.input(0).hull(), {0, 0}));
       }},
      {"Abs",
       [](const TransferContext& c) {
         const Interval x = c.input(0).hull();
         return Bounds::all({std::max<std::int64_t>({x.lo, -x.hi, 0}), std::max(x.hi, -x.lo)});
       }},
      {"Neg",
       [](const TransferContext& c) {
         const Interval x = c.input(0).hull();
         return Bounds::all({-x.hi, -x.lo});
       }},
      {"Clip", clip_bounds},
      {"Max", [](const TransferContext& c) { return Bounds::all(each_of(c, 0, larger)); }},
      {"Min", [](const TransferContext& c) { return Bounds::all(each_of(c, 0, smaller)); }},
      {"Where", [](const TransferContext& c) { return Bounds::all(each_of(c, 1, hull)); }},
      {"Equal", truth},
      {"Greater", truth},
      {"Less", truth},
      {"Cast", cast_bounds},
      {"iSoftmax", softmax_bounds},
      {"ITAMax", softmax_bounds},
      {"ITAPartialMax", softmax_bounds},
      {"iLayerNorm", layer_norm_bounds},
      {"iRMSNorm", rms_norm_bounds},
      {"iNoNorm", no_norm_bounds},
      {"Quant",
       [](const TransferContext& c) {
         const QuantParameters q = read_quant_parameters(c.node.attrs);
         return Bounds::all({q.lo, q.hi});
       }},
      {"Pad", padded},
      {"Concat", concatenated},
      {"Table", table_bounds},
      {"iGRU", range_of_type},
      {"iLSTM", range_of_type},
  };
  if (const auto it = table.find(ctx.node.op); it != table.end()) return it->second(ctx);
  if (const OpDef* op = find_op(ctx.node.op); op && op->moves_data) return moved(ctx);
  throw Error(ErrorCode::unsupported, place(ctx.node), "has no interval transfer function",
              "the overflow proof does not cover this operator");
}

}  // namespace waveq
