#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "waveq/calibration/dataset.h"
#include "waveq/integerize/pipeline.h"

namespace waveq::python {

/// Runs Python's signal handlers, so that Ctrl-C ends long work; the GIL is held.
/// \throws pybind11::error_already_set, e.g. KeyboardInterrupt.
void check_signals();

/// A reference that may be dropped by any thread, with or without the GIL.
std::shared_ptr<const void> keep_alive(pybind11::object object);

/// A progress function over a Python callable or None; looks for Ctrl-C either way.
Progress progress_of(const pybind11::object& callable);

/// Data from Python: `make_iterator(names, dtypes, shapes, labels)` returns an iterator over
/// (arrays, label) pairs, one a sample, where every array is C-contiguous and of exactly the asked
/// type (waveq/_data.py). Inputs borrow the arrays' memory. What comes is spooled on its way, so a
/// generator will do; all openings of one SampleData share that copy.
SampleData sample_data(pybind11::object make_iterator, std::string name);

/// A job of these parts, for the abilities of the recipe's target.
QuantizeJob job_of(const ModelData& model, const SampleData& calibration,
                   const std::optional<SampleData>& evaluation, const Recipe& recipe,
                   unsigned threads, const pybind11::object& progress);

}  // namespace waveq::python
