#pragma once

#include <algorithm>

#include "ops/op_util.h"

/// Binary operators, element by element with NumPy broadcasting (private to the graph layer).
namespace waveq::ops {

/// out[i] = f(a[i], b[i]) under broadcasting. Runs of equal or constant operands are told apart so
/// that the compiler can vectorize them.
template <class In, class Out, class F>
void map_pair(const In* a, const Shape& a_shape, const In* b, const Shape& b_shape, Out* out,
              const Shape& out_shape, F f) {
  BroadcastLoop<2>(out_shape, {&a_shape, &b_shape})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        const In *x = a + at[0], *y = b + at[1];
        Out* z = out + o;
        if (step[0] == 1 && step[1] == 1) {
          for (std::int64_t i = 0; i < n; ++i) z[i] = f(x[i], y[i]);
        } else if (step[0] == 1) {
          const In fixed = *y;
          for (std::int64_t i = 0; i < n; ++i) z[i] = f(x[i], fixed);
        } else if (step[1] == 1) {
          const In fixed = *x;
          for (std::int64_t i = 0; i < n; ++i) z[i] = f(fixed, y[i]);
        } else {
          std::fill_n(z, n, f(*x, *y));
        }
      });
}

template <class In, class Out, class F>
void map_tensors(const Tensor& a, const Tensor& b, Tensor& out, F f) {
  map_pair(a.as<In>().data(), a.shape(), b.as<In>().data(), b.shape(), out.as<Out>().data(),
           out.shape(), f);
}

/// Shape of inputs 0 and 1 together. \throws Error{shape} at the node.
Shape joint_shape(const InferContext& ctx);

/// Whether inputs 0 and 1 are both float32; both integers otherwise.
/// \throws Error{shape} at the node for a mixture.
bool both_float(const InferContext& ctx);

}  // namespace waveq::ops
