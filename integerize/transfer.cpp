#include "transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/op.h"
#include "waveq/integerize/quotient.h"

namespace waveq {

namespace {

using i128 = __int128;

// Interval ends are kept within +-2^62 so that sums of two never overflow; a bound that large is
// far outside int32 and is reported as unproven in any case.
constexpr std::int64_t kEnd = std::int64_t{1} << 62;

std::int64_t narrow(i128 x) { return static_cast<std::int64_t>(std::clamp<i128>(x, -kEnd, kEnd)); }

Interval product(const Interval& a, const Interval& b) {
  const i128 c[] = {i128{a.lo} * b.lo, i128{a.lo} * b.hi, i128{a.hi} * b.lo, i128{a.hi} * b.hi};
  return {narrow(*std::min_element(c, c + 4)), narrow(*std::max_element(c, c + 4))};
}

Interval with_zero(const Interval& i) {
  return {std::min<std::int64_t>(i.lo, 0), std::max<std::int64_t>(i.hi, 0)};
}

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

/// A running sum of w*x over an interval of x.
struct LinearForm {
  i128 lo = 0, hi = 0, reach = 0;
  void add(std::int64_t w, const Interval& x) {
    const i128 a = i128{w} * x.lo, b = i128{w} * x.hi;
    lo += std::min(a, b);
    hi += std::max(a, b);
    reach += std::max(a < 0 ? -a : a, b < 0 ? -b : b);
  }
};

/// No channel at all (an empty tensor) reaches nothing but the empty sum.
AccumulatorBounds never_empty(AccumulatorBounds out) {
  if (out.value.channels.empty()) out.value.channels.push_back({0, 0});
  return out;
}

void push(AccumulatorBounds& out, const LinearForm& form) {
  out.value.channels.push_back({narrow(form.lo), narrow(form.hi)});
  out.prefix = std::max(out.prefix, static_cast<double>(form.reach));
}

/// Networks of other tools may give an integer Conv its bias as a third input.
Interval conv_bias(const TransferContext& ctx, std::int64_t filter) {
  if (ctx.node.inputs.size() < 3 || !ctx.node.inputs[2].valid()) return {};
  if (const Tensor* bias = ctx.constant(2)) {
    const std::int64_t b = to_int64(*bias).at(static_cast<std::size_t>(filter));
    return {b, b};
  }
  return ctx.input(2).hull();
}

AccumulatorBounds conv_bounds(const TransferContext& ctx) {
  const Tensor* w = ctx.constant(1);
  const Bounds& x = ctx.input(0);
  const Shape& ws = ctx.input_shape(1);
  const std::int64_t group = ctx.node.attrs.get_int("group", 1);
  const std::int64_t filters = ws[0], per_group = ws[1];
  if (element_count(ws) == 0) return never_empty({});
  const std::int64_t taps = element_count(ws) / (filters * per_group);
  const auto pads = ctx.node.attrs.get_ints("pads", {});
  const bool padded = std::ranges::any_of(pads, [](std::int64_t p) { return p != 0; }) ||
                      ctx.node.attrs.get_string("auto_pad", "NOTSET").starts_with("SAME");
  AccumulatorBounds out;
  const std::vector<std::int64_t> q = w ? to_int64(*w) : std::vector<std::int64_t>{};
  const Interval any_weight = w ? Interval{} : ctx.input(1).hull();
  for (std::int64_t f = 0; f < filters; ++f) {
    LinearForm form;
    for (std::int64_t c = 0; c < per_group; ++c) {
      const std::int64_t channel = f / (filters / group) * per_group + c;
      const Interval& plain = x.of(static_cast<std::size_t>(channel));
      const Interval range = padded ? with_zero(plain) : plain;
      for (std::int64_t k = 0; k < taps; ++k) {
        if (w) {
          form.add(q[static_cast<std::size_t>((f * per_group + c) * taps + k)], range);
        } else {
          const Interval p = with_zero(product(any_weight, range));
          form.lo += p.lo;
          form.hi += p.hi;
          form.reach += std::max(-i128{p.lo}, i128{p.hi});
        }
      }
    }
    if (const Interval b = conv_bias(ctx, f); b != Interval{}) form.add(1, b);
    push(out, form);
  }
  return out;
}

/// rows[k] of a constant matrix, element (k, n) = q[k*row_step + n*column_step].
AccumulatorBounds matrix_bounds(const std::vector<std::int64_t>& q, std::int64_t K, std::int64_t N,
                                std::int64_t row_step, std::int64_t column_step,
                                const std::function<Interval(std::int64_t)>& x) {
  AccumulatorBounds out;
  for (std::int64_t n = 0; n < N; ++n) {
    LinearForm form;
    for (std::int64_t k = 0; k < K; ++k)
      form.add(q[static_cast<std::size_t>(k * row_step + n * column_step)], x(k));
    push(out, form);
  }
  return never_empty(std::move(out));
}

AccumulatorBounds sum_of_products(const Interval& a, const Interval& b, std::int64_t K) {
  const Interval p = product(a, b);
  AccumulatorBounds out;
  out.value = Bounds::all({narrow(i128{p.lo} * K), narrow(i128{p.hi} * K)});
  out.prefix = magnitude(p) * static_cast<double>(K);
  return out;
}

AccumulatorBounds matmul_bounds(const TransferContext& ctx) {
  const Shape &as = ctx.input_shape(0), &bs = ctx.input_shape(1);
  const Bounds &a = ctx.input(0), &b = ctx.input(1);
  const std::int64_t K = as.back();
  // For a matrix the inner index is axis 1, so per-channel bounds of A apply to the rows of B.
  const auto a_of = [&](std::int64_t k) {
    return as.size() == 2 ? a.of(static_cast<std::size_t>(k)) : a.hull();
  };
  AccumulatorBounds out;
  if (K == 0 || element_count(bs) == 0) return never_empty({});
  if (const Tensor* w = ctx.constant(1); w && bs.size() >= 2) {
    const std::vector<std::int64_t> q = to_int64(*w);
    const std::int64_t N = bs.back();
    for (std::int64_t base = 0; base < static_cast<std::int64_t>(q.size()); base += K * N) {
      const std::vector<std::int64_t> matrix(q.begin() + base, q.begin() + base + K * N);
      AccumulatorBounds part = matrix_bounds(matrix, K, N, N, 1, a_of);
      out.prefix = std::max(out.prefix, part.prefix);
      out.value.channels.insert(out.value.channels.end(), part.value.channels.begin(),
                                part.value.channels.end());
    }
  } else if (const Tensor* v = ctx.constant(0); v && as.size() >= 2) {
    const std::vector<std::int64_t> q = to_int64(*v);
    const std::int64_t rows = static_cast<std::int64_t>(q.size()) / K;
    out = matrix_bounds(q, K, rows, 1, K, [&](std::int64_t) { return b.hull(); });
    out.value = Bounds::all(out.value.hull());
  } else {
    out = sum_of_products(a.hull(), b.hull(), K);
  }
  const Shape& ys = ctx.graph.value(ctx.node.outputs.front()).type.shape;
  if (ys.size() != 2 || static_cast<std::int64_t>(out.value.channels.size()) != ys[1])
    out.value = Bounds::all(out.value.hull());
  return out;
}

AccumulatorBounds gemm_bounds(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const bool trans_a = attrs.get_int("transA", 0) != 0, trans_b = attrs.get_int("transB", 0) != 0;
  const Shape &as = ctx.input_shape(0), &bs = ctx.input_shape(1);
  const std::int64_t K = as[trans_a ? 0 : 1], N = bs[trans_b ? 0 : 1];
  const Bounds& a = ctx.input(0);
  AccumulatorBounds out;
  if (const Tensor* w = ctx.constant(1)) {
    out = matrix_bounds(to_int64(*w), K, N, trans_b ? 1 : N, trans_b ? K : 1, [&](std::int64_t k) {
      return trans_a ? a.hull() : a.of(static_cast<std::size_t>(k));
    });
  } else {
    out = sum_of_products(a.hull(), ctx.input(1).hull(), K);
    out.value.channels.resize(static_cast<std::size_t>(std::max<std::int64_t>(N, 1)),
                              out.value.channels.front());
  }
  const auto alpha = static_cast<std::int64_t>(attrs.get_float("alpha", 1.0));
  const auto beta = static_cast<std::int64_t>(attrs.get_float("beta", 1.0));
  const bool has_c = ctx.node.inputs.size() > 2 && ctx.node.inputs[2].valid();
  std::vector<std::int64_t> c;
  if (has_c && ctx.constant(2)) c = to_int64(*ctx.constant(2));
  // [N] and [1,N]; a [M,1] has one value for each row, however many columns there are.
  const bool follows_columns = c.size() == out.value.channels.size() && !c.empty() &&
                               (c.size() == 1 || ctx.input_shape(2).back() == N);
  out.prefix *= std::abs(static_cast<double>(alpha));
  for (std::size_t n = 0; n < out.value.channels.size(); ++n) {
    Interval bias{0, 0};
    if (follows_columns)
      bias = {c[n], c[n]};
    else if (has_c)
      bias = ctx.input(2).hull();
    bias = product(bias, {beta, beta});
    const Interval sum = product(out.value.channels[n], {alpha, alpha});
    out.value.channels[n] = {narrow(i128{sum.lo} + bias.lo), narrow(i128{sum.hi} + bias.hi)};
  }
  if (has_c) out.prefix += magnitude(ctx.input(2).hull()) * std::abs(static_cast<double>(beta));
  return out;
}

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

Interval sum_interval(const Interval& a, const Interval& b) {
  return {narrow(i128{a.lo} + b.lo), narrow(i128{a.hi} + b.hi)};
}
Interval difference(const Interval& a, const Interval& b) {
  return {narrow(i128{a.lo} - b.hi), narrow(i128{a.hi} - b.lo)};
}

/// Data movement: the channel structure survives where batch and channel axes stay in front,
/// unchanged.
Bounds moved(const TransferContext& ctx) {
  const Bounds& x = ctx.input(0);
  if (!x.per_channel()) return x;
  const Shape &in = ctx.input_shape(0), &out = ctx.graph.value(ctx.node.outputs.front()).type.shape;
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

Bounds hull_of_inputs(const TransferContext& ctx) {
  Interval all = ctx.input(0).hull();
  for (std::size_t i = 1; i < ctx.node.inputs.size(); ++i) {
    if (!ctx.node.inputs[i].valid()) continue;
    const Interval next = ctx.input(i).hull();
    all = {std::min(all.lo, next.lo), std::max(all.hi, next.hi)};
  }
  return Bounds::all(all);
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
  const std::int64_t worst = narrow((2 * scaled + q.denominator) / (2 * q.denominator));
  const Interval num = ctx.input(0).hull();
  return Bounds::all({num.lo < 0 ? -worst : 0, num.hi > 0 ? worst : 0});
}

Bounds range_of_type(const TransferContext& ctx) {
  const DType dtype = ctx.graph.value(ctx.node.outputs.front()).type.dtype;
  return Bounds::all({lowest(dtype), highest(dtype)});
}

Bounds hardswish_bounds(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t three = attrs.require_int("three"), six = attrs.require_int("six"),
                     oos = attrs.require_int("one_over_six");
  const Interval x = ctx.input(0).hull();
  Interval out{kEnd, -kEnd};
  for (std::int64_t q = std::max<std::int64_t>(x.lo, -128); q <= std::min<std::int64_t>(x.hi, 255);
       ++q) {
    const i128 y = i128{q} * (i128{std::clamp<std::int64_t>(q + three, 0, six)} * oos);
    out = {std::min(out.lo, narrow(y)), std::max(out.hi, narrow(y))};
  }
  return Bounds::all(out);
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

AccumulatorBounds accumulator_bounds(const TransferContext& ctx) {
  if (ctx.node.op == "Conv") return conv_bounds(ctx);
  if (ctx.node.op == "Gemm") return gemm_bounds(ctx);
  return matmul_bounds(ctx);
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
  static const std::map<std::string, Transfer, std::less<>> table = {
      {"Conv", accumulate},
      {"Gemm", accumulate},
      {"MatMul", accumulate},
      {"RequantShift", requant_bounds},
      {"Add", [](const TransferContext& c) { return combine(c, sum_interval); }},
      {"Sub", [](const TransferContext& c) { return combine(c, difference); }},
      {"Mul", [](const TransferContext& c) { return combine(c, product); }},
      {"iGELU", gelu_bounds},
      {"iHardswish", hardswish_bounds},
      {"IntegerDiv", division_bounds},
      {"IntegerMean", keep},
      {"ReduceMean", keep},
      {"ReduceSum",
       [](const TransferContext& c) {
         const std::int64_t n = reduced_count(c);
         return Bounds::all(product(c.input(0).hull(), {n, n}));
       }},
      {"MaxPool", keep},
      {"ReduceMax", keep},
      {"Relu",
       [](const TransferContext& c) {
         const Interval x = c.input(0).hull();
         return Bounds::all({std::max<std::int64_t>(x.lo, 0), std::max<std::int64_t>(x.hi, 0)});
       }},
      {"Pad", [](const TransferContext& c) { return Bounds::all(with_zero(c.input(0).hull())); }},
      {"Concat", hull_of_inputs},
      {"iSoftmax", softmax_bounds},
      {"ITAMax", softmax_bounds},
      {"ITAPartialMax", softmax_bounds},
      {"iLayerNorm", layer_norm_bounds},
      {"iRMSNorm", rms_norm_bounds},
      {"iNoNorm", range_of_type},
  };
  if (const auto it = table.find(ctx.node.op); it != table.end()) return it->second(ctx);
  if (const OpDef* op = find_op(ctx.node.op); op && op->moves_data) return moved(ctx);
  throw Error(ErrorCode::unsupported, place(ctx.node), "has no interval transfer function",
              "the overflow proof does not cover this operator");
}

}  // namespace waveq
