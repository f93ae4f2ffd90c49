#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/families.h"
#include "ops/op_util.h"

// Operators that make tensors from attributes, shapes and scalars.
namespace waveq::ops {

namespace {

// ---- Constant.

Tensor constant_value(const Node& node) {
  const Attrs& a = node.attrs;
  if (const Attr* value = a.find("value")) {
    if (const Tensor* tensor = std::get_if<Tensor>(value)) return *tensor;
  }
  if (a.has("value_int")) return Tensor::scalar<std::int64_t>(a.get_int("value_int", 0));
  if (a.has("value_ints")) {
    const auto values = a.get_ints("value_ints", {});
    return Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
  }
  if (a.has("value_float"))
    return Tensor::scalar<float>(static_cast<float>(a.get_float("value_float", 0)));
  if (const Attr* value = a.find("value_floats")) {
    if (const auto* doubles = std::get_if<std::vector<double>>(value)) {
      const std::vector<float> floats(doubles->begin(), doubles->end());
      return Tensor::from<float>({static_cast<std::int64_t>(floats.size())}, floats);
    }
  }
  throw Error(ErrorCode::shape, place(node), "has none of value, value_int(s), value_float(s)",
              "strings and sparse tensors are not supported");
}

// ---- ConstantOfShape.

Tensor fill_value(const Node& node) {
  const Attr* value = node.attrs.find("value");
  if (!value) return Tensor::scalar<float>(0.0f);
  const Tensor* tensor = std::get_if<Tensor>(value);
  if (!tensor || tensor->size() != 1)
    throw Error(ErrorCode::shape, place(node), "attribute 'value' is not a tensor of one element");
  return *tensor;
}

Types infer_constant_of_shape(const InferContext& ctx) {
  ctx.input(0);
  const Shape shape = ints_param(ctx, "", 0, {});
  for (std::int64_t d : shape)
    if (d < 0) ctx.fail(fmt::format("shape {} has a negative dimension", to_string(shape)));
  element_count(shape);
  return {{fill_value(ctx.node).dtype(), shape}};
}

void eval_constant_of_shape(const EvalContext& ctx) {
  const Tensor value = fill_value(ctx.node);
  Tensor& out = ctx.output();
  copy_strided(out.bytes().data(), out.shape(), value.bytes().data(),
               std::vector<std::int64_t>(out.shape().size(), 0), size_of(out.dtype()));
}

// ---- Trilu.

Types infer_trilu(const InferContext& ctx) {
  if (ctx.input(0).shape.size() < 2) ctx.fail("its input is no matrix");
  if (ctx.has(1) && (!is_integer(ctx.input(1).dtype) || element_count(ctx.input(1).shape) != 1))
    ctx.fail("k is not one integer");
  return {ctx.input(0)};
}

/// y[i][j] = x[i][j] where j >= i + k (upper, the default) or j <= i + k (lower), else 0, for each
/// matrix [N,M] of the last two axes.
void eval_trilu(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Tensor& y = ctx.output();
  const bool upper = ctx.attrs().get_int("upper", 1) != 0;
  const std::int64_t rows = x.shape()[x.shape().size() - 2], columns = x.shape().back(),
                     // Beyond these k changes nothing.
      k = ctx.has(1) ? std::clamp(to_int64(ctx.input(1)).front(), -rows, columns) : 0;
  const auto size = static_cast<std::ptrdiff_t>(size_of(x.dtype()));
  std::ranges::copy(x.bytes(), y.bytes().begin());
  for (std::int64_t e = 0; e < x.size(); ++e) {
    const std::int64_t j = e % columns, i = e / columns % rows;
    if (upper ? j < i + k : j > i + k)
      std::fill_n(y.bytes().begin() + static_cast<std::ptrdiff_t>(e) * size, size, std::byte{0});
  }
}

// ---- Shape, Size.

/// Dimensions [start, end) of input 0, negative positions from the back, clamped.
Shape shape_slice(const Node& node, const Shape& shape) {
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto position = [&](const char* name, std::int64_t fallback) {
    const std::int64_t p = node.attrs.get_int(name, fallback);
    return std::clamp<std::int64_t>(p < 0 ? p + rank : p, 0, rank);
  };
  const std::int64_t start = position("start", 0), end = position("end", rank);
  return start < end ? Shape(shape.begin() + start, shape.begin() + end) : Shape{};
}

OpDef shape_op() {
  return {
      .name = "Shape",
      .inputs = {"data"},
      .attrs = {"end", "start"},
      .spec = "ONNX Shape-1, 13, 15",
      .infer = [](const InferContext& ctx) -> Types {
        return {{DType::i64,
                 {static_cast<std::int64_t>(shape_slice(ctx.node, ctx.input(0).shape).size())}}};
      },
      .eval =
          [](const EvalContext& ctx) {
            std::ranges::copy(shape_slice(ctx.node, ctx.input(0).shape()),
                              ctx.output().as<std::int64_t>().begin());
          }};
}

OpDef size_op() {
  return {
      .name = "Size",
      .inputs = {"data"},
      .attrs = {},
      .spec = "ONNX Size-1, 13",
      .infer = [](const InferContext& ctx) -> Types {
        ctx.input(0);
        return {{DType::i64, {}}};
      },
      .eval =
          [](const EvalContext& ctx) { ctx.output().as<std::int64_t>()[0] = ctx.input(0).size(); }};
}

// ---- Range.

/// Number of elements of start, start + delta, ... before limit.
Types infer_range(const InferContext& ctx) {
  for (std::size_t i = 0; i < 3; ++i) {
    if (element_count(same_dtype_input(ctx, i).shape) != 1)
      ctx.fail(fmt::format("input {} is {}, a scalar is wanted", i, to_string(ctx.input(i))));
    if (!ctx.constant(i))
      ctx.fail(fmt::format("input {} decides a shape but is computed from data", i));
  }
  const DType dtype = numeric_input(ctx, 0).dtype;
  double count = 0.0;
  if (dtype == DType::f32) {
    const double start = to_double(*ctx.constant(0))[0], limit = to_double(*ctx.constant(1))[0];
    count = std::ceil((limit - start) / to_double(*ctx.constant(2))[0]);
  } else {
    const Wide start = to_int64(*ctx.constant(0))[0], limit = to_int64(*ctx.constant(1))[0];
    const Wide delta = to_int64(*ctx.constant(2))[0];
    if (delta == 0) ctx.fail("the step is 0");
    // Rounded up, in integers: doubles do not hold every int64.
    const Wide span = delta > 0 ? limit - start : start - limit, step = delta > 0 ? delta : -delta;
    count = span <= 0 ? 0.0 : static_cast<double>((span + step - 1) / step);
  }
  if (!(count < 4294967296.0))
    ctx.fail("the range is not finite or too long", "check limit and step");
  return {{dtype, {count > 0 ? static_cast<std::int64_t>(count) : 0}}};
}

/// y[i] = start + i*delta; f32 in double, rounded once; integers exact (they end before limit).
void eval_range(const EvalContext& ctx) {
  if (ctx.output().dtype() == DType::f32) {
    const double start = to_double(ctx.input(0))[0], delta = to_double(ctx.input(2))[0];
    const auto y = ctx.output().as<float>();
    for (std::size_t i = 0; i < y.size(); ++i)
      y[i] = static_cast<float>(start + static_cast<double>(i) * delta);
    return;
  }
  const std::int64_t start = to_int64(ctx.input(0))[0], delta = to_int64(ctx.input(2))[0];
  visit_integer(ctx.output().dtype(), [&](auto t) {
    using T = decltype(t);
    const auto y = ctx.output().as<T>();
    for (std::size_t i = 0; i < y.size(); ++i)
      y[i] = static_cast<T>(Wide{start} + Wide{delta} * static_cast<std::int64_t>(i));
  });
}

OpDef constant_op() {
  return {
      .name = "Constant",
      .inputs = {},
      .attrs = {"value", "value_float", "value_floats", "value_int", "value_ints"},
      .spec = "ONNX Constant-1, 9, 11, 12, 13",
      .infer = [](const InferContext& ctx) -> Types { return {constant_value(ctx.node).type()}; },
      .eval =
          [](const EvalContext& ctx) {
            const Tensor value = constant_value(ctx.node);
            copy_bytes(ctx.output().bytes().data(), value.bytes().data(), value.byte_size());
          }};
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> shape_ops() {
  using namespace ops;
  return {constant_op(),
          {.name = "ConstantOfShape",
           .inputs = {"input"},
           .attrs = {"value"},
           .spec = "ONNX ConstantOfShape-9, 20",
           .infer = infer_constant_of_shape,
           .eval = eval_constant_of_shape},
          {.name = "Trilu",
           .inputs = {"input", "k?"},
           .attrs = {"upper"},
           .spec = "ONNX Trilu-14",
           .infer = infer_trilu,
           .eval = eval_trilu},
          shape_op(),
          size_op(),
          {.name = "Range",
           .inputs = {"start", "limit", "delta"},
           .attrs = {},
           .spec = "ONNX Range-11",
           .infer = infer_range,
           .eval = eval_range}};
}

}  // namespace waveq
