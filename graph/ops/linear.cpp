#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/families.h"
#include "ops/linear_dense.h"

namespace waveq::ops {

void IntDense::product(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
                       std::int64_t lda, const std::int32_t* const* B, const std::int32_t* bias,
                       std::int32_t* C, std::int64_t ldc) const {
  kernels::gemm_rows_i32(M, N, K, A, lda, B, C, ldc);
  if (bias)
    for (std::int64_t m = 0; m < M; ++m)
      for (std::int64_t n = 0; n < N; ++n)
        C[m * ldc + n] = static_cast<std::int32_t>(static_cast<std::uint32_t>(C[m * ldc + n]) +
                                                   static_cast<std::uint32_t>(bias[m]));
  if (!exact_) return;
  for (std::int64_t m = 0; m < M; ++m)
    for (std::int64_t n = 0; n < N; ++n) {
      Wide sum = bias ? bias[m] : 0;
      for (std::int64_t k = 0; k < K; ++k) sum += std::int64_t{A[m * lda + k]} * B[k][n];
      if (sum != static_cast<std::int32_t>(sum))
        fail_overflow(ctx_, C + m * ldc + n - output_, sum, DType::i32);
    }
}

Wide max_row_l1(const std::int32_t* A, std::int64_t rows, std::int64_t cols) {
  Wide most = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t sum = 0;
    for (std::int64_t c = 0; c < cols; ++c) sum += std::abs(std::int64_t{A[r * cols + c]});
    most = std::max<Wide>(most, sum);
  }
  return most;
}

DType linear_dtype(const InferContext& ctx, std::size_t a, std::size_t b) {
  const DType da = numeric_input(ctx, a).dtype, db = numeric_input(ctx, b).dtype;
  if (da == DType::f32 && db == DType::f32) return DType::f32;
  if (da == DType::f32 || db == DType::f32 || da == DType::i64 || db == DType::i64)
    ctx.fail(fmt::format(
        "operands are {} and {}; both f32, or both integers of at most 32 bits, are wanted",
        to_string(da), to_string(db)));
  return DType::i32;
}

namespace {

// ---- Gemm.

struct GemmSizes {
  std::int64_t M, N, K;
};

GemmSizes gemm_sizes(const Node& node, const Shape& a, const Shape& b) {
  const bool ta = node.attrs.get_int("transA", 0) != 0, tb = node.attrs.get_int("transB", 0) != 0;
  return {.M = a[ta ? 1 : 0], .N = b[tb ? 0 : 1], .K = a[ta ? 0 : 1]};
}

/// alpha or beta of an integer Gemm. \throws Error{shape} unless it is an integer of 32 bits.
std::int32_t integer_factor(const Node& node, const char* name) {
  const double value = node.attrs.get_float(name, 1.0);
  if (std::floor(value) != value || std::abs(value) > 2147483647.0)
    throw Error(ErrorCode::shape, place(node),
                fmt::format("{} is {}, with integer operands it must be an integer", name, value));
  return static_cast<std::int32_t>(value);
}

std::vector<TensorType> infer_gemm(const InferContext& ctx) {
  require_rank(ctx, 0, 2, 2);
  require_rank(ctx, 1, 2, 2);
  const DType out = linear_dtype(ctx, 0, 1);
  const Shape &a = ctx.inputs[0].shape, &b = ctx.inputs[1].shape;
  const GemmSizes s = gemm_sizes(ctx.node, a, b);
  if (b[ctx.attrs().get_int("transB", 0) != 0 ? 1 : 0] != s.K)
    ctx.fail(fmt::format("inner dimensions of {} and {} differ", to_string(a), to_string(b)));
  if (out == DType::i32) {
    integer_factor(ctx.node, "alpha");
    integer_factor(ctx.node, "beta");
  }
  if (ctx.has(2)) {
    if (ctx.input(2).dtype != out)
      ctx.fail(fmt::format("C is {}, {} is wanted", to_string(ctx.input(2)), to_string(out)));
    if (broadcast({s.M, s.N}, ctx.input(2).shape, place(ctx.node)) != Shape{s.M, s.N})
      ctx.fail(fmt::format("C {} does not broadcast to [{},{}]", to_string(ctx.input(2).shape), s.M,
                           s.N));
  }
  return {{out, {s.M, s.N}}};
}

/// [rows, cols] of x, transposed into `copy` if asked for; returns where it stands.
template <class T>
const T* maybe_transposed(const T* x, std::int64_t rows, std::int64_t cols, bool transpose,
                          std::vector<T>& copy) {
  if (!transpose) return x;
  copy.resize(static_cast<std::size_t>(rows * cols));
  copy_strided(reinterpret_cast<std::byte*>(copy.data()), {rows, cols},
               reinterpret_cast<const std::byte*>(x), {1, rows}, sizeof(T));
  return copy.data();
}

template <class Product>
void gemm_product(const EvalContext& ctx, const Product& product, const typename Product::T* a,
                  const typename Product::T* b, typename Product::T* out) {
  using T = typename Product::T;
  const auto [M, N, K] = gemm_sizes(ctx.node, ctx.input(0).shape(), ctx.input(1).shape());
  std::vector<T> a_copy, b_copy;
  std::vector<const T*> rows;
  a = maybe_transposed(a, M, K, ctx.attrs().get_int("transA", 0) != 0, a_copy);
  b = maybe_transposed(b, K, N, ctx.attrs().get_int("transB", 0) != 0, b_copy);
  point_at_rows(rows, b, K, N);
  product.product(M, N, K, a, K, rows.data(), nullptr, out, N);
}

/// y = alpha * (A.B) + beta * C, in this order of rounding; factors of 1 do not round.
void eval_gemm_f32(const EvalContext& ctx) {
  Tensor& out = ctx.output();
  float* y = out.as<float>().data();
  gemm_product(ctx, FloatDense{}, ctx.input(0).as<float>().data(), ctx.input(1).as<float>().data(),
               y);
  const float alpha = static_cast<float>(ctx.attrs().get_float("alpha", 1.0));
  const float beta = static_cast<float>(ctx.attrs().get_float("beta", 1.0));
  if (alpha != 1.0f)
    for (float& v : out.as<float>()) v *= alpha;
  if (!ctx.has(2) || beta == 0.0f) return;
  const float* c = ctx.input(2).as<float>().data();
  BroadcastLoop<1>(out.shape(), {&ctx.input(2).shape()})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        for (std::int64_t i = 0; i < n; ++i) y[o + i] += beta * c[at[0] + i * step[0]];
      });
}

/// y = alpha * (A.B) + beta * C; alpha, beta integers, C int32.
/// Ranges: the total must fit int32 (Overflow::error) or is taken modulo 2^32 (Overflow::wrap).
/// No rounding. Source: Deeploy TargetLibraries/Generic/src/GEMM_s8.c.
void eval_gemm_int(const EvalContext& ctx) {
  const As<std::int32_t> a(ctx.input(0)), b(ctx.input(1));
  const auto [M, N, K] = gemm_sizes(ctx.node, ctx.input(0).shape(), ctx.input(1).shape());
  const bool ta = ctx.attrs().get_int("transA", 0) != 0, tb = ctx.attrs().get_int("transB", 0) != 0;
  const std::int32_t alpha = integer_factor(ctx.node, "alpha"),
                     beta = integer_factor(ctx.node, "beta");
  Tensor& out = ctx.output();
  std::int32_t* y = out.as<std::int32_t>().data();
  gemm_product(ctx, IntDense(ctx, false, y), a.data(), b.data(), y);

  std::vector<std::int32_t> c(static_cast<std::size_t>(out.size()), 0);
  if (ctx.has(2)) {
    const auto given = ctx.input(2).as<std::int32_t>();
    BroadcastLoop<1>(out.shape(), {&ctx.input(2).shape()})
        .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
          for (std::int64_t i = 0; i < n; ++i) c[o + i] = given[at[0] + i * step[0]];
        });
  }
  const Wide bound = Wide{max_abs(a.data(), M * K)} * max_abs(b.data(), K * N) * K *
                         std::abs(std::int64_t{alpha}) +
                     Wide{max_abs(c.data(), out.size())} * std::abs(std::int64_t{beta});
  const bool exact = needs_exact(ctx, bound);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    if (exact) {
      const std::int64_t m = i / N, n = i % N;
      Wide sum = 0;
      for (std::int64_t k = 0; k < K; ++k)
        sum += std::int64_t{a.data()[ta ? k * M + m : m * K + k]} *
               b.data()[tb ? n * K + k : k * N + n];
      sum = sum * alpha + Wide{c[i]} * beta;
      if (sum != static_cast<std::int32_t>(sum)) fail_overflow(ctx, i, sum, DType::i32);
    }
    y[i] = static_cast<std::int32_t>(
        static_cast<std::uint32_t>(y[i]) * static_cast<std::uint32_t>(alpha) +
        static_cast<std::uint32_t>(c[i]) * static_cast<std::uint32_t>(beta));
  }
}

// ---- MatMul.

struct MatMulShape {
  std::int64_t M, N, K;
  Shape batch;             ///< of the output
  Shape batch_a, batch_b;  ///< of the operands
};

MatMulShape matmul_shape(const Node& node, Shape a, Shape b) {
  if (a.empty() || b.empty())
    throw Error(ErrorCode::shape, place(node), "an operand is a scalar", "use Mul");
  if (a.size() == 1) a.insert(a.begin(), 1);
  if (b.size() == 1) b.push_back(1);
  MatMulShape s{.M = a[a.size() - 2],
                .N = b.back(),
                .K = a.back(),
                .batch = {},
                .batch_a = {},
                .batch_b = {}};
  if (b[b.size() - 2] != s.K)
    throw Error(ErrorCode::shape, place(node),
                fmt::format("inner dimensions of {} and {} differ", to_string(a), to_string(b)));
  s.batch_a.assign(a.begin(), a.end() - 2);
  s.batch_b.assign(b.begin(), b.end() - 2);
  s.batch = broadcast(s.batch_a, s.batch_b, place(node));
  return s;
}

std::vector<TensorType> infer_matmul(const InferContext& ctx) {
  const DType out = linear_dtype(ctx, 0, 1);
  const Shape &a = ctx.input(0).shape, &b = ctx.input(1).shape;
  const MatMulShape s = matmul_shape(ctx.node, a, b);
  Shape shape = s.batch;
  if (a.size() > 1) shape.push_back(s.M);
  if (b.size() > 1) shape.push_back(s.N);
  return {{out, shape}};
}

template <class Product>
void matmul(const MatMulShape& s, const Product& product, const typename Product::T* a,
            const typename Product::T* b, typename Product::T* y) {
  std::vector<const typename Product::T*> rows;
  if (element_count(s.batch_b) == 1) {
    // One right operand for the whole batch: the batch is more rows.
    point_at_rows(rows, b, s.K, s.N);
    product.product(element_count(s.batch) * s.M, s.N, s.K, a, s.K, rows.data(), nullptr, y, s.N);
    return;
  }
  BroadcastLoop<2>(s.batch, {&s.batch_a, &s.batch_b})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        for (std::int64_t i = 0; i < n; ++i) {
          point_at_rows(rows, b + (at[1] + i * step[1]) * s.K * s.N, s.K, s.N);
          product.product(s.M, s.N, s.K, a + (at[0] + i * step[0]) * s.M * s.K, s.K, rows.data(),
                          nullptr, y + (o + i) * s.M * s.N, s.N);
        }
      });
}

/// f32: each output element is one fma chain over k from 0.
/// Integers: y = sum_k a*b; exact, must fit int32 (Overflow::error) or is taken modulo 2^32
/// (Overflow::wrap). No rounding. Source: Deeploy TargetLibraries/Generic/src/MatMul_s8.c.
void eval_matmul(const EvalContext& ctx) {
  const MatMulShape s = matmul_shape(ctx.node, ctx.input(0).shape(), ctx.input(1).shape());
  if (ctx.output().size() == 0) return;
  if (ctx.output().dtype() == DType::f32) {
    matmul(s, FloatDense{}, ctx.input(0).as<float>().data(), ctx.input(1).as<float>().data(),
           ctx.output().as<float>().data());
    return;
  }
  const As<std::int32_t> a(ctx.input(0)), b(ctx.input(1));
  std::int32_t* y = ctx.output().as<std::int32_t>().data();
  const Wide bound =
      Wide{max_abs(a.data(), ctx.input(0).size())} * max_abs(b.data(), ctx.input(1).size()) * s.K;
  matmul(s, IntDense(ctx, needs_exact(ctx, bound), y), a.data(), b.data(), y);
}

}  // namespace

OpDef gemm_op() {
  return {.name = "Gemm",
          .inputs = {"A", "B", "C?"},
          .attrs = {"alpha", "beta", "transA", "transB"},
          .spec = "ONNX Gemm-7, 9, 11, 13",
          .infer = infer_gemm,
          .eval =
              [](const EvalContext& ctx) {
                ctx.output().dtype() == DType::f32 ? eval_gemm_f32(ctx) : eval_gemm_int(ctx);
              },
          .macs =
              [](const Graph& g, const Node& node) {
                const auto [M, N, K] = gemm_sizes(node, g.value(node.inputs[0]).type.shape,
                                                  g.value(node.inputs[1]).type.shape);
                return M * N * K;
              }};
}

OpDef matmul_op() {
  return {.name = "MatMul",
          .inputs = {"A", "B"},
          .attrs = {},
          .spec = "ONNX MatMul-1, 9, 13",
          .infer = infer_matmul,
          .eval = eval_matmul,
          .macs = [](const Graph& g, const Node& node) {
            const MatMulShape s = matmul_shape(node, g.value(node.inputs[0]).type.shape,
                                               g.value(node.inputs[1]).type.shape);
            return element_count(s.batch) * s.M * s.N * s.K;
          }};
}

}  // namespace waveq::ops

namespace waveq {
std::vector<OpDef> linear_ops() {
  return {ops::conv_op(),   ops::conv_transpose_op(), ops::gemm_op(),
          ops::matmul_op(), ops::conv_integer_op(),   ops::matmul_integer_op()};
}
}  // namespace waveq
