#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "waveq/calibration/dataset.h"

namespace waveq {

namespace {

constexpr std::int64_t kNoLabel = -1;  // labels are not negative

[[noreturn]] void fail(const std::string& place, const char* what) {
  throw Error(ErrorCode::io, place, fmt::format("{}: {}", what, std::strerror(errno)),
              "the temporary copy of the samples needs room; TMPDIR says where it goes");
}

/// A file that nobody else sees and that goes with its descriptor.
int open_unnamed() {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  std::string name = ((error ? std::filesystem::path("/tmp") : folder) / "waveq-XXXXXX").string();
  const int file = mkostemp(name.data(), O_CLOEXEC);
  if (file < 0) fail(name, "cannot be created");
  unlink(name.c_str());
  return file;
}

/// Whole transfers: pread and pwrite may stop early.
template <class Call, class Byte>
void transfer(Call call, int file, std::span<Byte> bytes, std::uint64_t offset, const char* what) {
  while (!bytes.empty()) {
    const ssize_t n = call(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("temporary file of samples", what);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

void write_at(int file, std::span<const std::byte> bytes, std::uint64_t offset) {
  transfer(pwrite, file, bytes, offset, "cannot be written");
}
void read_at(int file, std::span<std::byte> bytes, std::uint64_t offset) {
  transfer(pread, file, bytes, offset, "cannot be read back");
}

}  // namespace

SpooledSamples::SpooledSamples(std::unique_ptr<SampleSource> once, std::vector<DatasetInput> inputs)
    : once_(std::move(once)), inputs_(std::move(inputs)) {
  record_bytes_ = sizeof(std::int64_t);
  for (const DatasetInput& input : inputs_)
    record_bytes_ +=
        static_cast<std::size_t>(element_count(input.type.shape)) * size_of(input.type.dtype);
  file_ = open_unnamed();
}

SpooledSamples::~SpooledSamples() { close(file_); }

std::optional<std::uint64_t> SpooledSamples::size() const {
  return finished_ ? kept_ : once_->size();
}

bool SpooledSamples::next(Sample& sample) {
  if (position_ < kept_) {
    play_back(sample);
    return true;
  }
  if (finished_) return false;
  sample.index = position_;
  if (!once_->next(sample)) {
    if (kept_ == 0)
      throw Error(ErrorCode::data, once_->name(), "has no samples", "give at least one");
    finished_ = true;
    return false;
  }
  sample.index = position_;
  keep(sample);
  return true;
}

void SpooledSamples::keep(const Sample& sample) {
  std::uint64_t offset = kept_ * record_bytes_;
  const std::int64_t label = sample.label.value_or(kNoLabel);
  write_at(file_, std::as_bytes(std::span(&label, 1)), offset);
  offset += sizeof label;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Tensor& tensor = sample.inputs.at(i);
    WAVEQ_CHECK(tensor.type() == inputs_[i].type);
    write_at(file_, tensor.bytes(), offset);
    offset += tensor.byte_size();
  }
  position_ = ++kept_;
}

void SpooledSamples::play_back(Sample& sample) {
  if (sample.owner) sample = {};  // borrowed inputs are not ours to write to
  sample.index = position_;
  std::uint64_t offset = position_ * record_bytes_;
  std::int64_t label = kNoLabel;
  read_at(file_, std::as_writable_bytes(std::span(&label, 1)), offset);
  offset += sizeof label;
  sample.label = label == kNoLabel ? std::nullopt : std::optional(label);
  sample.inputs.resize(inputs_.size());
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    Tensor& tensor = sample.inputs[i];
    const TensorType& type = inputs_[i].type;
    if (tensor.type() != type) tensor = Tensor(type.dtype, type.shape);
    read_at(file_, tensor.bytes(), offset);
    offset += tensor.byte_size();
  }
  ++position_;
}

}  // namespace waveq
