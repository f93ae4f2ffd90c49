#include "waveq/integerize/fake_quant.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "waveq/graph/executor.h"
#include "waveq/graph/infer.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

std::int64_t TensorGrid::n_levels(bool is_signed) const {
  const std::int64_t n = is_signed ? 2 * std::max(-lo, hi + 1) : hi + 1;
  return std::clamp<std::int64_t>(n, 2, 256);
}

namespace {

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

[[noreturn]] void refuse(const Node& node, std::string what, std::string hint) {
  throw Error(ErrorCode::unsupported, place(node), std::move(what), std::move(hint));
}

bool is_foreign(const Node& node) { return node.attrs.has("waveq_domain"); }

// ---- QONNX's Quant in standard operators.

/// Contents of a parameter of a Quant.
std::vector<double> parameter(const Graph& graph, const Node& node, std::size_t i,
                              const char* name) {
  if (i >= node.inputs.size() || !graph.is_constant(node.inputs[i]))
    refuse(node, fmt::format("its {} is computed at run time", name),
           "export with fixed quantizer parameters");
  return to_double(graph.constant(node.inputs[i]));
}

struct QuantNode {
  std::vector<double> scale;
  std::int64_t zero_point = 0, lo = -128, hi = 127;
  DType dtype = DType::i8;
};

QuantNode read_quant(const Graph& graph, const Node& node) {
  QuantNode q;
  q.scale = parameter(graph, node, 1, "scale");
  const std::vector<double> zero = parameter(graph, node, 2, "zero point"),
                            bits = parameter(graph, node, 3, "bit width");
  const std::string rounding = node.attrs.get_string("rounding_mode", "ROUND");
  if (rounding != "ROUND")
    refuse(node, fmt::format("rounds by {}", rounding),
           "waveq rounds to nearest: train with ROUND");
  if (bits.size() != 1 || zero.empty() ||
      std::ranges::any_of(zero, [&](double z) { return z != zero.front(); }) ||
      std::floor(zero.front()) != zero.front())
    refuse(node, "its bit width or zero point differs between channels or is no integer",
           "use one for the tensor");
  const double b = bits.front();
  if (std::floor(b) != b || b < 2 || b > 16)
    refuse(node, fmt::format("has {} bits", b), "2 to 16 are possible");
  const bool is_signed = node.attrs.get_int("signed", 1) != 0;
  const std::int64_t narrow = node.attrs.get_int("narrow", 0) != 0 ? 1 : 0;
  const std::int64_t levels = std::int64_t{1} << static_cast<int>(b);
  q.lo = is_signed ? -levels / 2 + narrow : 0;
  q.hi = is_signed ? levels / 2 - 1 : levels - 1 - narrow;
  q.zero_point = static_cast<std::int64_t>(zero.front());
  q.dtype = b > 8 ? (is_signed ? DType::i16 : DType::u16) : (is_signed ? DType::i8 : DType::u8);
  if (q.zero_point < lowest(q.dtype) || q.zero_point > highest(q.dtype))
    refuse(node, fmt::format("its zero point {} is outside its grid", q.zero_point),
           "use one inside");
  return q;
}

/// Axis along which the scales [1,..,C,..,1] differ, counted from the end (they broadcast as NumPy
/// does): -1 is the last; 0 for one scale.
std::int64_t scale_axis(const Node& node, const Shape& shape) {
  const auto wide = [](std::int64_t d) { return d != 1; };
  if (std::ranges::count_if(shape, wide) > 1)
    refuse(node, fmt::format("its scales {} differ along several axes", to_string(shape)),
           "use one scale for a tensor, or for each channel");
  const auto it = std::ranges::find_if(shape, wide);
  return it - shape.end();
}

/// Quant -> QuantizeLinear, Clip where the type holds more, DequantizeLinear.
void spell_quant(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const QuantNode q = read_quant(graph, node);
  const std::int64_t axis = scale_axis(node, graph.constant(node.inputs[1]).shape());
  const Shape shape = axis == 0 ? Shape{} : Shape{static_cast<std::int64_t>(q.scale.size())};
  const auto constant = [&](const char* what, Tensor t) {
    return graph.add_constant(fmt::format("{}_{}", node.name, what), std::move(t));
  };
  const auto integer = [&](std::int64_t v, const Shape& s) {
    Tensor t(DType::i64, s);
    std::ranges::fill(t.as<std::int64_t>(), v);
    return cast(t, q.dtype);
  };
  std::vector<float> scales(q.scale.begin(), q.scale.end());
  if (axis == 0) scales.resize(1);
  const ValueId scale = constant("scale", Tensor::from<float>(shape, scales));
  const ValueId zero = constant("zero_point", integer(q.zero_point, shape));
  const auto append = [&](const char* op, std::vector<ValueId> inputs, ValueId y) {
    Node step;
    step.op = op;
    step.name = fmt::format("{}_{}", node.name, op);
    step.origin = node.origin;
    step.inputs = std::move(inputs);
    step.outputs = {y};
    if (axis != 0 && step.op != "Clip") step.attrs.set("axis", axis);
    graph.add_node(std::move(step));
    return y;
  };
  const auto fresh = [&] { return graph.add_value(node.name + "_codes"); };
  ValueId codes = append("QuantizeLinear", {node.inputs[0], scale, zero}, fresh());
  if (q.lo != lowest(q.dtype) || q.hi != highest(q.dtype)) {
    const ValueId lo = constant("lo", integer(q.lo, {})), hi = constant("hi", integer(q.hi, {}));
    codes = append("Clip", {codes, lo, hi}, fresh());
  }
  const std::string name = graph.value(node.outputs[0]).name;
  const ValueId y = append("DequantizeLinear", {codes, scale, zero}, graph.add_value(name + "_dq"));
  graph.replace_uses(node.outputs[0], y);
  std::string old = name + "_quant";
  while (graph.find_value(old)) old += "_";
  graph.rename(node.outputs[0], old);
  graph.rename(y, name);
  graph.remove_node(id);
}

void spell_qonnx(Graph& graph) {
  bool any = false;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (!is_foreign(node)) continue;
    if (node.op == "BipolarQuant" || node.op == "Trunc")
      refuse(node, "has no integer form in waveq",
             node.op == "Trunc" ? "requantize with Quant instead"
                                : "use Quant with 2 bits, narrow = 1");
    if (node.op != kQonnxQuant) continue;
    spell_quant(graph, id);
    any = true;
  }
  if (!any) return;
  graph.compact();
  infer_types(graph);
}

// ---- Taking roundings out.

/// QuantizeLinear, or nothing, with Clip between it and a DequantizeLinear.
struct Rounding {
  const Node* quantize = nullptr;
  std::int64_t lo = 0, hi = 0;  ///< codes that pass
};

class Taker {
 public:
  Taker(Graph& graph, FakeQuantization& out) : graph_(graph), out_(out) {}

  void run() {
    for (NodeId id : graph_.topological_order())
      if (graph_.node(id).op == "DequantizeLinear" && !is_foreign(graph_.node(id))) take(id);
    graph_.remove_dead_nodes();
    graph_.compact();
    for (const auto& [from, to] : outputs_) {
      const auto id = graph_.find_value(from);
      WAVEQ_CHECK(id.has_value());
      graph_.rename(*id, to);
      if (auto pinned = out_.tensors.extract(from)) {
        pinned.key() = to;
        out_.tensors.insert(std::move(pinned));
      }
    }
    infer_types(graph_);
  }

 private:
  const Node* producer(ValueId id) const {
    const NodeId p = graph_.value(id).producer;
    return p.valid() ? &graph_.node(p) : nullptr;
  }
  bool fixed(const Node& node) const {
    return node.inputs.size() > 1 && graph_.is_constant(node.inputs[1]) &&
           (node.inputs.size() < 3 || !node.inputs[2].valid() ||
            graph_.is_constant(node.inputs[2]));
  }
  const Tensor* optional_constant(const Node& node, std::size_t i) const {
    return i < node.inputs.size() && graph_.is_constant(node.inputs[i])
               ? &graph_.constant(node.inputs[i])
               : nullptr;
  }

  /// The tensor if it is known: a constant, or such roundings and moves of one.
  std::optional<Tensor> known(ValueId id) const {
    if (graph_.is_constant(id)) return graph_.constant(id);
    const Node* node = producer(id);
    if (!node || is_foreign(*node) || node->outputs.size() != 1) return std::nullopt;
    const OpDef* op = find_op(node->op);
    const bool rounds = node->op == "QuantizeLinear" || node->op == "DequantizeLinear" ||
                        node->op == "Clip" || node->op == "Cast";
    if (!op || !(rounds || op->moves_data)) return std::nullopt;
    std::vector<std::optional<Tensor>> held;
    for (ValueId in : node->inputs) {
      held.push_back(in.valid() ? known(in) : std::nullopt);
      if (in.valid() && !held.back()) return std::nullopt;
    }
    std::vector<const Tensor*> inputs;
    for (const auto& t : held) inputs.push_back(t ? &*t : nullptr);
    return evaluate_node(graph_, *node, inputs).front();
  }

  std::optional<Rounding> rounding_before(const Node& dequantize) const {
    Rounding r;
    const Node* node = producer(dequantize.inputs[0]);
    if (!node) return std::nullopt;
    const DType dtype = graph_.value(dequantize.inputs[0]).type.dtype;
    if (!is_integer(dtype)) return std::nullopt;
    r.lo = lowest(dtype);
    r.hi = highest(dtype);
    if (node->op == "Clip") {
      for (std::size_t i : {std::size_t{1}, std::size_t{2}}) {
        const Tensor* bound = optional_constant(*node, i);
        if (!bound && i < node->inputs.size() && node->inputs[i].valid()) return std::nullopt;
        if (bound) (i == 1 ? r.lo : r.hi) = to_int64(*bound).front();
      }
      node = producer(node->inputs[0]);
    }
    if (!node || node->op != "QuantizeLinear" || !fixed(*node)) return std::nullopt;
    r.quantize = node;
    return r;
  }

  bool same_grid(const Node& quantize, const Node& dequantize) const {
    if (!(graph_.constant(quantize.inputs[1]) == graph_.constant(dequantize.inputs[1])))
      return false;
    return zero_points(quantize) == zero_points(dequantize);
  }
  std::vector<std::int64_t> zero_points(const Node& node) const {
    if (const Tensor* t = optional_constant(node, 2)) return to_int64(*t);
    return std::vector<std::int64_t>(
        static_cast<std::size_t>(graph_.constant(node.inputs[1]).size()), 0);
  }

  void take(NodeId id) {
    const Node node = graph_.node(id);
    if (!fixed(node)) return;
    const ValueId y = node.outputs[0];
    if (const std::optional<Tensor> value = known(y)) {
      graph_.set_constant(y, *value);
      graph_.remove_node(id);
      out_.weights = true;
      return;
    }
    const std::optional<Rounding> r = rounding_before(node);
    if (!r || !same_grid(*r->quantize, node)) return;
    const ValueId x = r->quantize->inputs[0];
    pin(x, node, *r);
    if (graph_.is_output(y)) {
      // An output keeps its name; an input that is rounded and handed out keeps its own.
      if (!producer(x) || graph_.is_output(x)) return;
      outputs_[graph_.value(x).name] = graph_.value(y).name;
    }
    graph_.replace_uses(y, x);
  }

  void pin(ValueId x, const Node& node, const Rounding& r) {
    const std::string& name = graph_.value(x).name;
    const Tensor& scale = graph_.constant(node.inputs[1]);
    if (scale.size() != 1) {
      out_.notes.push_back(
          fmt::format("'{}' has {} scales; activations have one: calibrated", name, scale.size()));
      return;
    }
    const std::int64_t zero = zero_points(node).front();
    TensorGrid grid{static_cast<double>(scale.as<float>()[0]),
                    std::min<std::int64_t>(r.lo - zero, 0), std::max<std::int64_t>(r.hi - zero, 0)};
    if (!(grid.scale > 0) || !std::isfinite(grid.scale))
      refuse(node, fmt::format("its scale is {}", grid.scale), "export the model again");
    if (grid.lo < -128 || grid.hi > (grid.lo < 0 ? 127 : 255))
      out_.notes.push_back(
          fmt::format("'{}' is asymmetric ({} to {} steps of {:.4g}): the smallest symmetric grid "
                      "that covers it",
                      name, grid.lo, grid.hi, grid.scale));
    const auto [it, fresh] = out_.tensors.emplace(name, grid);
    if (fresh || it->second == grid) return;
    out_.notes.push_back(fmt::format("'{}' is rounded to two grids: the wider one", name));
    const auto width = [](const TensorGrid& g) { return g.range().hi - g.range().lo; };
    if (width(grid) > width(it->second)) it->second = grid;
  }

  Graph& graph_;
  FakeQuantization& out_;
  std::map<std::string, std::string> outputs_;  ///< new names of tensors that became outputs
};

}  // namespace

FakeQuantization take_out_fake_quantization(Graph& graph) {
  FakeQuantization out;
  spell_qonnx(graph);
  const auto rounds = [&](NodeId id) { return graph.node(id).op == "DequantizeLinear"; };
  const std::vector<NodeId> nodes = graph.nodes();
  if (std::ranges::none_of(nodes, rounds)) return out;
  out.reference = graph;
  Taker(graph, out).run();
  return out;
}

}  // namespace waveq
