#include <algorithm>
#include <cmath>

#include "rules/support.h"

namespace waveq::rules {

namespace {

LinearOr refuse(std::string reason) { return {std::nullopt, std::move(reason)}; }

std::string called(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

/// Shape and place of weights and channels; bias and uses are checked by the caller.
LinearOr describe(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  Linear linear;
  linear.node = id;
  const Shape& out = shape_of(graph, node.outputs.front());
  if (node.op == "MatMul") {
    const bool right = graph.is_constant(node.inputs[1]);
    if (!right && !graph.is_constant(node.inputs[0])) return {};
    linear.weight_slot = right ? 1 : 0;
    linear.weight = node.inputs[linear.weight_slot];
    const Shape& w = shape_of(graph, linear.weight);
    const Shape& x = shape_of(graph, node.inputs[1 - linear.weight_slot]);
    if (w.size() < 2 || x.size() < 2)
      return refuse(fmt::format("{} multiplies a vector", called(node)));
    if (!right && w.size() != 2)
      return refuse(fmt::format("the left weights of {} are batched", called(node)));
    linear.axis = out.size() - (right ? 1 : 2);
    linear.channels = out[linear.axis];
    return {linear, {}};
  }
  if (!graph.is_constant(node.inputs[1]))
    return refuse(fmt::format("the weights of {} are not constant", called(node)));
  linear.weight = node.inputs[1];
  if (node.inputs.size() > 2) linear.bias = node.inputs[2];
  if (out.size() < 2) return refuse(fmt::format("{} has no channel axis", called(node)));
  linear.channels = out[1];
  if (linear.bias.valid()) {
    if (!graph.is_constant(linear.bias))
      return refuse(fmt::format("the bias of {} is not constant", called(node)));
    const Shape as_bias = node.op == "Gemm" ? out : Shape{linear.channels};
    if (!along_axis(graph.constant(linear.bias), as_bias, as_bias.size() - 1))
      return refuse(fmt::format("the bias of {} is not one per channel", called(node)));
  }
  return {linear, {}};
}

bool is_linear(const std::string& op) {
  return op == "Conv" || op == "ConvTranspose" || op == "Gemm" || op == "MatMul";
}

/// Channel of the output that the i-th weight belongs to.
std::function<std::int64_t(std::int64_t)> channel_of(const Graph& graph, const Linear& linear) {
  const Node& node = graph.node(linear.node);
  const Shape& w = shape_of(graph, linear.weight);
  const std::int64_t size = element_count(w);
  if (node.op == "Conv") return [per = size / w[0]](std::int64_t i) { return i / per; };
  if (node.op == "ConvTranspose") {
    // W[C, M/group, k...]: each group of inputs feeds its own run of output channels.
    const std::int64_t groups = std::max<std::int64_t>(node.attrs.get_int("group", 1), 1);
    const std::int64_t per_input = size / w[0], inner = per_input / w[1], inputs = w[0] / groups;
    return [=, outs = w[1]](std::int64_t i) {
      return i / per_input / inputs * outs + i % per_input / inner;
    };
  }
  const bool rows =
      node.op == "Gemm" ? node.attrs.get_int("transB", 0) != 0 : linear.weight_slot == 0;
  const std::int64_t last = w.back();
  if (rows) return [last](std::int64_t i) { return i / last; };
  return [last](std::int64_t i) { return i % last; };
}

}  // namespace

LinearOr linear_behind(const Graph& graph, ValueId id) {
  const Node* node = producer_of(graph, id);
  if (!node || !is_f32(graph, id)) return {};
  ValueId product = id;
  NodeId add;
  ValueId bias;
  if (node->op == "Add" && node->inputs.size() == 2) {
    for (std::size_t side : {0u, 1u}) {
      const Node* inner = producer_of(graph, node->inputs[side]);
      if (!inner || inner->op != "MatMul" || !graph.is_constant(node->inputs[1 - side])) continue;
      product = node->inputs[side];
      bias = node->inputs[1 - side];
      add = graph.value(id).producer;
      node = inner;
    }
  }
  if (!is_linear(node->op) || node->inputs.size() < 2) return {};
  LinearOr found = describe(graph, graph.value(product).producer);
  if (!found.linear) return found;
  for (ValueId step : {id, product})
    if (const std::size_t uses = graph.use_count(step); uses != 1)
      return refuse(fmt::format("the output of {} has {} uses", called(*node), uses));
  if (graph.constant(found.linear->weight).dtype() != DType::f32) return {};
  if (add.valid()) {
    const Shape& out = shape_of(graph, id);
    if (out != shape_of(graph, product) ||
        !along_axis(graph.constant(bias), out, found.linear->axis))
      return refuse(fmt::format("the bias behind {} is not one per channel", called(*node)));
    found.linear->add = add;
    found.linear->bias = bias;
  }
  return found;
}

namespace {

/// Shape of a bias: [M] where the channels come last or the operator says so, [M,1] behind W.x.
Shape bias_shape(const Graph& graph, const Linear& linear) {
  const Node& node = graph.node(linear.node);
  const bool trailing = node.op != "MatMul" || linear.weight_slot == 1;
  return trailing ? Shape{linear.channels} : Shape{linear.channels, 1};
}

}  // namespace

std::optional<ValueId> fold_affine(Patch& patch, const Graph& graph, const Linear& linear,
                                   const std::vector<double>& gain,
                                   const std::vector<double>& shift) {
  const Node& node = graph.node(linear.node);
  const auto channels = static_cast<std::size_t>(linear.channels);
  std::vector<ValueId> inputs = node.inputs;
  if (!gain.empty()) {
    std::vector<double> weights = to_double(graph.constant(linear.weight));
    const auto channel = channel_of(graph, linear);
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i] *= gain[static_cast<std::size_t>(channel(static_cast<std::int64_t>(i)))];
    if (!all_finite(weights)) return std::nullopt;
    inputs[linear.weight_slot] =
        patch.constant(float_tensor(shape_of(graph, linear.weight), weights), linear.weight);
  }
  Attrs attrs = node.attrs;
  std::vector<double> bias(channels, 0.0);
  if (linear.bias.valid()) {
    const std::vector<double> old = to_double(graph.constant(linear.bias));
    for (std::size_t c = 0; c < channels; ++c) bias[c] = old[old.size() == 1 ? 0 : c];
    if (node.op == "Gemm") {
      const double beta = attrs.get_float("beta", 1.0);
      for (double& b : bias) b *= beta;
    }
  }
  if (node.op == "Gemm") attrs.set("beta", 1.0);
  for (std::size_t c = 0; c < channels; ++c) {
    if (!gain.empty()) bias[c] *= gain[c];
    if (!shift.empty()) bias[c] += shift[c];
  }
  if (!all_finite(bias)) return std::nullopt;
  if (!linear.bias.valid() && shift.empty()) return patch.like(linear.node, inputs, attrs);
  const ValueId b = patch.constant(float_tensor(bias_shape(graph, linear), bias), linear.bias);
  if (node.op != "MatMul") {
    inputs.resize(3);
    inputs[2] = b;
    return patch.like(linear.node, inputs, attrs);
  }
  const ValueId product = patch.like(linear.node, inputs, attrs);
  return linear.add.valid() ? patch.like(linear.add, {product, b})
                            : patch.node("Add", {product, b});
}

}  // namespace waveq::rules
