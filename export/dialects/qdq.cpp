// The integer network as a float network that any runtime simulates: QuantizeLinear and
// DequantizeLinear where the integer network requantizes, weights int8 and biases int32 behind
// DequantizeLinear. It follows the integer network, not the float model it came from, so that both
// differ by float32 rounding alone.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "dialects/dialects.h"
#include "dialects/standard/expansion.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

using standard::Expansion;
using standard::StandardOperator;

/// What stands for an integer tensor: `real` = scale * integers, with one scale or one an index of
/// axis 1.
struct Twin {
  ValueId real;
  std::vector<double> scale{1.0};
};

bool is_linear(std::string_view op) { return op == "Conv" || op == "Gemm" || op == "MatMul"; }
bool is_arithmetic(std::string_view op) { return op == "Add" || op == "Sub" || op == "Mul"; }

std::string spelling(std::string_view op) {
  if (op == "RequantShift") return "QuantizeLinear, DequantizeLinear";
  if (is_linear(op)) return "as it is; constants behind DequantizeLinear";
  if (is_arithmetic(op) || op == "MaxPool") return "as it is";
  return "its integer formula on integers in float32";
}

/// Multipliers of a RequantShift as factors, mul / div.
std::vector<double> factors(const Graph& graph, const Node& requant) {
  const auto div = static_cast<double>(requant.attrs.require_int("div"));
  std::vector<double> out;
  for (std::int64_t m : to_int64(graph.constant(requant.inputs[1])))
    out.push_back(static_cast<double>(m) / div);
  return out;
}

class FloatTwin {
 public:
  explicit FloatTwin(const Graph& source) : source_(source) {
    out_.name = source.name;
    for (ValueId id : source.inputs()) {
      if (source.is_constant(id)) continue;
      const Value& value = source.value(id);
      require_quant(value);
      const ValueId x = out_.add_input(value.name, {DType::f32, value.type.shape});
      twins_[id] = {requantized(x, *value.quant, value.name + "_grid", value.name),
                    {value.quant->scale}};
    }
  }

  void add(const Node& node) {
    name_ = node.name;
    origin_ = node.origin;
    const OpDef* op = find_op(node.op);
    if (node.op == "RequantShift") {
      requant(node);
    } else if (is_linear(node.op)) {
      linear(node);
    } else if (is_arithmetic(node.op)) {
      arithmetic(node);
    } else if (op && (op->moves_data || node.op == "MaxPool" || node.op == "Pad")) {
      move(node);
    } else {
      by_formula(node);
    }
  }

  Graph finish() {
    for (ValueId id : source_.outputs()) out_.add_output(twins_.at(id).real);
    out_.remove_dead_nodes();
    out_.compact();
    out_.verify();
    return std::move(out_);
  }

  void leave_open(const Node& node) {
    for (ValueId id : node.outputs)
      if (id.valid())
        twins_[id] = {
            out_.add_value(source_.value(id).name, {DType::f32, source_.value(id).type.shape}),
            {1.0}};
  }

 private:
  static void require_quant(const Value& value) {
    if (!value.quant)
      throw Error(ErrorCode::not_integer, value.name, "has no scale",
                  "this target takes what waveq quantized itself");
    if (value.quant->n_levels > 256)
      throw Error(
          ErrorCode::not_integer, value.name,
          fmt::format("has {} levels; QuantizeLinear of set 13 has 256", value.quant->n_levels));
  }

  ValueId emit(const std::string& op, std::vector<ValueId> inputs, Attrs attrs = {},
               std::string name = {}) {
    if (name.empty()) {
      name = fmt::format("{}_{}", name_, op);
      for (int i = 1; source_.find_value(name) || out_.find_value(name); ++i)
        name = fmt::format("{}_{}_{}", name_, op, i);
    }
    return out_.emit(op, name, std::move(inputs), std::move(attrs), origin_);
  }
  ValueId constant(Tensor tensor) {
    return out_.add_constant(name_ + "_constant", std::move(tensor));
  }
  ValueId constant(double value) { return constant(Tensor::scalar(static_cast<float>(value))); }

  /// One value an index of axis 1 of a tensor of `rank`, or a scalar.
  ValueId per_channel(const std::vector<double>& values, std::size_t rank) {
    if (values.size() == 1) return constant(values.front());
    Shape shape(rank - 1, 1);
    shape.front() = static_cast<std::int64_t>(values.size());
    return constant(Tensor::from<float>(shape, std::vector<float>(values.begin(), values.end())));
  }

  const Twin& twin(ValueId id) const { return twins_.at(id); }
  static bool same(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b); }

  /// x on the grid: QuantizeLinear and DequantizeLinear, with Clip before them for fewer levels.
  ValueId requantized(ValueId x, const QuantParams& quant, const std::string& codes,
                      const std::string& real) {
    const ValueId scale = constant(quant.scale);
    const ValueId zero = constant(quant.is_signed ? Tensor::scalar(std::int8_t{0})
                                                  : Tensor::scalar(std::uint8_t{0}));
    if (quant.n_levels < 256) {
      const ValueId lo = constant(quant.scale * static_cast<double>(quant.lo()));
      const ValueId hi = constant(quant.scale * static_cast<double>(quant.hi()));
      x = emit("Clip", {x, lo, hi});
    }
    const ValueId q = emit("QuantizeLinear", {x, scale, zero}, {}, free_name(codes));
    return emit("DequantizeLinear", {q, scale, zero}, {}, free_name(real));
  }
  std::string free_name(const std::string& wanted) const {
    std::string name = wanted;
    for (int i = 1; out_.find_value(name); ++i) name = fmt::format("{}_{}", wanted, i);
    return name;
  }

  /// The scale that makes the requant behind an accumulator nothing but QuantizeLinear: |mul|/div
  /// times the requant's output scale; also where a constant is added between them. Empty where no
  /// requant follows.
  std::vector<double> scale_for_reader(ValueId accumulator) const {
    for (NodeId user : source_.value(accumulator).uses) {
      const Node& node = source_.node(user);
      const Value& y = source_.value(node.outputs.front());
      if (node.op == "Add" && source_.is_constant(node.inputs[1])) {
        const std::vector<double> scale = scale_for_reader(node.outputs.front());
        if (scale.size() == 1) return scale;
      }
      if (node.op != "RequantShift" || node.inputs.front() != accumulator || !y.quant) continue;
      std::vector<double> scale = factors(source_, node);
      for (double& s : scale) s = std::abs(s) * y.quant->scale;
      return scale;
    }
    return {};
  }

  void requant(const Node& node) {
    const ValueId y = node.outputs.front();
    const Value& value = source_.value(y);
    require_quant(value);
    const QuantParams& quant = *value.quant;
    const Twin& x = twin(node.inputs.front());
    const std::size_t rank = out_.value(x.real).type.shape.size();
    const std::vector<double> factor = factors(source_, node);
    if (rank == 2 && factor.size() > 1 && source_.value(node.inputs[1]).type.shape.size() > 1)
      throw Error(ErrorCode::not_integer, node.name, "has a multiplier for each row of a matrix");
    const std::vector<std::int64_t> add = to_int64(source_.constant(node.inputs[2]));
    const auto div = static_cast<double>(node.attrs.require_int("div"));
    std::vector<double> gain, offset;
    const std::size_t sets = std::max({factor.size(), add.size(), x.scale.size()});
    for (std::size_t c = 0; c < sets; ++c) {
      const double f = factor[factor.size() > 1 ? c : 0];
      gain.push_back(f * quant.scale / x.scale[x.scale.size() > 1 ? c : 0]);
      const double a = static_cast<double>(add[add.size() > 1 ? c : 0]) / div;
      offset.push_back((a + rounding_offset(node, c)) * quant.scale);
    }
    ValueId real = x.real;
    if (!std::ranges::all_of(gain, [](double g) { return same(g, 1.0); }))
      real = emit("Mul", {real, per_channel(gain, rank)});
    if (std::ranges::any_of(offset, [](double o) { return o != 0; }))
      real = emit("Add", {real, per_channel(offset, rank)});
    twins_[y] = {requantized(real, quant, value.name + "_grid", value.name), {quant.scale}};
  }

  /// The requant rounds halves up (or all down), QuantizeLinear halves to even. What is rounded is
  /// a multiple of 2^-steps of an output step; where halves are common among these, half such a
  /// multiple is added, which moves nothing else across a rounding boundary. In output steps.
  double rounding_offset(const Node& node, std::size_t channel) const {
    const std::vector<std::int64_t> mul = to_int64(source_.constant(node.inputs[1]));
    const std::int64_t m = mul[mul.size() > 1 ? channel : 0];
    const int shift = exact_log2(node.attrs.require_int("div"), "div");
    const int steps = shift - std::countr_zero(static_cast<std::uint64_t>(m));
    constexpr int kRare = 12;  // a half in 2^12 values; float32 resolves 2^-17 of a step at 127
    const double tie = steps >= 1 && steps <= kRare ? std::ldexp(0.5, -steps) : 0.0;
    if (node.attrs.get_string("rounding", "half_up") == "half_up") return tie;
    return std::max(tie, std::ldexp(0.5, -kRare)) - 0.5;
  }

  void linear(const Node& node) {
    const ValueId y = node.outputs.front();
    const std::size_t rank = source_.value(y).type.shape.size();
    if (!source_.is_constant(node.inputs[1])) {
      const Twin a = scalar(node.inputs[0]), b = scalar(node.inputs[1]);
      twins_[y] = {emit(node.op, {a.real, b.real}, node.attrs, free_name(source_.value(y).name)),
                   {a.scale.front() * b.scale.front()}};
      return;
    }
    const Twin x = scalar(node.inputs[0]);
    std::vector<double> scale = scale_for_reader(y);
    // A product of matrices has its channels last, which axis 1 is for a matrix alone.
    if (scale.empty() || (scale.size() > 1 && node.op == "MatMul" && rank != 2))
      scale = {x.scale.front() / 128.0};
    std::vector<ValueId> inputs{x.real, weights(node, x.scale.front(), scale)};
    if (node.inputs.size() > 2 && node.inputs[2].valid())
      inputs.push_back(dequantized(source_.constant(node.inputs[2]), scale, 0, "_bias"));
    twins_[y] = {emit(node.op, std::move(inputs), node.attrs, free_name(source_.value(y).name)),
                 scale};
  }

  ValueId weights(const Node& node, double x_scale, const std::vector<double>& scale) {
    std::vector<double> own;
    for (double s : scale) own.push_back(s / x_scale);
    const Tensor& w = source_.constant(node.inputs[1]);
    const bool columns =
        node.op == "MatMul" || (node.op == "Gemm" && node.attrs.get_int("transB", 0) == 0);
    const std::int64_t axis = columns ? static_cast<std::int64_t>(w.shape().size()) - 1 : 0;
    return dequantized(w, own, axis, "_weight");
  }

  /// DequantizeLinear of constant integers, one scale or one an index of `axis`.
  ValueId dequantized(const Tensor& integers, const std::vector<double>& scale, std::int64_t axis,
                      const char* suffix) {
    Tensor scales = scale.size() == 1
                        ? Tensor::scalar(static_cast<float>(scale.front()))
                        : Tensor::from<float>({static_cast<std::int64_t>(scale.size())},
                                              std::vector<float>(scale.begin(), scale.end()));
    Tensor zero(integers.dtype(), scales.shape());
    Attrs attrs;
    if (scale.size() > 1) attrs.set("axis", axis);
    std::vector<ValueId> inputs{out_.add_constant(name_ + suffix, integers),
                                constant(std::move(scales))};
    if (integers.dtype() != DType::i32) inputs.push_back(constant(std::move(zero)));
    return emit("DequantizeLinear", std::move(inputs), std::move(attrs));
  }

  /// The tensor with one scale for all; a constant is dequantized at `wanted`.
  Twin scalar(ValueId id) {
    const Twin& t = twin(id);
    if (t.scale.size() == 1) return t;
    std::vector<double> gain;
    for (double s : t.scale) gain.push_back(t.scale.front() / s);
    const std::size_t rank = out_.value(t.real).type.shape.size();
    return {emit("Mul", {t.real, per_channel(gain, rank)}), {t.scale.front()}};
  }

  void arithmetic(const Node& node) {
    const ValueId y = node.outputs.front();
    std::vector<Twin> operands(2);
    // The scale of a constant is whatever its partner's is; of a factor, 1.
    double known = 1.0;
    for (std::size_t i = 0; i < 2; ++i)
      if (!source_.is_constant(node.inputs[i])) {
        operands[i] = scalar(node.inputs[i]);
        known = operands[i].scale.front();
      }
    for (std::size_t i = 0; i < 2; ++i)
      if (source_.is_constant(node.inputs[i])) {
        const double scale = node.op == "Mul" ? 1.0 : known;
        operands[i] = {
            dequantized(cast(source_.constant(node.inputs[i]), DType::i32), {scale}, 0, "_operand"),
            {scale}};
      }
    const double a = operands[0].scale.front(), b = operands[1].scale.front();
    if (node.op != "Mul" && !same(a, b))
      operands[1].real = emit("Mul", {operands[1].real, constant(a / b)});
    twins_[y] = {
        emit(node.op, {operands[0].real, operands[1].real}, {}, free_name(source_.value(y).name)),
        {node.op == "Mul" ? a * b : a}};
  }

  /// Real values move as the integers do; operands beside them are shapes and indices.
  void move(const Node& node) {
    Node copy;
    copy.op = node.op;
    copy.name = node.name;
    copy.origin = node.origin;
    copy.attrs = node.attrs;
    // All data are brought to the first computed operand's scale.
    double scale = 1.0;
    for (ValueId in : node.inputs)
      if (in.valid() && !source_.is_constant(in)) {
        scale = twin(in).scale.front();
        break;
      }
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      copy.inputs.push_back(moved(node, i, scale));
    if (node.op == "Pad" && node.attrs.has("value"))
      copy.attrs.set("value", node.attrs.get_float("value", 0) * scale);
    for (ValueId id : node.outputs) {
      copy.outputs.push_back({});
      if (!id.valid()) continue;
      const Value& value = source_.value(id);
      copy.outputs.back() = out_.add_value(free_name(value.name), {DType::f32, value.type.shape});
      twins_[id] = {copy.outputs.back(), {scale}};
    }
    out_.add_node(std::move(copy));
  }

  /// Operand i of a node that moves data, at a scale; shapes and indices as they are.
  ValueId moved(const Node& node, std::size_t i, double scale) {
    const ValueId in = node.inputs[i];
    if (!in.valid()) return in;
    if (!source_.is_constant(in)) {
      const Twin t = scalar(in);
      return same(t.scale.front(), scale)
                 ? t.real
                 : emit("Mul", {t.real, constant(scale / t.scale.front())});
    }
    const Tensor& content = source_.constant(in);
    if (i == 0 || node.op == "Concat" || (node.op == "Pad" && i == 2))
      return dequantized(cast(content, DType::i32), {scale}, 0, "_operand");
    return out_.add_constant(source_.value(in).name, source_.value(in).constant);
  }

  /// The integer formula on integers in float32, which are exact up to 2^24.
  void by_formula(const Node& node) {
    const auto& rows = standard::standard_operators();
    const auto row = std::ranges::find(
        rows, node.op, [](const StandardOperator& r) { return std::string_view(r.op); });
    if (row == rows.end() || !row->expand)
      throw Error(ErrorCode::not_integer, node.name,
                  fmt::format("{} has no form among float operators", node.op));
    std::vector<ValueId> inputs;
    for (ValueId in : node.inputs) inputs.push_back(in.valid() ? codes(in) : ValueId{});
    Expansion e(source_, out_, node, std::move(inputs), DType::f32);
    const ValueId y = node.outputs.front();
    const Value& value = source_.value(y);
    ValueId result = row->expand(e);
    WAVEQ_CHECK(out_.value(result).type == (TensorType{DType::f32, value.type.shape}));
    if (!value.quant || size_of(value.type.dtype) > 1) {
      twins_[y] = {result, {1.0}};
      return;
    }
    require_quant(value);
    result = emit("Mul", {result, constant(value.quant->scale)});
    twins_[y] = {requantized(result, *value.quant, value.name + "_grid", value.name),
                 {value.quant->scale}};
  }

  /// The integers of a tensor, in float32; a constant as it is.
  ValueId codes(ValueId id) {
    if (source_.is_constant(id))
      return out_.add_constant(source_.value(id).name, source_.value(id).constant);
    const Twin t = scalar(id);
    if (t.scale.front() == 1.0) return t.real;
    return emit("Round", {emit("Div", {t.real, constant(t.scale.front())})});
  }

  const Graph& source_;
  Graph out_;
  std::map<ValueId, Twin> twins_;
  std::string name_, origin_;
};

FloatTwin twin_of(const Graph& source) {
  FloatTwin twin(source);
  for (NodeId id : source.topological_order()) twin.add(source.node(id));
  return twin;
}

std::string write(const TargetProfile& profile, const Graph& twin) {
  OnnxWriteOptions options;
  options.opset = profile.opset;
  return to_onnx_bytes(twin, options);
}

std::string to_file(const TargetProfile& profile, const Graph& source) {
  return write(profile, twin_of(source).finish());
}

/// Inputs are the golden codes dequantized; all else is what the twin computes from them.
TargetFiles files(const TargetProfile& profile, const QuantizeResult& result) {
  const Graph& integer = result.network.graph;
  const Graph twin = twin_of(integer).finish();
  TargetFiles files;
  files.network = write(profile, twin);
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < twin.inputs().size(); ++i) {
    const Value& value = twin.value(twin.inputs()[i]);
    Tensor real(DType::f32, value.type.shape);
    const auto scale = static_cast<float>(integer.value(integer.inputs()[i]).quant->scale);
    const std::vector<double> codes = to_double(result.golden.inputs[i]);
    for (std::size_t k = 0; k < codes.size(); ++k)
      real.as<float>()[k] = scale * static_cast<float>(codes[k]);
    inputs.push_back(real);
    files.inputs.emplace_back(value.name, std::move(real));
  }
  const std::vector<Tensor> outputs = Executor(twin).run(inputs, [&](ValueId id, const Tensor& t) {
    const Value& value = twin.value(id);
    if (value.producer.valid() && integer.find_value(value.name))
      files.activations.emplace_back(value.name, t);
  });
  for (std::size_t i = 0; i < outputs.size(); ++i)
    files.outputs.emplace_back(twin.value(twin.outputs()[i]).name, outputs[i]);
  return files;
}

std::vector<Finding> check(const TargetProfile&, const Graph& graph) {
  return refusals(graph, FloatTwin(graph));
}

}  // namespace

TargetProfile qdq() {
  TargetProfile p;
  p.name = "qdq";
  p.summary = "float twin with QuantizeLinear/DequantizeLinear: simulation in any runtime";
  p.source = "ONNX operator set 13";
  p.opset = 13;
  p.keeps_dialect = true;
  for (const StandardOperator& row : standard::standard_operators())
    if (!find_op(row.op)->moves_data) p.operators.push_back({row.op, spelling(row.op)});
  p.limits = {"inputs and outputs are float; their grid is the first and last pair of nodes",
              "8-bit tensors; agrees with the integer network up to float32 rounding"};
  p.check = check;
  p.to_file = to_file;
  p.files = files;
  return p;
}

}  // namespace waveq
