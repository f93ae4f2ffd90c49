// Accumulators of Conv, Gemm and MatMul: sums of products over the box of reachable operands.

#include <algorithm>
#include <cmath>
#include <functional>

#include "transfer.h"

namespace waveq {

namespace {

using i128 = __int128;

/// A running sum of terms that each lie in an interval. The total lies in [lo, hi]; a partial sum,
/// in whatever order, in [down, up]: it may lack any of the terms.
struct SumOfTerms {
  i128 lo = 0, hi = 0, down = 0, up = 0;

  void add(i128 least, i128 most) {
    lo += least;
    hi += most;
    down += std::min<i128>(least, 0);
    up += std::max<i128>(most, 0);
  }
  void add(const Interval& term) { add(term.lo, term.hi); }
  void add_product(std::int64_t w, const Interval& x) {
    const i128 a = i128{w} * x.lo, b = i128{w} * x.hi;
    add(std::min(a, b), std::max(a, b));
  }
  Interval total() const { return {narrow_end(lo), narrow_end(hi)}; }
  Interval partial() const { return {narrow_end(down), narrow_end(up)}; }
};

void push(AccumulatorBounds& out, const SumOfTerms& sum) {
  out.value.channels.push_back(sum.total());
  out.partial.channels.push_back(sum.partial());
}

/// No channel at all (an empty tensor) reaches nothing but the empty sum.
AccumulatorBounds never_empty(AccumulatorBounds out) {
  if (out.value.channels.empty()) push(out, {});
  return out;
}

AccumulatorBounds one_channel(const AccumulatorBounds& all) {
  return {Bounds::all(all.value.hull()), Bounds::all(all.partial.hull())};
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
    SumOfTerms sum;
    for (std::int64_t c = 0; c < per_group; ++c) {
      const std::int64_t channel = f / (filters / group) * per_group + c;
      const Interval& plain = x.of(static_cast<std::size_t>(channel));
      const Interval range = padded ? with_zero(plain) : plain;
      for (std::int64_t k = 0; k < taps; ++k) {
        if (w)
          sum.add_product(q[static_cast<std::size_t>((f * per_group + c) * taps + k)], range);
        else
          sum.add(product(any_weight, range));
      }
    }
    sum.add(conv_bias(ctx, f));
    push(out, sum);
  }
  return out;
}

/// Columns of a constant matrix, element (k, n) = q[k*row_step + n*column_step], each times a
/// vector whose element k lies in x(k).
AccumulatorBounds matrix_bounds(const std::vector<std::int64_t>& q, std::int64_t K, std::int64_t N,
                                std::int64_t row_step, std::int64_t column_step,
                                const std::function<Interval(std::int64_t)>& x) {
  std::vector<Interval> ranges;
  for (std::int64_t k = 0; k < K; ++k) ranges.push_back(x(k));
  AccumulatorBounds out;
  for (std::int64_t n = 0; n < N; ++n) {
    SumOfTerms sum;
    for (std::int64_t k = 0; k < K; ++k)
      sum.add_product(q[static_cast<std::size_t>(k * row_step + n * column_step)],
                      ranges[static_cast<std::size_t>(k)]);
    push(out, sum);
  }
  return never_empty(std::move(out));
}

/// Two activations. Bounds for each index of axis 1 are those of the inner index where A is a
/// matrix or B is one of a batch of matrices, and those of the rows where A is one of a batch.
AccumulatorBounds activations_bounds(const TransferContext& ctx, std::int64_t K) {
  const Shape &as = ctx.input_shape(0), &bs = ctx.input_shape(1);
  const Bounds &a = ctx.input(0), &b = ctx.input(1);
  const bool rows = as.size() == 3 && bs.size() <= 3 && a.per_channel();
  AccumulatorBounds out;
  for (std::int64_t m = 0; m < (rows ? as[1] : 1); ++m) {
    SumOfTerms sum;
    for (std::int64_t k = 0; k < K; ++k) {
      const Interval left = rows             ? a.of(static_cast<std::size_t>(m))
                            : as.size() == 2 ? a.of(static_cast<std::size_t>(k))
                                             : a.hull();
      sum.add(product(left, bs.size() == 3 ? b.of(static_cast<std::size_t>(k)) : b.hull()));
    }
    push(out, sum);
  }
  return out;
}

AccumulatorBounds matmul_bounds(const TransferContext& ctx) {
  const Shape &as = ctx.input_shape(0), &bs = ctx.input_shape(1);
  const Bounds &a = ctx.input(0), &b = ctx.input(1);
  const std::int64_t K = as.back();
  AccumulatorBounds out;
  if (K == 0 || element_count(bs) == 0) return never_empty({});
  if (const Tensor* w = ctx.constant(1); w && bs.size() >= 2) {
    // For a matrix the inner index is axis 1, so per-channel bounds of A apply to the rows of B.
    const auto a_of = [&](std::int64_t k) {
      return as.size() == 2 ? a.of(static_cast<std::size_t>(k)) : a.hull();
    };
    const std::vector<std::int64_t> q = to_int64(*w);
    const std::int64_t N = bs.back();
    for (std::int64_t base = 0; base < static_cast<std::int64_t>(q.size()); base += K * N) {
      const std::vector<std::int64_t> matrix(q.begin() + base, q.begin() + base + K * N);
      const AccumulatorBounds part = matrix_bounds(matrix, K, N, N, 1, a_of);
      out.value.channels.insert(out.value.channels.end(), part.value.channels.begin(),
                                part.value.channels.end());
      out.partial.channels.insert(out.partial.channels.end(), part.partial.channels.begin(),
                                  part.partial.channels.end());
    }
    const Shape& ys = ctx.graph.value(ctx.node.outputs.front()).type.shape;
    const bool columns_are_axis_1 =
        ys.size() == 2 && static_cast<std::int64_t>(out.value.channels.size()) == ys[1];
    return columns_are_axis_1 ? out : one_channel(out);
  }
  if (const Tensor* v = ctx.constant(0); v && as.size() >= 2) {
    const std::vector<std::int64_t> q = to_int64(*v);
    const std::int64_t rows = static_cast<std::int64_t>(q.size()) / K;
    return one_channel(matrix_bounds(q, K, rows, 1, K, [&](std::int64_t k) {
      return bs.size() == 3 ? b.of(static_cast<std::size_t>(k)) : b.hull();
    }));
  }
  return activations_bounds(ctx, K);
}

AccumulatorBounds gemm_product(const TransferContext& ctx, std::int64_t K, std::int64_t N) {
  const bool trans_a = ctx.node.attrs.get_int("transA", 0) != 0,
             trans_b = ctx.node.attrs.get_int("transB", 0) != 0;
  const Bounds& a = ctx.input(0);
  const auto a_of = [&](std::int64_t k) {
    return trans_a ? a.hull() : a.of(static_cast<std::size_t>(k));
  };
  if (const Tensor* w = ctx.constant(1))
    return matrix_bounds(to_int64(*w), K, N, trans_b ? 1 : N, trans_b ? K : 1, a_of);
  SumOfTerms sum;
  for (std::int64_t k = 0; k < K; ++k) sum.add(product(a_of(k), ctx.input(1).hull()));
  AccumulatorBounds out;
  for (std::int64_t n = 0; n < std::max<std::int64_t>(N, 1); ++n) push(out, sum);
  return out;
}

AccumulatorBounds gemm_bounds(const TransferContext& ctx) {
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t K = ctx.input_shape(0)[attrs.get_int("transA", 0) != 0 ? 0 : 1],
                     N = ctx.input_shape(1)[attrs.get_int("transB", 0) != 0 ? 0 : 1];
  AccumulatorBounds out = gemm_product(ctx, K, N);
  const auto alpha = static_cast<std::int64_t>(attrs.get_float("alpha", 1.0));
  const auto beta = static_cast<std::int64_t>(attrs.get_float("beta", 1.0));
  const bool has_c = ctx.node.inputs.size() > 2 && ctx.node.inputs[2].valid();
  std::vector<std::int64_t> c;
  if (has_c && ctx.constant(2)) c = to_int64(*ctx.constant(2));
  // [N], [1,N] and [M,N]; a [M,1] has one value for each row, however many columns there are.
  const std::size_t columns = out.value.channels.size();
  const bool follows_columns =
      !c.empty() && c.size() % columns == 0 && (columns == 1 || ctx.input_shape(2).back() == N);
  for (std::size_t n = 0; n < columns; ++n) {
    Interval bias = has_c ? ctx.input(2).hull() : Interval{0, 0};
    if (follows_columns) {
      bias = {c[n], c[n]};
      for (std::size_t i = n; i < c.size(); i += columns) bias = hull(bias, {c[i], c[i]});
    }
    bias = product(bias, {beta, beta});
    const Interval sum = product(out.value.channels[n], {alpha, alpha}),
                   part = product(out.partial.channels[n], {alpha, alpha});
    out.value.channels[n] = sum_interval(sum, bias);
    // The kernel's own sum comes before alpha.
    out.partial.channels[n] =
        hull(hull(part, out.partial.channels[n]), sum_interval(part, with_zero(bias)));
  }
  return out;
}

}  // namespace

AccumulatorBounds accumulator_bounds(const TransferContext& ctx) {
  if (ctx.node.op == "Conv") return conv_bounds(ctx);
  if (ctx.node.op == "Gemm") return gemm_bounds(ctx);
  return matmul_bounds(ctx);
}

}  // namespace waveq
