#include <fmt/format.h>

#include <array>

#include "ops/linear_dense.h"

// ConvInteger and MatMulInteger: 8-bit operands with zero points, int32 sums. Both subtract the
// zero points and then are the integer forms of Conv and MatMul.
namespace waveq::ops {

namespace {

void require_8bit(const InferContext& ctx, std::size_t i) {
  const DType dtype = ctx.input(i).dtype;
  if (dtype != DType::i8 && dtype != DType::u8)
    ctx.fail(fmt::format("input {} is {}, int8 or uint8 is wanted", i, to_string(ctx.input(i))));
}

/// Zero points broadcast along `axis` of the operand: a scalar, one value, or one for each index.
/// One with the operand's rank stands as it is (MatMulInteger's form for batches).
Shape zero_point_shape(const Shape& operand, const Shape& given, std::size_t axis) {
  if (element_count(given) == 1) return {};
  if (given.size() == operand.size() && operand.size() != 1) return given;
  Shape shape(operand.size() - axis, 1);
  shape.front() = element_count(given);
  return shape;
}

void check_zero_point(const InferContext& ctx, std::size_t operand, std::size_t axis) {
  const std::size_t slot = operand + 2;
  if (!ctx.has(slot)) return;
  const TensorType &x = ctx.input(operand), &zero = ctx.input(slot);
  if (zero.dtype != x.dtype)
    ctx.fail(fmt::format("zero point {} is {}, its operand {}", slot, to_string(zero.dtype),
                         to_string(x.dtype)));
  const bool one = element_count(zero.shape) == 1;
  const bool fits = one || (axis < x.shape.size() &&
                            (zero.shape.size() == 1 || zero.shape.size() == x.shape.size()));
  if (!fits ||
      broadcast(x.shape, zero_point_shape(x.shape, zero.shape, axis), place(ctx.node)) != x.shape)
    ctx.fail(
        fmt::format("zero point {} does not fit its operand {}", to_string(zero), to_string(x)));
}

/// Operand minus its zero points in int32 (-255..255).
Tensor centred(const EvalContext& ctx, std::size_t operand, std::size_t axis) {
  Tensor out = cast(ctx.input(operand), DType::i32);
  if (!ctx.has(operand + 2)) return out;
  const As<std::int32_t> zero(ctx.input(operand + 2));
  const Shape shape = zero_point_shape(out.shape(), ctx.input(operand + 2).shape(), axis);
  std::int32_t* y = out.as<std::int32_t>().data();
  BroadcastLoop<1>(out.shape(), {&shape})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        for (std::int64_t i = 0; i < n; ++i) y[o + i] -= zero.data()[at[0] + i * step[0]];
      });
  return out;
}

/// Axes that may have a zero point an index: the rows of A and the columns of B for a product, the
/// filters for a convolution (its data takes one alone).
struct ZeroAxes {
  std::size_t a, b;
};

ZeroAxes product_axes(std::size_t rank_a, std::size_t rank_b) {
  return {rank_a < 2 ? rank_a : rank_a - 2, rank_b < 2 ? rank_b : rank_b - 1};
}

/// `base` with 8-bit operands, inputs 2 and 3 their zero points. Sums must fit int32
/// (Overflow::error) or are taken modulo 2^32 (Overflow::wrap).
OpDef with_zero_points(const OpDef& base, std::string name, std::vector<std::string> inputs,
                       ZeroAxes (*axes)(std::size_t, std::size_t)) {
  OpDef op = base;
  op.name = std::move(name);
  op.inputs = std::move(inputs);
  op.spec = "ONNX " + op.name + "-10";
  op.infer = [infer = base.infer, axes](const InferContext& ctx) {
    require_8bit(ctx, 0);
    require_8bit(ctx, 1);
    const auto [a, b] = axes(ctx.input(0).shape.size(), ctx.input(1).shape.size());
    check_zero_point(ctx, 0, a);
    check_zero_point(ctx, 1, b);
    return infer({ctx.graph, ctx.node, ctx.inputs.first(2), ctx.constants.first(2)});
  };
  op.eval = [eval = base.eval, axes](const EvalContext& ctx) {
    const auto [a, b] = axes(ctx.input(0).shape().size(), ctx.input(1).shape().size());
    const Tensor x = centred(ctx, 0, a), y = centred(ctx, 1, b);
    const std::array<const Tensor*, 2> operands{&x, &y};
    eval({ctx.node, operands, ctx.outputs, ctx.overflow});
  };
  return op;
}

}  // namespace

OpDef conv_integer_op() {
  // Padding is the zero point of x, which is 0 once that is subtracted.
  return with_zero_points(conv_op(), "ConvInteger", {"x", "w", "x_zero_point?", "w_zero_point?"},
                          [](std::size_t rank, std::size_t) {
                            return ZeroAxes{rank, 0};
                          });
}

OpDef matmul_integer_op() {
  return with_zero_points(matmul_op(), "MatMulInteger",
                          {"A", "B", "a_zero_point?", "b_zero_point?"}, product_axes);
}

}  // namespace waveq::ops
