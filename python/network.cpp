#include "network.h"

#include <pybind11/stl.h>

#include "bindings.h"
#include "convert.h"
#include "samples.h"
#include "waveq/waveq.h"

namespace waveq::python {

namespace py = pybind11;
using namespace py::literals;

std::shared_ptr<Network> network(Graph graph, bool integer, std::string name) {
  return std::make_shared<Network>(Network{std::move(graph), integer, std::move(name)});
}

py::dict proof_dict(const ProofReport& proof) {
  const auto node_dict = [](const NodeProof& n) {
    return py::dict("name"_a = n.node, "op"_a = n.op, "proven"_a = n.proven, "bound"_a = n.bound,
                    "headroom_bits"_a = n.headroom_bits, "reason"_a = n.reason);
  };
  return py::dict("overflow_free"_a = proof.overflow_free(), "unproven"_a = proof.unproven,
                  "min_headroom_bits"_a = proof.min_headroom_bits,
                  "nodes"_a = list_of(proof.nodes, node_dict));
}

py::dict rewrite_dict(const RewriteReport& report) {
  const auto applied = list_of(report.applied, [](const Application& a) {
    return py::make_tuple(a.rule, a.node, a.detail);
  });
  const auto refused = list_of(
      report.refused, [](const Refusal& r) { return py::make_tuple(r.rule, r.node, r.reason); });
  return py::dict("applied"_a = applied, "refused"_a = refused,
                  "nodes_before"_a = report.nodes_before, "nodes_after"_a = report.nodes_after);
}

namespace {

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
  return py::dict(
      "name"_a = v.name,
      "dtype"_a = v.type.known() ? py::object(numpy_dtype(v.type.dtype)) : py::object(py::none()),
      "shape"_a = py::tuple(py::cast(v.type.shape)),
      "scale"_a = v.quant ? py::cast(v.quant->scale) : py::object(py::none()),
      "zero_point"_a = v.quant ? py::cast(v.quant->zero_point) : py::object(py::none()),
      "lo"_a = v.quant ? py::cast(v.quant->lo()) : py::object(py::none()),
      "hi"_a = v.quant ? py::cast(v.quant->hi()) : py::object(py::none()));
}

py::list value_list(const Graph& graph, const std::vector<ValueId>& ids) {
  return list_of(ids, [&](ValueId id) { return value_dict(graph, id); });
}

std::vector<std::string> names_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> names;
  for (ValueId id : ids) names.push_back(id.valid() ? graph.value(id).name : "");
  return names;
}

py::list node_list(const Graph& graph) {
  return list_of(graph.topological_order(), [&](NodeId id) {
    const Node& n = graph.node(id);
    return py::dict("op"_a = n.op, "name"_a = n.name, "origin"_a = n.origin,
                    "inputs"_a = names_of(graph, n.inputs),
                    "outputs"_a = names_of(graph, n.outputs), "attributes"_a = to_dict(n.attrs));
  });
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

py::tuple canonical(const ModelData& model, const Recipe& recipe) {
  RewriteReport report;
  auto net = without_gil(
      [&] { return network(load_canonical(model, recipe, &report), false, model.path.string()); });
  return py::make_tuple(net, rewrite_dict(report));
}

py::list refusals(const Network& net, const std::string& target) {
  if (net.integer) return py::list();
  IntegerizeOptions options;
  options.target = find_target(target).abilities();
  return list_of(without_gil([&] { return explain_refusals(net.graph, options); }),
                 [](const NotInteger& r) { return py::make_tuple(r.node, r.op, r.reason); });
}

std::int64_t total_macs(const Network& net) {
  std::int64_t macs = 0;
  for (NodeId id : net.graph.nodes())
    if (const OpDef* op = find_op(net.graph.node(id).op); op && op->macs)
      macs += op->macs(net.graph, net.graph.node(id));
  return macs;
}

}  // namespace

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

}  // namespace waveq::python
