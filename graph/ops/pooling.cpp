#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "ops/families.h"
#include "ops/op_util.h"

// MaxPool and AveragePool in one and two dimensions. A 1-D signal is an image of height 1.
namespace waveq::ops {

namespace {

std::array<Window, 2> pool_windows(const Node& node, const Shape& x) {
  const std::vector<std::int64_t> kernel = node.attrs.require_ints("kernel_shape");
  const bool ceil_mode = node.attrs.get_int("ceil_mode", 0) != 0;
  return as_2d(conv_windows(node, std::span(x).subspan(2), kernel, ceil_mode));
}

Shape pooled_shape(const InferContext& ctx) {
  require_rank(ctx, 0, 3, 4);
  const Shape& x = ctx.input(0).shape;
  const auto [h, w] = pool_windows(ctx.node, x);
  Shape shape = {x[0], x[1]};
  if (x.size() == 4) shape.push_back(h.out);
  shape.push_back(w.out);
  return shape;
}

/// Kernel positions [first, last) of output o that fall on the input.
struct Reach {
  std::int64_t first, last, base;  ///< input position of kernel position k: base + k*dilation
};
Reach reach(const Window& w, std::int64_t o) {
  const std::int64_t base = o * w.stride - w.pad_begin;
  const std::int64_t first = base >= 0 ? 0 : (-base + w.dilation - 1) / w.dilation;
  const std::int64_t room = w.in - base + w.dilation - 1;
  const std::int64_t last = room <= 0 ? 0 : std::min(w.kernel, room / w.dilation);
  return {std::min(first, last), last, base};
}

/// Calls f(plane, output index in plane, rows reached, columns reached) for every window.
template <class F>
void for_each_window(const Shape& x, const Window& h, const Window& w, F&& f) {
  for (std::int64_t plane = 0; plane < x[0] * x[1]; ++plane)
    for (std::int64_t oh = 0; oh < h.out; ++oh) {
      const Reach rows = reach(h, oh);
      for (std::int64_t ow = 0; ow < w.out; ++ow) f(plane, oh * w.out + ow, rows, reach(w, ow));
    }
}

// ---- MaxPool.

Types infer_max_pool(const InferContext& ctx) {
  const DType dtype = numeric_input(ctx, 0).dtype;
  const Shape shape = pooled_shape(ctx);
  if (ctx.node.outputs.size() > 1 && ctx.attrs().get_int("storage_order", 0) != 0)
    ctx.fail("indices in column-major storage_order are not handled");
  return for_outputs(ctx, {{dtype, shape}, {DType::i64, shape}});
}

/// Largest element of each window; padding does not take part, and a window without any element
/// gives the lowest value of the dtype. Integers keep their dtype: exact, no rounding. NaN wins.
/// Source: ONNX MaxPool-12; PULP kernels treat padding likewise (Generic pads with 0, so keep pads
/// 0).
template <class T>
void max_pool(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const auto [h, w] = pool_windows(ctx.node, shape);
  const T* x = ctx.input(0).as<T>().data();
  T* y = ctx.output().as<T>().data();
  std::int64_t* index =
      ctx.outputs.size() > 1 && ctx.outputs[1] ? ctx.output(1).as<std::int64_t>().data() : nullptr;
  constexpr T kLowest = std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                             : std::numeric_limits<T>::lowest();
  for_each_window(
      shape, h, w,
      [&, h = h, w = w](std::int64_t plane, std::int64_t o, const Reach& rows, const Reach& cols) {
        T best = kLowest;
        std::int64_t where = -1;
        for (std::int64_t i = rows.first; i < rows.last; ++i)
          for (std::int64_t j = cols.first; j < cols.last; ++j) {
            const std::int64_t at =
                (plane * h.in + rows.base + i * h.dilation) * w.in + cols.base + j * w.dilation;
            if (where >= 0 && !(x[at] > best) && !(x[at] != x[at])) continue;
            best = x[at];
            where = at;
          }
        y[plane * h.out * w.out + o] = best;
        if (index) index[plane * h.out * w.out + o] = where;
      });
}

void eval_max_pool(const EvalContext& ctx) {
  if (ctx.output().dtype() == DType::f32) return max_pool<float>(ctx);
  visit_integer(ctx.output().dtype(), [&](auto t) { max_pool<decltype(t)>(ctx); });
}

// ---- AveragePool.

Types infer_average_pool(const InferContext& ctx) {
  float_input(ctx, 0);
  return {{DType::f32, pooled_shape(ctx)}};
}

/// Positions of output o on the input and its padding; the part that ceil_mode adds does not count.
std::int64_t padded_count(const Window& w, std::int64_t o) {
  Window padded = w;
  padded.in = w.pad_begin + w.in + w.pad_end;
  padded.pad_begin = 0;
  const Reach r = reach(padded, o);
  return r.last - r.first;
}

/// Sum in double, row by row, divided by the number of elements (with count_include_pad: of
/// elements and padding), rounded once. A window without any element gives 0. Source: ONNX
/// AveragePool-7, 10, 11, 19.
void eval_average_pool(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const auto [h, w] = pool_windows(ctx.node, shape);
  const bool include_pad = ctx.attrs().get_int("count_include_pad", 0) != 0;
  const float* x = ctx.input(0).as<float>().data();
  float* y = ctx.output().as<float>().data();
  for_each_window(
      shape, h, w,
      [&, h = h, w = w](std::int64_t plane, std::int64_t o, const Reach& rows, const Reach& cols) {
        double sum = 0.0;
        for (std::int64_t i = rows.first; i < rows.last; ++i)
          for (std::int64_t j = cols.first; j < cols.last; ++j)
            sum += static_cast<double>(
                x[(plane * h.in + rows.base + i * h.dilation) * w.in + cols.base + j * w.dilation]);
        const std::int64_t count = include_pad
                                       ? padded_count(h, o / w.out) * padded_count(w, o % w.out)
                                       : (rows.last - rows.first) * (cols.last - cols.first);
        y[plane * h.out * w.out + o] =
            count == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(count));
      });
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> pooling_ops() {
  using namespace ops;
  return {{.name = "MaxPool",
           .inputs = {"X"},
           .attrs = {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order",
                     "strides"},
           .spec = "ONNX MaxPool-1, 8, 10, 11, 12",
           .infer = infer_max_pool,
           .eval = eval_max_pool},
          {.name = "AveragePool",
           .inputs = {"X"},
           .attrs = {"auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape",
                     "pads", "strides"},
           .spec = "ONNX AveragePool-7, 10, 11, 19",
           .infer = infer_average_pool,
           .eval = eval_average_pool}};
}

}  // namespace waveq
