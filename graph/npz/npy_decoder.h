#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "waveq/graph/npz.h"

struct zip;

namespace waveq::detail {

/// Bytes in sequence, wherever they come from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Reads up to out.size() bytes; fewer only at the end. \throws std::string saying what is wrong.
  virtual std::size_t read(std::span<std::byte> out) = 0;
};

/// Opened zip archive; the deleter discards it.
using ZipPtr = std::shared_ptr<zip>;
/// \throws Error{io|parse}.
ZipPtr open_zip(const std::filesystem::path& path);
/// A member's bytes. `size` receives its uncompressed length, which is checked to be possible for
/// the compressed length (deflate expands at most 1032 times).
std::unique_ptr<ByteSource> open_zip_member(ZipPtr archive, std::uint64_t index,
                                            const std::string& where, std::uint64_t& size);
std::unique_ptr<ByteSource> open_plain_file(const std::filesystem::path& path, std::uint64_t& size);

/// Header and elements of one .npy stream (NumPy NEP 1).
class NpyDecoder {
 public:
  /// Parses the header; `size` is the stream's whole length. \throws Error{parse}.
  NpyDecoder(std::unique_ptr<ByteSource> source, std::uint64_t size, std::string name,
             std::string where);

  const NpzArray& array() const { return array_; }
  const std::string& where() const { return where_; }
  /// Next out.size() / size_of(array().dtype) elements, converted. \throws Error{parse|data}.
  void decode(std::span<std::byte> out);
  /// Checks that the stream ends here (which makes libzip check the CRC). \throws Error{parse}.
  void finish();

 private:
  void parse_header(std::uint64_t size);
  void read_exact(std::span<std::byte> out);
  [[noreturn]] void fail(std::string what) const;

  std::unique_ptr<ByteSource> source_;
  NpzArray array_;
  std::string where_;
  char kind_ = 0;              ///< NumPy's type letter
  std::size_t item_size_ = 0;  ///< stored bytes of one element
  bool swap_ = false;          ///< stored big endian
};

}  // namespace waveq::detail
