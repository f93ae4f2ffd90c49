#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/graph/npz.h"

namespace waveq {

/// A tensor the data have to deliver.
struct DatasetInput {
  std::string name;  ///< of the network's input and of its array
  TensorType type;   ///< of one sample, the network's batch axis included
};

struct DatasetOptions {
  /// Read the array `labels` where the file has one; otherwise it is not looked at.
  bool labels = false;
  /// Labels must be below this (classes of the network); absent: any non-negative label.
  std::optional<std::int64_t> classes = {};
};

/// One run of the network.
struct Sample {
  std::uint64_t index = 0;     ///< 0-based, in the order of the file
  std::vector<Tensor> inputs;  ///< in the order of the network's inputs, of exactly their types
  std::optional<std::int64_t> label;  ///< class, where labels were asked for and are there
  /// Keeps alive what borrowed inputs point into; empty where the inputs own their elements.
  std::shared_ptr<const void> owner;
};

/// Samples one at a time. Not thread-safe: callers that share one take turns.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  /// Number of samples, at least 1; absent as long as a stream has not told it.
  virtual std::optional<std::uint64_t> size() const = 0;
  virtual bool has_labels() const = 0;   ///< every sample comes with its class
  virtual std::string name() const = 0;  ///< as messages call it, e.g. the file
  /// Conversions made on the way, for the log.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Fills in the next sample, reusing its tensors; false after the last one.
  /// \throws Error{data} for unusable data (sample.index is that of the bad one).
  virtual bool next(Sample& sample) = 0;
  /// Starts again with the first sample.
  virtual void rewind() = 0;

 protected:
  SampleSource() = default;
  SampleSource(const SampleSource&) = default;
  SampleSource& operator=(const SampleSource&) = default;
};

/// What a network of `graph`'s inputs needs.
std::vector<DatasetInput> dataset_inputs(const Graph& graph);

/// Samples from an .npz file, one at a time in constant memory.
///
/// Per network input of shape S there is an array of the same name, whose first axis runs over the
/// samples: [N, S...], or [N, S[1:]...] where S[0] is 1. In place of `x`, an array `x_int16` with a
/// scalar `x_scale` is accepted; the input is then float(x_int16) * x_scale in float32. A float
/// input may be stored in any numeric type (converted, with a note); an integer input needs
/// integers that fit its type. Other arrays are ignored.
class Dataset : public SampleSource {
 public:
  /// Reads headers alone. \throws Error{io, parse} for the file; Error{data} for a missing array
  ///   (naming those that exist and those wanted), a wrong type or shape, sample counts that
  ///   differ, or no samples.
  Dataset(std::filesystem::path path, std::vector<DatasetInput> inputs,
          DatasetOptions options = {});
  /// For the inputs of `graph`. \throws as above.
  Dataset(std::filesystem::path path, const Graph& graph, DatasetOptions options = {});

  std::optional<std::uint64_t> size() const override { return size_; }
  bool has_labels() const override { return labels_.has_value(); }
  std::string name() const override { return path().string(); }
  const std::filesystem::path& path() const { return reader_.path(); }
  const std::vector<DatasetInput>& inputs() const { return inputs_; }
  std::vector<std::string> notes() const override { return notes_; }

  /// \throws Error{data} for NaN or infinity (array, sample and element are named), for an integer
  /// that does not fit and
  ///   for a label out of range; Error{parse} for damaged data.
  bool next(Sample& sample) override;
  void rewind() override;

 private:
  struct Source {
    std::string array;
    bool scaled = false;
    float scale = 1.0f;
    NpzStream stream;
    Tensor buffer;  ///< where the stored type differs from the input's
  };

  std::string place(std::string_view array) const;
  void check_scale(const std::string& name, float& scale) const;
  Source open(const DatasetInput& input, bool first_time);
  void check_shape(const DatasetInput& input, const NpzArray& array) const;
  void check_type(const DatasetInput& input, const NpzArray& array, bool scaled);
  void open_labels(bool first_time);
  void open_all(bool first_time);
  void check_counts();
  void fill(Source& source, const DatasetInput& input, Tensor& out) const;
  [[noreturn]] void missing(const DatasetInput& input) const;

  NpzReader reader_;
  std::vector<DatasetInput> inputs_;
  DatasetOptions options_;
  std::vector<Source> sources_;
  std::optional<NpzStream> labels_;
  std::vector<std::string> notes_;
  std::uint64_t size_ = 0, position_ = 0;
};

/// Takes samples from a source that can be read only once (a generator) and plays them back after
/// rewind(): they are kept in a temporary file without a name, so memory stays flat.
class SpooledSamples : public SampleSource {
 public:
  /// `once` delivers inputs of exactly these types. \throws Error{io} where no temporary file can
  /// be made.
  SpooledSamples(std::unique_ptr<SampleSource> once, std::vector<DatasetInput> inputs);
  ~SpooledSamples() override;

  /// Known after the last sample, or where the source knows it.
  std::optional<std::uint64_t> size() const override;
  bool has_labels() const override { return once_->has_labels(); }
  std::string name() const override { return once_->name(); }
  std::vector<std::string> notes() const override { return once_->notes(); }
  /// \throws errors of the source; Error{data} where it has no samples at all; Error{io}.
  bool next(Sample& sample) override;
  void rewind() override { position_ = 0; }

 private:
  void keep(const Sample& sample);
  void play_back(Sample& sample);

  std::unique_ptr<SampleSource> once_;
  std::vector<DatasetInput> inputs_;
  std::size_t record_bytes_ = 0;
  int file_ = -1;
  std::uint64_t kept_ = 0, position_ = 0;
  bool finished_ = false;
};

/// Samples as a caller hands them over, before the network is known: an .npz file, or anything that
/// makes a source for a network.
class SampleData {
 public:
  using Opener = std::function<std::unique_ptr<SampleSource>(const Graph& graph,
                                                             const DatasetOptions& options)>;

  SampleData() = default;  ///< a file without a name: opening it fails
  template <std::convertible_to<std::filesystem::path> File>
  SampleData(File&& file) : file_(std::forward<File>(file)) {}  // NOLINT: a path is data
  explicit SampleData(Opener opener) : opener_(std::move(opener)) {}

  /// The file, where the samples come from one.
  const std::filesystem::path* file() const { return opener_ ? nullptr : &file_; }
  /// \throws as the constructor of Dataset.
  std::unique_ptr<SampleSource> open(const Graph& graph, const DatasetOptions& options = {}) const;

 private:
  std::filesystem::path file_;
  Opener opener_;
};

}  // namespace waveq
