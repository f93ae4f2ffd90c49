#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/families.h"
#include "ops/op_util.h"

// QuantizeLinear and DequantizeLinear: float32 to integers on a grid and back.
namespace waveq::ops {

namespace {

/// Shape with which scale (and zero point) broadcast to x: one for all, or one for each index of
/// the attribute `axis` (default 1). \throws Error{shape} at the node.
Shape grid_shape(const Node& node, const Shape& x, const Shape& scale) {
  if (element_count(scale) == 1 && scale.size() <= 1) return {};
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::shape, place(node), what,
                "waveq takes one scale, or one for each index of an axis");
  };
  if (node.attrs.get_int("block_size", 0) != 0 || scale.size() != 1)
    refuse(fmt::format("scales {} of x {} are in blocks", to_string(scale), to_string(x)));
  const auto axis = static_cast<std::size_t>(
      normalize_axis(node.attrs.get_int("axis", 1), x.size(), place(node)));
  if (scale[0] != x[axis])
    refuse(fmt::format("{} scales for axis {} of {}", scale[0], axis, to_string(x)));
  Shape shape(x.size() - axis, 1);
  shape.front() = scale[0];
  return shape;
}

void check_grid(const InferContext& ctx) {
  grid_shape(ctx.node, ctx.input(0).shape, float_input(ctx, 1).shape);
  if (ctx.has(2) && element_count(ctx.input(2).shape) != element_count(ctx.input(1).shape))
    ctx.fail(fmt::format("zero point {} does not fit scale {}", to_string(ctx.input(2)),
                         to_string(ctx.input(1))));
}

/// Calls f(element, scale, zero point) for each element of x.
template <class F>
void for_each_on_grid(const EvalContext& ctx, F&& f) {
  const Shape& x = ctx.input(0).shape();
  const Shape shape = grid_shape(ctx.node, x, ctx.input(1).shape());
  const auto scale = ctx.input(1).as<float>();
  std::vector<std::int64_t> zero(scale.size(), 0);
  if (ctx.has(2)) zero = to_int64(ctx.input(2));
  BroadcastLoop<1>(x, {&shape}).run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
    for (std::int64_t i = 0; i < n; ++i) {
      const auto k = static_cast<std::size_t>(at[0] + i * step[0]);
      f(o + i, scale[k], zero[k]);
    }
  });
}

Types infer_quantize(const InferContext& ctx) {
  const Shape& shape = float_input(ctx, 0).shape;
  check_grid(ctx);
  const DType out = ctx.has(2) ? ctx.input(2).dtype : DType::u8;
  if (!is_integer(out) || size_of(out) > 2)
    ctx.fail(fmt::format("zero point is {}; 8 or 16 bits are wanted", to_string(out)));
  return {{out, shape}};
}

/// saturate(rint(x / scale) + zero_point), the division in float32, ties to even; NaN gives the
/// zero point. Source: ONNX QuantizeLinear-10, 13, 19.
void eval_quantize(const EvalContext& ctx) {
  const auto x = ctx.input(0).as<float>();
  visit_integer(ctx.output().dtype(), [&](auto t) {
    using T = decltype(t);
    const auto y = ctx.output().as<T>();
    for_each_on_grid(ctx, [&](std::int64_t i, float scale, std::int64_t zero) {
      const auto at = static_cast<std::size_t>(i);
      const float q = std::nearbyint(x[at] / scale);
      const double moved = (std::isnan(q) ? 0.0 : double{q}) + static_cast<double>(zero);
      y[at] = static_cast<T>(std::clamp(moved, static_cast<double>(lowest(ctx.output().dtype())),
                                        static_cast<double>(highest(ctx.output().dtype()))));
    });
  });
}

Types infer_dequantize(const InferContext& ctx) {
  const TensorType& x = ctx.input(0);
  if (!is_integer(x.dtype) || x.dtype == DType::i64)
    ctx.fail(fmt::format("x is {}; integers of at most 32 bits are wanted", to_string(x)));
  check_grid(ctx);
  if (ctx.has(2)) same_dtype_input(ctx, 2);
  return {{DType::f32, x.shape}};
}

/// (x - zero_point) * scale: the difference exact, rounded to float32, then the product.
/// Source: ONNX DequantizeLinear-10, 13, 19.
void eval_dequantize(const EvalContext& ctx) {
  const As<std::int32_t> x(ctx.input(0));
  const auto y = ctx.output().as<float>();
  for_each_on_grid(ctx, [&](std::int64_t i, float scale, std::int64_t zero) {
    const auto at = static_cast<std::size_t>(i);
    y[at] = static_cast<float>(x.data()[at] - zero) * scale;
  });
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> quantization_ops() {
  using namespace ops;
  return {{.name = "QuantizeLinear",
           .inputs = {"x", "y_scale", "y_zero_point?"},
           .attrs = {"axis", "block_size", "saturate"},
           .spec = "ONNX QuantizeLinear-10, 13, 19",
           .infer = infer_quantize,
           .eval = eval_quantize},
          {.name = "DequantizeLinear",
           .inputs = {"x", "x_scale", "x_zero_point?"},
           .attrs = {"axis", "block_size"},
           .spec = "ONNX DequantizeLinear-10, 13, 19",
           .infer = infer_dequantize,
           .eval = eval_dequantize}};
}

}  // namespace waveq
