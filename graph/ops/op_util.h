#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "waveq/graph/op.h"

/// Helpers shared by operator families (private to the graph layer).
namespace waveq::ops {

using Types = std::vector<TensorType>;
/// gcc and clang both have it; only for sums whose bound does not fit int64.
__extension__ using Wide = __int128;

/// "Conv 'enc.0/conv'": the `where` of an error at a node.
std::string place(const Node& node);

// ---- Checks during inference; all throw Error{shape} at the node.

/// Type of input i, which must be float32.
const TensorType& float_input(const InferContext& ctx, std::size_t i);
/// Type of input i, which must be float32 or an integer dtype.
const TensorType& numeric_input(const InferContext& ctx, std::size_t i);
void require_rank(const InferContext& ctx, std::size_t i, std::size_t min, std::size_t max);
/// Type of input i, which must have the dtype of input 0.
const TensorType& same_dtype_input(const InferContext& ctx, std::size_t i);
/// `types` cut or extended (unknown) to the number of outputs the node names, at least one.
Types for_outputs(const InferContext& ctx, Types types);
/// Dtype of arithmetic on two integer operands: i64 if either is i64 (shape arithmetic), else i32.
DType accumulator_dtype(DType a, DType b);
/// n * x without leaving int64; otherwise the node is refused.
std::int64_t checked_product(const InferContext& ctx, std::int64_t n, std::int64_t x);

// ---- Integer elements.

/// Elements of an integer tensor as T (int32 or int64); copies only where they are stored
/// otherwise.
template <class T>
class As {
 public:
  explicit As(const Tensor& tensor);
  const T* data() const { return view_; }

 private:
  std::vector<T> copy_;
  const T* view_;
};
extern template class As<std::int32_t>;
extern template class As<std::int64_t>;

/// Largest |x|, as int64 (2^31 for the smallest int32); 0 for no elements.
std::int64_t max_abs(const std::int32_t* x, std::int64_t n);
/// Error{overflow}: element `index` of the output is `value`, beyond `dtype`.
[[noreturn]] void fail_overflow(const EvalContext& ctx, std::int64_t index, Wide value,
                                DType dtype);

// ---- Iteration.

/// Copies n bytes; both pointers may be null when n is 0.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t n);

/// out (dense, row-major, `shape`) [i..] = in[sum of i*strides]; `strides` in elements of `width`
/// bytes (1, 2, 4 or 8), may be 0 (repeat) or negative; `in` points at the element of index 0.
void copy_strided(std::byte* out, const Shape& shape, const std::byte* in,
                  std::vector<std::int64_t> strides, std::size_t width);

/// out[i0,i1,..] = in[maps[0][i0], maps[1][i1], ..]; an index of -1 on any axis gives `fill`
/// (one element). `out` is allocated with one dimension per map length.
void gather_axes(Tensor& out, const Tensor& in, const std::vector<std::vector<std::int64_t>>& maps,
                 const std::byte* fill);

/// Walks a dense output of `shape` in runs over its innermost dimensions, together with N operands
/// that broadcast to it.
template <std::size_t N>
class BroadcastLoop {
 public:
  BroadcastLoop(const Shape& shape, const std::array<const Shape*, N>& operands) {
    shape_ = shape;
    for (std::size_t op = 0; op < N; ++op) {
      const Shape& own = *operands[op];
      const std::vector<std::int64_t> dense = strides_of(own);
      strides_[op].assign(shape.size(), 0);
      for (std::size_t i = 0; i < own.size(); ++i)
        if (own[own.size() - 1 - i] != 1)
          strides_[op][shape.size() - 1 - i] = dense[own.size() - 1 - i];
    }
    collapse();
  }

  /// f(offset into output, offsets into operands, length, steps of operands): steps are 0 or 1.
  template <class F>
  void run(F&& f) const {
    if (element_count(shape_) == 0) return;
    const std::size_t outer = shape_.size() - 1;
    const std::int64_t length = shape_[outer];
    std::array<std::int64_t, N> steps, at{};
    for (std::size_t op = 0; op < N; ++op) steps[op] = strides_[op][outer];
    std::vector<std::int64_t> index(outer, 0);
    for (std::int64_t out = 0;; out += length) {
      f(out, at, length, steps);
      std::size_t d = outer;
      while (d-- > 0) {
        for (std::size_t op = 0; op < N; ++op) at[op] += strides_[op][d];
        if (++index[d] < shape_[d]) break;
        for (std::size_t op = 0; op < N; ++op) at[op] -= strides_[op][d] * shape_[d];
        index[d] = 0;
      }
      if (d == static_cast<std::size_t>(-1)) return;
    }
  }

 private:
  /// Joins neighbouring dimensions that every operand walks as one, so that runs are long.
  void collapse() {
    Shape shape;
    std::array<std::vector<std::int64_t>, N> strides;
    for (std::size_t d = 0; d < shape_.size(); ++d) {
      if (shape_[d] == 1) continue;
      bool joins = !shape.empty();
      for (std::size_t op = 0; op < N; ++op)
        joins = joins && strides[op].back() == strides_[op][d] * shape_[d];
      if (joins) {
        shape.back() *= shape_[d];
        for (std::size_t op = 0; op < N; ++op) strides[op].back() = strides_[op][d];
      } else {
        shape.push_back(shape_[d]);
        for (std::size_t op = 0; op < N; ++op) strides[op].push_back(strides_[op][d]);
      }
    }
    if (shape.empty()) {
      shape.push_back(1);
      for (auto& s : strides) s.push_back(0);
    }
    shape_ = std::move(shape);
    strides_ = std::move(strides);
  }

  Shape shape_;
  std::array<std::vector<std::int64_t>, N> strides_;
};

// ---- Sliding windows (Conv, ConvTranspose, pooling).

/// One spatial axis of a sliding window, all lengths in elements.
struct Window {
  std::int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad_begin = 0, pad_end = 0;
  /// Input positions a window spans.
  std::int64_t extent() const { return (kernel - 1) * dilation + 1; }
  bool trivial() const { return kernel == 1 && stride == 1 && pad_begin == 0 && pad_end == 0; }
};

/// Attributes strides, dilations, pads for `spatial` axes with the given kernel, checked: strides
/// and dilations 1.., pads 0.., all at most 2^31-1. auto_pad is not applied and `out` not set.
/// \throws Error{shape} at the node.
std::vector<Window> raw_windows(const Node& node, std::span<const std::int64_t> in,
                                std::span<const std::int64_t> kernel);

/// raw_windows with auto_pad (NOTSET, VALID, SAME_UPPER, SAME_LOWER) resolved into pads and `out`
/// set; `ceil_mode` rounds the number of windows up, without windows that start in the right
/// padding. Source: ONNX Conv-11, MaxPool-12.
std::vector<Window> conv_windows(const Node& node, std::span<const std::int64_t> in,
                                 std::span<const std::int64_t> kernel, bool ceil_mode = false);

/// Two windows (height, width) from one or two: a 1-D signal is an image of height 1.
std::array<Window, 2> as_2d(const std::vector<Window>& windows);

}  // namespace waveq::ops
