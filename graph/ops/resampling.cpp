#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/movement.h"
#include "ops/op_util.h"

// Pad, Cast, Resize, Upsample: close to data movement, but their results may contain new values.
namespace waveq::ops {

namespace {

// ---- Pad.

/// Padding [begin, end] of every axis; negative values crop. The axes of opset 18 (input 3) select.
template <class Context>
std::vector<std::array<std::int64_t, 2>> pad_amounts(const Context& ctx, std::size_t rank) {
  const std::vector<std::int64_t> pads = ints_param(ctx, "pads", 1, {});
  std::vector<std::int64_t> all(rank);
  for (std::size_t d = 0; d < rank; ++d) all[d] = static_cast<std::int64_t>(d);
  const std::vector<std::int64_t> axes = ints_param(ctx, "", 3, all);
  if (pads.size() != 2 * axes.size())
    throw Error(ErrorCode::shape, place(ctx.node),
                fmt::format("has {} pads for {} axes", pads.size(), axes.size()));
  std::vector<std::array<std::int64_t, 2>> amounts(rank, {0, 0});
  for (std::size_t i = 0; i < axes.size(); ++i)
    amounts[normalize_axis(axes[i], rank, place(ctx.node))] = {pads[i], pads[axes.size() + i]};
  return amounts;
}

Types infer_pad(const InferContext& ctx) {
  TensorType out = ctx.input(0);
  const std::string mode = ctx.attrs().get_string("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge")
    ctx.fail(fmt::format("mode '{}' is not handled", mode), "constant, reflect and edge are");
  if (ctx.has(2) && (ctx.input(2).dtype != out.dtype || element_count(ctx.input(2).shape) != 1))
    ctx.fail(fmt::format("constant_value is {}, a scalar {} is wanted", to_string(ctx.input(2)),
                         to_string(out.dtype)));
  const auto amounts = pad_amounts(ctx, out.shape.size());
  for (std::size_t d = 0; d < amounts.size(); ++d) {
    constexpr std::int64_t kMost = std::int64_t{1} << 40;
    const std::int64_t in = out.shape[d];
    for (std::int64_t pad : amounts[d]) {
      if (pad > kMost || pad < -kMost) ctx.fail(fmt::format("pad {} is too large", pad));
      if (pad > 0 && mode == "reflect" && pad >= in)
        ctx.fail(fmt::format("reflects {} elements of axis {}, which has {}", pad, d, in));
      if (pad > 0 && mode == "edge" && in == 0)
        ctx.fail(fmt::format("axis {} is empty and has no edge", d));
    }
    out.shape[d] = in + amounts[d][0] + amounts[d][1];
    if (out.shape[d] < 0)
      ctx.fail(fmt::format("crops more than axis {} of {} has", d, to_string(ctx.input(0))));
  }
  return {out};
}

/// The fill element in the dtype of the tensor: input 2, attribute `value`, or 0.
Tensor fill_element(const EvalContext& ctx) {
  const DType dtype = ctx.input(0).dtype();
  if (ctx.has(2)) return ctx.input(2);
  return cast(Tensor::scalar<float>(static_cast<float>(ctx.attrs().get_float("value", 0.0))),
              dtype);
}

/// Integers keep their dtype; an attribute `value` (opset 2) is truncated toward zero and
/// saturated.
void eval_pad(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::string mode = ctx.attrs().get_string("mode", "constant");
  const auto amounts = pad_amounts(ctx, x.shape().size());
  std::vector<std::vector<std::int64_t>> maps;
  for (std::size_t d = 0; d < amounts.size(); ++d) {
    const std::int64_t in = x.shape()[d];
    auto& map = maps.emplace_back();
    for (std::int64_t o = 0; o < ctx.output().shape()[d]; ++o) {
      std::int64_t i = o - amounts[d][0];
      if (mode == "edge") i = std::clamp<std::int64_t>(i, 0, in - 1);
      if (mode == "reflect") i = i < 0 ? -i : i >= in ? 2 * (in - 1) - i : i;
      // A crop on one side and a reflection on the other can still point outside.
      map.push_back(i < 0 || i >= in ? -1 : i);
    }
  }
  const Tensor fill = fill_element(ctx);
  gather_axes(ctx.output(), x, maps, fill.bytes().data());
}

// ---- Cast.

/// TensorProto.DataType as written in the attribute `to`. double is stored as f32 by waveq.
DType cast_target(const Node& node) {
  switch (const std::int64_t code = node.attrs.require_int("to")) {
    case 1:
    case 11:
      return DType::f32;
    case 2:
      return DType::u8;
    case 3:
      return DType::i8;
    case 4:
      return DType::u16;
    case 5:
      return DType::i16;
    case 6:
      return DType::i32;
    case 7:
      return DType::i64;
    case 9:
      return DType::boolean;
    default:
      throw Error(ErrorCode::unsupported, place(node), fmt::format("casts to ONNX type {}", code),
                  "waveq has float32, integers of up to 64 bits (unsigned: 16) and bool");
  }
}

OpDef cast_op() {
  return {.name = "Cast",
          .inputs = {"input"},
          .attrs = {"saturate", "to"},
          .spec = "ONNX Cast-6, 9, 13, 19; values as waveq::cast",
          .infer = [](const InferContext& ctx) -> Types {
            return {{cast_target(ctx.node), ctx.input(0).shape}};
          },
          .eval =
              [](const EvalContext& ctx) {
                const Tensor result = cast(ctx.input(0), ctx.output().dtype());
                copy_bytes(ctx.output().bytes().data(), result.bytes().data(), result.byte_size());
              }};
}

// ---- Resize, Upsample.

/// How one Resize or Upsample node maps output positions to input positions.
struct Resampling {
  Shape out;
  std::vector<double> scales;  ///< output / input, per axis
  std::string coordinates, rounding;
  bool linear = false;
};

/// Contents of a float input that decides a shape, or nullptr when it is absent or empty.
const Tensor* content(const InferContext& ctx, std::size_t i) {
  if (!ctx.has(i) || ctx.input(i).shape == Shape{0}) return nullptr;
  if (!ctx.constant(i))
    ctx.fail(fmt::format("input {} decides a shape but is computed from data", i));
  return ctx.constant(i);
}
const Tensor* content(const EvalContext& ctx, std::size_t i) {
  return ctx.has(i) && ctx.input(i).size() > 0 ? &ctx.input(i) : nullptr;
}

template <class Context>
void read_modes(const Context& ctx, bool ancient, Resampling& r) {
  const Attrs& attrs = ctx.attrs();
  const auto refuse = [&](std::string what) {
    throw Error(ErrorCode::unsupported, place(ctx.node), std::move(what));
  };
  const std::string mode = attrs.get_string("mode", "nearest");
  if (mode != "nearest" && mode != "linear" && mode != "bilinear")
    refuse(fmt::format("mode '{}' is not handled", mode));
  r.linear = mode != "nearest";
  // Upsample and Resize-10 know neither attribute.
  r.coordinates =
      ancient ? "asymmetric" : attrs.get_string("coordinate_transformation_mode", "half_pixel");
  r.rounding = ancient ? "floor" : attrs.get_string("nearest_mode", "round_prefer_floor");
  constexpr std::array<std::string_view, 5> kCoordinates = {
      "asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "tf_half_pixel_for_nn"};
  constexpr std::array<std::string_view, 4> kRounding = {"round_prefer_floor", "round_prefer_ceil",
                                                         "floor", "ceil"};
  if (std::ranges::find(kCoordinates, r.coordinates) == kCoordinates.end())
    refuse(fmt::format("coordinate_transformation_mode '{}' is not handled", r.coordinates));
  if (std::ranges::find(kRounding, r.rounding) == kRounding.end())
    refuse(fmt::format("nearest_mode '{}' is not known", r.rounding));
  if (attrs.get_int("antialias", 0) != 0) refuse("antialias is not handled");
  if (attrs.get_string("keep_aspect_ratio_policy", "stretch") != "stretch")
    refuse("only keep_aspect_ratio_policy 'stretch' is handled");
}

template <class Context>
Resampling resampling(const Context& ctx, const Shape& in) {
  const auto fail = [&](std::string what) {
    throw Error(ErrorCode::shape, place(ctx.node), std::move(what));
  };
  // Resize-10 has (X, scales); from 11 on (X, roi, scales, sizes).
  const bool upsample = ctx.node.op == "Upsample", ancient = upsample || ctx.inputs.size() == 2;
  Resampling r{
      .out = in, .scales = std::vector<double>(in.size(), 1.0), .coordinates = {}, .rounding = {}};
  read_modes(ctx, ancient, r);
  std::vector<std::int64_t> axes(in.size());
  for (std::size_t d = 0; d < in.size(); ++d) axes[d] = static_cast<std::int64_t>(d);
  axes = ctx.attrs().get_ints("axes", axes);
  std::vector<double> scales;
  if (const Attr* attr = ctx.attrs().find("scales"); attr && std::get_if<std::vector<double>>(attr))
    scales = std::get<std::vector<double>>(*attr);
  else if (const Tensor* given = content(ctx, ancient ? 1 : 2))
    scales = to_double(*given);
  const Tensor* sizes = ancient ? nullptr : content(ctx, 3);
  if (scales.empty() == (sizes == nullptr)) fail("has neither or both of scales and sizes");
  if ((sizes ? static_cast<std::size_t>(sizes->size()) : scales.size()) != axes.size())
    fail(fmt::format("scales or sizes do not match {} axes", axes.size()));
  if (sizes && !is_integer(sizes->dtype())) fail("sizes are not integers");
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t d = normalize_axis(axes[i], in.size(), place(ctx.node));
    const double length = static_cast<double>(in[d]);
    const double out =
        sizes ? static_cast<double>(to_int64(*sizes)[i]) : std::floor(length * scales[i]);
    if (!(out >= 0.0 && out < 1e12) || (in[d] == 0) != (out == 0.0))
      fail(fmt::format("axis {} of length {} becomes {}", d, in[d], out));
    r.out[d] = static_cast<std::int64_t>(out);
    r.scales[d] = sizes ? out / std::max(1.0, length) : scales[i];
  }
  return r;
}

/// Input position of output position o along axis d. Source: ONNX Resize-11.
double source_position(const Resampling& r, std::size_t d, std::int64_t in, std::int64_t o) {
  const double x = static_cast<double>(o), scale = r.scales[d];
  const auto out = static_cast<double>(r.out[d]);
  if (r.coordinates == "asymmetric") return x / scale;
  if (r.coordinates == "align_corners")
    return r.out[d] == 1 ? 0.0 : x * static_cast<double>(in - 1) / (out - 1.0);
  if (r.coordinates == "tf_half_pixel_for_nn") return (x + 0.5) / scale;
  if (r.coordinates == "pytorch_half_pixel" && r.out[d] == 1) return 0.0;
  return (x + 0.5) / scale - 0.5;
}

std::int64_t nearest(const std::string& rounding, double x) {
  if (rounding == "floor") return static_cast<std::int64_t>(std::floor(x));
  if (rounding == "ceil") return static_cast<std::int64_t>(std::ceil(x));
  return static_cast<std::int64_t>(rounding == "round_prefer_floor" ? std::ceil(x - 0.5)
                                                                    : std::floor(x + 0.5));
}

/// One axis of linear interpolation: y = a + (b - a) * t in float, neighbours clamped to the
/// border.
void interpolate_axis(const Resampling& r, std::size_t d, const std::vector<float>& x,
                      const Shape& x_shape, std::vector<float>& y) {
  std::int64_t outer = 1, inner = 1;
  for (std::size_t k = 0; k < d; ++k) outer *= x_shape[k];
  for (std::size_t k = d + 1; k < x_shape.size(); ++k) inner *= x_shape[k];
  const std::int64_t in = x_shape[d], out = r.out[d];
  y.resize(static_cast<std::size_t>(outer * out * inner));
  for (std::int64_t o = 0; o < out; ++o) {
    const double at = std::clamp(source_position(r, d, in, o), 0.0, static_cast<double>(in - 1));
    const auto low = static_cast<std::int64_t>(std::floor(at));
    const std::int64_t high = std::min(low + 1, in - 1);
    const float t = static_cast<float>(at - static_cast<double>(low));
    for (std::int64_t b = 0; b < outer; ++b)
      for (std::int64_t i = 0; i < inner; ++i) {
        const float left = x[(b * in + low) * inner + i], right = x[(b * in + high) * inner + i];
        y[(b * out + o) * inner + i] = left + (right - left) * t;
      }
  }
}

Types infer_resize(const InferContext& ctx) {
  const TensorType& x = ctx.input(0);
  const Resampling r = resampling(ctx, x.shape);
  if (r.linear) float_input(ctx, 0);
  return {{x.dtype, r.out}};
}

void eval_resize(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (ctx.output().size() == 0) return;
  const Resampling r = resampling(ctx, x.shape());
  if (!r.linear) {
    std::vector<std::vector<std::int64_t>> maps(x.shape().size());
    for (std::size_t d = 0; d < maps.size(); ++d)
      for (std::int64_t o = 0; o < r.out[d]; ++o) {
        const bool same = r.scales[d] == 1.0 && r.out[d] == x.shape()[d];
        const double at = std::clamp(source_position(r, d, x.shape()[d], o), -1.0,
                                     static_cast<double>(x.shape()[d]));
        maps[d].push_back(
            same ? o : std::clamp<std::int64_t>(nearest(r.rounding, at), 0, x.shape()[d] - 1));
      }
    gather_axes(ctx.output(), x, maps, nullptr);
    return;
  }
  const auto given = x.as<float>();
  std::vector<float> from(given.begin(), given.end()), to;
  Shape shape = x.shape();
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (r.scales[d] == 1.0 && r.out[d] == shape[d]) continue;
    interpolate_axis(r, d, from, shape, to);
    shape[d] = r.out[d];
    std::swap(from, to);
  }
  std::ranges::copy(from, ctx.output().as<float>().begin());
}

}  // namespace

std::vector<OpDef> resampling_ops() {
  return {{.name = "Pad",
           .inputs = {"data", "pads?", "constant_value?", "axes?"},
           .attrs = {"mode", "pads", "value"},
           .spec = "ONNX Pad-2, 11, 13, 18",
           .infer = infer_pad,
           .eval = eval_pad},
          cast_op(),
          {.name = "Resize",
           .inputs = {"X", "roi?", "scales?", "sizes?"},
           .attrs = {"antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a",
                     "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy", "mode",
                     "nearest_mode"},
           .spec = "ONNX Resize-10, 11, 13, 18, 19 (nearest, linear)",
           .infer = infer_resize,
           .eval = eval_resize},
          {.name = "Upsample",
           .inputs = {"X", "scales?"},
           .attrs = {"mode", "scales"},
           .spec = "ONNX Upsample-7, 9",
           .infer = infer_resize,
           .eval = eval_resize}};
}

}  // namespace waveq::ops
