// L(x * s)  =>  L'(x)                  one s for each input channel, or one for all; constant
// weights Zero padding stays zero under a gain, so this holds for padded convolutions too.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Input channel that the i-th weight reads.
std::function<std::int64_t(std::int64_t)> input_channel(const Node& node, const Shape& w) {
  const std::int64_t size = element_count(w);
  if (node.op == "Conv") {
    // W[M, C/group, k...]: each group of outputs reads its own run of input channels.
    const std::int64_t groups = std::max<std::int64_t>(node.attrs.get_int("group", 1), 1);
    const std::int64_t per_output = size / w[0], inner = per_output / w[1], outputs = w[0] / groups;
    return [=, ins = w[1]](std::int64_t i) {
      return i / per_output / outputs * ins + i % per_output / inner;
    };
  }
  if (node.op == "ConvTranspose") return [per = size / w[0]](std::int64_t i) { return i / per; };
  if (node.op == "Gemm" && node.attrs.get_int("transB", 0) != 0)
    return [k = w.back()](std::int64_t i) { return i % k; };
  // [..., K, N]
  return [n = w.back(), k = w[w.size() - 2]](std::int64_t i) { return i / n % k; };
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() < 2) return NoMatch{};
  const Node* mul = producer_of(graph, root.inputs[0]);
  if (!mul || mul->op != "Mul" || mul->inputs.size() != 2) return NoMatch{};
  const std::size_t side = graph.is_constant(mul->inputs[1]) ? 1 : 0;
  const ValueId scale = mul->inputs[side], x = mul->inputs[1 - side], w = root.inputs[1];
  if (!graph.is_constant(scale) || graph.is_constant(x)) return NoMatch{};
  if (!graph.is_constant(w)) return NoMatch{};
  if (!is_f32(graph, w) || shape_of(graph, w).size() < 2) return NoMatch{};
  const Shape& in = shape_of(graph, root.inputs[0]);
  if (root.op == "Gemm" && root.attrs.get_int("transA", 0) != 0)
    return declined("its input is transposed");
  if (const std::size_t uses = graph.use_count(root.inputs[0]); uses != 1)
    return declined("the scaled input '{}' has {} uses", graph.value(root.inputs[0]).name, uses);
  const bool convolves = root.op == "Conv" || root.op == "ConvTranspose";
  const auto gain = along_axis(graph.constant(scale), in, convolves ? 1 : in.size() - 1);
  if (!gain || shape_of(graph, x) != in)
    return declined("{} is not one gain per input channel", to_string(shape_of(graph, scale)));
  std::vector<double> weights = to_double(graph.constant(w));
  const auto channel = input_channel(root, shape_of(graph, w));
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] *= gain->at(static_cast<std::size_t>(channel(static_cast<std::int64_t>(i))));
  if (!all_finite(weights)) return declined("a folded weight would not be finite");
  std::vector<ValueId> inputs = root.inputs;
  inputs[0] = x;
  inputs[1] = patch.constant(float_tensor(shape_of(graph, w), weights), w);
  return patch.like(m.root_id(), inputs);
}

}  // namespace

Rule fold_scale_into_next_linear() {
  return {.name = "fold_scale_into_next_linear",
          .formula = "W.(x*s)+b = (W*s).x+b",
          .effect = Effect::reassociates,
          .source = "linearity",
          .stage = Stage::fold,
          .root = op_in({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
          .apply = apply};
}

}  // namespace waveq::rules
