#include "join_sums.h"

#include <algorithm>
#include <optional>

#include "lowering.h"

namespace waveq {

namespace {

/// W.x + bias, W [O,C,1] or [O,C,1,1], read by one node alone.
struct Pointwise {
  NodeId node;
  ValueId x, weights, bias;  ///< bias: invalid for none
};

bool all_are(const Node& node, const char* name, std::int64_t wanted) {
  return std::ranges::all_of(node.attrs.get_ints(name, {}),
                             [&](std::int64_t v) { return v == wanted; });
}

std::optional<Pointwise> pointwise_at(const Graph& graph, ValueId id) {
  const NodeId producer = graph.value(id).producer;
  if (!producer.valid() || graph.use_count(id) != 1 || graph.is_output(id)) return std::nullopt;
  const Node& node = graph.node(producer);
  if (node.op != "Conv" || graph.is_constant(node.inputs[0]) || !graph.is_constant(node.inputs[1]))
    return std::nullopt;
  const ValueId bias = node.inputs.size() > 2 ? node.inputs[2] : ValueId{};
  if (bias.valid() && !graph.is_constant(bias)) return std::nullopt;
  const Shape& w = graph.value(node.inputs[1]).type.shape;
  const bool is_point = std::all_of(w.begin() + 2, w.end(), [](auto d) { return d == 1; });
  if (!is_point || node.attrs.get_int("group", 1) != 1 || !all_are(node, "strides", 1) ||
      !all_are(node, "pads", 0))
    return std::nullopt;
  return Pointwise{producer, node.inputs[0], node.inputs[1], bias};
}

/// The tensor as an operand of the joined convolution: signed, or clipped at zero by a requant that
/// nothing else reads and that may put the clip at the lowest code.
bool can_join(const Graph& graph, ValueId id) {
  const NodeId producer = graph.value(id).producer;
  if (!producer.valid()) return true;
  const std::string& op = graph.node(producer).op;
  return op != "Clip" && (op != "Relu" || (graph.use_count(id) == 1 && !graph.is_output(id)));
}

struct Operand {
  ValueId x;
  Tensor weights;  ///< [O,C,1...]
};

Tensor identity(std::int64_t channels, std::size_t rank) {
  Shape shape{channels, channels};
  shape.resize(rank, 1);
  Tensor unit(DType::f32, shape);
  for (std::int64_t c = 0; c < channels; ++c)
    unit.as<float>()[static_cast<std::size_t>(c * channels + c)] = 1.0F;
  return unit;
}

/// [W V]: the filters of both, behind each other.
Tensor side_by_side(const Tensor& w, const Tensor& v) {
  Shape shape = w.shape();
  shape[1] += v.shape()[1];
  Tensor out(DType::f32, shape);
  auto to = out.as<float>().begin();
  for (std::int64_t row = 0; row < shape[0]; ++row)
    for (const Tensor* part : {&w, &v}) {
      const auto each = static_cast<std::size_t>(part->shape()[1]);
      const auto filter = part->as<float>().subspan(static_cast<std::size_t>(row) * each, each);
      to = std::ranges::copy(filter, to).out;
    }
  return out;
}

class Joiner {
 public:
  explicit Joiner(Graph graph) : graph_(std::move(graph)) {}

  Graph run() {
    for (NodeId id : graph_.topological_order()) {
      const Node& sum = graph_.node(id);
      if (sum.op == "Add" && !graph_.is_output(sum.outputs.front())) join(id);
    }
    graph_.remove_dead_nodes();
    graph_.compact();
    return std::move(graph_);
  }

 private:
  void join(NodeId id) {
    const Node& sum = graph_.node(id);
    const ValueId a = sum.inputs[0], b = sum.inputs[1], y = sum.outputs.front();
    if (graph_.is_constant(a) || graph_.is_constant(b) ||
        graph_.value(a).type.shape != graph_.value(b).type.shape)
      return;
    std::optional<Pointwise> first = pointwise_at(graph_, a), second = pointwise_at(graph_, b);
    if (!first) std::swap(first, second);
    if (!first) return;
    const Tensor& w = graph_.constant(first->weights);
    const ValueId z = second ? second->x : (graph_.value(a).producer == first->node ? b : a);
    if (first->x == z || !can_join(graph_, first->x) || !can_join(graph_, z)) return;
    if (!second && 2 * w.shape()[0] > w.shape()[1]) return;
    const Tensor v =
        second ? graph_.constant(second->weights) : identity(w.shape()[0], w.shape().size());
    const std::string name = graph_.value(y).name;
    const ValueId joined = emit(sum, {first->x, z}, side_by_side(w, v), bias_of(*first, second));
    graph_.replace_uses(y, joined);
    graph_.remove_node(id);
    graph_.rename(y, name + "_as_sum");
    graph_.rename(joined, name);
  }

  std::optional<Tensor> bias_of(const Pointwise& a, const std::optional<Pointwise>& b) const {
    const ValueId second = b ? b->bias : ValueId{};
    if (!a.bias.valid() && !second.valid()) return std::nullopt;
    if (!a.bias.valid() || !second.valid())
      return graph_.constant(a.bias.valid() ? a.bias : second);
    Tensor sum = graph_.constant(a.bias);
    const auto other = graph_.constant(second).as<float>();
    for (std::size_t c = 0; c < other.size(); ++c) sum.as<float>()[c] += other[c];
    return sum;
  }

  ValueId emit(const Node& sum, std::vector<ValueId> operands, Tensor weights,
               std::optional<Tensor> bias) {
    const std::string origin = sum.origin.empty() ? sum.name : sum.origin;
    const std::vector<std::int64_t> ones(weights.shape().size() - 2, 1);
    Attrs axis, attrs;
    axis.set("axis", std::int64_t{1});
    attrs.set("dilations", ones);
    attrs.set("group", std::int64_t{1});
    attrs.set("kernel_shape", ones);
    attrs.set("pads", std::vector<std::int64_t>(2 * ones.size(), 0));
    attrs.set("strides", ones);
    const ValueId both =
        graph_.emit("Concat", sum.name + "_operands", std::move(operands), axis, origin);
    std::vector<ValueId> inputs{both, graph_.add_constant(sum.name + "_weights", weights)};
    if (bias) inputs.push_back(graph_.add_constant(sum.name + "_bias", *bias));
    return graph_.emit("Conv", sum.name + "_joined", inputs, attrs, origin);
  }

  Graph graph_;
};

}  // namespace

Graph join_sums(const Graph& canonical) { return Joiner(canonical).run(); }

bool keeps_own_scales(const Graph& graph, const Node& node) {
  if (node.op != "Concat" || node.attrs.get_int("axis", 0) != 1 ||
      graph.is_output(node.outputs.front()) || graph.use_count(node.outputs.front()) == 0)
    return false;
  return std::ranges::none_of(node.inputs, [&](ValueId in) { return graph.is_constant(in); }) &&
         std::ranges::all_of(graph.value(node.outputs.front()).uses, [&](NodeId user) {
           const Node& conv = graph.node(user);
           return conv.op == "Conv" && conv.attrs.get_int("group", 1) == 1 &&
                  folds_zero_point(graph, conv);
         });
}

}  // namespace waveq
