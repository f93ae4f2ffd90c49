#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/graph/npz.h"

namespace waveq {

/// A tensor the data have to deliver.
struct DatasetInput {
  std::string name;
  TensorType type;
};

struct DatasetOptions {
  /// Read the array `labels` where the file has one; otherwise it is not looked at.
  bool labels = false;
  /// Labels must be below this (classes of the network); absent: any non-negative label.
  std::optional<std::int64_t> classes = {};
};

/// One run of the network.
struct Sample {
  std::uint64_t index = 0;
  std::vector<Tensor> inputs;  ///< in the order of the network's inputs, of exactly their types
  std::optional<std::int64_t> label;
};

/// Samples from an .npz file, one at a time in constant memory.
///
/// Per network input of shape S there is an array of the same name, whose first axis runs over the
/// samples: [N, S...], or [N, S[1:]...] where S[0] is 1. In place of `x`, an array `x_int16` with a
/// scalar `x_scale` is accepted; the input is then float(x_int16) * x_scale in float32. A float
/// input may be stored in any numeric type (converted, with a note); an integer input needs
/// integers that fit its type. Other arrays are ignored. Not thread-safe: callers that share one
/// take turns.
class Dataset {
 public:
  /// Reads headers alone. \throws Error{io, parse} for the file; Error{data} for a missing array
  ///   (naming those that exist and those wanted), a wrong type or shape, sample counts that
  ///   differ, or no samples.
  Dataset(std::filesystem::path path, std::vector<DatasetInput> inputs,
          DatasetOptions options = {});
  Dataset(std::filesystem::path path, const Graph& graph, DatasetOptions options = {});

  std::uint64_t size() const { return size_; }  ///< samples, at least 1
  bool has_labels() const { return labels_.has_value(); }
  const std::filesystem::path& path() const { return reader_.path(); }
  const std::vector<DatasetInput>& inputs() const { return inputs_; }
  /// Conversions made on the way, for the log.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Fills in the next sample, reusing its tensors; false after the last one.
  /// \throws Error{data} for NaN or infinity (array, sample and element are named), for an integer
  /// that does not fit and
  ///   for a label out of range; Error{parse} for damaged data.
  bool next(Sample& sample);
  /// Starts again with the first sample.
  void rewind();

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

}  // namespace waveq
