#include "npz/npy_decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

#include "half.h"

namespace waveq::detail {

static_assert(std::endian::native == std::endian::little, "files are read as little endian");

namespace {

constexpr std::size_t kMaxHeader = 1 << 16;
constexpr std::size_t kMaxRank = 32;

/// The fields of a .npy header: a Python dict literal such as
/// {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
struct HeaderFields {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<Shape> shape;
};

/// Reads that literal; throws std::string saying what is wrong.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  HeaderFields parse() {
    HeaderFields fields;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr")
        fields.descr = descr();
      else if (key == "fortran_order")
        fields.fortran_order = boolean();
      else if (key == "shape")
        fields.shape = shape();
      else
        throw fmt::format("unknown header field '{}'", key);
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) throw std::string("text after the header");
    return fields;
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t'))
      ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) throw fmt::format("header lacks '{}' at byte {}", c, at_);
  }
  std::string quoted() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) throw std::string("unterminated text in the header");
    std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }
  /// A plain type string, or "" for a record type, whose description is a list to be passed over.
  std::string descr() {
    if (!accept('[')) return quoted();
    for (int depth = 1; depth > 0; ++at_) {
      if (at_ >= text_.size()) throw std::string("unterminated list in the header");
      depth += (text_[at_] == '[') - (text_[at_] == ']');
    }
    return "";
  }
  bool boolean() {
    skip_space();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    throw std::string("fortran_order is neither True nor False");
  }
  Shape shape() {
    Shape dims;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t d = -1;
      const char* first = text_.data() + at_;
      const auto [last, error] = std::from_chars(first, text_.data() + text_.size(), d);
      if (error != std::errc() || d < 0) throw std::string("bad dimension in the shape");
      at_ += static_cast<std::size_t>(last - first);
      accept('L');  // Python 2 wrote long integers so
      dims.push_back(d);
      if (dims.size() > kMaxRank) throw fmt::format("more than {} dimensions", kMaxRank);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return dims;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// waveq's type for a NumPy type letter and size; undefined where there is none.
DType dtype_for(char kind, std::size_t item_size) {
  switch (kind) {
    case 'f':
      return item_size == 2 || item_size == 4 || item_size == 8 ? DType::f32 : DType::undefined;
    case 'b':
      return item_size == 1 ? DType::boolean : DType::undefined;
    case 'i':
      switch (item_size) {
        case 1:
          return DType::i8;
        case 2:
          return DType::i16;
        case 4:
          return DType::i32;
        case 8:
          return DType::i64;
        default:
          return DType::undefined;
      }
    case 'u':
      switch (item_size) {
        case 1:
          return DType::u8;
        case 2:
          return DType::u16;
        case 4:
        case 8:
          return DType::i64;
        default:
          return DType::undefined;
      }
    default:
      return DType::undefined;
  }
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// Stored elements `in` (little endian by now) to `out`; throws std::string.
void convert(char kind, std::size_t item_size, std::span<const std::byte> in, std::byte* out) {
  const auto each = [&](auto convert_one) {
    for (std::size_t i = 0; i < in.size(); i += item_size) {
      const auto value = convert_one(in.data() + i);
      std::memcpy(out, &value, sizeof value);
      out += sizeof value;
    }
  };
  if (kind == 'f' && item_size == 2)
    each([](const std::byte* p) { return float16_to_float(load<std::uint16_t>(p)); });
  else if (kind == 'f' && item_size == 8)
    each([](const std::byte* p) { return static_cast<float>(load<double>(p)); });
  else if (kind == 'b')
    each([](const std::byte* p) { return *p != std::byte{0}; });
  else if (kind == 'u' && item_size == 4)
    each([](const std::byte* p) { return std::int64_t{load<std::uint32_t>(p)}; });
  else if (kind == 'u' && item_size == 8)
    each([](const std::byte* p) {
      const auto value = load<std::uint64_t>(p);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        throw fmt::format("holds {}, which no signed 64-bit integer can", value);
      return static_cast<std::int64_t>(value);
    });
  else
    std::memcpy(out, in.data(), in.size());
}

void swap_bytes(std::span<std::byte> data, std::size_t item_size) {
  for (std::size_t i = 0; i < data.size(); i += item_size)
    std::reverse(data.begin() + static_cast<std::ptrdiff_t>(i),
                 data.begin() + static_cast<std::ptrdiff_t>(i + item_size));
}

}  // namespace

NpyDecoder::NpyDecoder(std::unique_ptr<ByteSource> source, std::uint64_t size, std::string name,
                       std::string where)
    : source_(std::move(source)), where_(std::move(where)) {
  array_.name = std::move(name);
  try {
    parse_header(size);
  } catch (const std::string& what) {
    fail(what);
  }
}

void NpyDecoder::fail(std::string what) const {
  throw Error(ErrorCode::parse, where_, std::move(what), "the file is damaged; save it again");
}

void NpyDecoder::read_exact(std::span<std::byte> out) {
  if (source_->read(out) != out.size()) throw std::string("array ends early");
}

void NpyDecoder::parse_header(std::uint64_t size) {
  std::byte prefix[8];
  read_exact(prefix);
  if (std::memcmp(prefix, "\x93NUMPY", 6) != 0) throw std::string("is no NumPy array");
  const int version = std::to_integer<int>(prefix[6]);
  if (version < 1 || version > 3) throw fmt::format("has .npy version {}; 1 to 3 exist", version);
  std::uint32_t length = 0;
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  read_exact({reinterpret_cast<std::byte*>(&length), length_bytes});
  if (length > kMaxHeader) throw fmt::format("has a header of {} bytes", length);
  std::string text(length, '\0');
  read_exact(std::as_writable_bytes(std::span(text)));

  const HeaderFields fields = HeaderParser(text).parse();
  if (!fields.descr || !fields.fortran_order || !fields.shape)
    throw std::string("header lacks descr, fortran_order or shape");
  array_.stored = fields.descr->empty() ? "record" : *fields.descr;
  array_.shape = *fields.shape;
  array_.fortran_order = *fields.fortran_order && array_.shape.size() > 1;

  const std::string& descr = *fields.descr;
  const bool has_order = !descr.empty() && std::strchr("<>|=", descr[0]) != nullptr;
  if (descr.size() < std::size_t{2} + has_order) return;
  kind_ = descr[has_order];
  const char* end = descr.data() + descr.size();
  const auto [last, error] = std::from_chars(descr.data() + has_order + 1, end, item_size_);
  if (error != std::errc() || last != end) return;
  swap_ = descr[0] == '>' && item_size_ > 1;
  array_.dtype = dtype_for(kind_, item_size_);
  if (array_.dtype == DType::undefined) return;

  // The shape must account for every byte of the stream before anybody allocates by it.
  std::uint64_t wanted = item_size_;
  const bool empty = std::ranges::find(array_.shape, 0) != array_.shape.end();
  for (const std::int64_t d : array_.shape)
    if (!empty && __builtin_mul_overflow(wanted, static_cast<std::uint64_t>(d), &wanted))
      throw fmt::format("has an impossible shape {}", to_string(array_.shape));
  if (empty) wanted = 0;
  const std::uint64_t header = sizeof prefix + length_bytes + length;
  if (size < header || size - header != wanted)
    throw fmt::format("has {} data bytes, but {} of {} need {}", size < header ? 0 : size - header,
                      to_string(array_.shape), array_.stored, wanted);
}

void NpyDecoder::decode(std::span<std::byte> out) {
  const std::size_t out_size = size_of(array_.dtype);
  // Booleans are normalized and unsigned 64-bit integers range-checked on the way.
  const bool as_stored =
      item_size_ == out_size && kind_ != 'b' && !(kind_ == 'u' && item_size_ == 8);
  try {
    if (as_stored) {
      read_exact(out);
      if (swap_) swap_bytes(out, item_size_);
      return;
    }
    std::byte chunk[1 << 14];
    for (std::size_t done = 0, count = out.size() / out_size; done < count;) {
      const std::size_t n = std::min(count - done, sizeof chunk / item_size_);
      const std::span<std::byte> part(chunk, n * item_size_);
      read_exact(part);
      if (swap_) swap_bytes(part, item_size_);
      convert(kind_, item_size_, part, out.data() + done * out_size);
      done += n;
    }
  } catch (const std::string& what) {
    fail(what);
  }
}

void NpyDecoder::finish() {
  try {
    std::byte more[1];
    if (source_->read(more) != 0) throw std::string("has bytes after the array");
  } catch (const std::string& what) {
    fail(what);
  }
}

}  // namespace waveq::detail
