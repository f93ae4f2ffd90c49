#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings.h"
#include "network.h"
#include "samples.h"
#include "waveq/waveq.h"

namespace waveq::python {

namespace py = pybind11;

namespace {

CalibrationTable calibrate_network(const Network& net, const SampleData& data, const Recipe& recipe,
                                   unsigned threads, const py::object& progress) {
  CalibrateOptions options;
  options.threads = static_cast<int>(threads);
  options.observer = parse_observer(recipe.observer);
  options.quant = QuantSpec{recipe.activation_levels, Signedness::automatic};
  const Progress report = progress_of(progress);
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    report("calibrate", done, total);
  };
  return without_gil([&] {
    const auto source = data.open(net.graph);
    return calibrate(net.graph, *source, options);
  });
}

}  // namespace

void bind_table(py::module_& m) {
  py::class_<CalibrationTable>(m, "CalibrationTable")
      .def_readonly("samples", &CalibrationTable::samples)
      .def_readwrite("fingerprint", &CalibrationTable::fingerprint)
      .def_readonly("equalization", &CalibrationTable::equalization)
      .def("names",
           [](const CalibrationTable& t) {
             std::vector<std::string> names;
             for (const auto& [name, tensor] : t.tensors) names.push_back(name);
             return names;
           })
      .def("range",
           [](const CalibrationTable& t, const std::string& name) {
             const Range r = t.range(name);
             return std::make_pair(r.lo, r.hi);
           })
      .def("pinned",
           [](const CalibrationTable& t, const std::string& name) {
             const TensorCalibration* found = t.find(name);
             return found && found->pinned;
           })
      .def("pin",
           [](CalibrationTable& t, const std::string& name, double lo, double hi) {
             const auto it = t.tensors.find(name);
             if (it == t.tensors.end())
               throw Error(ErrorCode::data, name, "is no tensor of the calibration table");
             if (!(lo <= hi))
               throw Error(ErrorCode::invalid_argument, name, "a range goes from low to high");
             it->second.range = {lo, hi};
             it->second.pinned = true;
           })
      .def("to_text", &CalibrationTable::to_text)
      .def_static("from_text", &CalibrationTable::from_text)
      .def_static("load", &CalibrationTable::load)
      .def("save", &CalibrationTable::save)
      .def("copy", [](const CalibrationTable& t) { return t; })
      .def("merge",
           [](const CalibrationTable& a, const CalibrationTable& b) { return merge(a, b); })
      .def("__eq__", [](const CalibrationTable& a, const CalibrationTable& b) { return a == b; });
  m.def("calibrate", &calibrate_network);
}

}  // namespace waveq::python
