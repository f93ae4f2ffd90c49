#pragma once

#include <pybind11/pybind11.h>

namespace waveq::python {

/// Work that does not touch Python objects.
template <class F>
auto without_gil(F&& f) {
  const pybind11::gil_scoped_release released;
  return f();
}

/// What f makes of each item, as a list.
template <class Items, class F>
pybind11::list list_of(const Items& items, F f) {
  pybind11::list out;
  for (const auto& item : items) out.append(f(item));
  return out;
}

/// Networks: reading, canonical form, evaluation, proof.
void bind_network(pybind11::module_& m);
/// Calibration tables and calibrate; after networks and samples.
void bind_table(pybind11::module_& m);
/// quantize and its result; after what it takes.
void bind_result(pybind11::module_& m);
/// verify, compare, lint and the targets they know.
void bind_checks(pybind11::module_& m);
/// sweep; after the types it takes.
void bind_sweep(pybind11::module_& m);

}  // namespace waveq::python
