#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "lowering/rules.h"

namespace waveq {

namespace {

/// A matrix of one number other than 0, as in sums of rows: exact as ones of that scale.
bool is_uniform(const Tensor& w) {
  const std::vector<double> values = to_double(w);
  return !values.empty() && values.front() > 0 && std::isfinite(values.front()) &&
         std::ranges::all_of(values, [&](double v) { return v == values.front(); });
}

/// A product by this constant becomes one with each matrix of it, not a linear node.
bool is_matrix_batch(const Graph& graph, ValueId constant) {
  return graph.value(constant).type.shape.size() > 2 || is_uniform(graph.constant(constant));
}

/// The integer input and the names every deferred linear node needs; its second input has the
/// weights.
std::shared_ptr<DeferredLinear> deferred(Lowering& to, const Node& node, ValueId x) {
  to.quantity(x);  // refuses what has none
  const Shape& w = to.shape(node.inputs.at(1));
  const bool rows_are_outputs = node.op == "Conv" || node.attrs.get_int("transB", 0) != 0;
  const auto fan_in = static_cast<double>(
      rows_are_outputs ? element_count(w) / std::max<std::int64_t>(w.front(), 1) : w[w.size() - 2]);
  auto linear = std::make_shared<DeferredLinear>();
  linear->op = node.op;
  linear->name = to.name_for(node.outputs.front());
  linear->origin = node.origin.empty() ? node.name : node.origin;
  if (to.has_own_scales(x)) {  // lower_conv puts them into the weights
    linear->x = to.quantity(x).id;
  } else {
    const Activation in = to.activation(x, to.width_within(node.op, x, 128.0 * fan_in));
    linear->x = in.id;
    linear->x_scale = in.quant.scale;
    if (in.quant.zero_point != 0) linear->x_zero_points = {in.quant.zero_point};
  }
  linear->x_means = to.means(x, node.op == "Conv" ? 1 : to.shape(x).size() - 1);
  linear->weights_name = to.source().value(node.inputs.at(1)).name;
  linear->bias_in_requant = node.op == "Conv";
  linear->weight_levels = to.weight_levels();
  return linear;
}

void define(Lowering& to, const Node& node, std::shared_ptr<DeferredLinear> linear) {
  Quantity q;
  q.linear = std::move(linear);
  to.define(node.outputs.front(), std::move(q));
}

const Tensor& constant_operand(Lowering& to, const Node& node, std::size_t i,
                               std::string_view what) {
  if (!to.is_constant(node.inputs.at(i))) to.refuse(fmt::format("its {} is not constant", what));
  return to.source().constant(node.inputs.at(i));
}

std::vector<double> optional_bias(Lowering& to, const Node& node, std::size_t i,
                                  std::size_t channels) {
  if (node.inputs.size() <= i || !node.inputs[i].valid()) return {};
  const Tensor& constant = constant_operand(to, node, i, "bias");
  std::vector<double> bias = to_double(constant);
  if (bias.size() == 1) bias.resize(channels, bias.front());
  // A Gemm's [M,1] has one value for each row, also where there are as many columns.
  else if (bias.size() == channels && constant.shape().back() != constant.size())
    to.refuse(
        fmt::format("its bias {} is not one value for each output", to_string(constant.shape())));
  if (bias.size() != channels)
    to.refuse(fmt::format("its bias has {} values for {} outputs", bias.size(), channels));
  return bias;
}

Tensor transposed(const Tensor& m) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const std::int64_t rows = m.shape()[0], columns = m.shape()[1];
  Tensor out(DType::f32, {columns, rows});
  Eigen::Map<Matrix>(out.as<float>().data(), columns, rows) =
      Eigen::Map<const Matrix>(m.as<float>().data(), rows, columns).transpose();
  return out;
}

/// Weights [O, C/g, k...] of a grouped convolution as [O, C, k...] with zeros for the other groups:
/// the target has kernels for one group and for depthwise with multiplier 1. Exact.
Tensor without_groups(const Tensor& w, std::int64_t group) {
  Shape shape = w.shape();
  const std::int64_t filters = shape[0], per_group = shape[1],
                     taps = element_count(shape) / std::max<std::int64_t>(filters * per_group, 1);
  shape[1] *= group;
  Tensor out(DType::f32, shape);
  for (std::int64_t f = 0; f < filters; ++f) {
    const std::int64_t first = f / (filters / group) * per_group;
    for (std::int64_t i = 0; i < per_group * taps; ++i)
      out.as<float>()[static_cast<std::size_t>((f * shape[1] + first) * taps + i)] =
          w.as<float>()[static_cast<std::size_t>(f * per_group * taps + i)];
  }
  return out;
}

/// A kernel with zeros between its taps in place of dilations. Exact.
Tensor without_dilations(const Tensor& w, const std::vector<std::int64_t>& dilations) {
  Shape shape = w.shape();
  for (std::size_t d = 0; d < dilations.size(); ++d)
    shape[d + 2] = (shape[d + 2] - 1) * dilations[d] + 1;
  Tensor out(DType::f32, shape);
  const std::vector<std::int64_t> from = strides_of(w.shape()), to = strides_of(shape);
  for (std::int64_t i = 0; i < w.size(); ++i) {
    std::int64_t rest = i, at = 0;
    for (std::size_t d = 0; d < from.size(); ++d) {
      at += rest / from[d] * (d < 2 ? 1 : dilations[d - 2]) * to[d];
      rest %= from[d];
    }
    out.as<float>()[static_cast<std::size_t>(at)] = w.as<float>()[static_cast<std::size_t>(i)];
  }
  return out;
}

}  // namespace

bool folds_zero_point(const Graph& graph, const Node& node, bool padded) {
  const auto is_constant = [&](std::size_t i) { return graph.is_constant(node.inputs.at(i)); };
  if (node.inputs.size() < 2 || is_constant(0) || !is_constant(1)) return false;
  if (node.op == "Conv") {
    const std::vector<std::int64_t> pads = node.attrs.get_ints("pads", {});
    return padded || (!node.attrs.get_string("auto_pad", "NOTSET").starts_with("SAME") &&
                      std::ranges::all_of(pads, [](std::int64_t p) { return p == 0; }));
  }
  if (node.op == "Gemm") return node.attrs.get_int("transA", 0) == 0;
  return node.op == "MatMul" && !is_matrix_batch(graph, node.inputs[1]);
}

namespace {

/// Codes q of x that mean scale[c]*q + offset[c] in channel c: the scales go into the weights
/// [O,C,k...], the offsets are the zero points -offset/scale. Exact but for the weights' rounding.
void fold_own_scales(DeferredLinear& linear, const Quantity& x) {
  const auto weights = linear.weights.as<float>();
  const std::size_t channels = x.scale.size();
  const std::size_t taps = weights.size() / (linear.channels() * channels);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(weights[i] * x.scale[i / taps % channels]);
  for (std::size_t c = 0; c < linear.x_means.size(); ++c) linear.x_means[c] /= x.scale[c];
  for (std::size_t c = 0; c < x.offset.size(); ++c)
    linear.x_zero_points.push_back(std::llround(-x.offset[c] / x.scale[c]));
}

}  // namespace

/// Conv with constant weights [O, C/g, k...], any group, dilation and padding.
void lower_conv(Lowering& to, const Node& node) {
  const Tensor& w = constant_operand(to, node, 1, "weight");
  const std::size_t spatial = w.shape().size() - 2;
  const auto axes = window_axes(to, node, Shape(w.shape().begin() + 2, w.shape().end()));
  std::vector<std::int64_t> dilations, strides, pads;
  for (const WindowAxis& a : axes) {
    dilations.push_back(a.dilation);
    strides.push_back(a.stride);
    pads.push_back(a.begin);
  }
  for (const WindowAxis& a : axes) pads.push_back(a.end);
  const std::int64_t group = node.attrs.get_int("group", 1);
  auto linear = deferred(to, node, node.inputs[0]);
  const bool general = to.options().target.general_conv;
  const bool has_kernel = general || group == 1 || (w.shape()[0] == group && w.shape()[1] == 1);
  linear->weights = has_kernel ? w : without_groups(w, group);
  if (!general && std::ranges::any_of(dilations, [](std::int64_t d) { return d != 1; })) {
    linear->weights = without_dilations(linear->weights, dilations);
    dilations.assign(spatial, 1);
  }
  if (to.has_own_scales(node.inputs[0])) fold_own_scales(*linear, to.quantity(node.inputs[0]));
  linear->x =
      padded_for_conv(to, {linear->x, to.out().value(linear->x).quant.value_or(QuantParams{})},
                      pads, linear->name + "_padded");
  linear->bias = optional_bias(to, node, 2, linear->channels());
  const Shape& shape = linear->weights.shape();
  Attrs attrs;
  attrs.set("dilations", dilations);
  attrs.set("group", has_kernel ? group : 1);
  attrs.set("kernel_shape", std::vector<std::int64_t>(shape.begin() + 2, shape.end()));
  attrs.set("pads", pads);
  attrs.set("strides", strides);
  linear->attrs = std::move(attrs);
  define(to, node, std::move(linear));
}

/// Gemm with constant B, alpha and beta moved into weights and bias, in the form transB = 1.
void lower_gemm(Lowering& to, const Node& node) {
  if (node.attrs.get_int("transA", 0) != 0) to.refuse("transA = 1 has no integer form");
  const Tensor& b = constant_operand(to, node, 1, "weight");
  auto linear = deferred(to, node, node.inputs[0]);
  linear->weights = node.attrs.get_int("transB", 0) != 0 ? b : transposed(b);
  const double alpha = node.attrs.get_float("alpha", 1.0), beta = node.attrs.get_float("beta", 1.0);
  if (alpha != 1.0)
    for (float& v : linear->weights.as<float>()) v = static_cast<float>(v * alpha);
  linear->bias = optional_bias(to, node, 2, linear->channels());
  for (double& v : linear->bias) v *= beta;
  linear->attrs.set("alpha", 1.0);
  linear->attrs.set("beta", 1.0);
  linear->attrs.set("transA", std::int64_t{0});
  linear->attrs.set("transB", std::int64_t{1});
  linear->bias_in_requant = to.options().target.form.gemm_bias_in_requant;
  define(to, node, std::move(linear));
}

namespace {

/// A constant matrix for each matrix of the left operand, one weight scale for all.
void by_constant_batch(Lowering& to, const Node& node) {
  const ValueId b = node.inputs[1], y = node.outputs.front();
  const Tensor& w = to.source().constant(b);
  const Activation left = to.activation(node.inputs[0]);
  Tensor codes(DType::i8, w.shape());
  double scale = 0;
  if (is_uniform(w)) {
    scale = to_double(w).front();
    for (std::int8_t& q : codes.as<std::int8_t>()) q = 1;
  } else {
    const QuantizedWeights q =
        quantize_weights(w, -1, to.weight_levels(), {}, to.source().value(b).name);
    codes = q.q;
    scale = q.scale.front();
  }
  Quantity product;
  product.id =
      to.emit("MatMul", to.name_for(y, "_acc"),
              {left.id, to.out().add_constant(to.name_for(y, "_weight"), std::move(codes))});
  product.scale = {left.quant.scale * scale};
  to.define(y, std::move(product));
}

}  // namespace

/// MatMul. Constant right operand: Gemm for a matrix; else one weight scale, as a requant behind a
/// tensor of rank 3 has no axis for one scale per feature. Two activations: the int32 product.
void lower_matmul(Lowering& to, const Node& node) {
  const ValueId a = node.inputs[0], b = node.inputs[1];
  if (to.shape(a).size() < 2 || to.shape(b).size() < 2)
    to.refuse("operands of rank 1 have no integer form");
  if (to.is_constant(a))
    to.refuse("a constant left operand has no integer form; transpose the product");
  if (to.is_constant(b) && is_matrix_batch(to.source(), b)) return by_constant_batch(to, node);
  if (to.is_constant(b)) {
    auto linear = deferred(to, node, a);
    if (to.shape(a).size() == 2) {
      linear->op = "Gemm";
      linear->weights = transposed(to.source().constant(b));
      for (const char* one : {"alpha", "beta"}) linear->attrs.set(one, 1.0);
      linear->attrs.set("transA", std::int64_t{0});
      linear->attrs.set("transB", std::int64_t{1});
      linear->bias_in_requant = to.options().target.form.gemm_bias_in_requant;
    } else {
      linear->weights = to.source().constant(b);
      linear->channel_axis = -1;
    }
    return define(to, node, std::move(linear));
  }
  to.quantity(a);
  to.quantity(b);
  // The right operand is the one to stay fine where both are too much: in attention it holds sums.
  const auto terms = static_cast<double>(to.shape(a).back());
  const Width wb = to.width_within("MatMul", b, terms * 255.0);
  const Width wa = to.width_within("MatMul", a, terms * to.largest_code(b, wb));
  const Activation left = to.factor(a, wa), right = to.factor(b, wb);
  Quantity product;
  product.id = to.emit("MatMul", to.name_for(node.outputs.front(), "_acc"), {left.id, right.id});
  product.scale = {left.quant.scale * right.quant.scale};
  to.define(node.outputs.front(), std::move(product));
}

}  // namespace waveq
