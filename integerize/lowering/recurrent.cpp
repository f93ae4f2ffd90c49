#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

constexpr double kGateOne = 4096;    // gate arguments are Q3.12
constexpr double kStateOne = 32768;  // gates and the hidden state are Q0.15
constexpr double kLargestMul = 1 << 20;
constexpr std::int64_t kCellBits = 4;  // an LSTM's cell holds +-16
constexpr int kMostShift = 40;

/// One direction of a recurrent node: slice d of its parameters.
struct Direction {
  Tensor w, r;                     ///< [G*H, I], [G*H, H]
  std::vector<double> wb, rb;      ///< [G*H]; zeros where there is no bias
  std::vector<double> h, c;        ///< constant initial states [B*H]; empty for zeros
  ValueId computed_h, computed_c;  ///< computed ones, integers [B,H]; invalid for constants
  bool reverse = false;
};

double cell_step() { return std::ldexp(1 / kStateOne, static_cast<int>(kCellBits)); }

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

bool is_computed(Lowering& to, const Node& node, std::size_t i) {
  return i < node.inputs.size() && node.inputs[i].valid() && !to.is_constant(node.inputs[i]);
}

/// Constant initial states as numbers; empty where they are absent, zero or computed.
std::vector<double> initial_state(Lowering& to, const Node& node, std::size_t i, std::int64_t d,
                                  double limit) {
  if (i >= node.inputs.size() || !node.inputs[i].valid() || is_computed(to, node, i)) return {};
  std::vector<double> state = to_double(slice(to.source().constant(node.inputs[i]), d));
  if (std::ranges::all_of(state, [](double v) { return v == 0; })) return {};
  for (double v : state)
    if (!(std::abs(v) <= limit))
      to.refuse(fmt::format("its initial state holds {:g}, beyond the state's {:g}", v, limit));
  return state;
}

ValueId emit_slice(Lowering& to, ValueId x, const std::vector<std::int64_t>& axes,
                   const std::vector<std::int64_t>& starts, const std::string& name) {
  std::vector<std::int64_t> ends = starts;
  for (std::int64_t& end : ends) ++end;
  Attrs attrs;
  attrs.set("starts", starts);
  attrs.set("ends", ends);
  attrs.set("axes", axes);
  attrs.set("steps", std::vector<std::int64_t>(axes.size(), 1));
  return to.emit("Slice", name, {x}, attrs);
}

/// clip((x*mul + add + div/2) >> log2(div)) to n_levels, signed, by one number each.
Activation emit_requant(Lowering& to, ValueId x, std::int64_t mul, std::int64_t add, int shift,
                        const QuantParams& quant, const std::string& name) {
  const auto number = [&](const char* suffix, std::int64_t v) {
    return to.out().add_constant(name + suffix,
                                 Tensor::from<std::int32_t>({}, {static_cast<std::int32_t>(v)}));
  };
  Attrs attrs;
  attrs.set("div", std::int64_t{1} << shift);
  attrs.set("n_levels_out", quant.n_levels);
  attrs.set("signed", std::int64_t{1});
  const ValueId y =
      to.emit("RequantShift", name, {x, number("_mul", mul), number("_add", add)}, attrs);
  to.out().set_quant(y, quant);
  return {y, quant};
}

QuantParams state_codes(double step, std::int64_t n_levels) {
  QuantParams quant;
  quant.scale = step;
  quant.n_levels = n_levels;
  return quant;
}

/// A computed initial state of direction d, in the steps that the cell has: [B,H] of int16. One
/// that has those steps already is moved alone.
ValueId computed_state(Lowering& to, const Node& node, std::size_t i, std::int64_t d, double step) {
  const ValueId all = node.inputs[i];
  const Shape& shape = to.shape(all);
  const std::string name = to.name_for(all, fmt::format("_initial{}", d));
  Activation a = to.activation(all, to.width("RequantShift"));
  const auto moved = [&](ValueId id) { to.out().set_quant(a.id = id, a.quant); };
  if (shape[0] > 1) moved(emit_slice(to, a.id, {0}, {d}, name + "_direction"));
  moved(to.emit("Reshape", name + "_rows",
                {a.id, to.constant_i64(name + "_shape", {shape[1], shape[2]})}));
  const QuantParams wanted = state_codes(step, 65536);
  if (a.quant == wanted) return a.id;
  // The product stays below 2^30: codes times the factor is what the state can be in its steps.
  const double factor = a.quant.scale / step;
  const auto zero = static_cast<double>(a.quant.zero_point);
  const double most = static_cast<double>(a.quant.n_levels) + std::abs(zero);
  const int shift = std::min(30, static_cast<int>(std::floor(std::log2(0x1p30 / (most * factor)))));
  if (shift < 1)
    to.refuse(fmt::format("its initial state is given in steps of {:g}, the cell's are {:g}",
                          a.quant.scale, step));
  const double mul = std::round(std::ldexp(factor, shift));
  return emit_requant(to, a.id, static_cast<std::int64_t>(mul),
                      static_cast<std::int64_t>(-zero * mul), shift, wanted, name)
      .id;
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
                .computed_h = {},
                .computed_c = {},
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
  if (is_computed(to, node, 5)) out.computed_h = computed_state(to, node, 5, d, 1 / kStateOne);
  if (node.op != "LSTM") return out;
  out.c = initial_state(to, node, 6, d, std::ldexp(1.0, kCellBits));
  if (is_computed(to, node, 6)) out.computed_c = computed_state(to, node, 6, d, cell_step());
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

/// What one direction hands on.
struct Handed {
  bool wide = false;   ///< R multiplies 16 bits
  bool exact = false;  ///< the 16-bit state itself
  bool cell = false;   ///< the cell, too
};

/// One direction as iGRU or iLSTM: [T, 1, B, H], or [T, 2, B, H] with its cell.
ValueId emit_direction(Lowering& to, const Node& node, const Activation& x, const Direction& d,
                       const Handed& handed, const std::string& name) {
  const bool wide = handed.wide;
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
  const auto initial = [&](ValueId computed, const std::vector<double>& constant, double step,
                           const char* suffix) {
    if (computed.valid() || constant.empty()) return computed;
    return int16s(to, name + suffix, {batch, hidden}, constant, 1 / step);
  };
  inputs.push_back(initial(d.computed_h, d.h, 1 / kStateOne, "_initial_h"));
  inputs.push_back(initial(d.computed_c, d.c, cell_step(), "_initial_c"));
  while (!inputs.back().valid()) inputs.pop_back();
  Attrs attrs;
  if (gru)
    attrs.set("linear_before_reset", std::int64_t{reset_last});
  else
    attrs.set("cell_bits", kCellBits);
  if (handed.cell) attrs.set("cell_output", std::int64_t{1});
  attrs.set("n_levels_out", std::int64_t{handed.exact ? 65536 : 256});
  attrs.set("r_shift", r.shift);
  attrs.set("reverse", std::int64_t{d.reverse});
  attrs.set("state_bits", std::int64_t{wide ? 16 : 8});
  attrs.set("w_shift", w.shift);
  return to.emit(gru ? "iGRU" : "iLSTM", name, inputs, attrs);
}

/// Whether movement alone leads from a value to an output of the network.
bool is_handed_out(const Graph& graph, ValueId v) {
  if (graph.is_output(v)) return true;
  return std::ranges::any_of(graph.value(v).uses, [&](NodeId id) {
    const Node& user = graph.node(id);
    const OpDef* op = find_op(user.op);
    return op && op->moves_data && is_handed_out(graph, user.outputs.front());
  });
}

bool is_used(const Graph& graph, const Node& node, std::size_t output) {
  if (output >= node.outputs.size() || !node.outputs[output].valid()) return false;
  return graph.use_count(node.outputs[output]) > 0 || graph.is_output(node.outputs[output]);
}

/// Input 5 or 6 of recurrent nodes, where a value, moved, becomes nothing but that; 0 elsewhere.
std::size_t started_state(const Graph& graph, ValueId v) {
  if (graph.is_output(v)) return 0;
  std::size_t found = 0;
  for (const NodeId id : graph.value(v).uses) {
    const Node& user = graph.node(id);
    const auto at =
        static_cast<std::size_t>(std::ranges::find(user.inputs, v) - user.inputs.begin());
    const OpDef* op = find_op(user.op);
    const bool recurrent = user.op == "GRU" || user.op == "LSTM" || user.op == "RNN";
    std::size_t state = 0;
    if (recurrent && at >= 5 && std::ranges::count(user.inputs, v) == 1) state = at;
    if (op && op->moves_data && at == 0) state = started_state(graph, user.outputs.front());
    if (state == 0 || (found != 0 && found != state)) return 0;
    found = state;
  }
  return found;
}

/// The states of all steps of one direction, taken apart.
struct States {
  Activation y;     ///< hidden states [T,1,B,H] as other nodes read them
  Activation h, c;  ///< the last ones [1,1,B,H]; c only where it is handed on
};

States emit_states(Lowering& to, const Node& node, const Activation& x, const Direction& d,
                   const Handed& handed, const std::string& name) {
  const QuantParams own = state_codes(1 / kStateOne, 65536),
                    copy = state_codes(256 / kStateOne, 256);
  const bool copied = handed.exact && !handed.wide, parted = handed.cell;
  const std::int64_t last = d.reverse ? 0 : to.shape(node.inputs[0])[0] - 1;
  States out;
  const ValueId all =
      emit_direction(to, node, x, d, handed, parted || copied ? name + "_states" : name);
  Activation hidden{all, handed.exact ? own : copy};
  if (parted) hidden.id = emit_slice(to, all, {1}, {0}, copied ? name + "_hidden" : name);
  to.out().set_quant(hidden.id, hidden.quant);
  out.y = copied ? emit_requant(to, hidden.id, 1, 0, 8, copy, name) : hidden;
  out.h = {emit_slice(to, hidden.id, {0}, {last}, name + "_last"), hidden.quant};
  to.out().set_quant(out.h.id, out.h.quant);
  if (!parted) return out;
  out.c = {emit_slice(to, all, {0, 1}, {last, 1}, name + "_cell"), state_codes(cell_step(), 65536)};
  to.out().set_quant(out.c.id, out.c.quant);
  return out;
}

}  // namespace

std::optional<QuantParams> codes_of_state(const Graph& graph, ValueId input) {
  const std::size_t state = started_state(graph, input);
  if (state == 0) return std::nullopt;
  return state_codes(state == 5 ? 1 / kStateOne : cell_step(), 65536);
}

/// RNN, GRU, LSTM: int8 weights, gates by curves of 512 segments, a 16-bit state. What the
/// recurrent weights multiply, and what is handed on, is the state's 8-bit copy, or the state
/// itself where the recipe gives the node 16 bits. Of a network that takes the initial state, the
/// last one that it hands out has 16 bits, and so has a cell that anything reads: they go on where
/// they ended.
/// Source: integer-approximations.md 12.
void lower_recurrent(Lowering& to, const Node& node) {
  const std::string op = node.op == "LSTM" ? "iLSTM" : "iGRU";
  if (!to.target_runs(op))
    to.refuse(
        fmt::format("{} has no recurrent cells; the target waveq has", to.options().target.name));
  require_usual_gates(to, node);
  constant_input(to, node, 4, "sequence length");
  const std::string kind = node.attrs.get_string("direction", "forward");
  const ValueId y = node.outputs.front();
  // Y may be unused; the tensor is there all the same.
  const ValueId named = y.valid() ? y : node.outputs.at(1);
  Handed handed;
  handed.wide = to.is_wide(named);
  handed.cell = is_used(to.source(), node, 2);
  const bool continues = is_computed(to, node, 5) && is_used(to.source(), node, 1) &&
                         is_handed_out(to.source(), node.outputs[1]);
  handed.exact = handed.wide || handed.cell || continues;
  const Activation x = to.activation(node.inputs[0], to.width(op));
  std::vector<Activation> ys, hs, cs;
  const std::int64_t directions = kind == "bidirectional" ? 2 : 1;
  for (std::int64_t d = 0; d < directions; ++d) {
    const std::string name =
        to.name_for(named, directions == 2 ? fmt::format("_direction{}", d) : "");
    const Direction own = direction(to, node, d, kind == "reverse" || d == 1);
    const States states =
        emit_states(to, node, x, node.op == "RNN" ? as_gru(own) : own, handed, name);
    ys.push_back(states.y);
    hs.push_back(states.h);
    cs.push_back(states.c);
  }
  const auto join = [&](const std::vector<Activation>& parts, const std::string& name) {
    if (parts.size() == 1) return parts.front();
    Attrs attrs;
    attrs.set("axis", std::int64_t{1});
    const Activation all{to.emit("Concat", name, {parts[0].id, parts[1].id}, attrs),
                         parts.front().quant};
    to.out().set_quant(all.id, all.quant);
    return all;
  };
  if (is_used(to.source(), node, 0)) to.define(y, join(ys, to.name_for(y)));
  const auto define_last = [&](std::size_t output, const std::vector<Activation>& parts) {
    if (!is_used(to.source(), node, output)) return;
    const ValueId last = node.outputs[output];
    const Activation all = join(parts, to.name_for(last, "_joined"));
    const Activation shaped{
        to.emit("Reshape", to.name_for(last),
                {all.id, to.constant_i64(to.name_for(last, "_shape"), to.shape(last))}),
        all.quant};
    to.out().set_quant(shaped.id, shaped.quant);
    to.define(last, shaped);
  };
  define_last(1, hs);
  define_last(2, cs);
}

}  // namespace waveq
