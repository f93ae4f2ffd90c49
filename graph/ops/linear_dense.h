#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/dense.h"
#include "ops/op_util.h"

/// Matrix products of the linear family in float32 and in int32, behind one interface.
namespace waveq::ops {

/// C = A.B (+ bias per row of C), B as K row pointers. f32: the fma chain of kernels.h.
class FloatDense {
 public:
  using T = float;
  void product(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
               const float* const* B, const float* bias, float* C, std::int64_t ldc) const {
    kernels::gemm_rows_f32(M, N, K, A, lda, B, bias, C, ldc);
  }
};

/// C = A.B (+ bias per row of C) modulo 2^32. With `exact`, every sum is computed in 128 bits as
/// well, and one that leaves int32 ends the evaluation.
class IntDense {
 public:
  using T = std::int32_t;
  IntDense(const EvalContext& ctx, bool exact, const std::int32_t* output)
      : ctx_(ctx), exact_(exact), output_(output) {}
  void product(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
               std::int64_t lda, const std::int32_t* const* B, const std::int32_t* bias,
               std::int32_t* C, std::int64_t ldc) const;

 private:
  const EvalContext& ctx_;
  bool exact_;
  const std::int32_t* output_;  ///< start of the node's output, to number elements in messages
};

/// Largest sum of |A[m][k]| over one row. Times max|B| it bounds every sum of A.B.
Wide max_row_l1(const std::int32_t* A, std::int64_t rows, std::int64_t cols);

/// True where the bound does not exclude a sum beyond int32 and the caller asked for an error.
inline bool needs_exact(const EvalContext& ctx, Wide bound) {
  return ctx.overflow == Overflow::error && bound > highest(DType::i32);
}

/// Pointers to K rows of `ld` elements each.
template <class T>
void point_at_rows(std::vector<const T*>& rows, const T* B, std::int64_t K, std::int64_t ld) {
  rows.resize(static_cast<std::size_t>(K));
  for (std::int64_t k = 0; k < K; ++k) rows[static_cast<std::size_t>(k)] = B + k * ld;
}

/// Float or integer operands, nothing in between: the result dtype of a linear operator.
/// \throws Error{shape} for a mixture or for int64.
DType linear_dtype(const InferContext& ctx, std::size_t a, std::size_t b);

OpDef conv_op();
OpDef conv_transpose_op();
OpDef gemm_op();
OpDef matmul_op();
OpDef conv_integer_op();    ///< linear_integer.cpp
OpDef matmul_integer_op();  ///< linear_integer.cpp

}  // namespace waveq::ops
