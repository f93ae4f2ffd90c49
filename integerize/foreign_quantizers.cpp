#include "foreign_quantizers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "waveq/graph/infer.h"
#include "waveq/graph/op.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

std::string place(const Node& node) {
  return fmt::format("{} '{}'", node.op == kQonnxQuant ? "Quant" : node.op, node.name);
}

[[noreturn]] void refuse(const Node& node, std::string what, std::string hint) {
  throw Error(ErrorCode::unsupported, place(node), std::move(what), std::move(hint));
}

/// Adds nodes beside the one they stand for.
class Speller {
 public:
  Speller(Graph& graph, NodeId id) : graph_(graph), id_(id), node_(graph.node(id)) {}

  const Node& node() const { return node_; }
  ValueId constant(const char* what, Tensor t) {
    return graph_.add_constant(fmt::format("{}_{}", node_.name, what), std::move(t));
  }
  ValueId append(const char* op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    Node step;
    step.op = op;
    step.name = fmt::format("{}_{}", node_.name, op);
    step.origin = node_.origin;
    step.inputs = std::move(inputs);
    step.attrs = std::move(attrs);
    const ValueId y = graph_.add_value(step.name + "_y");
    step.outputs = {y};
    graph_.add_node(std::move(step));
    return y;
  }
  /// y takes the place and the name of the node's result.
  void replace_by(ValueId y) {
    const std::string name = graph_.value(node_.outputs[0]).name;
    graph_.replace_uses(node_.outputs[0], y);
    std::string old = name + "_quant";
    while (graph_.find_value(old)) old += "_";
    graph_.rename(node_.outputs[0], old);
    graph_.rename(y, name);
    graph_.remove_node(id_);
  }

 private:
  Graph& graph_;
  NodeId id_;
  const Node& node_;
};

// ---- QONNX's Quant.

/// Contents of a parameter of a Quant.
std::vector<double> parameter(const Graph& graph, const Node& node, std::size_t i,
                              const char* name) {
  if (i >= node.inputs.size() || !graph.is_constant(node.inputs[i]))
    refuse(node, fmt::format("its {} is computed at run time", name),
           "export with fixed quantizer parameters");
  return to_double(graph.constant(node.inputs[i]));
}

using RoundingMode = double (*)(double);

struct RoundingRow {
  const char* name;
  RoundingMode round;
  bool nearest;
};

/// Modes of Quant, and ROUND_TO_ZERO as Brevitas calls DOWN. Where ties go is no matter in a
/// network: no two runtimes agree on the float32 sum before them.
constexpr auto kRoundings = std::to_array<RoundingRow>({
    {"ROUND", [](double v) { return std::nearbyint(v); }, true},
    {"HALF_EVEN", [](double v) { return std::nearbyint(v); }, true},
    {"HALF_UP", [](double v) { return std::round(v); }, true},
    {"HALF_DOWN", [](double v) { return std::copysign(std::ceil(std::abs(v) - 0.5), v); }, true},
    {"FLOOR", [](double v) { return std::floor(v); }, false},
    {"CEIL", [](double v) { return std::ceil(v); }, false},
    {"UP", [](double v) { return std::copysign(std::ceil(std::abs(v)), v); }, false},
    {"DOWN", [](double v) { return std::trunc(v); }, false},
    {"ROUND_TO_ZERO", [](double v) { return std::trunc(v); }, false},
});

const RoundingRow& rounding_of(const Node& node) {
  std::string name = node.attrs.get_string("rounding_mode", "ROUND");
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  const auto row =
      std::ranges::find_if(kRoundings, [&](const RoundingRow& r) { return name == r.name; });
  if (row == kRoundings.end()) refuse(node, fmt::format("rounds by {}", name), "train with ROUND");
  return *row;
}

struct QuantNode {
  Tensor scale;
  Tensor zero_point;
  double bits = 8;
  double lo = -128, hi = 127;
};

QuantNode read_quant(const Graph& graph, const Node& node) {
  QuantNode q;
  parameter(graph, node, 1, "scale");
  parameter(graph, node, 2, "zero point");
  q.scale = graph.constant(node.inputs[1]);
  q.zero_point = graph.constant(node.inputs[2]);
  const std::vector<double> bits = parameter(graph, node, 3, "bit width");
  if (bits.size() != 1) refuse(node, "its bit width differs between channels", "use one");
  q.bits = bits.front();
  if (std::floor(q.bits) != q.bits || q.bits < 1 || q.bits > 32)
    refuse(node, fmt::format("has {} bits", q.bits), "1 to 32 are possible");
  const bool is_signed = node.attrs.get_int("signed", 1) != 0;
  const double narrow = node.attrs.get_int("narrow", 0) != 0 ? 1 : 0;
  const double levels = std::exp2(q.bits);
  q.lo = is_signed ? -levels / 2 + narrow : 0;
  q.hi = is_signed ? levels / 2 - 1 : levels - 1 - narrow;
  return q;
}

/// Elements of `parameter` for those of a tensor of `shape`, as NumPy broadcasts.
class Broadcast {
 public:
  Broadcast(const Tensor& parameter, const Shape& shape, const Node& node)
      : values_(to_double(parameter)), own_(parameter.shape()), shape_(shape) {
    if (broadcast(own_, shape_, place(node)) != shape_)
      refuse(node, fmt::format("parameters {} for data {}", to_string(own_), to_string(shape_)),
             "export the model again");
  }
  double at(std::int64_t i) const {
    std::int64_t index = 0, stride = 1;
    for (std::size_t back = 1; back <= shape_.size(); ++back) {
      const std::int64_t along = i % shape_[shape_.size() - back];
      i /= shape_[shape_.size() - back];
      if (back > own_.size()) continue;
      const std::int64_t extent = own_[own_.size() - back];
      if (extent > 1) index += along * stride;
      stride *= extent;
    }
    return values_[static_cast<std::size_t>(index)];
  }

 private:
  std::vector<double> values_;
  Shape own_, shape_;
};

/// (clamp(round(x / scale + zero), lo, hi) - zero) * scale; one signed bit: +-1.
Tensor rounded_constant(const Tensor& x, const QuantNode& q, const Node& node) {
  const RoundingMode round = rounding_of(node).round;
  const Broadcast scale(q.scale, x.shape(), node), zero(q.zero_point, x.shape(), node);
  const bool bipolar = q.bits == 1 && q.lo < 0;
  const std::vector<double> values = to_double(x);
  Tensor out(DType::f32, x.shape());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const double s = scale.at(at), z = zero.at(at), v = values[i] / s + z;
    const double code = bipolar ? (v >= 0 ? 1 : -1) : round(std::clamp(v, q.lo, q.hi));
    out.as<float>()[i] = static_cast<float>((code - z) * s);
  }
  return out;
}

/// Axis along which the scales [1,..,C,..,1] differ, counted from the end (they broadcast as NumPy
/// does): -1 is the last; 0 for one scale.
std::int64_t scale_axis(const Node& node, const Shape& shape) {
  const auto wide = [](std::int64_t d) { return d != 1; };
  if (std::ranges::count_if(shape, wide) > 1)
    refuse(node, fmt::format("its scales {} differ along several axes", to_string(shape)),
           "use one scale for a tensor, or for each channel");
  const auto it = std::ranges::find_if(shape, wide);
  return it - shape.end();
}

/// Quant of computed data -> QuantizeLinear, Clip where the type holds more, DequantizeLinear.
void spell_quant(Graph& graph, NodeId id) {
  Speller to(graph, id);
  const Node& node = to.node();
  const QuantNode q = read_quant(graph, node);
  const RoundingRow& rounding = rounding_of(node);
  if (!rounding.nearest)
    refuse(node, fmt::format("rounds by {}", rounding.name),
           "waveq rounds to nearest: train with ROUND");
  if (q.bits < 2 || q.bits > 16)
    refuse(node, fmt::format("has {} bits", q.bits), "2 to 16 are possible for computed data");
  const std::vector<double> zeros = to_double(q.zero_point);
  const double zero = zeros.empty() ? 0 : zeros.front();
  if (std::ranges::any_of(zeros, [&](double z) { return z != zero; }) || std::floor(zero) != zero)
    refuse(node, "its zero point differs between channels or is no integer", "use one");
  const bool is_signed = q.lo < 0;
  const DType dtype =
      q.bits > 8 ? (is_signed ? DType::i16 : DType::u16) : (is_signed ? DType::i8 : DType::u8);
  const auto lowest_code = static_cast<double>(lowest(dtype)),
             highest_code = static_cast<double>(highest(dtype));
  if (zero < lowest_code || zero > highest_code)
    refuse(node, fmt::format("its zero point {} is outside its grid", zero), "use one inside");
  const std::int64_t axis = scale_axis(node, q.scale.shape());
  const Shape shape = axis == 0 ? Shape{} : Shape{q.scale.size()};
  const auto integer = [&](double v, const Shape& s) {
    Tensor t(DType::i64, s);
    std::ranges::fill(t.as<std::int64_t>(), static_cast<std::int64_t>(v));
    return cast(t, dtype);
  };
  Attrs along;
  if (axis != 0) along.set("axis", axis);
  const ValueId scale = to.constant("scale", cast(q.scale, DType::f32).reshaped(shape));
  const ValueId zero_point = to.constant("zero_point", integer(zero, shape));
  ValueId codes = to.append("QuantizeLinear", {node.inputs[0], scale, zero_point}, along);
  if (q.lo != lowest_code || q.hi != highest_code) {
    const ValueId lo = to.constant("lo", integer(q.lo, {})),
                  hi = to.constant("hi", integer(q.hi, {}));
    codes = to.append("Clip", {codes, lo, hi});
  }
  to.replace_by(to.append("DequantizeLinear", {codes, scale, zero_point}, along));
}

/// Quant or BipolarQuant of a constant; nothing for other nodes.
std::optional<Tensor> rounded_weights(const Graph& graph, const Node& node) {
  if (node.inputs.empty() || !graph.is_constant(node.inputs[0])) return std::nullopt;
  const Tensor& x = graph.constant(node.inputs[0]);
  if (node.op == kQonnxQuant) return rounded_constant(x, read_quant(graph, node), node);
  if (node.op != "BipolarQuant") return std::nullopt;
  parameter(graph, node, 1, "scale");
  const QuantNode signs{graph.constant(node.inputs[1]), Tensor::scalar(0.0F), 1, -1, 0};
  return rounded_constant(x, signs, node);
}

// ---- Operators on integers with their scales as operands.

struct QLinearRow {
  const char* op;
  const char* becomes;
  std::size_t operands;  ///< triples (x, scale, zero point) in front; 0: all behind the result's
  std::size_t bias;      ///< input of an int32 bias; 0: none
};

constexpr auto kQLinear = std::to_array<QLinearRow>({
    {"QLinearConv", "Conv", 2, 8},
    {"QLinearMatMul", "MatMul", 2, 0},
    {"QGemm", "Gemm", 2, 6},
    {"QLinearAdd", "Add", 2, 0},
    {"QLinearMul", "Mul", 2, 0},
    {"QLinearAveragePool", "AveragePool", 1, 0},
    {"QLinearGlobalAveragePool", "GlobalAveragePool", 1, 0},
    {"QLinearSigmoid", "Sigmoid", 1, 0},
    {"QLinearLeakyRelu", "LeakyRelu", 1, 0},
    {"QLinearSoftmax", "Softmax", 1, 0},
    {"QLinearConcat", "Concat", 0, 0},
});

/// DequantizeLinear of the triple that starts at input i.
ValueId dequantized(Speller& to, const Graph& graph, std::size_t i) {
  const std::vector<ValueId>& in = to.node().inputs;
  if (in.size() < i + 3) refuse(to.node(), "lacks operands", "export the model again");
  Attrs attrs;
  // Weights of a convolution have their channels first, of a product last.
  const bool per_channel = graph.is_constant(in[i + 1]) && graph.constant(in[i + 1]).size() > 1;
  const bool first = to.node().op == "QLinearConv" || to.node().attrs.get_int("transB", 0) == 1;
  if (per_channel) attrs.set("axis", std::int64_t{first ? 0 : -1});
  std::vector<ValueId> inputs{in[i], in[i + 1]};
  if (in[i + 2].valid()) inputs.push_back(in[i + 2]);
  return to.append("DequantizeLinear", std::move(inputs), std::move(attrs));
}

/// The real bias: integers times the scales of both operands.
ValueId real_bias(Speller& to, const Graph& graph, ValueId bias) {
  const std::vector<ValueId>& in = to.node().inputs;
  for (ValueId v : {bias, in[1], in[4]})
    if (!graph.is_constant(v))
      refuse(to.node(), "its bias or scales are computed at run time", "export fixed ones");
  std::vector<double> values = to_double(graph.constant(bias));
  const double x = to_double(graph.constant(in[1])).front();
  const std::vector<double> w = to_double(graph.constant(in[4]));
  for (std::size_t c = 0; c < values.size(); ++c)
    values[c] *= x * w[w.size() > 1 ? c % w.size() : 0];
  return to.constant("bias", Tensor::from<float>(graph.constant(bias).shape(),
                                                 std::vector<float>(values.begin(), values.end())));
}

void spell_qlinear(Graph& graph, NodeId id, const QLinearRow& row) {
  Speller to(graph, id);
  const Node& node = to.node();
  std::vector<ValueId> inputs;
  std::size_t at = row.operands == 0 ? 2 : 0;
  for (; row.operands == 0 ? at < node.inputs.size() : at < 3 * row.operands; at += 3)
    inputs.push_back(dequantized(to, graph, at));
  std::size_t result = row.operands == 0 ? 0 : at;
  if (row.bias == at) ++result;  // it stands before the result's scale
  if (row.bias != 0 && row.bias < node.inputs.size() && node.inputs[row.bias].valid())
    inputs.push_back(real_bias(to, graph, node.inputs[row.bias]));
  if (result >= node.inputs.size() || !node.inputs[result].valid())
    refuse(node, "has no scale for its result", "export it with integers as its result");
  Attrs attrs = node.attrs;
  for (const char* own : {"waveq_domain", "channels_last", "opset"}) attrs.erase(own);
  if (node.attrs.get_int("channels_last", 0) != 0)
    refuse(node, "has its channels last", "export the model before it is optimized");
  const ValueId y = to.append(row.becomes, std::move(inputs), std::move(attrs));
  std::vector<ValueId> grid{y, node.inputs[result]};
  if (result + 1 < node.inputs.size() && node.inputs[result + 1].valid())
    grid.push_back(node.inputs[result + 1]);
  to.replace_by(to.append("QuantizeLinear", std::move(grid)));
}

// ---- Moves of integers.

/// DequantizeLinear with one scale behind a node that moves integers (MaxPool: their order is that
/// of the real numbers): it goes before that node, which then moves real numbers.
bool dequantize_before_move(Graph& graph, NodeId id) {
  const Node& dequantize = graph.node(id);
  const NodeId producer = graph.value(dequantize.inputs[0]).producer;
  if (!producer.valid() || !graph.is_constant(dequantize.inputs[1]) ||
      graph.constant(dequantize.inputs[1]).size() != 1)
    return false;
  const Node& move = graph.node(producer);
  const OpDef* op = find_op(move.op);
  if (!op || !(op->moves_data || move.op == "MaxPool") || move.outputs.size() != 1) return false;
  Speller to(graph, id);
  std::vector<ValueId> inputs = move.inputs;
  const std::size_t data = move.op == "Concat" ? inputs.size() : 1;
  for (std::size_t i = 0; i < data; ++i) {
    std::vector<ValueId> operands = dequantize.inputs;
    operands[0] = inputs[i];
    inputs[i] = to.append("DequantizeLinear", std::move(operands), dequantize.attrs);
  }
  to.replace_by(to.append(move.op.c_str(), std::move(inputs), move.attrs));
  return true;
}

}  // namespace

bool spell_quantizers(Graph& graph) {
  bool changed = false, weights = false;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (node.op == "Trunc" && node.attrs.has("waveq_domain"))
      refuse(node, "has no integer form in waveq", "requantize with Quant instead");
    const auto row =
        std::ranges::find_if(kQLinear, [&](const QLinearRow& r) { return node.op == r.op; });
    if (std::optional<Tensor> constant = rounded_weights(graph, node)) {
      const ValueId y = node.outputs[0];
      graph.set_constant(y, std::move(*constant));
      graph.remove_node(id);
      weights = true;
    } else if (node.op == kQonnxQuant) {
      spell_quant(graph, id);
    } else if (node.op == "BipolarQuant") {
      refuse(node, "has no integer form in waveq", "use Quant with 2 bits, narrow = 1");
    } else if (row != kQLinear.end()) {
      spell_qlinear(graph, id, *row);
    } else {
      continue;
    }
    changed = true;
  }
  // A node that is moved in front of another one may have to go on.
  for (bool moved = true; moved; changed |= moved) {
    moved = false;
    for (NodeId id : graph.nodes())
      if (graph.node(id).op == "DequantizeLinear" && dequantize_before_move(graph, id))
        moved = true;
  }
  if (changed) {
    graph.remove_dead_nodes();
    graph.compact();
    infer_types(graph);
  }
  return weights;
}

}  // namespace waveq
