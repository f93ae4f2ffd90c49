// LayerNormalization(x, g, b) * s  =>  LayerNormalization(x, g*s, b*s)
// LayerNormalization(x, g, b) + c  =>  LayerNormalization(x, g, b+c)      s, c constant, no larger
// than g

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// `c` repeated to `shape`; nothing where it does not vary over those axes alone.
std::optional<Tensor> spread(const Tensor& c, const Shape& shape,
                             const std::function<double(double, double)>& f, const Tensor& other) {
  Shape trimmed = c.shape();
  while (trimmed.size() > shape.size() && trimmed.front() == 1) trimmed.erase(trimmed.begin());
  if (trimmed.size() > shape.size() || c.dtype() != DType::f32) return std::nullopt;
  for (std::size_t i = 0; i < trimmed.size(); ++i)
    if (trimmed[i] != 1 && trimmed[i] != shape[shape.size() - trimmed.size() + i])
      return std::nullopt;
  return broadcast_binary(other, c.reshaped(trimmed), f);
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() != 2) return NoMatch{};
  for (std::size_t side : {1u, 0u}) {
    const Node* producer = producer_of(graph, root.inputs[1 - side]);
    if (!graph.is_constant(root.inputs[side]) || !producer ||
        (producer->op != "LayerNormalization" &&
         (producer->op != "RMSNormalization" || root.op != "Mul")) ||
        producer->inputs.size() < 2)
      continue;
    const Node& norm = *producer;
    const ValueId out = root.inputs[1 - side];
    const NodeId norm_id = graph.value(out).producer;
    const bool has_bias = norm.inputs.size() > 2 && norm.inputs[2].valid();
    if (norm.outputs[0] != out || !graph.is_constant(norm.inputs[1]) ||
        (has_bias && !graph.is_constant(norm.inputs[2])))
      return declined("gain or bias of {} '{}' are not constant", norm.op, norm.name);
    if (const std::size_t uses = graph.use_count(out); uses != 1)
      return declined("the output of {} '{}' has {} uses", norm.op, norm.name, uses);
    const Tensor gain = graph.constant(norm.inputs[1]);
    const Tensor zero =
        float_tensor(gain.shape(), std::vector<double>(static_cast<std::size_t>(gain.size()), 0.0));
    const Tensor bias = has_bias ? graph.constant(norm.inputs[2]) : zero;
    const Tensor& c = graph.constant(root.inputs[side]);
    const bool scales = root.op == "Mul";
    const auto f = [scales](double a, double b) { return scales ? a * b : a + b; };
    const auto new_bias = spread(c, gain.shape(), f, bias);
    if (!new_bias || bias.shape() != gain.shape() ||
        shape_of(graph, out) != shape_of(graph, m.root_value()))
      return declined("{} does not fit the normalized shape {}", to_string(c.shape()),
                      to_string(gain.shape()));
    std::vector<ValueId> inputs = {norm.inputs[0], norm.inputs[1]};
    if (scales) inputs[1] = patch.constant(*spread(c, gain.shape(), f, gain), root.inputs[side]);
    if (!scales || has_bias)
      inputs.push_back(patch.constant(*new_bias, scales ? norm.inputs[2] : root.inputs[side]));
    return patch.like(norm_id, inputs);
  }
  return NoMatch{};
}

}  // namespace

Rule fold_affine_into_layer_norm() {
  return {.name = "fold_affine_into_layer_norm",
          .formula = "LN(x,g,b)*s = LN(x,g*s,b*s), LN(x,g,b)+c = LN(x,g,b+c)",
          .effect = Effect::reassociates,
          .source = "linearity of gain and bias; ONNX LayerNormalization-17",
          .stage = Stage::fuse,
          .root = op_in({"Mul", "Add"}),
          .apply = apply};
}

}  // namespace waveq::rules
