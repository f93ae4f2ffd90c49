#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "ops/families.h"
#include "ops/op_util.h"
#include "waveq/graph/integer_arithmetic.h"

// Reductions over axes, and the positions of extrema. Every result is computed from one row: the
// reduced elements in row-major order of the reduced axes.
namespace waveq::ops {

namespace {

// ---- Which elements.

/// Which axes an operator reduces. Axes come as an attribute (before opset 18, ReduceSum 13) or as
/// input 1; without any, all axes, unless noop_with_empty_axes says none.
template <class Context>
std::vector<bool> reduced_axes(const Context& ctx, std::size_t rank) {
  const std::vector<std::int64_t> axes = ints_param(ctx, "axes", 1, {});
  const bool none = ctx.attrs().get_int("noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(rank, axes.empty() && !none);
  for (std::int64_t axis : axes) reduced[normalize_axis(axis, rank, place(ctx.node))] = true;
  return reduced;
}

Shape reduced_shape(const Shape& shape, const std::vector<bool>& reduced, bool keep) {
  Shape out;
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (!reduced[d] || keep) out.push_back(reduced[d] ? 1 : shape[d]);
  return out;
}

std::int64_t row_length(const Shape& shape, const std::vector<bool>& reduced) {
  std::int64_t n = 1;
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (reduced[d]) n *= shape[d];
  return n;
}

/// Offsets of all index combinations of the chosen axes, row-major.
std::vector<std::int64_t> offsets_of(const Shape& shape, const std::vector<bool>& reduced,
                                     bool want) {
  const std::vector<std::int64_t> strides = strides_of(shape);
  std::vector<std::int64_t> offsets = {0};
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (reduced[d] != want || shape[d] == 1) continue;
    std::vector<std::int64_t> longer;
    longer.reserve(offsets.size() * static_cast<std::size_t>(shape[d]));
    for (std::int64_t base : offsets)
      for (std::int64_t i = 0; i < shape[d]; ++i) longer.push_back(base + i * strides[d]);
    offsets = std::move(longer);
  }
  return offsets;
}

/// Calls f(output index, row of n elements) for every result.
template <class T, class F>
void for_each_row(const Tensor& x, const std::vector<bool>& reduced, F&& f) {
  const T* data = x.as<T>().data();
  const std::vector<std::int64_t> bases = offsets_of(x.shape(), reduced, false);
  const auto n = static_cast<std::size_t>(row_length(x.shape(), reduced));
  // Nothing kept behind a reduced axis: rows are contiguous where they stand.
  const std::size_t first = std::find(reduced.begin(), reduced.end(), true) - reduced.begin();
  bool contiguous = true;
  for (std::size_t d = first; d < reduced.size(); ++d)
    contiguous = contiguous && (reduced[d] || x.shape()[d] == 1);
  if (contiguous) {
    for (std::size_t i = 0; i < bases.size(); ++i) f(i, data + bases[i], n);
    return;
  }
  const std::vector<std::int64_t> offsets = offsets_of(x.shape(), reduced, true);
  std::vector<T> row(n);
  for (std::size_t i = 0; i < bases.size(); ++i) {
    for (std::size_t k = 0; k < n; ++k) row[k] = data[bases[i] + offsets[k]];
    f(i, row.data(), n);
  }
}

// ---- What is computed from a row.

/// Sum of f(x[i]) in double: element i goes to lane i mod 8, lanes join in a fixed tree.
template <class F>
double lane_sum(const float* x, std::size_t n, F f) {
  double lane[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) lane[l] += f(static_cast<double>(x[i + l]));
  for (; i < n; ++i) lane[i % 8] += f(static_cast<double>(x[i]));
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

constexpr auto kPlain = [](double x) { return x; };
constexpr auto kSquare = [](double x) { return x * x; };

/// Largest (or with `least`, smallest) element; NaN wins.
template <bool least, class T>
T extreme(const T* x, std::size_t n) {
  T best = x[0];
  for (std::size_t i = 1; i < n; ++i)
    if ((least ? x[i] < best : x[i] > best) || x[i] != x[i]) best = x[i];
  return best;
}

/// An exact integer result and what it is modulo 2^64.
struct Exact {
  Wide value;
  std::uint64_t low;
};
Exact exactly(Wide value) { return {value, static_cast<std::uint64_t>(value)}; }

template <class T>
Exact int_sum(const T* x, std::size_t n) {
  Wide sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i];
  return exactly(sum);
}

template <class T>
Exact int_sum_square(const T* x, std::size_t n) {
  Wide sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += Wide{x[i]} * x[i];
  return exactly(sum);
}

template <class T>
Exact int_product(const T* x, std::size_t n) {
  if (std::find(x, x + n, T{0}) != x + n) return exactly(0);
  constexpr Wide kBeyond = Wide{1} << 63;
  Exact p = exactly(1);
  for (std::size_t i = 0; i < n; ++i) {
    // Once beyond int64 it stays there: no factor is 0.
    if (p.value < kBeyond && p.value >= -kBeyond) p.value *= x[i];
    p.low *= static_cast<std::uint64_t>(static_cast<std::int64_t>(x[i]));
  }
  return p;
}

/// Stores an exact result as int32 or int64; beyond it, Error{overflow} or the low bits.
void store_exact(const EvalContext& ctx, std::size_t index, const Exact& exact) {
  Tensor& out = ctx.output();
  visit_integer(out.dtype(), [&](auto t) {
    using T = decltype(t);
    const T stored = static_cast<T>(exact.low);
    if (exact.value != stored && ctx.overflow == Overflow::error)
      fail_overflow(ctx, static_cast<std::int64_t>(index), exact.value, out.dtype());
    out.as<T>()[index] = stored;
  });
}

/// Mean of integers: (sum + N/2) >> log2 N for N a power of two (half towards +inf), otherwise
/// tdiv(sum + sgn(sum)*(N>>1), N) (half away from zero); the dtype stays. Sum and sum + half must
/// fit the target's int32 accumulator (int64 for int64 elements) or wrap there.
/// Source: Deeploy Targets/Generic/Templates/ReduceMeanTemplate.py.
template <class T>
T int_mean(const EvalContext& ctx, std::size_t index, const T* x, std::size_t n) {
  using Acc = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
  const auto count = static_cast<std::int64_t>(n);
  const Wide exact = int_sum(x, n).value;
  const auto narrow = [&](Wide value) {
    const Acc stored = static_cast<Acc>(static_cast<std::uint64_t>(value));
    if (stored != value && ctx.overflow == Overflow::error)
      fail_overflow(ctx, static_cast<std::int64_t>(index), value, dtype_of<Acc>::value);
    return stored;
  };
  const Acc sum = narrow(exact);
  const bool power_of_two = std::has_single_bit(static_cast<std::uint64_t>(count));
  const std::int64_t half = sum < 0 && !power_of_two ? -(count >> 1) : count >> 1;
  const Acc raised = narrow(Wide{sum} + half);
  if (raised == Wide{sum} + half) return static_cast<T>(integer_mean(sum, count));
  // It wrapped: the target divides what is left.
  return static_cast<T>(power_of_two ? raised >> std::countr_zero(static_cast<std::uint64_t>(count))
                                     : static_cast<Acc>(raised / count));
}

// ---- The operators.

enum class Kind { mean, sum, max, min, prod, l2, sum_square };

float reduce_float(Kind kind, const float* x, std::size_t n) {
  switch (kind) {
    case Kind::mean:
      return static_cast<float>(lane_sum(x, n, kPlain) / static_cast<double>(n));
    case Kind::sum:
      return static_cast<float>(lane_sum(x, n, kPlain));
    case Kind::max:
      return extreme<false>(x, n);
    case Kind::min:
      return extreme<true>(x, n);
    case Kind::l2:
      return static_cast<float>(std::sqrt(lane_sum(x, n, kSquare)));
    case Kind::sum_square:
      return static_cast<float>(lane_sum(x, n, kSquare));
    case Kind::prod:
      break;
  }
  double product = 1.0;
  for (std::size_t i = 0; i < n; ++i) product *= static_cast<double>(x[i]);
  return static_cast<float>(product);
}

template <class T>
void reduce_integer(const EvalContext& ctx, Kind kind, std::size_t index, const T* x,
                    std::size_t n) {
  switch (kind) {
    case Kind::mean:
      ctx.output().as<T>()[index] = int_mean(ctx, index, x, n);
      return;
    case Kind::max:
      ctx.output().as<T>()[index] = extreme<false>(x, n);
      return;
    case Kind::min:
      ctx.output().as<T>()[index] = extreme<true>(x, n);
      return;
    case Kind::sum:
      return store_exact(ctx, index, int_sum(x, n));
    case Kind::sum_square:
      return store_exact(ctx, index, int_sum_square(x, n));
    case Kind::prod:
      return store_exact(ctx, index, int_product(x, n));
    case Kind::l2:
      break;
  }
  throw Error(ErrorCode::internal, place(ctx.node), "has no integer form");
}

void reduce(const EvalContext& ctx, Kind kind, const std::vector<bool>& reduced) {
  const Tensor& x = ctx.input(0);
  if (ctx.output().size() == 0) return;
  if (x.dtype() == DType::f32) {
    float* y = ctx.output().as<float>().data();
    for_each_row<float>(x, reduced, [&](std::size_t i, const float* row, std::size_t n) {
      y[i] = reduce_float(kind, row, n);
    });
    return;
  }
  visit_integer(x.dtype(), [&](auto t) {
    using T = decltype(t);
    for_each_row<T>(x, reduced, [&](std::size_t i, const T* row, std::size_t n) {
      reduce_integer(ctx, kind, i, row, n);
    });
  });
}

bool keeps_dtype(Kind kind) { return kind == Kind::mean || kind == Kind::max || kind == Kind::min; }

DType result_dtype(const InferContext& ctx, Kind kind) {
  const DType in = numeric_input(ctx, 0).dtype;
  if (in == DType::f32 || keeps_dtype(kind)) return in;
  if (kind == Kind::l2 || (kind == Kind::sum_square && in == DType::i64))
    ctx.fail(fmt::format("{} has no form for {}", ctx.node.op, to_string(in)));
  return accumulator_dtype(in, in);
}

void require_elements(const InferContext& ctx, Kind kind, const std::vector<bool>& reduced) {
  const Shape& shape = ctx.input(0).shape;
  if (keeps_dtype(kind) && row_length(shape, reduced) == 0)
    ctx.fail(fmt::format("reduces {} over no elements", to_string(shape)));
}

/// Integers: Sum, SumSquare, Prod exact in int32 (int64 for int64), Max and Min exact in the dtype
/// of the input, Mean as int_mean. Overflow as in store_exact.
OpDef reduction(std::string name, Kind kind) {
  const auto infer = [kind](const InferContext& ctx) -> Types {
    const DType dtype = result_dtype(ctx, kind);
    const Shape& shape = ctx.input(0).shape;
    const std::vector<bool> reduced = reduced_axes(ctx, shape.size());
    require_elements(ctx, kind, reduced);
    return {{dtype, reduced_shape(shape, reduced, ctx.attrs().get_int("keepdims", 1) != 0)}};
  };
  const auto eval = [kind](const EvalContext& ctx) {
    reduce(ctx, kind, reduced_axes(ctx, ctx.input(0).shape().size()));
  };
  return {.name = name,
          .inputs = {"data", "axes?"},
          .attrs = {"axes", "keepdims", "noop_with_empty_axes"},
          .spec = "ONNX " + name + "-1, 11, 13, 18",
          .infer = infer,
          .eval = eval};
}

/// The dialect's name for the mean of integers.
OpDef integer_mean_op() {
  OpDef op = reduction("IntegerMean", Kind::mean);
  op.inputs = {"x"};
  op.attrs = {"axes", "keepdims"};
  op.spec = "Deeploy Generic template IntegerMean";
  op.dialect = true;
  op.eval = [eval = std::move(op.eval)](const EvalContext& ctx) {
    if (ctx.input(0).dtype() == DType::f32)
      ctx.fail(ErrorCode::unsupported, "input 0 is f32, not an integer tensor",
               "convert the network with to_integer_network first");
    eval(ctx);
  };
  return op;
}

/// Mean or maximum over all spatial axes of [N,C,...], which become 1.
OpDef global_pool(std::string name, Kind kind) {
  const auto spatial = [](std::size_t rank) {
    std::vector<bool> reduced(rank, true);
    std::fill_n(reduced.begin(), 2, false);
    return reduced;
  };
  const auto infer = [kind, spatial](const InferContext& ctx) -> Types {
    const TensorType& x = numeric_input(ctx, 0);
    if (x.shape.size() < 3)
      ctx.fail(fmt::format("input is {}, [N,C,spatial...] is wanted", to_string(x)));
    require_elements(ctx, kind, spatial(x.shape.size()));
    return {{x.dtype, reduced_shape(x.shape, spatial(x.shape.size()), true)}};
  };
  const auto eval = [kind, spatial](const EvalContext& ctx) {
    reduce(ctx, kind, spatial(ctx.input(0).shape().size()));
  };
  return {.name = name,
          .inputs = {"X"},
          .attrs = {},
          .spec = "ONNX " + name + "-1",
          .infer = infer,
          .eval = eval};
}

// ---- ArgMax, ArgMin.

std::vector<bool> arg_axis(const Node& node, std::size_t rank) {
  std::vector<bool> reduced(rank, false);
  reduced[normalize_axis(node.attrs.get_int("axis", 0), rank, place(node))] = true;
  return reduced;
}

template <bool least>
OpDef arg_extreme(std::string name) {
  const auto infer = [](const InferContext& ctx) -> Types {
    const Shape& shape = numeric_input(ctx, 0).shape;
    if (shape.empty()) ctx.fail("input is a scalar");
    const std::vector<bool> reduced = arg_axis(ctx.node, shape.size());
    require_elements(ctx, Kind::max, reduced);
    return {{DType::i64, reduced_shape(shape, reduced, ctx.attrs().get_int("keepdims", 1) != 0)}};
  };
  const auto eval = [](const EvalContext& ctx) {
    if (ctx.output().size() == 0) return;
    const bool last = ctx.attrs().get_int("select_last_index", 0) != 0;
    const auto y = ctx.output().as<std::int64_t>();
    const auto run = [&](auto t) {
      using T = decltype(t);
      for_each_row<T>(ctx.input(0), arg_axis(ctx.node, ctx.input(0).shape().size()),
                      [&](std::size_t i, const T* row, std::size_t n) {
                        std::size_t best = 0;
                        for (std::size_t k = 1; k < n; ++k)
                          if ((least ? row[k] < row[best] : row[k] > row[best]) ||
                              (last && row[k] == row[best]))
                            best = k;
                        y[i] = static_cast<std::int64_t>(best);
                      });
    };
    if (ctx.input(0).dtype() == DType::f32) return run(0.0f);
    visit_integer(ctx.input(0).dtype(), run);
  };
  return {.name = name,
          .inputs = {"data"},
          .attrs = {"axis", "keepdims", "select_last_index"},
          .spec = "ONNX " + name + "-1, 11, 12, 13",
          .infer = infer,
          .eval = eval};
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> reduction_ops() {
  using namespace ops;
  return {reduction("ReduceMean", Kind::mean),
          reduction("ReduceSum", Kind::sum),
          reduction("ReduceMax", Kind::max),
          reduction("ReduceMin", Kind::min),
          reduction("ReduceProd", Kind::prod),
          reduction("ReduceL2", Kind::l2),
          reduction("ReduceSumSquare", Kind::sum_square),
          arg_extreme<false>("ArgMax"),
          arg_extreme<true>("ArgMin"),
          global_pool("GlobalAveragePool", Kind::mean),
          global_pool("GlobalMaxPool", Kind::max),
          integer_mean_op()};
}

}  // namespace waveq
