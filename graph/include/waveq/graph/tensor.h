#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/error.h"

namespace waveq {

/// How an element is stored. What it means (scale, zero point, levels) is in QuantParams.
enum class DType : std::uint8_t { undefined, f32, i8, u8, i16, u16, i32, i64, boolean };

/// "f32", "i8", ...
std::string_view to_string(DType dtype);
/// Bytes of one element; 0 for undefined. A boolean is one byte, 0 or 1.
std::size_t size_of(DType dtype);
/// i8, u8, i16, u16, i32, i64 (not boolean).
bool is_integer(DType dtype);
/// Smallest and largest value of an integer dtype; Error{internal} for any other.
std::int64_t lowest(DType dtype);
std::int64_t highest(DType dtype);

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<std::int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct dtype_of<std::int16_t> {
  static constexpr DType value = DType::i16;
};
template <>
struct dtype_of<std::uint16_t> {
  static constexpr DType value = DType::u16;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of<bool> {
  static constexpr DType value = DType::boolean;
};

/// Dimensions, outermost first; {} is a scalar. Never negative after load.
using Shape = std::vector<std::int64_t>;

/// Number of elements; 1 for a scalar. \throws Error{shape} where the product leaves int64.
std::int64_t element_count(const Shape& shape);
/// "[1,64,128]".
std::string to_string(const Shape& shape);
/// NumPy/ONNX multidirectional broadcast. \throws Error{shape}, `where` names the node.
Shape broadcast(const Shape& a, const Shape& b, std::string_view where);
/// Row-major strides in elements.
std::vector<std::int64_t> strides_of(const Shape& shape);
/// Maps a possibly negative axis into [0, rank). \throws Error{shape}.
std::int64_t normalize_axis(std::int64_t axis, std::size_t rank, std::string_view where);

/// Storage and shape of a value. dtype undefined: nothing is known (output of an unknown operator).
struct TensorType {
  DType dtype = DType::undefined;
  Shape shape;  ///< no axes: a scalar
  bool known() const { return dtype != DType::undefined; }
  friend bool operator==(const TensorType&, const TensorType&) = default;
};
/// "i8[1,3,16]"
std::string to_string(const TensorType& type);

/// A dense row-major tensor. Copies are deep; `borrow` makes a view whose owner must outlive it
/// (copying a view yields an owning tensor).
class Tensor {
 public:
  Tensor() = default;
  /// Zero-filled. \throws Error{shape} for a negative dimension or an absurd size.
  Tensor(DType dtype, Shape shape);
  template <class T>
  static Tensor from(Shape shape, const std::vector<T>& values);  ///< as many as the shape holds
  template <class T>
  static Tensor scalar(T value) {
    return from<T>({}, std::vector<T>{value});
  }
  /// Over memory of someone who outlives it: aligned for the dtype, as long as the shape asks.
  static Tensor borrow(DType dtype, Shape shape, std::byte* bytes);

  Tensor(const Tensor& other);
  Tensor& operator=(const Tensor& other);
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  TensorType type() const { return {dtype_, shape_}; }
  std::int64_t size() const { return count_; }
  std::size_t byte_size() const { return static_cast<std::size_t>(count_) * size_of(dtype_); }
  std::span<const std::byte> bytes() const { return {data_, byte_size()}; }
  std::span<std::byte> bytes() { return {data_, byte_size()}; }

  /// Elements as T. \throws Error{internal} unless T is the stored type.
  template <class T>
  std::span<const T> as() const {
    require(dtype_of<T>::value);
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(count_)};
  }
  template <class T>
  std::span<T> as() {
    require(dtype_of<T>::value);
    return {reinterpret_cast<T*>(data_), static_cast<std::size_t>(count_)};
  }

  /// Same elements under another shape. \throws Error{internal} for one of another size.
  Tensor reshaped(Shape shape) const;
  /// Bit equality of dtype, shape and bytes.
  friend bool operator==(const Tensor& a, const Tensor& b);

 private:
  void require(DType wanted) const;

  DType dtype_ = DType::undefined;
  Shape shape_;
  std::int64_t count_ = 0;
  std::unique_ptr<std::byte[]> owned_;
  std::byte* data_ = nullptr;
};

/// Elements of any numeric or boolean tensor converted to double, or, for integer and boolean
/// tensors only, to int64. \throws Error{internal} for to_int64 of f32.
std::vector<double> to_double(const Tensor& tensor);
std::vector<std::int64_t> to_int64(const Tensor& tensor);
/// Converts element by element; f32 to integer truncates toward zero and saturates, NaN gives 0;
/// integer to narrower integer keeps the low bits.
Tensor cast(const Tensor& tensor, DType dtype);

template <class T>
Tensor Tensor::from(Shape shape, const std::vector<T>& values) {
  Tensor t(dtype_of<T>::value, std::move(shape));
  WAVEQ_CHECK(t.size() == static_cast<std::int64_t>(values.size()));
  std::span<T> out = t.as<T>();
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return t;
}

/// Calls `f(T{})` with the C++ type of an integer dtype; the one place that switches over them.
template <class F>
decltype(auto) visit_integer(DType dtype, F&& f) {
  switch (dtype) {
    case DType::i8:
      return f(std::int8_t{});
    case DType::u8:
      return f(std::uint8_t{});
    case DType::i16:
      return f(std::int16_t{});
    case DType::u16:
      return f(std::uint16_t{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    default:
      throw Error(ErrorCode::internal, "visit_integer",
                  std::string(to_string(dtype)) + " is not an integer dtype");
  }
}

}  // namespace waveq
