#include "waveq/export/vectors.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "vectors_design.h"
#include "waveq/graph/infer.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/op.h"

namespace waveq {

using namespace vectors_detail;

namespace {

/// Whether a value is a graph input seen through data movement: foreign networks carry 8-bit data
/// there.
bool is_network_input(const Graph& graph, ValueId id) {
  while (graph.value(id).producer.valid()) {
    const Node& node = graph.node(graph.value(id).producer);
    const OpDef* op = find_op(node.op);
    if (!op || !(op->moves_data || node.op == "Cast") || node.inputs.empty() ||
        !node.inputs[0].valid())
      return false;
    id = node.inputs[0];
  }
  return graph.value(id).constant == nullptr;
}

/// What the overflow proof knows about a value; nothing where an operator before it is foreign to
/// the proof.
std::optional<Bounds> known_bounds(BoundsAnalysis& bounds, ValueId id) {
  try {
    return bounds.of(id);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::internal) throw;
    return std::nullopt;
  }
}

/// How the device stores a value.
TensorType device_type(BoundsAnalysis& bounds, ValueId id) {
  TensorType type = bounds.graph().value(id).type;
  if (!is_integer(type.dtype)) return type;
  if (size_of(type.dtype) < 4 || !is_network_input(bounds.graph(), id)) return type;
  const auto known = known_bounds(bounds, id);
  if (known && known->hull().lo >= -128 && known->hull().hi <= 127) type.dtype = DType::i8;
  return type;
}

std::vector<Interval> lanes_of(BoundsAnalysis& bounds, ValueId id, const TensorType& type) {
  const auto n = static_cast<std::size_t>(element_count(type.shape));
  if (!is_integer(type.dtype)) return std::vector<Interval>(n);  // design_quant's to say
  if (size_of(type.dtype) <= 2)
    return std::vector<Interval>(n, Interval{lowest(type.dtype), highest(type.dtype)});
  const Bounds known = known_bounds(bounds, id).value_or(Bounds::all(kWideDefault));
  const Interval hull = known.hull();
  if (hull.lo < lowest(DType::i32) || hull.hi > highest(DType::i32))
    return std::vector<Interval>(n, kWideDefault);
  std::size_t width = 1;
  for (std::size_t i = 2; i < type.shape.size(); ++i)
    width *= static_cast<std::size_t>(type.shape[i]);
  std::vector<Interval> lanes(n, hull);
  if (known.per_channel() && type.shape.size() >= 2 &&
      static_cast<std::int64_t>(known.channels.size()) == type.shape[1])
    for (std::size_t i = 0; i < n; ++i) lanes[i] = known.of(i / width % known.channels.size());
  return lanes;
}

struct Kernel {
  Graph graph;
  std::vector<InputDomain> domains;
};

/// The node alone. `narrow`: network inputs in the device's types.
Kernel isolate(BoundsAnalysis& bounds, const Node& node, bool narrow) {
  const Graph& source = bounds.graph();
  Kernel kernel;
  Graph& graph = kernel.graph;
  graph.name = source.name;
  graph.opset = source.opset;
  std::map<ValueId, ValueId> made;
  Node copy = node;
  for (ValueId& in : copy.inputs) {
    if (!in.valid()) continue;
    const ValueId from = in;
    const Value& value = source.value(from);
    if (const auto it = made.find(from); it != made.end()) {
      in = it->second;
      continue;
    }
    if (value.constant) {
      in = graph.add_constant(value.name, value.constant);
    } else {
      const TensorType type = narrow ? device_type(bounds, from) : value.type;
      in = graph.add_input(value.name, type);
      graph.set_quant(in, value.quant);
      kernel.domains.push_back({value.name, type, lanes_of(bounds, from, type)});
    }
    made[from] = in;
  }
  for (ValueId& out : copy.outputs)
    if (out.valid()) out = graph.add_value(source.value(out).name);
  if (copy.op == "RequantShift" && !copy.attrs.has("n_levels_out")) {
    // One spelling for all: the dialect's writer knows only this one.
    copy.attrs.set("n_levels_out", copy.attrs.require_int("n_levels"));
    copy.attrs.erase("n_levels");
  }
  const NodeId id = graph.add_node(copy);
  const std::vector<TensorType> types = infer_node(graph, graph.node(id));
  for (std::size_t i = 0; i < copy.outputs.size(); ++i) {
    if (!copy.outputs[i].valid()) continue;
    graph.set_type(copy.outputs[i], types.at(i));
    graph.add_output(copy.outputs[i]);
  }
  return kernel;
}

Kernel isolate(BoundsAnalysis& bounds, const Node& node, const VectorOptions& options) {
  if (!options.narrow) return isolate(bounds, node, false);
  try {
    return isolate(bounds, node, true);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::internal) throw;
    return isolate(bounds, node, false);  // mixed types, which the operator does not take
  }
}

/// Integers everywhere but at Quant's input and Dequant's output.
void require_integers(const Kernel& kernel, const Node& node) {
  for (std::size_t i = 0; i < kernel.graph.value_count(); ++i) {
    const Value& v = kernel.graph.value({static_cast<std::int32_t>(i)});
    const std::string where = fmt::format("{} '{}'", node.op, node.name);
    const bool outer =
        (node.op == "Quant" && !v.producer.valid()) || (node.op == "Dequant" && v.producer.valid());
    if (!is_integer(v.type.dtype) && !(outer && v.type.dtype == DType::f32))
      throw Error(ErrorCode::unsupported, where,
                  fmt::format("'{}' is {}", v.name, to_string(v.type)),
                  "vectors are made for integer kernels");
    if (element_count(v.type.shape) == 0)
      throw Error(ErrorCode::unsupported, where,
                  fmt::format("'{}' is empty: {}", v.name, to_string(v.type)),
                  "there is nothing to test");
  }
  if (kernel.domains.empty() || kernel.graph.outputs().empty())
    throw Error(ErrorCode::unsupported, fmt::format("{} '{}'", node.op, node.name),
                "has no input that varies", "fold it");
}

/// Where a requant would overflow, no kernel is asked to compute.
void keep_requant_safe(Kernel& kernel, const Node& node) {
  const RequantForm form = read_requant(node.attrs);
  const LaneParameters lanes =
      requant_lanes(kernel.graph, kernel.graph.node(kernel.graph.nodes().front()));
  for (std::size_t i = 0; i < kernel.domains[0].lanes.size(); ++i) {
    const IntRange safe = requant_safe_range(form.with(lanes.mul[i], lanes.add[i]));
    Interval& range = kernel.domains[0].lanes[i];
    range = {std::max(range.lo, safe.lo), std::min(range.hi, safe.hi)};
    if (range.lo > range.hi)
      throw Error(ErrorCode::unsupported, fmt::format("RequantShift '{}'", node.name),
                  fmt::format("every input of element {} overflows", i),
                  "use a smaller mul and div");
  }
}

void keep_quant_safe(Kernel& kernel, const Node& node) {
  const std::optional<Interval> safe = quant_domain(node);
  if (!safe)
    throw Error(ErrorCode::unsupported, fmt::format("Quant '{}'", node.name),
                "every input leaves int32", "use a smaller scale or zero_point");
  for (Interval& lane : kernel.domains[0].lanes) lane = *safe;
}

void design_node(Design& d) {
  const std::string& op = d.node().op;
  if (op == "RequantShift") design_requant(d);
  if (op == "IntegerDiv") design_division(d);
  if (op == "Conv" || op == "Gemm" || op == "MatMul") design_accumulator(d);
  if (op == "IntegerMean" || op == "ReduceMean") design_mean(d);
  if (op == "iSoftmax" || op == "ITAMax" || op == "ITAPartialMax") design_rows(d);
  if (op == "iLayerNorm" || op == "iRMSNorm") design_norm(d);
  if (op == "iNoNorm") design_nonorm(d);
  if (op == "Quant") design_quant(d);
}

}  // namespace

std::vector<NodeId> kernel_nodes(const Graph& graph) {
  static const std::set<std::string> kNoKernel = {
      "Cast", "Constant", "ConstantOfShape", "Dropout", "Identity", "Range", "Shape", "Size"};
  std::vector<NodeId> out;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const OpDef* op = find_op(node.op);
    if (op && op->eval && !kNoKernel.contains(node.op)) out.push_back(id);
  }
  return out;
}

KernelVectors kernel_vectors(BoundsAnalysis& bounds, NodeId id, const VectorOptions& options) {
  const Node& node = bounds.graph().node(id);
  Kernel kernel = isolate(bounds, node, options);
  require_integers(kernel, node);
  const bool requant =
      node.op == "RequantShift" &&
      kernel.graph.is_constant(kernel.graph.node(kernel.graph.nodes().front()).inputs.at(1)) &&
      kernel.graph.is_constant(kernel.graph.node(kernel.graph.nodes().front()).inputs.at(2));
  if (node.op == "RequantShift" && !requant)
    throw Error(ErrorCode::unsupported, fmt::format("RequantShift '{}'", node.name),
                "mul or add is not constant");
  if (requant) keep_requant_safe(kernel, node);
  if (node.op == "Quant") keep_quant_safe(kernel, node);
  KernelVectors out;
  out.node = node.name;
  out.op = node.op;
  {
    Design design(kernel.graph, kernel.domains);
    if (options.designed) {
      design_patterns(design);
      design_node(design);
    }
    design_random(design, options, node.name);
    out.cases = std::move(design.cases);
    out.unreached = std::move(design.missing);
  }
  for (const InputDomain& d : kernel.domains) {
    const auto [lo, hi] = d.hull();
    if (d.type.dtype == DType::f32)
      out.inputs.push_back({d.name, d.type, at_ordinal(lo), at_ordinal(hi)});
    else
      out.inputs.push_back({d.name, d.type, static_cast<double>(lo), static_cast<double>(hi)});
  }
  out.graph = std::move(kernel.graph);
  return out;
}

}  // namespace waveq
