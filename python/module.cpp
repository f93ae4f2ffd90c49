// The compiled half of the Python package: handles of graphs, tables and results, and the long
// calls, which run without the GIL. What users see is python/waveq/*.py.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

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

/// Golden vectors for single kernels; what was written, and which nodes have none.
py::dict kernel_vectors_of(const Network& net, const fs::path& model, const fs::path& dir,
                           const VectorFolderOptions& options) {
  if (!net.integer)
    throw Error(ErrorCode::not_integer, net.name, "is not an integer network",
                "quantize it first and give the network of the result");
  const VectorFolderReport done =
      without_gil([&] { return write_vectors(net.graph, model, dir, options); });
  std::vector<std::pair<std::string, std::string>> skipped;
  for (const UnreachedCondition& s : done.skipped) skipped.emplace_back(s.condition, s.why);
  return py::dict("nodes"_a = done.nodes, "cases"_a = done.cases, "skipped"_a = skipped);
}

void bind_error(py::module_& m) {
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      const py::object type = py::module_::import("waveq._error").attr("Error");
      const py::object error =
          type(std::string(to_string(e.code())), e.where(), e.found(), e.hint(), e.context());
      PyErr_SetObject(type.ptr(), error.ptr());
    }
  });
  m.attr("__version__") = kVersion;
}

void bind_recipe(py::module_& m) {
  py::class_<Recipe>(m, "Recipe")
      .def(py::init<>())
      .def_static("from_toml", &parse_recipe, py::arg("text"), py::arg("name") = "recipe")
      .def_static("load", &load_recipe)
      .def("to_toml", &to_toml)
      .def("check", &check_recipe)
      .def_readwrite("target", &Recipe::target)
      .def_readwrite("input_shapes", &Recipe::input_shapes)
      .def_readwrite("passes", &Recipe::passes)
      .def_readwrite("observer", &Recipe::observer)
      .def_readwrite("quantizer", &Recipe::quantizer)
      .def_readwrite("activation_levels", &Recipe::activation_levels)
      .def_readwrite("weight_levels", &Recipe::weight_levels)
      .def_readwrite("per_channel_weights", &Recipe::per_channel_weights)
      .def_readwrite("requant_bits", &Recipe::requant_bits)
      .def_readwrite("max_shift", &Recipe::max_shift)
      .def_readwrite("precision", &Recipe::precision)
      .def_readwrite("weight_levels_of", &Recipe::weight_levels_of)
      .def_readwrite("equalize", &Recipe::equalize)
      .def_readwrite("join_sums", &Recipe::join_sums)
      .def_readwrite("correct_biases", &Recipe::correct_biases)
      .def_readwrite("softmax", &Recipe::softmax)
      .def_readwrite("seed", &Recipe::seed);
}

void bind_data(py::module_& m) {
  py::class_<ModelData>(m, "ModelData")
      .def(py::init<fs::path>())
      .def(py::init([](const py::bytes& onnx, const std::string& name) {
        return ModelData(std::string(onnx), name);
      }))
      .def(py::init([](const Network& network) { return ModelData(network.graph, network.name); }));
  py::class_<SampleData>(m, "SampleData")
      .def(py::init<fs::path>())
      .def(py::init([](py::object make_iterator, std::string name) {
        return sample_data(std::move(make_iterator), std::move(name));
      }));
}

void bind_functions(py::module_& m) {
  m.def("quantize_tensor", [](const py::array& real, double scale, std::int64_t zero_point,
                              std::int64_t lo, std::int64_t hi) {
    const QuantParams params{scale, zero_point, hi - lo + 1, lo < 0};
    return to_numpy(quantize_tensor(float_tensor(real), params));
  });
  m.def("vectors", [](const Network& net, const fs::path& model, const fs::path& dir,
                      const std::string& node, bool deeploy, bool c_header, std::uint64_t seed,
                      std::size_t random, const std::string& target) {
    VectorFolderOptions options{.node = node, .deeploy = deeploy, .c_header = c_header};
    options.vectors.seed = seed;
    options.vectors.random = random;
    options.target = target;
    return kernel_vectors_of(net, model, dir, options);
  });
  m.def("set_log_level", [](const std::string& level) {
    spdlog::default_logger()->set_level(spdlog::level::from_str(level));
  });
}

}  // namespace

PYBIND11_MODULE(_waveq, m) {
  // Messages go to stderr; a library stays silent unless something deserves attention.
  if (!spdlog::get("waveq")) {
    auto log = spdlog::stderr_logger_mt("waveq");
    log->set_pattern("waveq: %v");
    log->set_level(spdlog::level::warn);
    spdlog::set_default_logger(log);
  }
  bind_error(m);
  bind_recipe(m);
  bind_network(m);
  bind_data(m);
  bind_table(m);
  bind_result(m);
  bind_functions(m);
  bind_checks(m);
  bind_sweep(m);
}

}  // namespace waveq::python
