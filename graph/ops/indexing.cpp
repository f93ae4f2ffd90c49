#include <fmt/format.h>

#include <algorithm>

#include "ops/families.h"
#include "ops/op_util.h"

// ScatterND, GatherElements, CumSum: elements placed, picked and added up by their indices.
namespace waveq::ops {

namespace {

/// index + length where it counts from the back. \throws Error{data} outside the axis.
std::int64_t position(const EvalContext& ctx, std::int64_t index, std::int64_t length) {
  if (index < -length || index >= length)
    ctx.fail(ErrorCode::data,
             fmt::format("index {} is outside an axis of length {}", index, length));
  return index < 0 ? index + length : index;
}

void require_indices(const InferContext& ctx, std::size_t i) {
  if (!is_integer(ctx.input(i).dtype))
    ctx.fail(fmt::format("indices are {}, integers are wanted", to_string(ctx.input(i))));
}

// ---- ScatterND.

Types infer_scatter_nd(const InferContext& ctx) {
  const TensorType &data = ctx.input(0), &updates = same_dtype_input(ctx, 2);
  const Shape& indices = ctx.input(1).shape;
  require_indices(ctx, 1);
  if (ctx.attrs().get_string("reduction", "none") != "none")
    ctx.fail("only reduction 'none' is handled");
  if (indices.empty() || indices.back() < 1 ||
      indices.back() > static_cast<std::int64_t>(data.shape.size()))
    ctx.fail(
        fmt::format("indices {} do not point into {}", to_string(indices), to_string(data.shape)));
  Shape wanted(indices.begin(), indices.end() - 1);
  wanted.insert(wanted.end(), data.shape.begin() + indices.back(), data.shape.end());
  if (updates.shape != wanted)
    ctx.fail(
        fmt::format("updates are {}, {} is wanted", to_string(updates.shape), to_string(wanted)));
  return {data};
}

/// data with updates[i] at data[indices[i]], later ones over earlier. Source: ONNX ScatterND-11.
void eval_scatter_nd(const EvalContext& ctx) {
  const Tensor &data = ctx.input(0), &updates = ctx.input(2);
  copy_bytes(ctx.output().bytes().data(), data.bytes().data(), data.byte_size());
  const std::vector<std::int64_t> indices = to_int64(ctx.input(1));
  const auto depth = static_cast<std::size_t>(ctx.input(1).shape().back());
  const std::vector<std::int64_t> strides = strides_of(data.shape());
  const std::size_t count = indices.size() / depth;
  if (count == 0 || updates.size() == 0) return;
  const std::size_t run = updates.byte_size() / count;
  for (std::size_t i = 0; i < count; ++i) {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < depth; ++d)
      at += position(ctx, indices[i * depth + d], data.shape()[d]) * strides[d];
    copy_bytes(ctx.output().bytes().data() + static_cast<std::size_t>(at) * size_of(data.dtype()),
               updates.bytes().data() + i * run, run);
  }
}

// ---- GatherElements.

Types infer_gather_elements(const InferContext& ctx) {
  const TensorType& data = ctx.input(0);
  const Shape& indices = ctx.input(1).shape;
  require_indices(ctx, 1);
  const auto axis = static_cast<std::size_t>(
      normalize_axis(ctx.attrs().get_int("axis", 0), data.shape.size(), place(ctx.node)));
  bool fits = indices.size() == data.shape.size();
  for (std::size_t d = 0; fits && d < indices.size(); ++d)
    fits = d == axis || indices[d] <= data.shape[d];
  if (!fits)
    ctx.fail(
        fmt::format("indices {} do not fit data {}", to_string(indices), to_string(data.shape)));
  return {{data.dtype, indices}};
}

/// out[i][j] = data[indices[i][j]][j] for axis 0. Source: ONNX GatherElements-11.
void eval_gather_elements(const EvalContext& ctx) {
  const Tensor& data = ctx.input(0);
  const Shape& shape = ctx.output().shape();
  const auto axis = static_cast<std::size_t>(
      normalize_axis(ctx.attrs().get_int("axis", 0), shape.size(), place(ctx.node)));
  const std::vector<std::int64_t> indices = to_int64(ctx.input(1));
  const std::vector<std::int64_t> from = strides_of(data.shape()), strides = strides_of(shape);
  const std::size_t width = size_of(data.dtype());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(i), at = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t own = rest / strides[d];
      rest %= strides[d];
      at += from[d] * (d == axis ? position(ctx, indices[i], data.shape()[d]) : own);
    }
    copy_bytes(ctx.output().bytes().data() + i * width,
               data.bytes().data() + static_cast<std::size_t>(at) * width, width);
  }
}

// ---- CumSum.

Types infer_cum_sum(const InferContext& ctx) {
  const TensorType& x = float_input(ctx, 0);
  if (!ctx.constant(1)) ctx.fail("its axis is computed from data", "make the axis a constant");
  if (ctx.constant(1)->size() != 1 || !is_integer(ctx.constant(1)->dtype()))
    ctx.fail(fmt::format("its axis is {}, one integer is wanted", to_string(ctx.input(1))));
  normalize_axis(to_int64(*ctx.constant(1)).front(), x.shape.size(), place(ctx.node));
  return {x};
}

/// Sums of all elements up to each one along an axis, it included unless `exclusive`; from the end
/// with `reverse`. Summed in double. Source: ONNX CumSum-11.
void eval_cum_sum(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const auto axis = static_cast<std::size_t>(
      normalize_axis(to_int64(ctx.input(1)).front(), shape.size(), place(ctx.node)));
  const bool exclusive = ctx.attrs().get_int("exclusive", 0) != 0,
             reverse = ctx.attrs().get_int("reverse", 0) != 0;
  const std::int64_t length = shape[axis], step = strides_of(shape)[axis];
  const auto x = ctx.input(0).as<float>();
  const auto y = ctx.output().as<float>();
  for (std::int64_t start = 0; start < ctx.input(0).size(); ++start) {
    if (start / step % length != 0) continue;
    double sum = 0;
    for (std::int64_t i = 0; i < length; ++i) {
      const std::int64_t at = start + (reverse ? length - 1 - i : i) * step;
      const double own = static_cast<double>(x[static_cast<std::size_t>(at)]);
      y[static_cast<std::size_t>(at)] = static_cast<float>(exclusive ? sum : sum + own);
      sum += own;
    }
  }
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> indexing_ops() {
  using namespace ops;
  return {{.name = "ScatterND",
           .inputs = {"data", "indices", "updates"},
           .attrs = {"reduction"},
           .spec = "ONNX ScatterND-11, 13, 16, 18 (reduction none)",
           .infer = infer_scatter_nd,
           .eval = eval_scatter_nd},
          {.name = "GatherElements",
           .inputs = {"data", "indices"},
           .attrs = {"axis"},
           .spec = "ONNX GatherElements-11, 13",
           .infer = infer_gather_elements,
           .eval = eval_gather_elements},
          {.name = "CumSum",
           .inputs = {"x", "axis"},
           .attrs = {"exclusive", "reverse"},
           .spec = "ONNX CumSum-11, 14",
           .infer = infer_cum_sum,
           .eval = eval_cum_sum}};
}

}  // namespace waveq
