#include "rules/support.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace waveq::rules {

std::optional<double> scalar_of(const Graph& graph, ValueId id) {
  if (!graph.is_constant(id)) return std::nullopt;
  const Tensor& tensor = graph.constant(id);
  if (tensor.dtype() != DType::f32 || tensor.size() != 1) return std::nullopt;
  return tensor.as<float>()[0];
}

bool is_f32(const Graph& graph, ValueId id) {
  return id.valid() && graph.value(id).type.dtype == DType::f32;
}

const Node* producer_of(const Graph& graph, ValueId id) {
  if (!id.valid() || !graph.value(id).producer.valid()) return nullptr;
  return &graph.node(graph.value(id).producer);
}

const Shape& shape_of(const Graph& graph, ValueId id) { return graph.value(id).type.shape; }

IntsParam ints_of(const Graph& graph, const Node& node, std::string_view attr, std::size_t input) {
  if (input < node.inputs.size() && node.inputs[input].valid()) {
    if (!graph.is_constant(node.inputs[input])) return {std::nullopt, true};
    const Tensor& tensor = graph.constant(node.inputs[input]);
    if (!is_integer(tensor.dtype())) return {};
    return {to_int64(tensor), false};
  }
  if (node.attrs.has(attr)) return {node.attrs.get_ints(attr, {}), false};
  return {};
}

Tensor ints_tensor(const std::vector<std::int64_t>& values) {
  return Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

Tensor float_tensor(Shape shape, const std::vector<double>& values) {
  Tensor tensor(DType::f32, std::move(shape));
  const auto out = tensor.as<float>();
  WAVEQ_CHECK(out.size() == values.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(values[i]);
  return tensor;
}

bool all_finite(const std::vector<double>& values) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return std::ranges::all_of(values, [](double v) { return std::abs(v) <= kMax; });
}

Tensor broadcast_binary(const Tensor& a, const Tensor& b,
                        const std::function<double(double, double)>& f) {
  Tensor result(DType::f32, broadcast(a.shape(), b.shape(), "broadcast of two constants"));
  const Shape& shape = result.shape();
  // Element strides of an operand seen in the result's axes; 0 where it is repeated.
  const auto strides = [&](const Tensor& t) {
    std::vector<std::int64_t> own = strides_of(t.shape());
    std::vector<std::int64_t> seen(shape.size(), 0);
    const std::size_t skip = shape.size() - t.shape().size();
    for (std::size_t d = 0; d < own.size(); ++d)
      if (t.shape()[d] != 1) seen[skip + d] = own[d];
    return seen;
  };
  const std::vector<std::int64_t> sa = strides(a), sb = strides(b), so = strides_of(shape);
  const auto xa = a.as<float>(), xb = b.as<float>();
  const auto out = result.as<float>();
  for (std::int64_t i = 0; i < result.size(); ++i) {
    std::int64_t rest = i, ia = 0, ib = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t at = rest / so[d];
      rest %= so[d];
      ia += at * sa[d];
      ib += at * sb[d];
    }
    out[static_cast<std::size_t>(i)] =
        static_cast<float>(f(xa[static_cast<std::size_t>(ia)], xb[static_cast<std::size_t>(ib)]));
  }
  return result;
}

std::optional<std::vector<double>> along_axis(const Tensor& tensor, const Shape& out,
                                              std::size_t axis) {
  const Shape& shape = tensor.shape();
  if (tensor.dtype() != DType::f32 || shape.size() > out.size() || axis >= out.size())
    return std::nullopt;
  const std::size_t skip = out.size() - shape.size();
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (shape[d] != 1 && (skip + d != axis || shape[d] != out[axis])) return std::nullopt;
  std::vector<double> values = to_double(tensor);
  if (values.size() == 1) values.assign(static_cast<std::size_t>(out[axis]), values.front());
  return values;
}

std::vector<std::int64_t> sorted_axes(std::vector<std::int64_t> axes, std::size_t rank,
                                      std::string_view where) {
  for (std::int64_t& axis : axes) axis = normalize_axis(axis, rank, where);
  std::ranges::sort(axes);
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  return axes;
}

bool is_movement(const std::string& op) {
  return op == "Reshape" || op == "Transpose" || op == "Flatten" || op == "Squeeze" ||
         op == "Unsqueeze";
}

bool repeats_or_moves(const Graph& graph, const Node& node) {
  if (node.inputs.empty()) return false;
  if (is_movement(node.op)) return true;
  return (node.op == "Resize" || node.op == "Upsample") &&
         node.attrs.get_string("mode", "nearest") == "nearest" &&
         node.attrs.get_string("coordinate_transformation_mode", "half_pixel") !=
             "tf_crop_and_resize" &&
         element_count(shape_of(graph, node.outputs[0])) >=
             element_count(shape_of(graph, node.inputs[0]));
}

ValueId clip(Patch& patch, ValueId x, double lo, double hi) {
  Attrs attrs;
  attrs.set("min", lo);
  attrs.set("max", hi);
  return patch.node("Clip", {x}, attrs);
}

ValueId swap_last_axes(Patch& patch, ValueId x, std::size_t rank) {
  std::vector<std::int64_t> perm(rank);
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[rank - 1], perm[rank - 2]);
  Attrs attrs;
  attrs.set("perm", perm);
  return patch.node("Transpose", {x}, attrs);
}

ValueId mean_behind_channels(Patch& patch, ValueId x, std::size_t rank) {
  std::vector<std::int64_t> axes(rank - 2);
  std::iota(axes.begin(), axes.end(), 2);
  Attrs attrs;
  attrs.set("axes", axes);
  attrs.set("keepdims", std::int64_t{1});
  return patch.node("ReduceMean", {x}, attrs);
}

}  // namespace waveq::rules
