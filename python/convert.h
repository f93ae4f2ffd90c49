#pragma once

#include <pybind11/numpy.h>

#include "waveq/graph/graph.h"

namespace waveq::python {

/// NumPy's dtype for ours.
pybind11::dtype numpy_dtype(DType dtype);
/// An array that owns the tensor's elements: nothing is copied.
pybind11::array to_numpy(Tensor tensor);
/// A read-only array over memory that `base` keeps alive.
pybind11::array view(const Tensor& tensor, const pybind11::object& base);
/// A float32 copy of any real array, as a tensor of its shape.
Tensor float_tensor(const pybind11::array& array);
/// Attributes as Python objects; tensors as arrays.
pybind11::dict to_dict(const Attrs& attrs);

}  // namespace waveq::python
