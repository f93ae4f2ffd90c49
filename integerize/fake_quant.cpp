#include "waveq/integerize/fake_quant.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "foreign_quantizers.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/infer.h"

namespace waveq {

std::int64_t TensorGrid::n_levels(bool is_signed) const {
  const std::int64_t n = is_signed ? 2 * std::max(-lo, hi + 1) : hi + 1;
  return std::clamp<std::int64_t>(n, 2, 256);
}

bool TensorGrid::needs_zero_point() const {
  return hi - lo <= 255 && (lo < -128 || hi > (lo < 0 ? 127 : 255));
}

namespace {

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

[[noreturn]] void refuse(const Node& node, std::string what, std::string hint) {
  throw Error(ErrorCode::unsupported, place(node), std::move(what), std::move(hint));
}

bool is_foreign(const Node& node) { return node.attrs.has("waveq_domain"); }

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
    if (grid.hi - grid.lo > 255)
      out_.notes.push_back(
          fmt::format("'{}' has {} levels: 256 over the same range", name, grid.hi - grid.lo + 1));
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
  out.weights = spell_quantizers(graph);
  const auto rounds = [&](NodeId id) { return graph.node(id).op == "DequantizeLinear"; };
  const std::vector<NodeId> nodes = graph.nodes();
  if (std::ranges::none_of(nodes, rounds)) return out;
  out.reference = graph;
  Taker(graph, out).run();
  return out;
}

}  // namespace waveq
