// W.LN(x,g,b) + c  =>  W.LN(x,g) + (c + W.b)      where linear operators alone read the result
// Without its bias the normalized row is symmetric and its range smaller, and a kernel that takes
// none (RMSNormalization) will do. The result may be moved in between; zero padding would have to
// be of b.

#include <algorithm>
#include <set>

#include "rules/rules_list.h"
#include "rules/support.h"
#include "waveq/rewrites/row_means.h"

namespace waveq::rules {

namespace {

bool is_padded(const Node& conv) {
  const auto pads = conv.attrs.get_ints("pads", {});
  return conv.attrs.get_string("auto_pad", "NOTSET").starts_with("SAME") ||
         std::ranges::any_of(pads, [](std::int64_t p) { return p != 0; });
}

/// A linear operator with constant weights whose input channels lie along that axis of x.
bool takes_channels(const Graph& graph, const Node& node, ValueId x, std::size_t axis) {
  if (node.inputs.size() < 2 || node.inputs[0] != x || !graph.is_constant(node.inputs[1]))
    return false;
  const std::size_t rank = shape_of(graph, x).size();
  if (node.op == "Conv")
    return axis == 1 && !is_padded(node) && node.attrs.get_int("group", 1) == 1;
  if (node.op == "Gemm") return axis == 1 && node.attrs.get_int("transA", 0) == 0;
  return node.op == "MatMul" && axis + 1 == rank && shape_of(graph, node.inputs[1]).size() == 2;
}

/// Whether such operators, behind movements, are all that reads the value.
bool only_linear_read(const Graph& graph, ValueId x, std::size_t axis) {
  if (graph.is_output(x)) return false;
  return std::ranges::all_of(graph.value(x).uses, [&](NodeId user) {
    const Node& node = graph.node(user);
    if (takes_channels(graph, node, x, axis)) return true;
    if (!is_movement(node.op)) return false;
    const auto behind = axis_behind(graph, node, axis);
    return behind && only_linear_read(graph, node.outputs.front(), *behind);
  });
}

/// W.b: what the bias of its input adds to each output of a linear operator.
std::vector<double> seen_bias(const Graph& graph, const Node& linear,
                              const std::vector<double>& bias) {
  const Tensor& weights = graph.constant(linear.inputs[1]);
  const Shape& w = weights.shape();
  const std::vector<double> values = to_double(weights);
  const bool leads = linear.op == "Conv" || linear.attrs.get_int("transB", 0) != 0;
  const std::size_t inputs = bias.size();
  const auto outputs = static_cast<std::size_t>(leads ? w[0] : w[1]);
  const std::size_t taps = values.size() / (inputs * outputs);
  std::vector<double> sums(outputs, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (leads)
      sums[i / (inputs * taps)] += values[i] * bias[i / taps % inputs];
    else
      sums[i % outputs] += values[i] * bias[i / outputs];
  }
  const double alpha = linear.attrs.get_float("alpha", 1.0);
  for (double& s : sums) s *= alpha;
  return sums;
}

/// The movements between a normalization and what reads it, the last first.
struct Path {
  std::vector<NodeId> moves;
  NodeId norm;
};

std::optional<Path> path_to_norm(const Graph& graph, ValueId x) {
  Path path;
  while (graph.value(x).producer.valid()) {
    const NodeId id = graph.value(x).producer;
    const Node& node = graph.node(id);
    if (node.op == "LayerNormalization") {
      path.norm = id;
      return path;
    }
    if (!is_movement(node.op)) return std::nullopt;
    path.moves.push_back(id);
    x = node.inputs[0];
  }
  return std::nullopt;
}

bool is_nonzero(const Tensor& t) {
  return std::ranges::any_of(to_double(t), [](double v) { return v != 0; });
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() < 2 || !is_f32(graph, m.root_value())) return NoMatch{};
  const auto path = path_to_norm(graph, root.inputs[0]);
  if (!path) return NoMatch{};
  const Node norm = graph.node(path->norm);
  const Shape shape = shape_of(graph, norm.inputs[0]);
  const std::size_t last = shape.size() - 1;
  if (norm.inputs.size() < 3 || !norm.inputs[2].valid() || !graph.is_constant(norm.inputs[2]) ||
      !is_nonzero(graph.constant(norm.inputs[2])) ||
      normalize_axis(norm.attrs.get_int("axis", -1), shape.size(), norm.name) !=
          static_cast<std::int64_t>(last))
    return NoMatch{};
  const auto bias = along_axis(graph.constant(norm.inputs[2]), shape, last);
  if (!bias) return NoMatch{};
  if (!only_linear_read(graph, norm.outputs.front(), last))
    return declined("the normalized rows are read by more than linear operators");
  const std::vector<double> sums = seen_bias(graph, root, *bias);
  if (!all_finite(sums)) return declined("a folded bias would not be finite");
  ValueId x = patch.like(path->norm, {norm.inputs[0], norm.inputs[1]});
  for (auto move = path->moves.rbegin(); move != path->moves.rend(); ++move) {
    std::vector<ValueId> inputs = graph.node(*move).inputs;
    inputs[0] = x;
    x = patch.like(*move, inputs);
  }
  std::vector<ValueId> inputs = root.inputs;
  inputs[0] = x;
  const ValueId product = patch.like(m.root_id(), inputs);
  Shape added{static_cast<std::int64_t>(sums.size())};
  if (root.op == "Conv") added.resize(shape_of(graph, m.root_value()).size() - 1, 1);
  return patch.node("Add", {product, patch.constant(float_tensor(added, sums), norm.inputs[2])});
}

}  // namespace

Rule fold_norm_bias_into_linear() {
  return {.name = "fold_norm_bias_into_linear",
          .formula = "W.LN(x,g,b) + c = W.LN(x,g) + (c + W.b)",
          .effect = Effect::reassociates,
          .source = "linearity; ONNX LayerNormalization-17",
          .stage = Stage::fold,
          .root = op_in({"Conv", "Gemm", "MatMul"}),
          .apply = apply};
}

}  // namespace waveq::rules
