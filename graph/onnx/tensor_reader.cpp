#include "onnx/tensor_reader.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

#include "half.h"
#include "waveq/graph/file.h"

namespace waveq {

namespace fs = std::filesystem;
using onnx::TensorProto;

namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little endian");

// Element types that are newer than the schema waveq is built with.
constexpr std::int32_t kUint4 = 21, kInt4 = 22;

[[noreturn]] void bad(const std::string& where, std::string what) {
  throw Error(ErrorCode::parse, where, std::move(what), "the model is damaged; export it again");
}

bool is_four_bit(std::int32_t type) { return type == kUint4 || type == kInt4; }

/// Stored bytes of one element; four-bit elements are packed in pairs and handled apart.
std::size_t stored_size(std::int32_t type) {
  switch (type) {
    case TensorProto::UINT8:
    case TensorProto::INT8:
    case TensorProto::BOOL:
      return 1;
    case TensorProto::UINT16:
    case TensorProto::INT16:
    case TensorProto::FLOAT16:
    case TensorProto::BFLOAT16:
      return 2;
    case TensorProto::DOUBLE:
    case TensorProto::INT64:
    case TensorProto::UINT64:
      return 8;
    default:
      return 4;
  }
}

std::uint64_t payload_size(std::int32_t type, std::uint64_t count) {
  return is_four_bit(type) ? count / 2 + count % 2 : count * stored_size(type);
}

Shape read_dims(const TensorProto& proto, const std::string& where) {
  const Shape shape(proto.dims().begin(), proto.dims().end());
  std::int64_t count = 1;
  for (const std::int64_t d : shape)
    if (d < 0 || __builtin_mul_overflow(count, d, &count) || count > std::int64_t{1} << 40)
      bad(where, fmt::format("has an impossible shape {}", to_string(shape)));
  return shape;
}

/// out[i] = convert(i-th stored element of type From).
template <class From, class F>
void convert_each(std::string_view payload, std::byte* out, F convert) {
  for (std::size_t i = 0; i < payload.size(); i += sizeof(From)) {
    From value;
    std::memcpy(&value, payload.data() + i, sizeof value);
    const auto converted = convert(value);
    std::memcpy(out, &converted, sizeof converted);
    out += sizeof converted;
  }
}

std::int64_t to_signed(std::uint64_t value, const std::string& where) {
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    throw Error(ErrorCode::unsupported, where, fmt::format("holds {}, which int64 cannot", value));
  return static_cast<std::int64_t>(value);
}

/// `value`'s low four bits as an unsigned or two's complement number.
std::int8_t four_bits(unsigned value, bool is_signed) {
  const int v = static_cast<int>(value & 0xf);
  return static_cast<std::int8_t>(is_signed && v >= 8 ? v - 16 : v);
}

/// Fills `out` from raw little-endian elements; the sizes have been checked.
void fill_from_raw(std::int32_t type, std::string_view payload, const std::string& where,
                   Tensor& out) {
  std::byte* to = out.bytes().data();
  switch (type) {
    case TensorProto::FLOAT16:
      return convert_each<std::uint16_t>(payload, to, float16_to_float);
    case TensorProto::BFLOAT16:
      return convert_each<std::uint16_t>(payload, to, bfloat16_to_float);
    case TensorProto::DOUBLE:
      return convert_each<double>(payload, to, [](double v) { return static_cast<float>(v); });
    case TensorProto::UINT32:
      return convert_each<std::uint32_t>(payload, to,
                                         [](std::uint32_t v) { return std::int64_t{v}; });
    case TensorProto::UINT64:
      return convert_each<std::uint64_t>(payload, to,
                                         [&](std::uint64_t v) { return to_signed(v, where); });
    case TensorProto::BOOL:
      return convert_each<std::uint8_t>(payload, to, [](std::uint8_t v) { return v != 0; });
    case kUint4:
    case kInt4:
      for (std::int64_t i = 0; i < out.size(); ++i) {
        const auto pair = static_cast<unsigned char>(payload[static_cast<std::size_t>(i / 2)]);
        to[i] = static_cast<std::byte>(four_bits(i % 2 ? pair >> 4 : pair, type == kInt4));
      }
      return;
    default:
      if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
  }
}

/// int32_data carries every type of at most 16 bits, one element each (four-bit types: one pair
/// each).
void fill_from_int32(const TensorProto& proto, const std::string& where, Tensor& out) {
  const auto& data = proto.int32_data();
  const std::int32_t type = proto.data_type();
  std::string payload;
  const std::size_t size = is_four_bit(type) ? 1 : stored_size(type);
  payload.reserve(static_cast<std::size_t>(data.size()) * size);
  const bool is_signed = type == TensorProto::INT8 || type == TensorProto::INT16;
  const std::int64_t span = std::int64_t{1} << (8 * size);
  const std::int64_t low = is_signed ? -span / 2 : 0;
  for (std::int32_t v : data) {
    if (type == TensorProto::BOOL) v = v != 0;
    if (size < 4 && (v < low || v >= low + span))
      bad(where, fmt::format("holds {}, out of its type's range", v));
    payload.append(reinterpret_cast<const char*>(&v), size);
  }
  fill_from_raw(type, payload, where, out);
}

/// Elements in the field that the type prescribes.
void fill_from_field(const TensorProto& proto, const std::string& where, Tensor& out) {
  const auto copy = [&](const auto& field, auto convert) {
    std::byte* to = out.bytes().data();
    for (const auto v : field) {
      const auto converted = convert(v);
      std::memcpy(to, &converted, sizeof converted);
      to += sizeof converted;
    }
  };
  switch (proto.data_type()) {
    case TensorProto::FLOAT:
      return copy(proto.float_data(), [](float v) { return v; });
    case TensorProto::DOUBLE:
      return copy(proto.double_data(), [](double v) { return static_cast<float>(v); });
    case TensorProto::INT64:
      return copy(proto.int64_data(), [](auto v) { return static_cast<std::int64_t>(v); });
    case TensorProto::UINT32:
      return copy(proto.uint64_data(), [&](auto v) {
        if (v > std::numeric_limits<std::uint32_t>::max())
          bad(where, fmt::format("holds {}, not a uint32", v));
        return static_cast<std::int64_t>(v);
      });
    case TensorProto::UINT64:
      return copy(proto.uint64_data(), [&](auto v) { return to_signed(v, where); });
    default:
      return fill_from_int32(proto, where, out);
  }
}

std::uint64_t field_length(const TensorProto& proto) {
  const auto length = [](const auto& field) { return static_cast<std::uint64_t>(field.size()); };
  switch (proto.data_type()) {
    case TensorProto::FLOAT:
      return length(proto.float_data());
    case TensorProto::DOUBLE:
      return length(proto.double_data());
    case TensorProto::INT64:
      return length(proto.int64_data());
    case TensorProto::UINT32:
    case TensorProto::UINT64:
      return length(proto.uint64_data());
    default:
      return length(proto.int32_data());
  }
}

std::uint64_t parse_number(const std::string& text, const std::string& key,
                           const std::string& where) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || last != end)
    bad(where, fmt::format("has external data {} '{}'", key, text));
  return value;
}

/// Path of an external data file. It must stay inside the model's folder, links included: a model
/// from elsewhere must not be able to read other files.
fs::path external_path(const std::string& location, const std::string& where,
                       const BaseDir& base_dir) {
  if (!base_dir)
    throw Error(ErrorCode::io, where, fmt::format("lies in the external file '{}'", location),
                "read the model from its file, not from memory");
  const fs::path relative = location;
  bool inside =
      !location.empty() && relative.is_relative() && location.find('\0') == std::string::npos;
  for (const fs::path& part : relative) inside = inside && part != "..";
  const fs::path base = base_dir->empty() ? fs::path(".") : *base_dir;
  const fs::path path = base / relative;
  std::error_code error;
  if (inside && fs::exists(path, error)) {
    const fs::path real = fs::canonical(path, error), real_base = fs::canonical(base, error);
    const auto [mismatch, unused] =
        std::mismatch(real_base.begin(), real_base.end(), real.begin(), real.end());
    inside = !error && mismatch == real_base.end();
  } else if (inside) {
    throw Error(ErrorCode::io, where,
                fmt::format("its external data file '{}' is missing", path.string()),
                "put the file beside the model");
  }
  if (!inside)
    throw Error(ErrorCode::parse, where,
                fmt::format("its external data '{}' lies outside the model's folder", location),
                "save the model with its data in one folder");
  return path;
}

std::string read_external(const TensorProto& proto, std::uint64_t wanted, const std::string& where,
                          const BaseDir& base_dir) {
  std::string location;
  std::uint64_t offset = 0, length = wanted;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = parse_number(entry.value(), entry.key(), where);
    if (entry.key() == "length") length = parse_number(entry.value(), entry.key(), where);
  }
  const fs::path path = external_path(location, where, base_dir);
  if (length != wanted)
    bad(where, fmt::format("needs {} bytes, its external data have {}", wanted, length));
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error || offset > size || wanted > size - offset)
    throw Error(ErrorCode::io, where,
                fmt::format("needs {} bytes from offset {} of '{}', which ends before", wanted,
                            offset, path.string()),
                "the file is truncated or belongs to another model");
  std::string payload(wanted, '\0');
  read_file_range(path, offset, std::as_writable_bytes(std::span(payload)));
  return payload;
}

}  // namespace

DType dtype_from_onnx(std::int32_t data_type, const std::string& where) {
  switch (data_type) {
    case TensorProto::FLOAT:
    case TensorProto::FLOAT16:
    case TensorProto::BFLOAT16:
    case TensorProto::DOUBLE:
      return DType::f32;
    case TensorProto::INT8:
    case kInt4:
      return DType::i8;
    case TensorProto::UINT8:
    case kUint4:
      return DType::u8;
    case TensorProto::INT16:
      return DType::i16;
    case TensorProto::UINT16:
      return DType::u16;
    case TensorProto::INT32:
      return DType::i32;
    case TensorProto::INT64:
    case TensorProto::UINT32:
    case TensorProto::UINT64:
      return DType::i64;
    case TensorProto::BOOL:
      return DType::boolean;
    case TensorProto::UNDEFINED:
      bad(where, "has no element type");
    case TensorProto::STRING:
      throw Error(ErrorCode::unsupported, where, "holds strings", "remove it from the model");
    default:
      throw Error(ErrorCode::unsupported, where, fmt::format("has ONNX element type {}", data_type),
                  "floats of 16 to 64 bits, integers and booleans are supported");
  }
}

std::int32_t kept_onnx_type(std::int32_t data_type, const std::string& where) {
  switch (dtype_from_onnx(data_type, where)) {
    case DType::f32:
      return TensorProto::FLOAT;
    case DType::i64:
      return TensorProto::INT64;
    case DType::i8:
      return TensorProto::INT8;
    case DType::u8:
      return TensorProto::UINT8;
    default:
      return data_type;
  }
}

Tensor read_tensor(const TensorProto& proto, const std::string& where, const BaseDir& base_dir) {
  const DType dtype = dtype_from_onnx(proto.data_type(), where);
  if (proto.has_segment()) throw Error(ErrorCode::unsupported, where, "is stored in segments");
  Shape shape = read_dims(proto, where);
  const auto count = static_cast<std::uint64_t>(element_count(shape));
  const std::uint64_t bytes = payload_size(proto.data_type(), count);
  const bool external = proto.data_location() == TensorProto::EXTERNAL;
  if (external || proto.has_raw_data()) {
    std::string loaded;
    if (external) loaded = read_external(proto, bytes, where, base_dir);
    const std::string& payload = external ? loaded : proto.raw_data();
    if (payload.size() != bytes)
      bad(where, fmt::format("of shape {} needs {} bytes of raw data, it has {}", to_string(shape),
                             bytes, payload.size()));
    Tensor out(dtype, std::move(shape));
    fill_from_raw(proto.data_type(), payload, where, out);
    return out;
  }
  const std::uint64_t wanted = is_four_bit(proto.data_type()) ? bytes : count;
  if (field_length(proto) != wanted)
    bad(where, fmt::format("of shape {} needs {} elements, it has {}", to_string(shape), wanted,
                           field_length(proto)));
  Tensor out(dtype, std::move(shape));
  fill_from_field(proto, where, out);
  return out;
}

}  // namespace waveq
