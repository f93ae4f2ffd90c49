#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings.h"
#include "convert.h"
#include "network.h"
#include "samples.h"
#include "waveq/waveq.h"

namespace waveq::python {

namespace py = pybind11;
namespace fs = std::filesystem;
using namespace py::literals;

namespace {

/// A finished quantization with the job it came from, which the folder's manifest names.
struct Result {
  QuantizeJob job;
  QuantizeResult found;
};

using Table = std::optional<std::variant<fs::path, CalibrationTable>>;

std::shared_ptr<Result> quantize_model(const ModelData& model, const SampleData& calibration,
                                       const std::optional<SampleData>& evaluation,
                                       const Table& table, const Recipe& recipe, unsigned threads,
                                       const py::object& progress) {
  auto result = std::make_shared<Result>();
  QuantizeJob& job = result->job;
  job = job_of(model, calibration, evaluation, recipe, threads, progress);
  job.calibration_table = table;
  without_gil([&] { result->found = quantize(job); });
  job.progress = {};
  return result;
}

py::dict accuracy_dict(const Result& r) {
  const Accuracy& a = r.found.accuracy;
  return py::dict("metric"_a = a.metric, "float"_a = a.float_score ? a.float_score : a.float_top1,
                  "integer"_a = a.integer_score ? a.integer_score : a.integer_top1,
                  "agreement"_a = a.agreement, "samples"_a = a.samples,
                  "output_sqnr_db"_a = a.output_sqnr_db, "median_sqnr_db"_a = a.median_sqnr_db,
                  "trimmed_sqnr_db"_a = a.trimmed_sqnr_db,
                  "data"_a = r.found.evaluated_on_calibration_data ? "calibration" : "evaluation");
}

py::dict golden_dict(const Result& r) {
  const Graph& g = r.found.network.graph;
  py::dict inputs, outputs, activations;
  for (std::size_t i = 0; i < g.inputs().size(); ++i)
    inputs[py::str(g.value(g.inputs()[i]).name)] = to_numpy(r.found.golden.inputs[i]);
  for (std::size_t i = 0; i < g.outputs().size(); ++i)
    outputs[py::str(g.value(g.outputs()[i]).name)] = to_numpy(r.found.golden.outputs[i]);
  for (const auto& [name, tensor] : r.found.golden.activations)
    activations[py::str(name)] = to_numpy(tensor);
  return py::dict("inputs"_a = inputs, "outputs"_a = outputs, "activations"_a = activations);
}

}  // namespace

void bind_result(py::module_& m) {
  py::class_<Result, std::shared_ptr<Result>>(m, "Result")
      .def("accuracy", &accuracy_dict)
      .def("proof", [](const Result& r) { return proof_dict(r.found.proof); })
      .def("report",
           [](const Result& r, bool profile) {
             return report_json(r.found, find_target(r.found.recipe.target),
                                r.job.model.path.filename().string(), {.profile = profile});
           })
      .def("rewrites", [](const Result& r) { return rewrite_dict(r.found.rewrites); })
      .def("network",
           [](const Result& r) {
             return network(r.found.network.graph, true, "the integer network");
           })
      .def("float_network",
           [](const Result& r) { return network(r.found.float_graph, false, "the float network"); })
      .def("calibration", [](const Result& r) { return r.found.calibration; })
      .def("recipe", [](const Result& r) { return r.found.recipe; })
      .def("golden", &golden_dict)
      .def("correspondences",
           [](const Result& r) {
             return list_of(r.found.network.correspondences, [](const Correspondence& c) {
               return py::make_tuple(c.float_value, c.integer_value, c.scale);
             });
           })
      .def("weights",
           [](const Result& r) {
             return list_of(r.found.network.weights, [](const WeightOrigin& w) {
               return py::dict("integer"_a = w.integer_value, "float"_a = w.float_value,
                               "real"_a = to_numpy(w.real), "scale"_a = w.scale, "axis"_a = w.axis,
                               "n_levels"_a = w.n_levels);
             });
           })
      .def("seconds", [](const Result& r) { return r.found.seconds; })
      .def("save", [](const Result& r, const fs::path& dir, bool profile) {
        without_gil([&] { write_folder(r.found, r.job, dir, {.profile = profile}); });
      });
  m.def("quantize", &quantize_model);
}

}  // namespace waveq::python
