#pragma once

#include <pybind11/pybind11.h>

namespace waveq::python {

/// Work that does not touch Python objects.
template <class F>
auto without_gil(F&& f) {
  const pybind11::gil_scoped_release released;
  return f();
}

/// verify, compare, lint and the targets they know.
void bind_checks(pybind11::module_& m);
/// sweep; after the types it takes.
void bind_sweep(pybind11::module_& m);

}  // namespace waveq::python
