// The integer network as a float network that any runtime simulates: QuantizeLinear and
// DequantizeLinear where the integer network requantizes, weights int8 and biases int32 behind
// DequantizeLinear. Linear nodes, sums, products and moves of data are computed on real numbers,
// whose integers float32 tells apart; requants and what has no meaning but on integers (division,
// tables, integer GELU) are computed on the integers, spelled as for target onnx. So it gives the
// integer network's numbers, not some that are close to them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "dialects/dialects.h"
#include "dialects/standard/expansion.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/graph/op.h"
#include "waveq/integerize/bounds.h"

namespace waveq {

namespace {

/// What stands for an integer tensor: the integers themselves, in their storage type, or `real` =
/// scale * (integers - zero), with one scale or one an index of axis 1, or both. The other one is
/// made where it is asked for.
struct Twin {
  ValueId real, codes;
  std::vector<double> scale{1.0};
  std::int64_t zero = 0;
};

/// Real numbers stand for integers up to here: a product or a sum in float32 is off by a few 2^-24
/// of it, far from the half that would make another integer of it.
constexpr double kLargestInFloat = 1 << 20;

bool is_linear(std::string_view op) { return op == "Conv" || op == "Gemm" || op == "MatMul"; }
bool is_arithmetic(std::string_view op) { return op == "Add" || op == "Sub" || op == "Mul"; }

std::string spelling(std::string_view op) {
  if (op == "RequantShift") return "on integers; QuantizeLinear, DequantizeLinear";
  if (is_linear(op)) return "as it is; constants behind DequantizeLinear";
  if (is_arithmetic(op) || op == "MaxPool" || op == "Pad") return "as it is";
  return "on integers, as for target onnx";
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
  explicit FloatTwin(const Graph& source) : source_(source), bounds_(source) {
    out_.name = source.name;
    for (ValueId id : source.inputs()) {
      if (source.is_constant(id)) continue;
      const Value& value = source.value(id);
      if (!value.quant)
        throw Error(ErrorCode::not_integer, value.name, "has no scale",
                    "this target takes what waveq quantized itself");
      twins_[id] = on_grid(out_.add_input(value.name, {DType::f32, value.type.shape}), value);
    }
  }

  void add(const Node& node) {
    name_ = node.name;
    origin_ = node.origin;
    if (!is_real(node)) {
      on_integers(node);
    } else if (is_linear(node.op)) {
      linear(node);
    } else if (is_arithmetic(node.op)) {
      arithmetic(node);
    } else {
      move(node);
    }
  }

  Graph finish() {
    for (ValueId id : source_.outputs()) {
      const std::string& name = source_.value(id).name;
      name_ = name + "_real";
      const bool integers = !twins_.at(id).real.valid() && out_.find_value(name).has_value();
      if (integers) out_.rename(*out_.find_value(name), free_name(name + "_grid"));
      const ValueId y = real(id);
      if (integers) out_.rename(y, name);
      out_.add_output(y);
    }
    out_.remove_dead_nodes();
    out_.compact();
    out_.verify();
    return std::move(out_);
  }

  void leave_open(const Node& node) {
    for (ValueId id : node.outputs)
      if (id.valid())
        twins_[id].real =
            out_.add_value(source_.value(id).name, {DType::f32, source_.value(id).type.shape});
  }

 private:
  /// Whether the node is computed on real numbers.
  bool is_real(const Node& node) {
    const OpDef* op = find_op(node.op);
    const bool weighted = is_linear(node.op) && source_.is_constant(node.inputs[1]);
    if (!is_linear(node.op) && !is_arithmetic(node.op) && node.op != "MaxPool" &&
        node.op != "Pad" && !(op && op->moves_data))
      return false;
    for (ValueId in : node.inputs) {
      if (!in.valid() || source_.is_constant(in)) continue;
      const Twin& t = twins_.at(in);
      if (!fits_float(in) || (!weighted && (t.zero != 0 || !t.real.valid()))) return false;
    }
    // Behind weights there is nothing but DequantizeLinear that users would read, and sums near
    // the bound are not met.
    return weighted || std::ranges::all_of(node.outputs,
                                           [&](ValueId y) { return !y.valid() || fits_float(y); });
  }
  bool fits_float(ValueId id) {
    const Interval hull = bounds_.of(id).hull();
    return std::max(std::abs(static_cast<double>(hull.lo)),
                    std::abs(static_cast<double>(hull.hi))) <= kLargestInFloat;
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

  static bool same(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b); }

  /// Real numbers x on the grid of `value`, whose name the result gets: QuantizeLinear and
  /// DequantizeLinear, with Clip before them for fewer levels. Of more than 256 levels, which
  /// QuantizeLinear of set 13 lacks, the integers.
  Twin on_grid(ValueId x, const Value& value) {
    const QuantParams& quant = *value.quant;
    const auto lo = static_cast<double>(quant.lo()), hi = static_cast<double>(quant.hi());
    const auto zero_point = static_cast<double>(quant.zero_point);
    const ValueId scale = constant(quant.scale);
    Twin twin{{}, {}, {quant.scale}, quant.zero_point};
    if (quant.n_levels > 256) {
      x = emit("Round", {emit("Div", {x, scale})});
      if (zero_point != 0) x = emit("Add", {x, constant(zero_point)});
      const ValueId least = constant(lo), largest = constant(hi);
      twin.codes = cast_to(emit("Clip", {x, least, largest}), value.type.dtype);
      return twin;
    }
    if (quant.n_levels < 256) {
      const ValueId least = constant(quant.scale * (lo - zero_point));
      const ValueId largest = constant(quant.scale * (hi - zero_point));
      x = emit("Clip", {x, least, largest});
    }
    const ValueId zero =
        constant(cast(Tensor::scalar(quant.zero_point), quant.is_signed ? DType::i8 : DType::u8));
    const ValueId q = emit("QuantizeLinear", {x, scale, zero}, {}, free_name(value.name + "_grid"));
    twin.codes = cast_to(q, value.type.dtype);
    twin.real = emit("DequantizeLinear", {q, scale, zero}, {}, free_name(value.name));
    return twin;
  }
  ValueId cast_to(ValueId x, DType dtype) {
    if (out_.value(x).type.dtype == dtype) return x;
    Attrs attrs;
    attrs.set("to", std::int64_t{onnx_type_code(dtype)});
    return emit("Cast", {x}, std::move(attrs));
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
      // A matrix has its multipliers along axis 1, or along axis 0, which no scale here is.
      const Shape& mul = source_.value(node.inputs[1]).type.shape;
      if (scale.size() > 1 && y.type.shape.size() == 2 && mul.size() == 2) return {};
      // A channel that the requant drops has no scale of its own: any.
      for (double& s : scale) s = (s == 0.0 ? 1.0 : std::abs(s)) * y.quant->scale;
      return scale;
    }
    return {};
  }

  /// The integers of a tensor.
  ValueId codes(ValueId id) {
    const Value& value = source_.value(id);
    if (source_.is_constant(id)) return out_.add_constant(value.name, value.constant);
    Twin& t = twins_.at(id);
    if (t.codes.valid()) return t.codes;
    const ValueId steps = per_channel(t.scale, value.type.shape.size());
    ValueId x = emit("Round", {emit("Div", {t.real, steps})});
    if (t.zero != 0) x = emit("Add", {x, constant(static_cast<double>(t.zero))});
    return t.codes = cast_to(x, value.type.dtype);
  }

  /// The real numbers of a tensor.
  ValueId real(ValueId id) {
    Twin& t = twins_.at(id);
    if (t.real.valid()) return t.real;
    ValueId x = cast_to(t.codes, DType::f32);
    if (t.zero != 0) x = emit("Sub", {x, constant(static_cast<double>(t.zero))});
    return t.real = emit("Mul", {x, constant(t.scale.front())});
  }

  /// The node as target onnx has it; its result on a grid where it has one.
  void on_integers(const Node& node) {
    std::vector<ValueId> inputs;
    for (ValueId in : node.inputs) inputs.push_back(in.valid() ? codes(in) : ValueId{});
    const std::vector<ValueId> results = standard::translate(source_, out_, node, inputs);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (!results[i].valid()) continue;
      const ValueId y = node.outputs[i];
      const Value& value = source_.value(y);
      Twin& t = twins_[y];
      t.codes = results[i];
      if (value.quant) t = {{}, results[i], {value.quant->scale}, value.quant->zero_point};
      const bool gridded = value.quant && value.quant->n_levels <= 256;
      if (gridded)
        t = on_grid(real(y), value);
      else
        out_.rename(results[i], free_name(value.name));
    }
  }

  void linear(const Node& node) {
    const ValueId y = node.outputs.front();
    const std::size_t rank = source_.value(y).type.shape.size();
    if (!source_.is_constant(node.inputs[1])) {
      const Twin a = scalar(node.inputs[0]), b = scalar(node.inputs[1]);
      define(y, emit(node.op, {a.real, b.real}, node.attrs, free_name(source_.value(y).name)),
             {a.scale.front() * b.scale.front()});
      return;
    }
    const Twin x = from_zero(node.inputs[0]);
    std::vector<double> scale = scale_for_reader(y);
    // A product of matrices has its channels last, which axis 1 is for a matrix alone.
    if (scale.empty() || (scale.size() > 1 && node.op == "MatMul" && rank != 2))
      scale = {x.scale.front() / 128.0};
    std::vector<ValueId> inputs{x.real, weights(node, x.scale.front(), scale)};
    if (node.inputs.size() > 2 && node.inputs[2].valid())
      inputs.push_back(dequantized(source_.constant(node.inputs[2]), scale, 0, "_bias"));
    const bool matrices = node.op == "MatMul" && rank == 2;
    define(y,
           emit(matrices ? "Gemm" : node.op, std::move(inputs), node.attrs,
                free_name(source_.value(y).name)),
           scale);
  }

  void define(ValueId y, ValueId real, std::vector<double> scale) {
    twins_[y] = {real, {}, std::move(scale), 0};
  }

  ValueId weights(const Node& node, double x_scale, const std::vector<double>& scale) {
    std::vector<double> own;
    for (double s : scale) own.push_back(s / x_scale);
    Tensor w = source_.constant(node.inputs[1]);
    const std::size_t rank = source_.value(node.inputs[0]).type.shape.size();
    // ONNX Runtime 1.30 takes a matrix behind DequantizeLinear for weights alone that are quantized
    // (MatMulNBits) and rounds the other operand to 8 bits anew; not so a stack of one matrix.
    if (node.op == "MatMul" && w.shape().size() == 2 && rank > 2)
      w = w.reshaped({1, w.shape()[0], w.shape()[1]});
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

  /// The real numbers of a tensor with one scale for all.
  Twin scalar(ValueId id) {
    const ValueId x = real(id);
    const std::vector<double> scale = twins_.at(id).scale;
    if (scale.size() == 1) return {x, {}, scale, 0};
    std::vector<double> gain;
    for (double s : scale) gain.push_back(scale.front() / s);
    const std::size_t rank = out_.value(x).type.shape.size();
    return {emit("Mul", {x, per_channel(gain, rank)}), {}, {scale.front()}, 0};
  }

  /// Real numbers whose integers count from 0, whatever the zero point: what it adds to a sum of
  /// products is in the bias already.
  Twin from_zero(ValueId id) {
    const Twin t = twins_.at(id);
    if (t.zero == 0) return scalar(id);
    const ValueId integers = cast_to(codes(id), DType::f32);
    return {emit("Mul", {integers, constant(t.scale.front())}), {}, t.scale, 0};
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
        const Tensor integers = cast(source_.constant(node.inputs[i]), DType::i32);
        operands[i] = {dequantized(integers, {scale}, 0, "_operand"), {}, {scale}, 0};
      }
    const double a = operands[0].scale.front(), b = operands[1].scale.front();
    if (node.op != "Mul" && !same(a, b))
      operands[1].real = emit("Mul", {operands[1].real, constant(a / b)});
    define(
        y,
        emit(node.op, {operands[0].real, operands[1].real}, {}, free_name(source_.value(y).name)),
        {node.op == "Mul" ? a * b : a});
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
        scale = twins_.at(in).scale.front();
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
      define(id, copy.outputs.back(), {scale});
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

  const Graph& source_;
  BoundsAnalysis bounds_;
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
  TargetProfile p = onnx_standard();  // what it spells integers with, it lowers to
  p.name = "qdq";
  p.summary = "float twin with QuantizeLinear/DequantizeLinear: simulation in any runtime";
  p.source = "ONNX operator set 13";
  p.operators.clear();
  for (const standard::StandardOperator& row : standard::standard_operators())
    if (!find_op(row.op)->moves_data && !row.borders_float)
      p.operators.push_back({row.op, spelling(row.op)});
  p.limits = {"inputs and outputs are float; their grid is the first and last pair of nodes",
              "tensors of more than 256 levels are integers, in their storage type"};
  p.check = check;
  p.to_file = to_file;
  p.files = files;
  return p;
}

}  // namespace waveq
