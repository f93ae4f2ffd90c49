#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zip.h>

#include <set>

#include "waveq/graph/file.h"
#include "waveq/graph/npz.h"

namespace waveq {

namespace fs = std::filesystem;

namespace {

/// NumPy's type string of a stored dtype; everything is written little endian.
std::string_view descr_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "<f4";
    case DType::i8:
      return "|i1";
    case DType::u8:
      return "|u1";
    case DType::i16:
      return "<i2";
    case DType::u16:
      return "<u2";
    case DType::i32:
      return "<i4";
    case DType::i64:
      return "<i8";
    case DType::boolean:
      return "|b1";
    case DType::undefined:
      break;
  }
  return "";
}

/// Header of .npy version 1.0, padded so that the data start at a multiple of 64 bytes.
std::string npy_header(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  const std::string dict =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                  descr_of(tensor.dtype()), fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  const std::size_t used = 10 + dict.size() + 1;
  const std::size_t length = dict.size() + 1 + (64 - used % 64) % 64;
  WAVEQ_CHECK(length <= 0xffff);
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(length & 0xff);
  header += static_cast<char>(length >> 8);
  header += dict;
  header.resize(10 + length - 1, ' ');
  return header + '\n';
}

class ArchiveWriter {
 public:
  explicit ArchiveWriter(const fs::path& path) : path_(path) {
    int code = 0;
    archive_ = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (archive_) return;
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string what = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw Error(ErrorCode::io, path.string(), "cannot write: " + what);
  }
  ArchiveWriter(const ArchiveWriter&) = delete;
  ArchiveWriter& operator=(const ArchiveWriter&) = delete;
  ~ArchiveWriter() {
    if (archive_) zip_discard(archive_);
  }

  /// `fragments` and what they point to must stay until close().
  void add(const std::string& member, zip_buffer_fragment_t* fragments) {
    zip_source_t* source = zip_source_buffer_fragment(archive_, fragments, 2, 0);
    check(source != nullptr);
    const zip_int64_t index = zip_file_add(archive_, member.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) zip_source_free(source);
    check(index >= 0);
    const auto i = static_cast<zip_uint64_t>(index);
    constexpr zip_uint16_t kFirstOfJanuary1980 = (1 << 5) | 1;
    constexpr zip_uint32_t kRegularFile644 = 0100644u << 16;
    check(zip_set_file_compression(archive_, i, ZIP_CM_STORE, 0) == 0);
    check(zip_file_set_dostime(archive_, i, 0, kFirstOfJanuary1980, 0) == 0);
    check(zip_file_set_external_attributes(archive_, i, 0, ZIP_OPSYS_UNIX, kRegularFile644) == 0);
  }

  /// libzip writes a temporary sibling and renames it.
  void close() {
    check(zip_close(archive_) == 0);
    archive_ = nullptr;
  }

 private:
  void check(bool ok) {
    if (!ok)
      throw Error(ErrorCode::io, path_.string(),
                  fmt::format("cannot write: {}", zip_strerror(archive_)));
  }

  fs::path path_;
  zip_t* archive_ = nullptr;
};

}  // namespace

void write_npz(const fs::path& path, std::span<const NpzItem> items) {
  std::set<std::string_view> seen;
  for (const NpzItem& item : items) {
    if (!item.tensor || item.tensor->dtype() == DType::undefined)
      throw Error(ErrorCode::invalid_argument, path.string(),
                  fmt::format("array '{}' is undefined", item.name));
    if (!seen.insert(item.name).second || item.name.find('\0') != std::string::npos)
      throw Error(ErrorCode::invalid_argument, path.string(),
                  fmt::format("array name '{}' occurs twice or cannot be stored", item.name));
  }
  if (items.empty()) {  // libzip does not write archives without members; this is the end record
                        // alone
    write_file(path, std::string("PK\x05\x06", 4) + std::string(18, '\0'));
    return;
  }
  std::vector<std::string> headers;
  for (const NpzItem& item : items) headers.push_back(npy_header(*item.tensor));
  std::vector<zip_buffer_fragment_t> fragments;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto bytes = items[i].tensor->bytes();
    // libzip only reads through these pointers, but its type is not const.
    fragments.push_back({reinterpret_cast<zip_uint8_t*>(headers[i].data()), headers[i].size()});
    fragments.push_back(
        {reinterpret_cast<zip_uint8_t*>(const_cast<std::byte*>(bytes.data())), bytes.size()});
  }
  ArchiveWriter archive(replaceable_file(path));
  for (std::size_t i = 0; i < items.size(); ++i)
    archive.add(items[i].name + ".npy", &fragments[2 * i]);
  archive.close();
}

}  // namespace waveq
