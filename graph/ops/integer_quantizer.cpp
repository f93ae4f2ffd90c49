#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/integer_families.h"
#include "ops/op_util.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

double finite_float(const Attrs& attrs, const char* name) {
  const double x = attrs.get_float(name, std::nan(""));
  if (!std::isfinite(x))
    throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name),
                attrs.has(name) ? fmt::format("is {}", x) : "is missing",
                "one finite number is wanted");
  return x;
}

std::int64_t int_between(const Attrs& attrs, const char* name, std::int64_t lo, std::int64_t hi) {
  const std::int64_t x = attrs.require_int(name);
  if (x < lo || x > hi)
    throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name), fmt::format("is {}", x),
                fmt::format("{}..{} are possible", lo, hi));
  return x;
}

ops::Types infer_quant(const InferContext& ctx) {
  const DType codes = read_quant_parameters(ctx.attrs()).storage();
  return {{ctx.attrs().has(kSpelledAsFloat) ? DType::f32 : codes, ops::float_input(ctx, 0).shape}};
}

template <class T>
void quantize_tensor(const EvalContext& ctx) {
  const QuantParameters q = read_quant_parameters(ctx.attrs());
  const auto x = ctx.input(0).as<float>();
  const auto y = ctx.output().as<T>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::optional<std::int32_t> code = quantize(x[i], q);
    if (!code && ctx.overflow == Overflow::error)
      ctx.fail(ErrorCode::overflow, fmt::format("element {}: {} leaves int32", i, x[i]),
               "the kernel converts to int32 before it clips; keep the input in range");
    // What C leaves open, as RISC-V converts: saturating, NaN to the largest.
    y[i] = static_cast<T>(code ? *code : x[i] * q.scale < 0 ? q.lo : q.hi);
  }
}

void eval_quant(const EvalContext& ctx) {
  if (ctx.output().dtype() == DType::f32) return quantize_tensor<float>(ctx);
  visit_integer(ctx.output().dtype(), [&](auto t) { quantize_tensor<decltype(t)>(ctx); });
}

ops::Types infer_dequant(const InferContext& ctx) {
  finite_float(ctx.attrs(), "scale");
  finite_float(ctx.attrs(), "zero_point");
  const TensorType& x = ctx.input(0);
  // A file of the dialect spells integers as float32.
  if (x.dtype != DType::f32 && (!is_integer(x.dtype) || x.dtype == DType::i64))
    ctx.fail(fmt::format("x is {}; integers of at most 32 bits are wanted", to_string(x)));
  return {{DType::f32, x.shape}};
}

void eval_dequant(const EvalContext& ctx) {
  const double scale = finite_float(ctx.attrs(), "scale"),
               zero_point = finite_float(ctx.attrs(), "zero_point");
  const Tensor& x = ctx.input(0);
  const std::vector<std::int64_t> codes =
      to_int64(x.dtype() == DType::f32 ? cast(x, DType::i64) : x);
  const auto y = ctx.output().as<float>();
  for (std::size_t i = 0; i < codes.size(); ++i) y[i] = dequantize(codes[i], scale, zero_point);
}

}  // namespace

DType QuantParameters::storage() const {
  for (const DType d : {DType::i8, DType::u8, DType::i16, DType::u16})
    if (lo >= lowest(d) && hi <= highest(d) && (lo < 0) == (lowest(d) < 0)) return d;
  return DType::i32;
}

QuantParameters read_quant_parameters(const Attrs& attrs) {
  constexpr std::int64_t kMostBits = 16;
  QuantParameters q;
  q.scale = finite_float(attrs, "scale");
  q.zero_point = finite_float(attrs, "zero_point");
  const std::int64_t levels = std::int64_t{1} << int_between(attrs, "bit_width", 1, kMostBits);
  const bool is_signed = attrs.has("signed") ? int_between(attrs, "signed", 0, 1) == 1 : true;
  q.lo = is_signed ? -(levels / 2) : 0;
  q.hi = is_signed ? levels / 2 - 1 : levels - 1;
  if (!attrs.has("divisor")) return q;
  q.divisor = finite_float(attrs, "divisor");
  // Also where it is no type's end, a clip leaves at most 16 bits.
  constexpr std::int64_t kMost = (std::int64_t{1} << kMostBits) - 1;
  q.lo = int_between(attrs, "min_val", -kMost, kMost);
  q.hi = int_between(attrs, "max_val", q.lo + 1, q.lo + kMost);
  return q;
}

std::optional<std::int32_t> quantize(float x, const QuantParameters& q) {
  const auto clipped = [&](float rounded) {
    return static_cast<std::int32_t>(
        std::clamp(double{rounded}, static_cast<double>(q.lo), static_cast<double>(q.hi)));
  };
  if (q.divisor) {
    const float shifted = x / static_cast<float>(*q.divisor) + static_cast<float>(q.zero_point);
    if (std::isnan(shifted)) return std::nullopt;
    return clipped(std::nearbyint(shifted));
  }
  const auto scaled = static_cast<float>(double{x} * q.scale);
  const auto shifted = static_cast<float>(double{scaled} + q.zero_point);
  const float moved = shifted + (shifted >= 0 ? 0.5F : -0.5F);
  constexpr float kBeyond = 2147483648.0F;  // 2^31
  if (!(moved >= -kBeyond && moved < kBeyond)) return std::nullopt;
  return clipped(std::trunc(moved));
}

float dequantize(std::int64_t x, double scale, double zero_point) {
  const auto moved = static_cast<float>(static_cast<double>(x) - zero_point);
  return static_cast<float>(double{moved} * scale);
}

std::vector<OpDef> integer_quantizer_ops() {
  return {{.name = "Dequant",
           .inputs = {"x"},
           .attrs = {"scale", "zero_point", "bit_width", "signed"},
           .spec = "Deeploy Generic/Templates/DequantTemplate.py",
           .infer = infer_dequant,
           .eval = eval_dequant,
           .dialect = true},
          {.name = "Quant",
           .inputs = {"x"},
           .attrs = {"scale", "zero_point", "bit_width", "signed", "divisor", "min_val", "max_val"},
           .spec = "Deeploy Generic/Templates/QuantTemplate.py",
           .infer = infer_quant,
           .eval = eval_quant,
           .dialect = true}};
}

}  // namespace waveq
