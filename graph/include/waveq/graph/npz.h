#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/tensor.h"

namespace waveq {

/// One array of a file, as its header states it.
struct NpzArray {
  std::string name;
  /// Type after reading: f2, f4, f8 become f32; u4, u8, i8 (8 bytes) become i64; the rest keep
  /// theirs. undefined: waveq cannot read this array (text, objects, records, complex).
  DType dtype = DType::undefined;
  std::string stored;          ///< NumPy's type string as stored, e.g. "<f8"
  Shape shape;                 ///< all axes, the samples' too
  bool fortran_order = false;  ///< stored column by column; reading gives rows
};

namespace detail {
class NpyDecoder;
}

/// Reads one array sample by sample along axis 0 in constant memory. Not thread-safe; independent
/// of the NpzReader it came from and of other streams on the same file.
class NpzStream {
 public:
  NpzStream(NpzStream&&) noexcept;
  NpzStream& operator=(NpzStream&&) noexcept;
  ~NpzStream();

  const NpzArray& array() const { return array_; }
  std::int64_t samples() const { return samples_; }     ///< length of axis 0
  const Shape& sample_shape() const { return shape_; }  ///< shape without axis 0
  std::int64_t position() const { return position_; }   ///< samples delivered so far

  /// Next sample, of shape sample_shape(), or false after the last one. A tensor of the right type
  /// is filled in place. \throws Error{parse} for damaged data.
  bool next(Tensor& sample);
  /// Passes over a sample without keeping it; false after the last one.
  bool skip();

 private:
  friend class NpzReader;
  NpzStream(NpzArray array, std::unique_ptr<detail::NpyDecoder> decoder);

  NpzArray array_;
  Shape shape_;
  std::int64_t samples_ = 0, position_ = 0;
  std::unique_ptr<detail::NpyDecoder> decoder_;
  Tensor whole_;  ///< Fortran-ordered arrays alone: they cannot be read in sample order
};

/// An .npz file (zip of .npy members, stored or deflated), or a plain .npy file, which counts as
/// one array named as the file without its extension. NEP 1 versions 1 to 3, either byte order.
/// Sizes are checked against the file before anything is allocated.
class NpzReader {
 public:
  /// Reads the headers of all arrays.
  /// \throws Error{io} when the file cannot be read, Error{parse} when it is damaged or of another
  /// kind.
  explicit NpzReader(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  /// In file order. Members that are not .npy files are passed over.
  const std::vector<NpzArray>& arrays() const { return arrays_; }
  const NpzArray* find(std::string_view name) const;

  /// A whole array. Fortran order is transposed in memory (arrays up to 1 GiB).
  /// \throws Error{data} when there is no such array, Error{unsupported} for its type,
  /// Error{parse}.
  Tensor read(std::string_view name) const;
  /// \throws as read(); Error{data} for an array without axis 0 or with empty samples.
  NpzStream stream(std::string_view name) const;

 private:
  std::unique_ptr<detail::NpyDecoder> open(std::string_view name) const;

  std::filesystem::path path_;
  bool plain_npy_ = false;
  std::vector<NpzArray> arrays_;
  std::vector<std::uint64_t> members_;  ///< per array: index in the zip directory
};

/// What write_npz stores under a name; `tensor` must stay alive during the call.
struct NpzItem {
  std::string name;
  const Tensor* tensor = nullptr;  ///< not owned, not null
};

/// Writes an uncompressed .npz with the arrays in the given order. The bytes depend on the items
/// alone (timestamps are 1980-01-01). The file appears as a whole or not at all; a symbolic link is
/// followed. \throws Error{invalid_argument} for a name that occurs twice or a tensor of no type,
/// Error{io}.
void write_npz(const std::filesystem::path& path, std::span<const NpzItem> items);

}  // namespace waveq
