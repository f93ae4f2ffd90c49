#include "ops/integer_common.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace waveq::integer_ops_detail {

std::vector<TensorType> typed_like_input(const InferContext& ctx, DType integer, Shape shape) {
  const DType in = ctx.input(0).dtype;
  if (in == DType::f32) return {{DType::f32, std::move(shape)}};
  if (!is_integer(in)) ctx.fail(fmt::format("works on integers, input 0 is {}", to_string(in)));
  return {{integer, std::move(shape)}};
}

std::vector<std::int32_t> load_int32(const EvalContext& ctx, std::size_t input) {
  const Tensor& tensor = ctx.input(input);
  if (!is_integer(tensor.dtype()))
    ctx.fail(ErrorCode::unsupported,
             fmt::format("input {} is {}, not an integer tensor", input, to_string(tensor.dtype())),
             "convert the network with to_integer_network first");
  std::vector<std::int32_t> out(static_cast<std::size_t>(tensor.size()));
  visit_integer(tensor.dtype(), [&](auto t) {
    const auto in = tensor.as<decltype(t)>();
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = static_cast<std::int32_t>(in[i]);
    if constexpr (sizeof(t) > sizeof(std::int32_t)) {
      if (ctx.overflow == Overflow::wrap) return;
      for (std::size_t i = 0; i < in.size(); ++i)
        if (in[i] != out[i])
          ctx.fail(ErrorCode::overflow,
                   fmt::format("element {} of input {} is {}, outside int32", i, input, in[i]));
    }
  });
  return out;
}

std::vector<std::int32_t> load_8bit(const EvalContext& ctx, std::size_t input) {
  std::vector<std::int32_t> values = load_int32(ctx, input);
  if (size_of(ctx.input(input).dtype()) == 1 || values.empty()) return values;
  const auto [low, high] = std::ranges::minmax(values);
  if (low < -128 || high > 255 || (low < 0 && high > 127))
    ctx.fail(
        ErrorCode::overflow,
        fmt::format("input {} holds {}..{}, the operator takes 8-bit values", input, low, high),
        "put a RequantShift with at most 256 levels in front of it");
  return values;
}

void store(const EvalContext& ctx, const std::vector<std::int32_t>& values) {
  Tensor& tensor = ctx.output();
  visit_integer(tensor.dtype(), [&](auto t) {
    const auto out = tensor.as<decltype(t)>();
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<decltype(t)>(values[i]);
  });
}

std::int64_t last_axis(const InferContext& ctx) {
  const Shape& shape = ctx.input(0).shape;
  if (shape.empty() || shape.back() == 0)
    ctx.fail(fmt::format("works along the last axis, input 0 is {}", to_string(shape)));
  return shape.back();
}

std::int64_t last_axis(const EvalContext& ctx) { return ctx.input(0).shape().back(); }

std::int32_t attr_int32(const Attrs& attrs, std::string_view name) {
  const std::int64_t value = attrs.require_int(name);
  if (value != static_cast<std::int32_t>(value))
    throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name), fmt::format("is {}", value),
                "it must fit int32");
  return static_cast<std::int32_t>(value);
}

BroadcastIndex::BroadcastIndex(const Shape& shape, const Shape& small)
    : shape_(shape), strides_(shape.size(), 0), position_(shape.size(), 0) {
  const Shape strides = strides_of(small);
  const std::size_t missing = shape.size() - small.size();
  for (std::size_t i = 0; i < small.size(); ++i)
    if (small[i] != 1) strides_[missing + i] = strides[i];
}

std::size_t BroadcastIndex::next() {
  const auto here = static_cast<std::size_t>(flat_);
  for (std::size_t axis = shape_.size(); axis-- > 0;) {
    flat_ += strides_[axis];
    if (++position_[axis] < shape_[axis]) break;
    flat_ -= strides_[axis] * shape_[axis];
    position_[axis] = 0;
  }
  return here;
}

}  // namespace waveq::integer_ops_detail
