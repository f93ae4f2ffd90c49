#include "waveq/graph/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace waveq {

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::undefined:
      return "undefined";
    case DType::f32:
      return "f32";
    case DType::i8:
      return "i8";
    case DType::u8:
      return "u8";
    case DType::i16:
      return "i16";
    case DType::u16:
      return "u16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::boolean:
      return "bool";
  }
  return "undefined";
}

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::undefined:
      return 0;
    case DType::i8:
    case DType::u8:
    case DType::boolean:
      return 1;
    case DType::i16:
    case DType::u16:
      return 2;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::i64:
      return 8;
  }
  return 0;
}

bool is_integer(DType dtype) {
  return dtype != DType::undefined && dtype != DType::f32 && dtype != DType::boolean;
}

std::int64_t lowest(DType dtype) {
  return visit_integer(
      dtype, [](auto t) -> std::int64_t { return std::numeric_limits<decltype(t)>::min(); });
}

std::int64_t highest(DType dtype) {
  return visit_integer(
      dtype, [](auto t) -> std::int64_t { return std::numeric_limits<decltype(t)>::max(); });
}

std::int64_t element_count(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape) {
    if (d < 0 || __builtin_mul_overflow(n, d, &n))
      throw Error(ErrorCode::shape, to_string(shape), "negative dimension or too many elements");
  }
  return n;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

std::string to_string(const TensorType& type) {
  return type.known() ? fmt::format("{}{}", to_string(type.dtype), to_string(type.shape))
                      : "unknown";
}

Shape broadcast(const Shape& a, const Shape& b, std::string_view where) {
  Shape out(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (da != db && da != 1 && db != 1)
      throw Error(ErrorCode::shape, std::string(where),
                  fmt::format("operands {} and {} do not broadcast", to_string(a), to_string(b)));
    out[out.size() - 1 - i] = da == 1 ? db : da;
  }
  return out;
}

std::vector<std::int64_t> strides_of(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

std::int64_t normalize_axis(std::int64_t axis, std::size_t rank, std::string_view where) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r)
    throw Error(ErrorCode::shape, std::string(where),
                fmt::format("axis {} is outside rank {}", axis, rank));
  return axis < 0 ? axis + r : axis;
}

namespace {
// More than any embedded network needs, small enough that a corrupt header cannot exhaust memory.
constexpr std::int64_t kMaxElements = std::int64_t{1} << 33;
}  // namespace

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), count_(element_count(shape_)) {
  if (count_ > kMaxElements)
    throw Error(ErrorCode::shape, to_string(shape_), "tensor is larger than waveq handles");
  owned_ = std::make_unique<std::byte[]>(std::max<std::size_t>(byte_size(), 1));
  data_ = owned_.get();
}

Tensor Tensor::borrow(DType dtype, Shape shape, std::byte* bytes) {
  Tensor t;
  t.dtype_ = dtype;
  t.count_ = element_count(shape);
  t.shape_ = std::move(shape);
  t.data_ = bytes;
  return t;
}

Tensor::Tensor(const Tensor& other)
    : dtype_(other.dtype_), shape_(other.shape_), count_(other.count_) {
  if (!other.data_) return;
  owned_ = std::make_unique<std::byte[]>(std::max<std::size_t>(byte_size(), 1));
  data_ = owned_.get();
  std::memcpy(data_, other.data_, byte_size());
}

Tensor& Tensor::operator=(const Tensor& other) {
  if (this != &other) *this = Tensor(other);
  return *this;
}

Tensor Tensor::reshaped(Shape shape) const {
  WAVEQ_CHECK(element_count(shape) == count_);
  Tensor t(*this);
  t.shape_ = std::move(shape);
  return t;
}

bool operator==(const Tensor& a, const Tensor& b) {
  return a.dtype_ == b.dtype_ && a.shape_ == b.shape_ && std::ranges::equal(a.bytes(), b.bytes());
}

void Tensor::require(DType wanted) const {
  if (dtype_ != wanted)
    throw Error(ErrorCode::internal, "tensor",
                fmt::format("read as {} but stored as {}", to_string(wanted), to_string(dtype_)));
}

namespace {

/// Calls f(span of the stored elements), whatever they are.
template <class F>
void visit_elements(const Tensor& tensor, F&& f) {
  if (tensor.dtype() == DType::f32)
    f(tensor.as<float>());
  else if (tensor.dtype() == DType::boolean)
    f(tensor.as<bool>());
  else
    visit_integer(tensor.dtype(), [&](auto t) { f(tensor.as<decltype(t)>()); });
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, bool>) {
    return value != From{};
  } else if constexpr (std::is_same_v<From, float> && std::is_integral_v<To>) {
    if (std::isnan(value)) return 0;
    // 2^(bits) bounds are exact in double, so the comparison decides before the conversion could
    // overflow.
    const double x = std::trunc(static_cast<double>(value));
    constexpr double low = static_cast<double>(std::numeric_limits<To>::min());
    constexpr double past = 2.0 * static_cast<double>(std::numeric_limits<To>::max() / 2 + 1);
    if (x <= low) return std::numeric_limits<To>::min();
    if (x >= past) return std::numeric_limits<To>::max();
    return static_cast<To>(x);
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace

std::vector<double> to_double(const Tensor& tensor) {
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(tensor.size()));
  visit_elements(tensor, [&](auto span) {
    for (auto v : span) out.push_back(static_cast<double>(v));
  });
  return out;
}

std::vector<std::int64_t> to_int64(const Tensor& tensor) {
  WAVEQ_CHECK(tensor.dtype() != DType::f32);
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(tensor.size()));
  visit_elements(tensor, [&](auto span) {
    for (auto v : span) out.push_back(static_cast<std::int64_t>(v));
  });
  return out;
}

Tensor cast(const Tensor& tensor, DType dtype) {
  if (tensor.dtype() == dtype) return tensor;
  Tensor out(dtype, tensor.shape());
  const auto fill = [&](auto target) {
    visit_elements(tensor, [&](auto span) {
      for (std::size_t i = 0; i < span.size(); ++i)
        target[i] = convert<typename decltype(target)::value_type>(span[i]);
    });
  };
  if (dtype == DType::f32)
    fill(out.as<float>());
  else if (dtype == DType::boolean)
    fill(out.as<bool>());
  else
    visit_integer(dtype, [&](auto t) { fill(out.as<decltype(t)>()); });
  return out;
}

}  // namespace waveq
