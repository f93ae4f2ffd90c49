#include "waveq/integerize/sweep.h"

#include <pybind11/stl.h>

#include "bindings.h"
#include "samples.h"

namespace waveq::python {

namespace py = pybind11;
using namespace py::literals;

namespace {

py::dict accuracy_dict(const Accuracy& a) {
  return py::dict("output_sqnr_db"_a = a.output_sqnr_db, "median_sqnr_db"_a = a.median_sqnr_db,
                  "trimmed_sqnr_db"_a = a.trimmed_sqnr_db, "agreement"_a = a.agreement,
                  "top1"_a = a.integer_top1);
}

py::dict cost_dict(const TensorCost& c) {
  return py::dict("tensor"_a = c.tensor, "made_by"_a = c.made_by, "scale"_a = c.scale,
                  "n_levels"_a = c.levels, "alone"_a = accuracy_dict(c.alone));
}

py::dict remedy_dict(const Remedy& r) {
  return py::dict("tensor"_a = r.tensor, "change"_a = r.change, "gain_db"_a = r.gain_db,
                  "gains_db"_a = r.gains_db, "agreement_change"_a = r.agreement_change,
                  "recommended"_a = r.recommended, "refused"_a = r.refused);
}

py::dict sweep_model(const ModelData& model, const SampleData& calibration,
                     const std::optional<SampleData>& evaluation, const Recipe& recipe,
                     const SweepOptions& options, unsigned threads, const py::object& progress) {
  const QuantizeJob job = job_of(model, calibration, evaluation, recipe, threads, progress);
  const SweepResult result = without_gil([&] { return sweep(job, options); });
  return py::dict(
      "integer"_a = accuracy_dict(result.integer), "tensors"_a = list_of(result.costs, cost_dict),
      "remedies"_a = list_of(result.remedies, remedy_dict), "recommended"_a = result.changes,
      "recommended_gain_db"_a = result.best_gain_db, "recipe"_a = result.best,
      "samples"_a = result.samples, "repeats"_a = result.repeats,
      "data"_a = result.measured_on_calibration_data ? "calibration" : "evaluation");
}

}  // namespace

void bind_sweep(py::module_& m) {
  m.def("sweep",
        [](const ModelData& model, const SampleData& calibration,
           const std::optional<SampleData>& evaluation, const Recipe& recipe, std::size_t offenders,
           std::size_t samples, std::size_t repeats, unsigned threads, const py::object& progress) {
          return sweep_model(model, calibration, evaluation, recipe, {offenders, samples, repeats},
                             threads, progress);
        });
}

}  // namespace waveq::python
