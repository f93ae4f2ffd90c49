// Operands that drive a linear operator to its proven bound, and what its evaluator makes of them.

#include <algorithm>
#include <array>
#include <functional>

#include "transfer.h"
#include "waveq/graph/executor.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;
using Upper = std::function<bool(std::size_t)>;  ///< whether an element takes the upper end

/// A tensor of `shape` for an input of the node: each element at an end of the range of its index
/// on axis 1.
Tensor at_ends(const TransferContext& ctx, std::size_t input, const Shape& shape,
               const Upper& upper) {
  const Bounds& bounds = ctx.input(input);
  std::size_t step = 1;
  for (std::size_t i = 2; i < shape.size(); ++i) step *= static_cast<std::size_t>(shape[i]);
  const std::size_t channels = shape.size() > 1 ? static_cast<std::size_t>(shape[1]) : 1;
  Ints values(static_cast<std::size_t>(element_count(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Interval& range = bounds.of(i / step % channels);
    values[i] = upper(i) ? range.hi : range.lo;
  }
  return cast(Tensor::from<std::int64_t>(shape, values),
              ctx.graph.value(ctx.node.inputs[input]).type.dtype);
}

Tensor at_ends(const TransferContext& ctx, std::size_t input, const Upper& upper) {
  return at_ends(ctx, input, ctx.input_shape(input), upper);
}

/// Largest |element| of the node's output, also with `half` added; constant inputs are taken where
/// `operands` has none.
double largest_output(const TransferContext& ctx, const Node& node,
                      const std::vector<const Tensor*>& operands, std::int64_t half = 0) {
  std::vector<const Tensor*> inputs;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    inputs.push_back(i < operands.size() && operands[i] ? operands[i] : ctx.constant(i));
  double most = 0;
  for (std::int64_t v : to_int64(evaluate_node(ctx.graph, node, inputs, Overflow::error).front()))
    most =
        std::max({most, std::abs(static_cast<double>(v)), std::abs(static_cast<double>(v + half))});
  return most;
}

/// One activation x against constant weights. The bias may come last in the target's sum, so what
/// is reached before it counts as well.
double with_and_without_bias(const TransferContext& ctx, const Node& node, std::size_t slot,
                             const Tensor& x) {
  std::vector<const Tensor*> operands(3, nullptr);
  operands[slot] = &x;
  double most = largest_output(ctx, node, operands);
  if (const Tensor* bias = ctx.constant(2)) {
    const Tensor none(bias->dtype(), bias->shape());
    operands[2] = &none;
    most = std::max(most, largest_output(ctx, node, operands));
  }
  return most;
}

/// The channels of largest and smallest bound.
struct Extremes {
  std::int64_t top = 0, bottom = 0;
};
Extremes extreme_channels(const AccumulatorBounds& bounds) {
  const std::vector<Interval>& sums = bounds.partial.channels;
  return {std::ranges::max_element(sums, std::less<>{}, &Interval::hi) - sums.begin(),
          std::ranges::min_element(sums, std::less<>{}, &Interval::lo) - sums.begin()};
}

/// The same among columns of weights whose bounds are not kept apart: w(k, n) is element k of
/// column n, x(k) the range of its factor.
Extremes extreme_columns(std::int64_t K, std::int64_t N,
                         const std::function<std::int64_t(std::int64_t, std::int64_t)>& w,
                         const std::function<Interval(std::int64_t)>& x) {
  Extremes found;
  __int128 most = 0, least = 0;
  for (std::int64_t n = 0; n < N; ++n) {
    __int128 hi = 0, lo = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      const Interval p = product({w(k, n), w(k, n)}, x(k));
      hi += p.hi;
      lo += p.lo;
    }
    if (n == 0 || hi > most) most = hi, found.top = n;
    if (n == 0 || lo < least) least = lo, found.bottom = n;
  }
  return found;
}

/// Conv with constant weights, on one window of its input: padding could only take terms away.
double attain_conv(const TransferContext& ctx) {
  const Shape& ws = ctx.input_shape(1);
  const Ints w = to_int64(*ctx.constant(1));
  const std::int64_t group = ctx.node.attrs.get_int("group", 1), per_group = ws[1];
  const std::int64_t filters = ws[0], taps = element_count(ws) / (filters * per_group);
  Node window = ctx.node;
  for (const char* name : {"pads", "auto_pad", "strides"}) window.attrs.erase(name);
  const Ints dilations = window.attrs.get_ints("dilations", Ints(ws.size() - 2, 1));
  Shape shape{1, per_group * group};
  for (std::size_t i = 2; i < ws.size(); ++i) shape.push_back((ws[i] - 1) * dilations[i - 2] + 1);
  const auto channel = [&](std::int64_t f, std::int64_t k) {
    return f / (filters / group) * per_group + k / taps;
  };
  const auto weight = [&](std::int64_t k, std::int64_t f) {
    return w[static_cast<std::size_t>(f * per_group * taps + k)];
  };
  const Extremes found = extreme_channels(accumulator_bounds(ctx));
  double most = 0;
  for (const bool up : {true, false}) {
    const std::int64_t f = up ? found.top : found.bottom;
    // Which input elements a tap with a positive weight reads.
    std::vector<bool> positive(static_cast<std::size_t>(element_count(shape)));
    const Shape strides = strides_of(shape);
    for (std::int64_t k = 0; k < per_group * taps; ++k) {
      std::int64_t at = channel(f, k) * strides[1], rest = k % taps;
      for (std::size_t i = ws.size(); i-- > 2; rest /= ws[i])
        at += rest % ws[i] * dilations[i - 2] * strides[i];
      positive[static_cast<std::size_t>(at)] = weight(k, f) > 0;
    }
    const Tensor x = at_ends(ctx, 0, shape, [&](std::size_t i) { return positive[i] == up; });
    most = std::max(most, with_and_without_bias(ctx, window, 0, x));
  }
  return most;
}

/// Gemm or MatMul with a constant factor. `slot` is the input that varies; its element `flat` has
/// the inner index inner(flat).
double attain_matrix(const TransferContext& ctx, std::size_t slot, std::int64_t K, std::int64_t N,
                     const std::function<std::int64_t(std::int64_t, std::int64_t)>& w,
                     const std::function<Interval(std::int64_t)>& x,
                     const std::function<std::int64_t(std::size_t)>& inner) {
  const AccumulatorBounds bounds = accumulator_bounds(ctx);
  const bool apart = static_cast<std::int64_t>(bounds.partial.channels.size()) == N;
  const Extremes columns = apart ? extreme_channels(bounds) : extreme_columns(K, N, w, x);
  double most = 0;
  for (const bool up : {true, false}) {
    const std::int64_t n = up ? columns.top : columns.bottom;
    const Tensor operand =
        at_ends(ctx, slot, [&](std::size_t i) { return (w(inner(i), n) > 0) == up; });
    most = std::max(most, with_and_without_bias(ctx, ctx.node, slot, operand));
  }
  return most;
}

double attain_gemm(const TransferContext& ctx) {
  const bool trans_a = ctx.node.attrs.get_int("transA", 0) != 0,
             trans_b = ctx.node.attrs.get_int("transB", 0) != 0;
  const Shape &as = ctx.input_shape(0), &bs = ctx.input_shape(1);
  const std::int64_t K = as[trans_a ? 0 : 1], M = as[trans_a ? 1 : 0], N = bs[trans_b ? 0 : 1];
  const Ints q = to_int64(*ctx.constant(1));
  const Bounds& a = ctx.input(0);
  return attain_matrix(
      ctx, 0, K, N,
      [&](std::int64_t k, std::int64_t n) {
        return q[static_cast<std::size_t>(trans_b ? n * K + k : k * N + n)];
      },
      [&](std::int64_t k) { return trans_a ? a.hull() : a.of(static_cast<std::size_t>(k)); },
      [&](std::size_t flat) { return static_cast<std::int64_t>(flat) / (trans_a ? M : 1) % K; });
}

double attain_matmul(const TransferContext& ctx) {
  const Shape &as = ctx.input_shape(0), &bs = ctx.input_shape(1);
  const std::int64_t K = as.back();
  if (const Tensor* w = ctx.constant(1)) {
    const Ints q = to_int64(*w);
    const std::int64_t N = bs.back();
    const Bounds& a = ctx.input(0);
    return attain_matrix(
        ctx, 0, K, static_cast<std::int64_t>(q.size()) / K,
        [&](std::int64_t k, std::int64_t n) {
          return q[static_cast<std::size_t>(n / N * K * N + k * N + n % N)];
        },
        [&](std::int64_t k) {
          return as.size() == 2 ? a.of(static_cast<std::size_t>(k)) : a.hull();
        },
        [&](std::size_t flat) { return static_cast<std::int64_t>(flat) % K; });
  }
  const Ints q = to_int64(*ctx.constant(0));
  const Bounds& b = ctx.input(1);
  const std::int64_t N = bs.size() > 1 ? bs.back() : 1;
  return attain_matrix(
      ctx, 1, K, static_cast<std::int64_t>(q.size()) / K,
      [&](std::int64_t k, std::int64_t n) { return q[static_cast<std::size_t>(n * K + k)]; },
      [&](std::int64_t k) { return bs.size() == 3 ? b.of(static_cast<std::size_t>(k)) : b.hull(); },
      [&](std::size_t flat) { return static_cast<std::int64_t>(flat) / N % K; });
}

/// Every operand that varies at one end of its range throughout; all combinations.
double attain_corners(const TransferContext& ctx, const Node& node, std::int64_t half = 0) {
  std::vector<std::array<Tensor, 2>> ends;
  std::vector<std::size_t> varying;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (!node.inputs[i].valid() || ctx.constant(i)) continue;
    varying.push_back(i);
    ends.push_back({at_ends(ctx, i, [](std::size_t) { return false; }),
                    at_ends(ctx, i, [](std::size_t) { return true; })});
  }
  double most = 0;
  for (std::size_t corner = 0; corner < std::size_t{1} << varying.size(); ++corner) {
    std::vector<const Tensor*> operands(node.inputs.size(), nullptr);
    for (std::size_t i = 0; i < varying.size(); ++i)
      operands[varying[i]] = &ends[i][corner >> i & 1];
    most = std::max(most, largest_output(ctx, node, operands, half));
  }
  return most;
}

}  // namespace

std::optional<double> attained_accumulator(const TransferContext& ctx) {
  const std::string& op = ctx.node.op;
  for (ValueId out : ctx.node.outputs)
    if (out.valid() && element_count(ctx.graph.value(out).type.shape) == 0) return 0;
  const bool constant_factor = ctx.constant(1) || ctx.constant(0);
  if (op == "Conv" && ctx.constant(1)) return attain_conv(ctx);
  if (op == "Gemm" && ctx.constant(1)) return attain_gemm(ctx);
  if (op == "MatMul" && constant_factor) return attain_matmul(ctx);
  if (op == "IntegerMean" || op == "ReduceMean") {
    // The sum itself and with the rounding half, for other counts than powers of two away from 0.
    Node sum = ctx.node;
    sum.op = "ReduceSum";
    const std::int64_t n = reduced_count(ctx);
    const bool away =
        (n & (n - 1)) != 0 && std::abs(ctx.input(0).hull().lo) > std::abs(ctx.input(0).hull().hi);
    return attain_corners(ctx, sum, away ? -(n >> 1) : n >> 1);
  }
  for (const char* linear : {"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "ReduceSum"})
    if (op == linear && ctx.node.inputs.size() <= 3) return attain_corners(ctx, ctx.node);
  return std::nullopt;
}

}  // namespace waveq
