#include "waveq/graph/npz.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zip.h>

#include <cstring>
#include <set>

#include "npz/npy_decoder.h"

namespace waveq {

namespace fs = std::filesystem;
using detail::NpyDecoder;

namespace {

/// Fortran-ordered arrays are held in memory as a whole; more than this is not a small array.
constexpr std::int64_t kMaxFortranBytes = std::int64_t{1} << 30;

std::string array_label(const fs::path& path, std::string_view name) {
  return fmt::format("{}: array '{}'", path.string(), name);
}

/// Row-major copy of a column-major tensor of the same shape.
Tensor from_fortran_order(const Tensor& stored) {
  const Shape& shape = stored.shape();
  Tensor out(stored.dtype(), shape);
  const std::size_t size = size_of(stored.dtype());
  std::vector<std::int64_t> step(shape.size()), index(shape.size(), 0);
  for (std::int64_t axis = 0, s = 1; axis < static_cast<std::int64_t>(shape.size()); ++axis) {
    step[axis] = s;
    s *= shape[axis];
  }
  std::int64_t from = 0;
  for (std::int64_t to = 0; to < out.size(); ++to) {
    std::memcpy(out.bytes().data() + to * size, stored.bytes().data() + from * size, size);
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      from += step[axis];
      if (++index[axis] < shape[axis]) break;
      from -= step[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

Tensor read_whole(NpyDecoder& decoder) {
  const NpzArray& array = decoder.array();
  if (array.fortran_order && element_count(array.shape) >
                                 kMaxFortranBytes / static_cast<std::int64_t>(size_of(array.dtype)))
    throw Error(ErrorCode::unsupported, decoder.where(), "is large and in Fortran order",
                "save it with numpy.ascontiguousarray");
  Tensor tensor;
  try {
    tensor = Tensor(array.dtype, array.shape);
  } catch (Error& e) {
    throw Error(ErrorCode::parse, decoder.where(), e.found());
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::io, decoder.where(), "does not fit into memory");
  }
  decoder.decode(tensor.bytes());
  decoder.finish();
  return array.fortran_order ? from_fortran_order(tensor) : std::move(tensor);
}

bool is_npy_file(const fs::path& path) {
  std::uint64_t size = 0;
  const auto source = detail::open_plain_file(path, size);
  std::byte magic[6];
  try {
    return source->read(magic) == 6 && std::memcmp(magic, "\x93NUMPY", 6) == 0;
  } catch (const std::string& what) {
    throw Error(ErrorCode::io, path.string(), what);
  }
}

}  // namespace

NpzReader::NpzReader(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  if (fs::is_directory(path_, ignored))
    throw Error(ErrorCode::io, path_.string(), "is a folder", "name an .npz file");
  plain_npy_ = is_npy_file(path_);
  if (plain_npy_) {
    std::uint64_t size = 0;
    auto source = detail::open_plain_file(path_, size);
    arrays_.push_back(
        NpyDecoder(std::move(source), size, path_.stem().string(), path_.string()).array());
    members_.push_back(0);
    return;
  }
  const detail::ZipPtr archive = detail::open_zip(path_);
  std::set<std::string, std::less<>> seen;
  const auto count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const char* member = zip_get_name(archive.get(), static_cast<zip_uint64_t>(i), 0);
    if (!member) continue;
    std::string name = member;
    if (!name.ends_with(".npy")) continue;
    name.resize(name.size() - 4);
    if (!seen.insert(name).second)
      throw Error(ErrorCode::parse, path_.string(), fmt::format("has two arrays named '{}'", name));
    std::uint64_t size = 0;
    const std::string where = array_label(path_, name);
    auto source = detail::open_zip_member(archive, static_cast<std::uint64_t>(i), where, size);
    arrays_.push_back(NpyDecoder(std::move(source), size, name, where).array());
    members_.push_back(static_cast<std::uint64_t>(i));
  }
}

const NpzArray* NpzReader::find(std::string_view name) const {
  for (const NpzArray& array : arrays_)
    if (array.name == name) return &array;
  return nullptr;
}

std::unique_ptr<NpyDecoder> NpzReader::open(std::string_view name) const {
  const NpzArray* array = find(name);
  if (!array) {
    std::vector<std::string_view> names;
    for (const NpzArray& a : arrays_) names.push_back(a.name);
    throw Error(ErrorCode::data, path_.string(), fmt::format("has no array '{}'", name),
                fmt::format("it has: {}", fmt::join(names, ", ")));
  }
  const std::string where = array_label(path_, name);
  if (array->dtype == DType::undefined)
    throw Error(ErrorCode::unsupported, where, fmt::format("has type '{}'", array->stored),
                "store floats, integers or booleans");
  std::uint64_t size = 0;
  auto source = plain_npy_
                    ? detail::open_plain_file(path_, size)
                    : detail::open_zip_member(
                          detail::open_zip(path_),
                          members_[static_cast<std::size_t>(array - arrays_.data())], where, size);
  auto decoder = std::make_unique<NpyDecoder>(std::move(source), size, array->name, where);
  if (decoder->array().dtype != array->dtype || decoder->array().shape != array->shape ||
      decoder->array().fortran_order != array->fortran_order)
    throw Error(ErrorCode::io, where, "changed while being read");
  return decoder;
}

Tensor NpzReader::read(std::string_view name) const { return read_whole(*open(name)); }

NpzStream NpzReader::stream(std::string_view name) const {
  auto decoder = open(name);
  const NpzArray array = decoder->array();
  if (array.shape.empty())
    throw Error(ErrorCode::data, decoder->where(), "is a scalar; it has no axis of samples",
                "give it one sample per entry of its first axis");
  const bool no_elements = element_count({array.shape.begin() + 1, array.shape.end()}) == 0;
  if (no_elements && array.shape[0] != 0)
    throw Error(ErrorCode::data, decoder->where(),
                fmt::format("has empty samples, shape {}", to_string(array.shape)));
  return NpzStream(array, std::move(decoder));
}

NpzStream::NpzStream(NpzArray array, std::unique_ptr<NpyDecoder> decoder)
    : array_(std::move(array)),
      shape_(array_.shape.begin() + 1, array_.shape.end()),
      samples_(array_.shape[0]),
      decoder_(std::move(decoder)) {
  if (array_.fortran_order) whole_ = read_whole(*decoder_);
}

NpzStream::NpzStream(NpzStream&&) noexcept = default;
NpzStream& NpzStream::operator=(NpzStream&&) noexcept = default;
NpzStream::~NpzStream() = default;

bool NpzStream::next(Tensor& sample) {
  if (position_ == samples_) return false;
  if (sample.dtype() != array_.dtype || sample.shape() != shape_)
    sample = Tensor(array_.dtype, shape_);
  if (array_.fortran_order) {
    const std::size_t size = sample.byte_size();
    std::memcpy(sample.bytes().data(),
                whole_.bytes().data() + size * static_cast<std::size_t>(position_), size);
  } else {
    decoder_->decode(sample.bytes());
    if (position_ + 1 == samples_) decoder_->finish();
  }
  ++position_;
  return true;
}

bool NpzStream::skip() {
  Tensor unused;
  return next(unused);
}

}  // namespace waveq
