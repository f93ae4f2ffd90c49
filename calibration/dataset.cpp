#include "waveq/calibration/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace waveq {

namespace {

constexpr std::string_view kLabels = "labels";

Shape without_first(const Shape& shape) {
  return shape.empty() ? shape : Shape(shape.begin() + 1, shape.end());
}

/// Position of the first NaN or infinity, or the size.
std::size_t first_non_finite(std::span<const float> values) {
  std::size_t bad = 0;
  for (const float x : values)
    bad += !std::isfinite(x);  // no branch: good data are scanned at full speed
  if (bad == 0) return values.size();
  return static_cast<std::size_t>(
      std::ranges::find_if(values, [](float x) { return !std::isfinite(x); }) - values.begin());
}

}  // namespace

std::vector<DatasetInput> dataset_inputs(const Graph& graph) {
  std::vector<DatasetInput> inputs;
  for (ValueId id : graph.inputs()) inputs.push_back({graph.value(id).name, graph.value(id).type});
  return inputs;
}

Dataset::Dataset(std::filesystem::path path, std::vector<DatasetInput> inputs,
                 DatasetOptions options)
    : reader_(std::move(path)), inputs_(std::move(inputs)), options_(options) {
  if (inputs_.empty())
    throw Error(ErrorCode::data, reader_.path().string(), "the network has no inputs to feed");
  open_all(true);
  check_counts();
}

Dataset::Dataset(std::filesystem::path path, const Graph& graph, DatasetOptions options)
    : Dataset(std::move(path), dataset_inputs(graph), options) {}

void Dataset::rewind() {
  open_all(false);
  position_ = 0;
}

void Dataset::open_all(bool first_time) {
  std::vector<Source> sources;
  for (const DatasetInput& input : inputs_) sources.push_back(open(input, first_time));
  sources_ = std::move(sources);
  if (options_.labels && reader_.find(kLabels)) open_labels(first_time);
}

std::string Dataset::place(std::string_view array) const {
  return fmt::format("{}: array '{}'", reader_.path().string(), array);
}

void Dataset::missing(const DatasetInput& input) const {
  std::vector<std::string> wanted, found;
  for (const DatasetInput& i : inputs_)
    wanted.push_back(fmt::format("'{}' {}", i.name, to_string(i.type)));
  for (const NpzArray& a : reader_.arrays())
    found.push_back(fmt::format("'{}' {}", a.name, to_string(a.shape)));
  throw Error(ErrorCode::data, reader_.path().string(),
              fmt::format("no array for input '{}'; the file has {}", input.name,
                          found.empty() ? "no arrays" : fmt::format("{}", fmt::join(found, ", "))),
              fmt::format("name arrays as the network's inputs: {}", fmt::join(wanted, ", ")));
}

Dataset::Source Dataset::open(const DatasetInput& input, bool first_time) {
  std::string name = input.name;
  const NpzArray* array = reader_.find(name);
  bool scaled = false;
  float scale = 1.0f;
  if (!array) {
    name = input.name + "_int16";
    array = reader_.find(name);
    if (!array) missing(input);
    check_scale(input.name + "_scale", scale);
    scaled = true;
  }
  if (first_time) {
    check_type(input, *array, scaled);
    check_shape(input, *array);
  }
  Source source{name, scaled, scale, reader_.stream(name), {}};
  if (array->dtype != input.type.dtype)
    source.buffer = Tensor(array->dtype, source.stream.sample_shape());
  return source;
}

void Dataset::check_scale(const std::string& name, float& scale) const {
  const NpzArray* array = reader_.find(name);
  if (!array)
    throw Error(ErrorCode::data, place(name), "is missing",
                "an int16 array comes with a scalar scale");
  if (array->dtype == DType::undefined || element_count(array->shape) != 1)
    throw Error(ErrorCode::data, place(name),
                fmt::format("is '{}' {}", array->stored, to_string(array->shape)),
                "the scale of an int16 array is one number");
  scale = static_cast<float>(to_double(reader_.read(name)).at(0));
  if (!std::isfinite(scale) || scale == 0.0f)
    throw Error(ErrorCode::data, place(name), fmt::format("is {}", scale),
                "a scale is finite and not 0");
}

void Dataset::check_type(const DatasetInput& input, const NpzArray& array, bool scaled) {
  const DType wanted = input.type.dtype, stored = array.dtype;
  const auto refuse = [&](std::string hint) {
    throw Error(
        ErrorCode::data, place(array.name),
        fmt::format("has type '{}', input '{}' is {}", array.stored, input.name, to_string(wanted)),
        std::move(hint));
  };
  if (!input.type.known())
    throw Error(ErrorCode::data, fmt::format("input '{}'", input.name), "has no known type",
                "give its shape with --input-shape");
  if (stored == DType::undefined) refuse("store numbers");
  if (scaled) {
    if (stored != DType::i16) refuse("an array NAME_int16 holds int16");
    if (wanted != DType::f32) refuse("scaled int16 data feed float inputs");
    return;
  }
  if (wanted != DType::f32 && stored == DType::f32) refuse("store integers");
  if (wanted == DType::boolean && stored != DType::boolean) refuse("store booleans");
  const std::string_view stored_digits =
      std::string_view(array.stored).substr(array.stored.size() > 1 ? 1 : 0);
  if (wanted == DType::f32 && (stored != DType::f32 || stored_digits != "f4"))
    notes_.push_back(fmt::format("{}: '{}' converted to f32", place(array.name), array.stored));
}

void Dataset::check_shape(const DatasetInput& input, const NpzArray& array) const {
  const Shape& want = input.type.shape;
  const Shape sample = without_first(array.shape);
  const bool batch_one = !want.empty() && want[0] == 1;
  if (!array.shape.empty() && (sample == want || (batch_one && sample == without_first(want))))
    return;
  const auto with_samples = [](const Shape& s) {
    return s.empty() ? std::string("[N]") : fmt::format("[N,{}]", fmt::join(s, ","));
  };
  throw Error(ErrorCode::data, place(array.name),
              fmt::format("has shape {}, input '{}' is {}", to_string(array.shape), input.name,
                          to_string(want)),
              batch_one ? fmt::format("store {} or {}, N samples",
                                      with_samples(without_first(want)), with_samples(want))
                        : fmt::format("store {}, N samples", with_samples(want)));
}

void Dataset::open_labels(bool first_time) {
  const NpzArray& array = *reader_.find(kLabels);
  if (first_time && (!is_integer(array.dtype) || array.shape.size() != 1))
    throw Error(ErrorCode::data, place(kLabels),
                fmt::format("is '{}' {}", array.stored, to_string(array.shape)),
                "labels are integers, one per sample: [N]");
  labels_ = reader_.stream(kLabels);
}

void Dataset::check_counts() {
  const std::int64_t samples = sources_.front().stream.samples();
  const auto compare = [&](const std::string& name, std::int64_t n) {
    if (n != samples)
      throw Error(
          ErrorCode::data, place(name),
          fmt::format("has {} samples, array '{}' has {}", n, sources_.front().array, samples),
          "all arrays run over the same samples");
  };
  for (const Source& s : sources_) compare(s.array, s.stream.samples());
  if (labels_) compare(std::string(kLabels), labels_->samples());
  if (samples <= 0)
    throw Error(ErrorCode::data, place(sources_.front().array), "has no samples",
                "give at least one");
  size_ = static_cast<std::uint64_t>(samples);
}

void Dataset::fill(Source& source, const DatasetInput& input, Tensor& out) const {
  const auto place_of = [&](std::size_t element) {
    return fmt::format("sample {}, element {}", position_, element);
  };
  const Shape& shape = source.stream.sample_shape();
  if (out.type() != input.type) out = Tensor(input.type.dtype, input.type.shape);
  const bool direct = source.buffer.dtype() == DType::undefined;
  // The stream fills a tensor of its own sample shape; a missing batch axis does not move any
  // element.
  Tensor view = Tensor::borrow(input.type.dtype, shape, out.bytes().data());
  if (!source.stream.next(direct ? view : source.buffer))
    throw Error(ErrorCode::parse, place(source.array),
                fmt::format("ends before sample {}", position_));
  if (direct && view.bytes().data() != out.bytes().data())
    std::ranges::copy(view.bytes(), out.bytes().begin());
  if (!direct && input.type.dtype == DType::f32) {
    const Tensor real = cast(source.buffer, DType::f32);
    std::ranges::transform(real.as<float>(), out.as<float>().begin(),
                           [scale = source.scale](float x) { return x * scale; });
  } else if (!direct) {
    const std::vector<std::int64_t> values = to_int64(source.buffer);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] < lowest(input.type.dtype) || values[i] > highest(input.type.dtype))
        throw Error(ErrorCode::data, place(source.array),
                    fmt::format("{} is {}, input '{}' is {}", place_of(i), values[i], input.name,
                                to_string(input.type.dtype)));
    const Tensor narrow = cast(source.buffer, input.type.dtype);
    std::ranges::copy(narrow.bytes(), out.bytes().begin());
  }
  if (input.type.dtype != DType::f32) return;
  const std::span<const float> values = out.as<float>();
  const std::size_t bad = first_non_finite(values);
  if (bad < values.size())
    throw Error(ErrorCode::data, place(source.array),
                fmt::format("{} is {}", place_of(bad), values[bad]),
                "remove or repair this sample");
}

bool Dataset::next(Sample& sample) {
  if (position_ >= size_) return false;
  if (sample.owner) sample = {};  // borrowed inputs are not ours to write to
  sample.index = position_;
  sample.inputs.resize(inputs_.size());
  for (std::size_t i = 0; i < inputs_.size(); ++i) fill(sources_[i], inputs_[i], sample.inputs[i]);
  sample.label.reset();
  if (labels_) {
    Tensor one;
    if (!labels_->next(one))
      throw Error(ErrorCode::parse, place(kLabels),
                  fmt::format("ends before sample {}", position_));
    const std::int64_t label = to_int64(one).at(0);
    if (label < 0 || (options_.classes && label >= *options_.classes))
      throw Error(
          ErrorCode::data, place(kLabels), fmt::format("sample {} has label {}", position_, label),
          options_.classes ? fmt::format("the network has classes 0 to {}", *options_.classes - 1)
                           : "labels are not negative");
    sample.label = label;
  }
  ++position_;
  return true;
}

std::unique_ptr<SampleSource> SampleData::open(const Graph& graph,
                                               const DatasetOptions& options) const {
  if (opener_) return opener_(graph, options);
  return std::make_unique<Dataset>(file_, graph, options);
}

}  // namespace waveq
