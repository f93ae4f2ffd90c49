#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "lowering/rules.h"

namespace waveq {

std::optional<std::vector<double>> per_channel_constant(const Tensor& constant, const Shape& shape) {
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

/// Element-wise product or sum of per-channel vectors, either of which may be a single value or empty (= none).
std::vector<double> combine(const std::vector<double>& a, const std::vector<double>& b, double none, double (*f)(double, double)) {
  if (a.empty() && b.empty()) return {};
  std::vector<double> out;
  for (std::size_t c = 0; c < std::max({a.size(), b.size(), std::size_t{1}}); ++c) {
    const auto at = [&](const std::vector<double>& v) { return v.empty() ? none : v[v.size() > 1 ? c : 0]; };
    out.push_back(f(at(a), at(b)));
  }
  return out;
}

double plus(double a, double b) { return a + b; }
double times(double a, double b) { return a * b; }

/// A MatMul by constant weights in front of a constant term along its last axis: the term is its bias.
bool add_to_bias(Lowering& to, ValueId x, ValueId y, const Tensor& c, double sign) {
  const Quantity& q = to.quantity(x);
  if (!q.linear || q.linear->emitted() || q.linear->op == "Conv" || q.relu) return false;
  std::vector<double> term = to_double(c);
  if (term.size() != 1 && (term.size() != q.linear->channels() || c.shape().back() != c.size())) return false;
  if (to.source().use_count(x) != 1 || to.shape(x) != to.shape(y)) return false;
  for (double& t : term) t *= sign;
  Quantity out = q;
  out.linear = std::make_shared<DeferredLinear>(*q.linear);
  if (out.linear->bias.empty()) out.linear->bias.assign(out.linear->channels(), 0.0);
  out.linear->bias = combine(out.linear->bias, term, 0.0, plus);
  to.define(y, std::move(out));
  return true;
}

/// x + c: the requant's add where the constant follows axis 1; else an integer constant at the scale of x.
void add_constant(Lowering& to, ValueId x, ValueId y, const Tensor& c, double sign) {
  if (add_to_bias(to, x, y, c, sign)) return;
  if (auto term = per_channel_constant(c, to.shape(x)); term && to.shape(x) == to.shape(y)) {
    for (double& t : *term) t *= sign;
    Quantity q = to.accumulator(x);
    q.offset = combine(q.offset, *term, 0.0, plus);
    return to.define(y, std::move(q));
  }
  const Activation a = to.signed_activation(x);
  std::vector<std::int32_t> steps;
  for (double v : to_double(c)) {
    const double q = std::floor(sign * v / a.quant.scale + 0.5);
    if (!(std::abs(q) <= 16777216.0)) to.refuse("its constant is beyond 2^24 steps of the other operand");
    steps.push_back(static_cast<std::int32_t>(q));
  }
  Quantity sum;
  sum.id = to.emit("Add", to.name_for(y, "_acc"), {a.id, to.out().add_constant(to.name_for(y, "_term"), Tensor::from<std::int32_t>(c.shape(), steps))});
  sum.scale = {a.quant.scale};
  to.define(y, std::move(sum));
}

/// Both operands as signed 8-bit at one scale, the integer operator, an accumulator of that scale.
void add_activations(Lowering& to, const Node& node) {
  const ValueId a = node.inputs[0], b = node.inputs[1];
  if (to.shape(a) != to.shape(b)) to.refuse("operands of different shapes: the target's kernel does not broadcast");
  const double scale = std::max(to.signed_scale(a), to.signed_scale(b));
  Quantity sum;
  const Activation left = to.signed_activation_at(a, scale), right = to.signed_activation_at(b, scale);
  sum.id = to.emit(node.op, to.name_for(node.outputs.front(), "_acc"), {left.id, right.id});
  sum.scale = {scale};
  to.define(node.outputs.front(), std::move(sum));
}

}  // namespace

void lower_add(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  if (to.is_constant(node.inputs[1])) return add_constant(to, node.inputs[0], y, to.source().constant(node.inputs[1]), 1.0);
  if (to.is_constant(node.inputs[0])) return add_constant(to, node.inputs[1], y, to.source().constant(node.inputs[0]), 1.0);
  add_activations(to, node);
}

void lower_sub(Lowering& to, const Node& node) {
  if (to.is_constant(node.inputs[1])) return add_constant(to, node.inputs[0], node.outputs.front(), to.source().constant(node.inputs[1]), -1.0);
  if (to.is_constant(node.inputs[0])) to.refuse("constant minus activation; write it as a negated activation plus the constant");
  add_activations(to, node);
}

void lower_mul(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  for (const auto& [x, c] : {std::pair{node.inputs[0], node.inputs[1]}, std::pair{node.inputs[1], node.inputs[0]}}) {
    if (!to.is_constant(c)) continue;
    const auto factor = per_channel_constant(to.source().constant(c), to.shape(x));
    if (!factor || to.shape(x) != to.shape(y)) to.refuse("its constant is neither one number nor one per channel");
    if (std::ranges::any_of(*factor, [](double f) { return f == 0 || !std::isfinite(f); })) to.refuse("its constant holds a zero or a non-finite number");
    Quantity q = to.accumulator(x);
    q.scale = combine(q.scale, *factor, 1.0, times);
    if (!q.offset.empty()) q.offset = combine(q.offset, *factor, 1.0, times);
    q.linear.reset();  // its accumulator keeps its own scale; this is another meaning of the same integers
    const bool stays_activation = factor->size() == 1 && factor->front() > 0 && q.offset.empty() && q.scale.size() == 1 &&
                                  size_of(to.out().value(q.id).type.dtype) == 1;
    if (!stays_activation) return to.define(y, std::move(q));
    Activation same{q.id, to.out().value(q.id).quant.value_or(QuantParams{})};
    same.quant.scale = q.scale.front();
    same.quant.is_signed = to.out().value(q.id).type.dtype == DType::i8;
    return to.define(y, same);
  }
  if (to.shape(node.inputs[0]) != to.shape(node.inputs[1])) to.refuse("operands of different shapes: the target's kernel does not broadcast");
  const Activation a = to.activation(node.inputs[0]), b = to.activation(node.inputs[1]);
  Quantity product;
  product.id = to.emit("Mul", to.name_for(y, "_acc"), {a.id, b.id});
  product.scale = {a.quant.scale * b.quant.scale};
  to.define(y, std::move(product));
}

}  // namespace waveq
