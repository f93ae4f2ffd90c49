#include "samples.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <mutex>

#include "waveq/export/target.h"

namespace waveq::python {

namespace py = pybind11;

void check_signals() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

std::shared_ptr<const void> keep_alive(py::object object) {
  return {object.release().ptr(), [](const void* p) {
            const py::gil_scoped_acquire gil;
            py::handle(static_cast<PyObject*>(const_cast<void*>(p))).dec_ref();
          }};
}

namespace {

/// One pass over a Python iterator. The GIL is taken for each step.
class PythonSamples : public SampleSource {
 public:
  PythonSamples(const py::object& make_iterator, std::string name, std::vector<DatasetInput> inputs,
                const DatasetOptions& options)
      : name_(std::move(name)), inputs_(std::move(inputs)), options_(options) {
    py::list wanted;
    for (const DatasetInput& i : inputs_)
      wanted.append(py::make_tuple(i.name, std::string(to_string(i.type.dtype)), i.type.shape));
    py::object pair = make_iterator(wanted, options_.labels);
    const py::object length = pair.attr("length");
    if (!length.is_none()) size_ = length.cast<std::uint64_t>();
    keep_ = keep_alive(std::move(pair));
  }

  std::optional<std::uint64_t> size() const override { return size_; }
  bool has_labels() const override { return labels_; }
  std::string name() const override { return name_; }
  void rewind() override { WAVEQ_CHECK(made_ == 0); }

  bool next(Sample& sample) override {
    const py::gil_scoped_acquire gil;
    // What broke once must not look like the end of the data to the next reader.
    if (broken_)
      throw Error(ErrorCode::data, name_, "ended with an exception before", "give them anew");
    broken_ = true;
    const bool more = read(sample);
    broken_ = false;
    return more;
  }

 private:
  /// The GIL is held. \throws what the iterator raises, KeyboardInterrupt.
  bool read(Sample& sample) {
    check_signals();
    sample = {};
    sample.index = made_;
    const py::handle iterator(static_cast<PyObject*>(const_cast<void*>(keep_.get())));
    py::object item = py::reinterpret_steal<py::object>(PyIter_Next(iterator.ptr()));
    if (!item) {
      if (PyErr_Occurred()) throw py::error_already_set();
      return false;
    }
    const auto arrays = item[py::int_(0)].cast<py::list>();
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      sample.inputs.push_back(borrowed(arrays[i].cast<py::array>(), inputs_[i].type));
    const py::object label = item[py::int_(1)];
    if (made_ == 0) labels_ = !label.is_none();
    if (!label.is_none()) sample.label = checked(label.cast<std::int64_t>());
    if (labels_ != sample.label.has_value())
      throw Error(ErrorCode::data, name_, "has labels for some samples and not for others");
    sample.owner = keep_alive(std::move(item));
    ++made_;
    return true;
  }

  /// Nobody writes through a sample's inputs (Sample::owner).
  static Tensor borrowed(const py::array& array, const TensorType& type) {
    Tensor t = Tensor::borrow(type.dtype, type.shape,
                              static_cast<std::byte*>(const_cast<void*>(array.data())));
    WAVEQ_CHECK(static_cast<std::size_t>(array.nbytes()) == t.byte_size());
    return t;
  }

  std::int64_t checked(std::int64_t label) const {
    if (label < 0 || (options_.classes && label >= *options_.classes))
      throw Error(ErrorCode::data, name_,
                  "sample " + std::to_string(made_) + " has label " + std::to_string(label),
                  options_.classes
                      ? "the network has classes 0 to " + std::to_string(*options_.classes - 1)
                      : "labels are not negative");
    return label;
  }

  std::string name_;
  std::vector<DatasetInput> inputs_;
  DatasetOptions options_;
  std::shared_ptr<const void> keep_;
  std::optional<std::uint64_t> size_;
  std::uint64_t made_ = 0;
  bool labels_ = false, broken_ = false;
};

/// The spooled copy that all openings share, each from the start.
class SharedSamples : public SampleSource {
 public:
  explicit SharedSamples(std::shared_ptr<SampleSource> shared) : shared_(std::move(shared)) {
    shared_->rewind();
  }
  std::optional<std::uint64_t> size() const override { return shared_->size(); }
  bool has_labels() const override { return shared_->has_labels(); }
  std::string name() const override { return shared_->name(); }
  bool next(Sample& sample) override { return shared_->next(sample); }
  void rewind() override { shared_->rewind(); }

 private:
  std::shared_ptr<SampleSource> shared_;
};

}  // namespace

Progress progress_of(const py::object& callable) {
  std::shared_ptr<const void> kept = keep_alive(callable);
  return [kept = std::move(kept)](std::string_view stage, std::size_t done, std::size_t total) {
    const py::gil_scoped_acquire gil;
    check_signals();
    const py::handle call(static_cast<PyObject*>(const_cast<void*>(kept.get())));
    if (!call.is_none()) call(std::string(stage), done, total);
  };
}

SampleData sample_data(py::object make_iterator, std::string name) {
  const std::shared_ptr<const void> maker = keep_alive(std::move(make_iterator));
  auto spool = std::make_shared<std::shared_ptr<SampleSource>>();
  return SampleData([maker, name, spool](const Graph& graph, const DatasetOptions& options) {
    if (!*spool) {
      const py::gil_scoped_acquire gil;
      const auto function = py::reinterpret_borrow<py::object>(
          py::handle(static_cast<PyObject*>(const_cast<void*>(maker.get()))));
      std::vector<DatasetInput> inputs = dataset_inputs(graph);
      *spool = std::make_shared<SpooledSamples>(
          std::make_unique<PythonSamples>(function, name, inputs, options), inputs);
    }
    return std::make_unique<SharedSamples>(*spool);
  });
}

QuantizeJob job_of(const ModelData& model, const SampleData& calibration,
                   const std::optional<SampleData>& evaluation, const Recipe& recipe,
                   unsigned threads, const py::object& progress) {
  QuantizeJob job;
  job.model = model;
  job.calibration_data = calibration;
  job.evaluation_data = evaluation;
  job.recipe = recipe;
  job.threads = threads;
  job.progress = progress_of(progress);
  job.target = find_target(recipe.target).abilities();
  return job;
}

}  // namespace waveq::python
