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
#include "samples.h"
#include "waveq/waveq.h"

namespace waveq::python {

namespace py = pybind11;
namespace fs = std::filesystem;

namespace {

/// A network with its executor plan made once.
struct Network {
  Graph graph;
  bool integer = false;
  std::string name;  ///< as messages call it
};

std::shared_ptr<Network> network(Graph graph, bool integer, std::string name) {
  return std::make_shared<Network>(Network{std::move(graph), integer, std::move(name)});
}

std::shared_ptr<Network> load(const ModelData& model, const std::map<std::string, Shape>& shapes) {
  return without_gil([&] {
    Graph graph = read_model(model, {.input_shapes = shapes});
    const bool integer = looks_integer(graph);
    if (integer) graph = to_integer_network(graph);
    return network(std::move(graph), integer, model.path.string());
  });
}

py::dict value_dict(const Graph& graph, ValueId id) {
  const Value& v = graph.value(id);
  py::dict d;
  d["name"] = v.name;
  d["dtype"] = v.type.known() ? py::object(numpy_dtype(v.type.dtype)) : py::object(py::none());
  d["shape"] = py::tuple(py::cast(v.type.shape));
  d["scale"] = v.quant ? py::cast(v.quant->scale) : py::object(py::none());
  d["zero_point"] = v.quant ? py::cast(v.quant->zero_point) : py::object(py::none());
  d["lo"] = v.quant ? py::cast(v.quant->lo()) : py::object(py::none());
  d["hi"] = v.quant ? py::cast(v.quant->hi()) : py::object(py::none());
  return d;
}

py::list value_list(const Graph& graph, const std::vector<ValueId>& ids) {
  py::list out;
  for (ValueId id : ids) out.append(value_dict(graph, id));
  return out;
}

std::vector<std::string> names_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> names;
  for (ValueId id : ids) names.push_back(id.valid() ? graph.value(id).name : "");
  return names;
}

py::list node_list(const Graph& graph) {
  py::list out;
  for (NodeId id : graph.topological_order()) {
    const Node& n = graph.node(id);
    py::dict d;
    d["op"] = n.op;
    d["name"] = n.name;
    d["origin"] = n.origin;
    d["inputs"] = names_of(graph, n.inputs);
    d["outputs"] = names_of(graph, n.outputs);
    d["attributes"] = to_dict(n.attrs);
    out.append(d);
  }
  return out;
}

py::dict constants(const std::shared_ptr<Network>& net) {
  py::dict out;
  const py::object base = py::cast(net);
  for (std::size_t i = 0; i < net->graph.value_count(); ++i) {
    const Value& v = net->graph.value({static_cast<std::int32_t>(i)});
    if (v.constant) out[py::str(v.name)] = view(*v.constant, base);
  }
  return out;
}

py::dict arrays_dict(std::vector<std::pair<std::string, Tensor>> arrays) {
  py::dict out;
  for (auto& [name, tensor] : arrays) out[py::str(name)] = to_numpy(std::move(tensor));
  return out;
}

py::dict run(const Network& net, const SampleData& data, bool all, bool wrap,
             const py::object& progress) {
  const Progress report = progress_of(progress);
  return arrays_dict(without_gil([&] {
    const auto source = data.open(net.graph);
    return run_samples(net.graph, *source, all, wrap ? Overflow::wrap : Overflow::error, report);
  }));
}

py::dict proof_dict(const ProofReport& proof) {
  py::list nodes;
  for (const NodeProof& n : proof.nodes) {
    py::dict d;
    d["name"] = n.node;
    d["op"] = n.op;
    d["proven"] = n.proven;
    d["bound"] = n.bound;
    d["headroom_bits"] = n.headroom_bits;
    d["reason"] = n.reason;
    nodes.append(d);
  }
  py::dict out;
  out["overflow_free"] = proof.overflow_free();
  out["unproven"] = proof.unproven;
  out["min_headroom_bits"] = proof.min_headroom_bits;
  out["nodes"] = nodes;
  return out;
}

py::dict rewrite_dict(const RewriteReport& report) {
  py::list applied, refused;
  for (const Application& a : report.applied)
    applied.append(py::make_tuple(a.rule, a.node, a.detail));
  for (const Refusal& r : report.refused) refused.append(py::make_tuple(r.rule, r.node, r.reason));
  py::dict out;
  out["applied"] = applied;
  out["refused"] = refused;
  out["nodes_before"] = report.nodes_before;
  out["nodes_after"] = report.nodes_after;
  return out;
}

py::tuple canonical(const ModelData& model, const Recipe& recipe) {
  RewriteReport report;
  auto net = without_gil(
      [&] { return network(load_canonical(model, recipe, &report), false, model.path.string()); });
  return py::make_tuple(net, rewrite_dict(report));
}

py::list refusals(const Network& net, const std::string& target) {
  py::list out;
  if (net.integer) return out;
  IntegerizeOptions options;
  options.target = find_target(target).abilities();
  for (const NotInteger& r : without_gil([&] { return explain_refusals(net.graph, options); }))
    out.append(py::make_tuple(r.node, r.op, r.reason));
  return out;
}

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
  py::dict d;
  d["nodes"] = done.nodes;
  d["cases"] = done.cases;
  d["skipped"] = skipped;
  return d;
}

std::int64_t total_macs(const Network& net) {
  std::int64_t macs = 0;
  for (NodeId id : net.graph.nodes())
    if (const OpDef* op = find_op(net.graph.node(id).op); op && op->macs)
      macs += op->macs(net.graph, net.graph.node(id));
  return macs;
}

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
  job.model = model;
  job.calibration_data = calibration;
  job.evaluation_data = evaluation;
  job.calibration_table = table;
  job.recipe = recipe;
  job.threads = threads;
  job.progress = progress_of(progress);
  job.target = find_target(recipe.target).abilities();
  without_gil([&] { result->found = quantize(job); });
  job.progress = {};
  return result;
}

py::dict accuracy_dict(const Result& r) {
  const Accuracy& a = r.found.accuracy;
  py::dict out;
  out["metric"] = a.metric;
  out["float"] = a.float_score ? a.float_score : a.float_top1;
  out["integer"] = a.integer_score ? a.integer_score : a.integer_top1;
  out["agreement"] = a.agreement;
  out["samples"] = a.samples;
  out["output_sqnr_db"] = a.output_sqnr_db;
  out["median_sqnr_db"] = a.median_sqnr_db;
  out["trimmed_sqnr_db"] = a.trimmed_sqnr_db;
  out["data"] = r.found.evaluated_on_calibration_data ? "calibration" : "evaluation";
  return out;
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
  py::dict out;
  out["inputs"] = inputs;
  out["outputs"] = outputs;
  out["activations"] = activations;
  return out;
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

void bind_network(py::module_& m) {
  py::class_<Network, std::shared_ptr<Network>>(m, "Network")
      .def_property_readonly("name", [](const Network& n) { return n.graph.name; })
      .def_property_readonly("opset", [](const Network& n) { return n.graph.opset; })
      .def_readonly("integer", &Network::integer)
      .def("inputs", [](const Network& n) { return value_list(n.graph, n.graph.inputs()); })
      .def("outputs", [](const Network& n) { return value_list(n.graph, n.graph.outputs()); })
      .def("value",
           [](const Network& n, const std::string& name) {
             const auto id = n.graph.find_value(name);
             if (!id) throw py::key_error(name);
             return value_dict(n.graph, *id);
           })
      .def("nodes", [](const Network& n) { return node_list(n.graph); })
      .def("constants", &constants)
      .def("set_constant",
           [](Network& n, const std::string& name, const py::array& value) {
             const auto id = n.graph.find_value(name);
             if (!id || !n.graph.is_constant(*id)) throw py::key_error(name);
             Tensor t = float_tensor(value);
             if (t.type() != n.graph.value(*id).type)
               throw Error(ErrorCode::shape, name,
                           "is " + to_string(n.graph.value(*id).type) + ", the array is " +
                               to_string(t.type()));
             n.graph.set_constant(*id, std::move(t));
           })
      .def("copy", [](const Network& n) { return network(n.graph, n.integer, n.name); })
      .def("dump", [](const Network& n) { return dump(n.graph); })
      .def("fingerprint", [](const Network& n) { return fingerprint(n.graph); })
      .def("macs", &total_macs)
      .def("refusals", &refusals)
      .def("prove",
           [](const Network& n) { return proof_dict(without_gil([&] { return prove(n.graph); })); })
      .def("to_bytes", [](const Network& n) {
        return py::bytes(without_gil([&] { return to_onnx_bytes(n.graph); }));
      });
  m.def("load", &load);
  m.def("canonical", &canonical);
  m.def("run", &run);
}

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
             py::list out;
             for (const Correspondence& c : r.found.network.correspondences)
               out.append(py::make_tuple(c.float_value, c.integer_value, c.scale));
             return out;
           })
      .def("weights",
           [](const Result& r) {
             py::list out;
             for (const WeightOrigin& w : r.found.network.weights) {
               py::dict d;
               d["integer"] = w.integer_value;
               d["float"] = w.float_value;
               d["real"] = to_numpy(w.real);
               d["scale"] = w.scale;
               d["axis"] = w.axis;
               d["n_levels"] = w.n_levels;
               out.append(d);
             }
             return out;
           })
      .def("seconds", [](const Result& r) { return r.found.seconds; })
      .def("save", [](const Result& r, const fs::path& dir, bool profile) {
        without_gil([&] { write_folder(r.found, r.job, dir, {.profile = profile}); });
      });
  m.def("quantize", &quantize_model);
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
