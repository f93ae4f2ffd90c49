// Resize(x, linear)  =>  x.M along every axis that changes length        M its weights, constant
// Each element of the result is a mean of two neighbours, with weights that its position gives.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"
#include "waveq/graph/executor.h"

namespace waveq::rules {

namespace {

/// Elements of a matrix of weights; beyond, an interpolation stays what it is.
constexpr std::int64_t kMostWeights = std::int64_t{1} << 20;

/// Of one number for each axis that a Resize names, 1 and the one of `axis`; `whole`: what 1 is.
std::vector<double> for_axis(const Node& node, const std::vector<double>& all, std::size_t rank,
                             std::size_t axis, double whole) {
  std::vector<std::int64_t> axes(all.size());
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(i);
  axes = node.attrs.get_ints("axes", axes);
  for (std::size_t i = 0; i < std::min(axes.size(), all.size()); ++i)
    if (static_cast<std::size_t>(axes[i] < 0 ? axes[i] + static_cast<std::int64_t>(rank)
                                             : axes[i]) == axis)
      return {whole, all[i]};
  return {whole, whole};
}

Tensor identity(std::int64_t length) {
  std::vector<double> unit(static_cast<std::size_t>(length * length), 0.0);
  for (std::int64_t i = 0; i < length; ++i) unit[static_cast<std::size_t>(i * (length + 1))] = 1;
  return float_tensor({length, length}, unit);
}

/// The weights along one axis, [in, out]: what the node itself makes of the unit vectors.
Tensor weights_along(const Graph& graph, const Node& node, std::size_t axis, std::int64_t length) {
  const std::size_t rank = shape_of(graph, node.inputs[0]).size();
  std::vector<Tensor> given{identity(length)};
  Node own = node;
  if (const Attr* scales = node.attrs.find("scales"))
    own.attrs.set("scales",
                  for_axis(node, std::get<std::vector<double>>(*scales), rank, axis, 1.0));
  own.attrs.erase("axes");
  given.reserve(node.inputs.size());
  std::vector<const Tensor*> inputs{&given.front()};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    inputs.push_back(nullptr);
    if (!node.inputs[i].valid()) continue;
    const Tensor& all = graph.constant(node.inputs[i]);
    const bool sizes = is_integer(all.dtype()), roi = i == 1 && node.inputs.size() > 2;
    if (all.size() == 0 || roi) {
      given.push_back(all);
    } else {
      const auto one =
          for_axis(node, to_double(all), rank, axis, sizes ? static_cast<double>(length) : 1.0);
      given.push_back(cast(float_tensor({2}, one), all.dtype()));
    }
    inputs.back() = &given.back();
  }
  return evaluate_node(graph, own, inputs).front();
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node root = m.root();
  if (root.attrs.get_string("mode", "nearest") == "nearest") return NoMatch{};
  for (std::size_t i = 1; i < root.inputs.size(); ++i)
    if (root.inputs[i].valid() && !graph.is_constant(root.inputs[i]))
      return declined("its sizes are computed at run time");
  const Shape in = shape_of(graph, root.inputs[0]), out = shape_of(graph, m.root_value());
  if (in.size() < 2 || element_count(in) == 0) return NoMatch{};
  ValueId x = root.inputs[0];
  for (std::size_t axis = in.size(); axis-- > 0;) {
    if (in[axis] * std::max(in[axis], out[axis]) > kMostWeights)
      return declined("its weights along axis {} would be a matrix of {} by {}", axis, in[axis],
                      out[axis]);
    const Tensor weights = weights_along(graph, root, axis, in[axis]);
    if (weights == identity(in[axis])) continue;
    const ValueId factor = patch.constant(weights);
    std::vector<std::int64_t> perm;
    for (std::size_t d = 0; d < in.size(); ++d) perm.push_back(static_cast<std::int64_t>(d));
    std::swap(perm[axis], perm.back());
    Attrs swap;
    swap.set("perm", perm);
    const bool last = axis + 1 == in.size();
    if (!last) x = patch.node("Transpose", {x}, swap);
    x = patch.node("MatMul", {x, factor});
    if (!last) x = patch.node("Transpose", {x}, swap);
  }
  return x == root.inputs[0] ? patch.node("Identity", {x}) : x;
}

}  // namespace

Rule replace_linear_resize() {
  return {.name = "replace_linear_resize",
          .formula = "Resize(x,linear) = x.M along each axis",
          .effect = Effect::reassociates,
          .source = "ONNX Resize-11, Upsample-9: linear interpolation is separable and linear",
          .stage = Stage::fuse,
          .root = op_in({"Resize", "Upsample"}),
          .apply = apply};
}

}  // namespace waveq::rules
