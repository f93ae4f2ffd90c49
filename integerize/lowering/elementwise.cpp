#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"

namespace waveq {

std::optional<std::vector<double>> per_channel_constant(const Tensor& constant,
                                                        const Shape& shape) {
  std::vector<double> values = to_double(constant);
  if (values.size() == 1) return values;
  // Right-aligned broadcast: axis 1 of the tensor is axis rank-2... of a shorter constant.
  const Shape& c = constant.shape();
  if (shape.size() < 2 || c.size() > shape.size()) return std::nullopt;
  for (std::size_t i = 0; i < c.size(); ++i) {
    const std::size_t axis = shape.size() - c.size() + i;
    if (c[i] != 1 && (axis != 1 || c[i] != shape[1])) return std::nullopt;
  }
  return values;
}

namespace {

/// Element-wise product or sum of per-channel vectors, either of which may be a single value or
/// empty (= none).
std::vector<double> combine(const std::vector<double>& a, const std::vector<double>& b, double none,
                            double (*f)(double, double)) {
  if (a.empty() && b.empty()) return {};
  std::vector<double> out;
  for (std::size_t c = 0; c < std::max({a.size(), b.size(), std::size_t{1}}); ++c) {
    const auto at = [&](const std::vector<double>& v) {
      return v.empty() ? none : v[v.size() > 1 ? c : 0];
    };
    out.push_back(f(at(a), at(b)));
  }
  return out;
}

double plus(double a, double b) { return a + b; }
double times(double a, double b) { return a * b; }

/// A linear node by constant weights in front of a constant term along its output channels: the
/// term is its bias.
bool add_to_bias(Lowering& to, ValueId x, ValueId y, const Tensor& c, double sign) {
  const Quantity& q = to.quantity(x);
  if (!q.linear || q.linear->emitted() || q.relu) return false;
  std::vector<double> term = to_double(c);
  const bool follows_channels = q.linear->op == "Conv"
                                    ? per_channel_constant(c, to.shape(x)).has_value()
                                    : !c.shape().empty() && c.shape().back() == c.size();
  if (term.size() != 1 && (term.size() != q.linear->channels() || !follows_channels)) return false;
  if (to.source().use_count(x) != 1 || to.shape(x) != to.shape(y)) return false;
  for (double& t : term) t *= sign;
  Quantity out = q;
  out.linear = std::make_shared<DeferredLinear>(*q.linear);
  if (out.linear->bias.empty()) out.linear->bias.assign(out.linear->channels(), 0.0);
  out.linear->bias = combine(out.linear->bias, term, 0.0, plus);
  to.define(y, std::move(out));
  return true;
}

/// An accumulator behind which a requant may differ by channel: of a linear node, or any int32
/// tensor where the target allows.
bool takes_channels(Lowering& to, const Quantity& q) {
  if (q.relu || q.upper > 0) return false;
  if (q.linear) return true;
  return to.options().target.requant_per_channel && to.out().value(q.id).type.dtype == DType::i32;
}

bool is_behind(Lowering& to, const Quantity& q, const char* op) {
  const NodeId producer = to.out().value(q.id).producer;
  return producer.valid() && to.out().node(producer).op == op;
}

/// The constant at the full shape of the tensor it is added to: the target's kernel does not
/// broadcast.
std::vector<double> spread(Lowering& to, const Tensor& c, const Shape& shape) {
  Shape target = broadcast(c.shape(), shape, to.node().name);
  if (target != shape) to.refuse("its constant is larger than the other operand");
  const std::vector<double> values = to_double(c);
  const std::vector<std::int64_t> strides = strides_of(shape), own = strides_of(c.shape());
  const std::size_t shift = shape.size() - c.shape().size();
  std::vector<double> out(static_cast<std::size_t>(element_count(shape)));
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(i), from = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t at = rest / strides[d];
      rest %= strides[d];
      if (d >= shift && c.shape()[d - shift] != 1) from += at * own[d - shift];
    }
    out[i] = values[static_cast<std::size_t>(from)];
  }
  return out;
}

/// x + c: the bias of a linear node or the add of the requant behind it; else an integer constant
/// at the scale of x.
void add_constant(Lowering& to, ValueId x, ValueId y, const Tensor& c, double sign) {
  if (to.shape(x) != to.shape(y)) to.refuse("its constant is larger than the other operand");
  if (add_to_bias(to, x, y, c, sign)) return;
  auto term = per_channel_constant(c, to.shape(x));
  // Requants with a value per channel run right behind Conv and Gemm only
  // (deeploy-dialect.md 13.5), and those behind iGELU take no add (T5).
  if (term && (term->size() == 1 || takes_channels(to, to.quantity(x)))) {
    for (double& t : *term) t *= sign;
    Quantity q = to.accumulator(x);
    q.linear.reset();
    if (is_behind(to, q, "iGELU")) {
      const Activation a = to.activation(x);
      q.id = a.id;
      q.scale = {a.quant.scale};
    }
    q.offset = combine(q.offset, *term, 0.0, plus);
    return to.define(y, std::move(q));
  }
  const Width width = to.width("Add");
  const Activation a = to.options().target.form.int8_operands
                           ? to.summand_at(x, to.signed_scale(x, width), width)
                           : to.signed_activation(x, 0, width);
  std::vector<std::int32_t> steps;
  for (double v : spread(to, c, to.shape(x))) {
    const double q = std::floor(sign * v / a.quant.scale + 0.5);
    if (!(std::abs(q) <= 16777216.0))
      to.refuse("its constant is beyond 2^24 steps of the other operand");
    steps.push_back(static_cast<std::int32_t>(q));
  }
  Quantity sum;
  sum.id = to.emit("Add", to.name_for(y, "_acc"),
                   {a.id, to.out().add_constant(to.name_for(y, "_term"),
                                                Tensor::from<std::int32_t>(to.shape(x), steps))});
  sum.scale = {a.quant.scale};
  to.define(y, std::move(sum));
}

/// x * g with one gain a channel: a depthwise convolution of length one. The gains become its
/// weights, so the requant behind it may differ by channel (deeploy-dialect.md 13.5); a constant
/// term behind it is its bias.
void scale_channels(Lowering& to, ValueId x, ValueId y, const std::vector<double>& gain) {
  const std::size_t spatial = to.shape(x).size() - 2;
  if (spatial < 1 || spatial > 2)
    to.refuse(fmt::format("a gain per channel of {} has no integer form", to_string(to.shape(x))));
  const Activation in = to.activation(x, to.width("Conv"));
  auto linear = std::make_shared<DeferredLinear>();
  linear->weight_levels = to.weight_levels();
  linear->op = "Conv";
  linear->name = to.name_for(y);
  linear->origin = to.node().origin.empty() ? to.node().name : to.node().origin;
  linear->x = in.id;
  linear->x_scale = in.quant.scale;
  linear->bias_in_requant = true;
  Shape weights{static_cast<std::int64_t>(gain.size()), 1};
  weights.resize(2 + spatial, 1);
  linear->weights = Tensor::from<float>(weights, std::vector<float>(gain.begin(), gain.end()));
  const std::vector<std::int64_t> ones(spatial, 1);
  linear->attrs.set("dilations", ones);
  linear->attrs.set("group", static_cast<std::int64_t>(gain.size()));
  linear->attrs.set("kernel_shape", ones);
  linear->attrs.set("pads", std::vector<std::int64_t>(2 * spatial, 0));
  linear->attrs.set("strides", ones);
  Quantity q;
  q.linear = std::move(linear);
  to.define(y, std::move(q));
}

/// x * c with a factor for each element: int8 codes of c, rounded to its largest over 127.
void multiply_by_elements(Lowering& to, ValueId x, ValueId y, const Tensor& c) {
  const std::vector<double> factors = spread(to, c, to.shape(x));
  double largest = 0;
  for (double f : factors) largest = std::max(largest, std::isfinite(f) ? std::abs(f) : INFINITY);
  if (!std::isfinite(largest)) to.refuse("its constant holds a non-finite number");
  const double scale = largest > 0 ? largest / 127 : 1.0;
  std::vector<std::int8_t> codes;
  for (double f : factors) codes.push_back(static_cast<std::int8_t>(std::round(f / scale)));
  const Activation a = to.factor(x, to.width("Mul"));
  Quantity product;
  product.id =
      to.emit("Mul", to.name_for(y, "_acc"),
              {a.id, to.out().add_constant(to.name_for(y, "_factors"),
                                           Tensor::from<std::int8_t>(to.shape(x), codes))});
  product.scale = {a.quant.scale * scale};
  to.define(y, std::move(product));
}

/// ReLU(L(z))*g = ReLU((g*L)(z)) for positive gains, L a convolution: it is computed once more with
/// the gains in its weights where something else reads L, too.
bool scale_features(Lowering& to, ValueId x, ValueId y, const std::vector<double>& gain) {
  const Quantity& q = to.quantity(x);
  if (!q.relu || !q.linear || q.upper > 0 || q.linear->op != "Conv" ||
      std::ranges::any_of(gain, [](double g) { return g <= 0; }))
    return false;
  auto linear = std::make_shared<DeferredLinear>(*q.linear);
  linear->name = to.name_for(y);
  linear->accumulator = {};
  linear->scale.clear();
  linear->offset.clear();
  linear->shift = 0;
  const auto weights = linear->weights.as<float>();
  const std::size_t each = weights.size() / gain.size();
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(weights[i] * gain[i / each]);
  if (!linear->bias.empty()) linear->bias = combine(linear->bias, gain, 1.0, times);
  Quantity scaled = q;
  scaled.id = {};
  scaled.linear = std::move(linear);
  to.define(y, std::move(scaled));
  return true;
}

/// Both operands as signed 8-bit at one scale, the integer operator, an accumulator of that scale.
void add_activations(Lowering& to, const Node& node) {
  const ValueId a = node.inputs[0], b = node.inputs[1];
  const ValueId y = node.outputs.front();
  const Width width = to.width(node.op);
  const double scale = to.common_scale({a, b}, width);
  Quantity sum;
  const Activation left =
      repeated(to, to.summand_at(a, scale, width), to.shape(y), to.name_for(y, "_left"));
  const Activation right =
      repeated(to, to.summand_at(b, scale, width), to.shape(y), to.name_for(y, "_right"));
  sum.id = to.emit(node.op, to.name_for(y, "_acc"), {left.id, right.id});
  sum.scale = {scale};
  to.define(y, std::move(sum));
}

/// One operand is the ReduceMax of the other.
bool is_distance_from_maximum(Lowering& to, const Node& node) {
  const auto is_maximum_of = [&](ValueId most, ValueId x) {
    const NodeId producer = to.source().value(most).producer;
    return producer.valid() && to.source().node(producer).op == "ReduceMax" &&
           to.source().node(producer).inputs.front() == x;
  };
  return is_maximum_of(node.inputs[0], node.inputs[1]) ||
         is_maximum_of(node.inputs[1], node.inputs[0]);
}

/// Both operands at the scale they have in common: the difference of the codes is exact.
void subtract_codes(Lowering& to, const Node& node) {
  const Width width = std::min(to.width("Sub"), to.width("ReduceMax"));
  const Activation a = to.signed_activation(node.inputs[0], 0, width),
                   b = to.signed_activation(node.inputs[1], 0, width);
  Quantity difference;
  difference.id = to.emit("Sub", to.name_for(node.outputs.front(), "_acc"), {a.id, b.id});
  difference.scale = {a.quant.scale};
  to.define(node.outputs.front(), std::move(difference));
}

}  // namespace

void lower_add(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  if (to.is_constant(node.inputs[1]))
    return add_constant(to, node.inputs[0], y, to.source().constant(node.inputs[1]), 1.0);
  if (to.is_constant(node.inputs[0]))
    return add_constant(to, node.inputs[1], y, to.source().constant(node.inputs[0]), 1.0);
  add_activations(to, node);
}

void lower_sub(Lowering& to, const Node& node) {
  if (to.is_constant(node.inputs[1]))
    return add_constant(to, node.inputs[0], node.outputs.front(),
                        to.source().constant(node.inputs[1]), -1.0);
  if (to.is_constant(node.inputs[0]))
    to.refuse("constant minus activation; write it as a negated activation plus the constant");
  if (to.options().target.broadcast && is_distance_from_maximum(to, node))
    return subtract_codes(to, node);
  add_activations(to, node);
}

void lower_mul(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  for (const auto& [x, c] :
       {std::pair{node.inputs[0], node.inputs[1]}, std::pair{node.inputs[1], node.inputs[0]}}) {
    if (!to.is_constant(c)) continue;
    const auto factor = per_channel_constant(to.source().constant(c), to.shape(x));
    if (to.shape(x) != to.shape(y)) to.refuse("its constant is larger than the other operand");
    if (!factor) return multiply_by_elements(to, x, y, to.source().constant(c));
    if (std::ranges::any_of(*factor, [](double f) { return !std::isfinite(f); }))
      to.refuse("its constant holds a non-finite number");
    if (factor->size() > 1 && scale_features(to, x, y, *factor)) return;
    if (factor->size() > 1 && !takes_channels(to, to.quantity(x)))
      return scale_channels(to, x, y, *factor);
    if (std::ranges::any_of(*factor, [](double f) { return f == 0; }))
      return multiply_by_elements(to, x, y, to.source().constant(c));  // no scale says that
    Quantity q = to.accumulator(x);
    q.scale = combine(q.scale, *factor, 1.0, times);
    if (!q.offset.empty()) q.offset = combine(q.offset, *factor, 1.0, times);
    q.linear.reset();  // its accumulator keeps its own scale; this is another meaning of the same
                       // integers
    const bool stays_activation = factor->size() == 1 && factor->front() > 0 && q.offset.empty() &&
                                  q.scale.size() == 1 &&
                                  size_of(to.out().value(q.id).type.dtype) <= 2;
    if (!stays_activation) return to.define(y, std::move(q));
    Activation same{q.id, to.out().value(q.id).quant.value_or(QuantParams{})};
    same.quant.scale = q.scale.front();
    same.quant.is_signed = lowest(to.out().value(q.id).type.dtype) < 0;
    return to.define(y, same);
  }
  for (ValueId in : node.inputs) to.quantity(in);
  // Twice the product, for what a constant term behind it adds.
  const Width wb = to.width_within("Mul", node.inputs[1], 2.0 * 255.0);
  const Width wa =
      to.width_within("Mul", node.inputs[0], 2.0 * to.largest_code(node.inputs[1], wb));
  const Activation a =
      repeated(to, to.factor(node.inputs[0], wa), to.shape(y), to.name_for(y, "_left"));
  const Activation b =
      repeated(to, to.factor(node.inputs[1], wb), to.shape(y), to.name_for(y, "_right"));
  Quantity product;
  product.id = to.emit("Mul", to.name_for(y, "_acc"), {a.id, b.id});
  product.scale = {a.quant.scale * b.quant.scale};
  to.define(y, std::move(product));
}

}  // namespace waveq
