// Conv, Gemm and MatMul as ConvInteger and MatMulInteger.
//
// Both operands are uint8: for int8 ones 128 is added and stated as their zero point. ONNX Runtime
// multiplies uint8 by int8 with an instruction that saturates a sum of two products at 16 bits on
// processors without VNNI (its quantization guide, "U8S8"); uint8 by uint8 is exact on all.
#include <fmt/format.h>

#include "dialects/standard/expansion.h"

namespace waveq::standard {

namespace {

constexpr std::int64_t kOffset = 128;

bool is_eight_bit(DType d) { return d == DType::i8 || d == DType::u8; }

/// x in uint8 and the value that stands for zero; none for a uint8 x, whose zero is 0.
struct Unsigned {
  ValueId x, zero;
};

Unsigned to_unsigned(Expansion& e, ValueId x) {
  if (e.type(x).dtype == DType::u8) return {x, {}};
  const ValueId moved =
      e.op("Add", {e.cast(x, DType::i32), e.constant(Tensor::scalar(std::int32_t{kOffset}))});
  return {e.cast(moved, DType::u8), e.constant(Tensor::scalar(std::uint8_t{kOffset}))};
}

/// A constant is moved here, not by nodes.
Unsigned to_unsigned(Expansion& e, const Tensor& weights) {
  if (weights.dtype() == DType::u8) return {e.constant(weights), {}};
  std::vector<std::uint8_t> moved;
  for (std::int64_t w : to_int64(weights)) moved.push_back(static_cast<std::uint8_t>(w + kOffset));
  return {e.constant(Tensor::from<std::uint8_t>(weights.shape(), moved)),
          e.constant(Tensor::scalar(std::uint8_t{kOffset}))};
}

ValueId integer_product(Expansion& e, const std::string& op, const Unsigned& a, const Unsigned& b,
                        Attrs attrs = {}) {
  std::vector<ValueId> inputs{a.x, b.x};
  if (a.zero.valid() || b.zero.valid()) inputs.push_back(a.zero);
  if (b.zero.valid()) inputs.push_back(b.zero);
  return e.op(op, std::move(inputs), std::move(attrs));
}

/// A.B in int32: of 8-bit operands by MatMulInteger, of wider ones by MatMul.
ValueId matrix_product(Expansion& e, ValueId a, ValueId b, const Tensor* constant_b) {
  if (!is_eight_bit(e.type(a).dtype) || !is_eight_bit(e.type(b).dtype))
    return e.op("MatMul", {e.cast(a, DType::i32), e.cast(b, DType::i32)});
  const Unsigned left = to_unsigned(e, a);
  const Unsigned right = constant_b ? to_unsigned(e, *constant_b) : to_unsigned(e, b);
  return integer_product(e, "MatMulInteger", left, right);
}

ValueId transposed(Expansion& e, ValueId x, const char* flag) {
  if (e.attrs().get_int(flag, 0) == 0) return x;
  Attrs attrs;
  attrs.set("perm", std::vector<std::int64_t>{1, 0});
  return e.op("Transpose", {x}, std::move(attrs));
}

}  // namespace

namespace {

/// x of 16 bits as 256*high + low, low in 0..255, and the convolution of each.
ValueId conv_by_bytes(Expansion& e, const Unsigned& w) {
  const bool is_signed = e.type(e.input(0)).dtype == DType::i16;
  const ValueId x = e.wide(0);
  const ValueId high = e.floor_div(x, 256);
  const ValueId low = e.sub(x, e.mul(high, 256));
  const Unsigned upper = to_unsigned(e, e.cast(high, is_signed ? DType::i8 : DType::u8));
  const ValueId above = integer_product(e, "ConvInteger", upper, w, e.attrs());
  const Unsigned lower{e.cast(low, DType::u8), {}};
  const ValueId below = integer_product(e, "ConvInteger", lower, w, e.attrs());
  const ValueId most = e.mul(e.cast(above, DType::i64), 256);
  return e.add(most, e.cast(below, DType::i64));
}

}  // namespace

ValueId expand_conv(Expansion& e) {
  const TensorType x = e.type(e.input(0)), weights = e.type(e.input(1));
  const bool bytes = x.dtype == DType::i16 || x.dtype == DType::u16;
  if (!(is_eight_bit(x.dtype) || bytes) || !is_eight_bit(weights.dtype))
    throw Error(ErrorCode::not_integer, e.node().name,
                fmt::format("convolves {} with {}; ConvInteger takes 8-bit weights", to_string(x),
                            to_string(weights)));
  const Unsigned w = to_unsigned(e, e.constant_input(1));
  const ValueId sum =
      bytes ? conv_by_bytes(e, w)
            : integer_product(e, "ConvInteger", to_unsigned(e, e.input(0)), w, e.attrs());
  if (!e.has(2)) return sum;
  Shape per_channel(e.shape(sum).size() - 1, 1);
  per_channel.front() = e.shape(sum)[1];
  const Tensor bias = cast(e.constant_input(2).reshaped(per_channel), e.type(sum).dtype);
  return e.op("Add", {sum, e.constant(bias)});
}

ValueId expand_matmul(Expansion& e) {
  const Tensor* weights = nullptr;
  if (e.is_constant_input(1)) weights = &e.constant_input(1);
  return matrix_product(e, e.input(0), e.input(1), weights);
}

ValueId expand_gemm(Expansion& e) {
  const ValueId b = transposed(e, e.input(1), "transB");
  const Tensor* weights =
      b == e.input(1) && e.is_constant_input(1) ? &e.constant_input(1) : nullptr;
  const ValueId product = matrix_product(e, transposed(e, e.input(0), "transA"), b, weights);
  const auto factor = [&](const char* name) {
    return static_cast<std::int64_t>(e.attrs().get_float(name, 1.0));
  };
  const ValueId scaled = e.mul(e.cast(product, DType::i64), factor("alpha"));
  if (!e.has(2)) return scaled;
  return e.add(scaled, e.mul(e.wide(2), factor("beta")));
}

}  // namespace waveq::standard
