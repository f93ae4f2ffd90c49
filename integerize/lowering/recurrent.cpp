#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"

namespace waveq {

namespace {

constexpr double kGateOne = 4096;    // gate arguments are Q3.12
constexpr double kStateOne = 32768;  // gates and the hidden state are Q0.15
constexpr double kLargestMul = 1 << 20;
constexpr std::int64_t kCellBits = 4;  // an LSTM's cell holds +-16
constexpr int kMostShift = 40;

/// One direction of a recurrent node: slice d of its parameters.
struct Direction {
  Tensor w, r;                 ///< [G*H, I], [G*H, H]
  std::vector<double> wb, rb;  ///< [G*H]; zeros where there is no bias
  std::vector<double> h, c;    ///< initial states [B*H]; empty for zeros
  bool reverse = false;
};

Tensor slice(const Tensor& all, std::int64_t d) {
  Shape shape(all.shape().begin() + 1, all.shape().end());
  Tensor part(DType::f32, shape);
  std::ranges::copy(all.as<float>().subspan(static_cast<std::size_t>(d * part.size()),
                                            static_cast<std::size_t>(part.size())),
                    part.as<float>().begin());
  return part;
}

const Tensor* constant_input(Lowering& to, const Node& node, std::size_t i, const char* what) {
  if (i >= node.inputs.size() || !node.inputs[i].valid()) return nullptr;
  if (!to.is_constant(node.inputs[i])) to.refuse(fmt::format("its {} is not constant", what));
  return &to.source().constant(node.inputs[i]);
}

/// Initial states as numbers; empty where they are absent or zero.
std::vector<double> initial_state(Lowering& to, const Node& node, std::size_t i, std::int64_t d,
                                  double limit) {
  const Tensor* all = constant_input(to, node, i, "initial state");
  if (!all) return {};
  std::vector<double> state = to_double(slice(*all, d));
  if (std::ranges::all_of(state, [](double v) { return v == 0; })) return {};
  for (double v : state)
    if (!(std::abs(v) <= limit))
      to.refuse(fmt::format("its initial state holds {:g}, beyond the state's {:g}", v, limit));
  return state;
}

Direction direction(Lowering& to, const Node& node, std::int64_t d, bool reverse) {
  const Tensor *w = constant_input(to, node, 1, "weight"),
               *r = constant_input(to, node, 2, "weight"), *b = constant_input(to, node, 3, "bias");
  Direction out{.w = slice(*w, d),
                .r = slice(*r, d),
                .wb = {},
                .rb = {},
                .h = {},
                .c = {},
                .reverse = reverse};
  const auto rows = static_cast<std::size_t>(out.w.shape()[0]);
  out.wb.assign(rows, 0.0);
  out.rb.assign(rows, 0.0);
  if (b) {
    const std::vector<double> both = to_double(slice(*b, d));
    std::copy_n(both.begin(), rows, out.wb.begin());
    std::copy_n(both.begin() + static_cast<std::ptrdiff_t>(rows), rows, out.rb.begin());
  }
  out.h = initial_state(to, node, 5, d, 1.0);
  if (node.op == "LSTM") out.c = initial_state(to, node, 6, d, std::ldexp(1.0, kCellBits));
  return out;
}

/// tanh(W x + R h + b) as a GRU's state: an update gate that keeps nothing of the old one, a reset
/// gate that lets all of it pass. Their arguments are constants beyond the curve's ends.
Direction as_gru(const Direction& rnn) {
  constexpr double kFarOut = 16;
  const auto third_gate = [](const Tensor& w) {
    Shape shape = w.shape();
    shape[0] *= 3;
    Tensor out(DType::f32, shape);
    std::ranges::copy(w.as<float>(), out.as<float>().last(w.as<float>().size()).begin());
    return out;
  };
  Direction gru = rnn;
  gru.w = third_gate(rnn.w);
  gru.r = third_gate(rnn.r);
  const std::size_t hidden = rnn.wb.size();
  gru.wb.assign(hidden, -kFarOut);
  gru.wb.resize(2 * hidden, kFarOut);
  gru.wb.insert(gru.wb.end(), rnn.wb.begin(), rnn.wb.end());
  gru.rb.assign(2 * hidden, 0.0);
  gru.rb.insert(gru.rb.end(), rnn.rb.begin(), rnn.rb.end());
  return gru;
}

void require_usual_gates(Lowering& to, const Node& node) {
  const Attr* attr = node.attrs.find("activations");
  if (!attr) return;
  const auto& names = std::get<std::vector<std::string>>(*attr);
  const std::vector<std::string> usual = node.op == "RNN" ? std::vector<std::string>{"tanh"}
                                         : node.op == "GRU"
                                             ? std::vector<std::string>{"sigmoid", "tanh"}
                                             : std::vector<std::string>{"sigmoid", "tanh", "tanh"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::string lower = names[i];
    std::ranges::transform(lower, lower.begin(),
                           [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
    if (lower != usual[i % usual.size()])
      to.refuse(fmt::format("its gate {} is {}; {} has an integer form", i, names[i],
                            usual[i % usual.size()]));
  }
}

ValueId int32s(Lowering& to, const std::string& name, const std::vector<double>& real) {
  std::vector<std::int32_t> q;
  for (double v : real)
    q.push_back(static_cast<std::int32_t>(std::clamp(std::round(v), -1048576.0, 1048576.0)));
  return to.out().add_constant(
      name, Tensor::from<std::int32_t>({static_cast<std::int64_t>(q.size())}, q));
}

ValueId int16s(Lowering& to, const std::string& name, const Shape& shape,
               const std::vector<double>& real, double one) {
  std::vector<std::int16_t> q;
  for (double v : real)
    q.push_back(static_cast<std::int16_t>(std::clamp(std::round(v * one), -32768.0, 32767.0)));
  return to.out().add_constant(name, Tensor::from<std::int16_t>(shape, q));
}

/// Int8 weights, one scale for each row, and the multipliers that take their sums to Q3.12.
struct Projection {
  ValueId weights, mul;
  std::int64_t shift = 0;
};

Projection project(Lowering& to, const Tensor& real, double operand_scale,
                   const std::string& name) {
  const QuantizedWeights w = quantize_weights(real, 0, to.weight_levels(), {}, to.node().name);
  const std::vector<std::int64_t> codes = to_int64(w.q);
  const auto each = static_cast<std::ptrdiff_t>(codes.size() / w.scale.size());
  std::vector<double> ratio;
  double largest = 0;
  for (std::size_t row = 0; row < w.scale.size(); ++row) {
    // Rows of zeros have any scale: they are not to limit the others' multipliers.
    const auto from = codes.begin() + static_cast<std::ptrdiff_t>(row) * each;
    const bool empty = std::all_of(from, from + each, [](std::int64_t q) { return q == 0; });
    ratio.push_back(empty ? 0.0 : operand_scale * w.scale[row] * kGateOne);
    largest = std::max(largest, ratio.back());
  }
  if (largest == 0) largest = 1;
  Projection p;
  p.shift =
      std::clamp(static_cast<int>(std::floor(std::log2(kLargestMul / largest))), 0, kMostShift);
  for (double& v : ratio) v = std::ldexp(v, static_cast<int>(p.shift));
  p.weights = to.out().add_constant(name, w.q);
  p.mul = int32s(to, name + "_mul", ratio);
  return p;
}

/// 513 nodes of a curve over [-8, 8) in Q3.12, shifted by half of what a chord misses in the middle
/// of its segment. Source: integer-approximations.md 8.2.
std::vector<double> curve(double (*f)(double)) {
  std::vector<double> nodes;
  for (int i = 0; i <= 512; ++i) {
    const double x = -8.0 + i / 32.0, value = std::round(f(x) * kStateOne);
    if (i == 512) {
      nodes.push_back(value);
      break;
    }
    const double middle = std::round(f(x + 1 / 64.0) * kStateOne),
                 chord = std::round((f(x + 1 / 32.0) * kStateOne + value) / 2);
    nodes.push_back(value - std::round((chord - middle) / 2));
  }
  return nodes;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double hyperbolic_tangent(double x) { return std::tanh(x); }

/// One direction as iGRU or iLSTM: [T, 1, B, H].
ValueId emit_direction(Lowering& to, const Node& node, const Activation& x, const Direction& d,
                       bool wide, const std::string& name) {
  const bool gru = node.op != "LSTM";
  const std::int64_t batch = to.shape(node.inputs[0])[1], hidden = d.r.shape()[1];
  const bool reset_last = node.op == "GRU" && node.attrs.get_int("linear_before_reset", 0) != 0;
  const Projection w = project(to, d.w, x.quant.scale, name + "_W"),
                   r = project(to, d.r, wide ? 1 / kStateOne : 256 / kStateOne, name + "_R");
  // Both biases are one, but for the part of a GRU that the reset gate scales.
  std::vector<double> w_bias, r_bias;
  for (std::size_t i = 0; i < d.wb.size(); ++i) {
    const bool apart = reset_last && static_cast<std::int64_t>(i) >= 2 * hidden;
    w_bias.push_back((d.wb[i] + (apart ? 0.0 : d.rb[i])) * kGateOne);
    r_bias.push_back((apart ? d.rb[i] : 0.0) * kGateOne);
  }
  std::vector<ValueId> inputs{x.id,
                              w.weights,
                              r.weights,
                              w.mul,
                              int32s(to, name + "_W_bias", w_bias),
                              r.mul,
                              int32s(to, name + "_R_bias", r_bias),
                              int16s(to, name + "_sigmoid", {513}, curve(sigmoid), 1.0),
                              int16s(to, name + "_tanh", {513}, curve(hyperbolic_tangent), 1.0)};
  if (!d.h.empty() || !d.c.empty())
    inputs.push_back(
        d.h.empty() ? ValueId{} : int16s(to, name + "_initial_h", {batch, hidden}, d.h, kStateOne));
  if (!d.c.empty())
    inputs.push_back(int16s(to, name + "_initial_c", {batch, hidden}, d.c,
                            std::ldexp(kStateOne, -static_cast<int>(kCellBits))));
  Attrs attrs;
  if (gru)
    attrs.set("linear_before_reset", std::int64_t{reset_last});
  else
    attrs.set("cell_bits", kCellBits);
  attrs.set("n_levels_out", std::int64_t{wide ? 65536 : 256});
  attrs.set("r_shift", r.shift);
  attrs.set("reverse", std::int64_t{d.reverse});
  attrs.set("state_bits", std::int64_t{wide ? 16 : 8});
  attrs.set("w_shift", w.shift);
  return to.emit(gru ? "iGRU" : "iLSTM", name, inputs, attrs);
}

}  // namespace

/// RNN, GRU, LSTM: int8 weights, gates by curves of 512 segments, a 16-bit state. What the
/// recurrent weights multiply, and what is handed on, is the state's 8-bit copy, or the state
/// itself where the recipe gives the node 16 bits. Source: integer-approximations.md 12.
void lower_recurrent(Lowering& to, const Node& node) {
  const std::string op = node.op == "LSTM" ? "iLSTM" : "iGRU";
  if (!to.target_runs(op))
    to.refuse(
        fmt::format("{} has no recurrent cells; the target waveq has", to.options().target.name));
  require_usual_gates(to, node);
  constant_input(to, node, 4, "sequence length");
  if (node.outputs.size() > 2 && node.outputs[2].valid() &&
      to.source().use_count(node.outputs[2]) > 0)
    to.refuse("its final cell state is used, which stays inside the integer cell");
  const std::string kind = node.attrs.get_string("direction", "forward");
  const ValueId y = node.outputs.front();
  // Y may be unused; the tensor is there all the same.
  const ValueId named = y.valid() ? y : node.outputs.at(1);
  const bool wide = to.is_wide(named);
  const Activation x = to.activation(node.inputs[0], to.width(op));
  QuantParams quant;
  quant.scale = wide ? 1 / kStateOne : 256 / kStateOne;
  quant.n_levels = wide ? 65536 : 256;
  std::vector<ValueId> ys, lasts;
  const std::int64_t steps = to.shape(node.inputs[0])[0],
                     directions = kind == "bidirectional" ? 2 : 1;
  for (std::int64_t d = 0; d < directions; ++d) {
    const bool reverse = kind == "reverse" || d == 1;
    const std::string name =
        to.name_for(named, directions == 2 ? fmt::format("_direction{}", d) : "");
    const Direction own = direction(to, node, d, reverse);
    ys.push_back(emit_direction(to, node, x, node.op == "RNN" ? as_gru(own) : own, wide, name));
    to.out().set_quant(ys.back(), quant);
    const std::int64_t last = reverse ? 0 : steps - 1;
    Attrs attrs;
    attrs.set("starts", std::vector<std::int64_t>{last});
    attrs.set("ends", std::vector<std::int64_t>{last + 1});
    attrs.set("axes", std::vector<std::int64_t>{0});
    attrs.set("steps", std::vector<std::int64_t>{1});
    lasts.push_back(to.emit("Slice", name + "_last", {ys.back()}, attrs));
  }
  const auto join = [&](const std::vector<ValueId>& parts, const std::string& name) {
    Attrs attrs;
    attrs.set("axis", std::int64_t{1});
    const ValueId all = parts.size() == 1 ? parts.front() : to.emit("Concat", name, parts, attrs);
    to.out().set_quant(all, quant);
    return all;
  };
  if (y.valid()) to.define(y, Activation{join(ys, to.name_for(y)), quant});
  if (node.outputs.size() < 2 || !node.outputs[1].valid()) return;
  const ValueId h = node.outputs[1];
  const ValueId last = to.emit("Reshape", to.name_for(h),
                               {join(lasts, to.name_for(h, "_joined")),
                                to.constant_i64(to.name_for(h, "_shape"), to.shape(h))});
  to.out().set_quant(last, quant);
  to.define(h, Activation{last, quant});
}

}  // namespace waveq
