#include "waveq/integerize/sweep.h"

#include <pybind11/stl.h>

#include "bindings.h"
#include "samples.h"
#include "waveq/export/target.h"

namespace waveq::python {

namespace py = pybind11;

namespace {

py::dict accuracy_dict(const Accuracy& a) {
  py::dict d;
  d["output_sqnr_db"] = a.output_sqnr_db;
  d["median_sqnr_db"] = a.median_sqnr_db;
  d["trimmed_sqnr_db"] = a.trimmed_sqnr_db;
  d["agreement"] = a.agreement;
  d["top1"] = a.integer_top1;
  return d;
}

py::dict cost_dict(const TensorCost& c) {
  py::dict d;
  d["tensor"] = c.tensor;
  d["made_by"] = c.made_by;
  d["scale"] = c.scale;
  d["n_levels"] = c.levels;
  d["alone"] = accuracy_dict(c.alone);
  return d;
}

py::dict remedy_dict(const Remedy& r) {
  py::dict d;
  d["tensor"] = r.tensor;
  d["change"] = r.change;
  d["gain_db"] = r.gain_db;
  d["gains_db"] = r.gains_db;
  d["agreement_change"] = r.agreement_change;
  d["recommended"] = r.recommended;
  d["refused"] = r.refused;
  return d;
}

py::dict sweep_model(const ModelData& model, const SampleData& calibration,
                     const std::optional<SampleData>& evaluation, const Recipe& recipe,
                     const SweepOptions& options, unsigned threads, const py::object& progress) {
  QuantizeJob job;
  job.model = model;
  job.calibration_data = calibration;
  job.evaluation_data = evaluation;
  job.recipe = recipe;
  job.threads = threads;
  job.progress = progress_of(progress);
  job.target = find_target(recipe.target).abilities();
  const SweepResult result = without_gil([&] { return sweep(job, options); });
  py::list tensors, remedies;
  for (const TensorCost& c : result.costs) tensors.append(cost_dict(c));
  for (const Remedy& r : result.remedies) remedies.append(remedy_dict(r));
  py::dict d;
  d["integer"] = accuracy_dict(result.integer);
  d["tensors"] = tensors;
  d["remedies"] = remedies;
  d["recommended"] = result.changes;
  d["recommended_gain_db"] = result.best_gain_db;
  d["recipe"] = result.best;
  d["samples"] = result.samples;
  d["repeats"] = result.repeats;
  d["data"] = result.measured_on_calibration_data ? "calibration" : "evaluation";
  return d;
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
