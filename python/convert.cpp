#include "convert.h"

#include <pybind11/stl.h>

#include <algorithm>

namespace waveq::python {

namespace py = pybind11;

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return py::dtype("float32");
    case DType::boolean:
      return py::dtype("bool");
    default: {
      const bool is_unsigned = lowest(dtype) == 0;
      return py::dtype((is_unsigned ? "uint" : "int") + std::to_string(8 * size_of(dtype)));
    }
  }
}

py::array to_numpy(Tensor tensor) {
  auto owner = std::make_unique<Tensor>(std::move(tensor));
  const Tensor& t = *owner;
  const std::vector<py::ssize_t> shape(t.shape().begin(), t.shape().end());
  const void* data = t.bytes().data();
  const py::dtype dtype = numpy_dtype(t.dtype());
  const py::capsule base(owner.release(), [](void* p) { delete static_cast<Tensor*>(p); });
  return py::array(dtype, shape, {}, data, base);
}

py::array view(const Tensor& tensor, const py::object& base) {
  const std::vector<py::ssize_t> shape(tensor.shape().begin(), tensor.shape().end());
  py::array array(numpy_dtype(tensor.dtype()), shape, {}, tensor.bytes().data(), base);
  array.attr("setflags")(py::arg("write") = false);
  return array;
}

Tensor float_tensor(const py::array& array) {
  const auto floats = py::array_t<float, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!floats) throw py::error_already_set();
  Tensor t(DType::f32, Shape(floats.shape(), floats.shape() + floats.ndim()));
  std::copy_n(floats.data(), t.size(), t.as<float>().begin());
  return t;
}

py::dict to_dict(const Attrs& attrs) {
  py::dict out;
  for (const auto& [name, attr] : attrs.all())
    out[py::str(name)] = std::visit(
        [](const auto& v) -> py::object {
          if constexpr (std::is_same_v<std::decay_t<decltype(v)>, Tensor>)
            return to_numpy(v);
          else
            return py::cast(v);
        },
        attr);
  return out;
}

}  // namespace waveq::python
