// The integer network in operators of the default ONNX set, so that any runtime computes the same
// integers. What each operator becomes: standard/.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "dialects/dialects.h"
#include "dialects/standard/expansion.h"
#include "waveq/graph/onnx_writer.h"

namespace waveq {

namespace standard {

const std::vector<StandardOperator>& standard_operators() {
  constexpr const char* kWide = "in int64";
  constexpr const char* kMoves = "moves data";
  static const std::vector<StandardOperator> rows = {
      {"Abs", kWide, expand_arithmetic},
      {"Add", kWide, expand_arithmetic},
      {"Cast", "as it is", nullptr},
      {"Clip", "Clip in int64", expand_clip},
      {"Concat", kMoves, nullptr},
      {"Conv", "ConvInteger of uint8 operands, one for each byte; bias by Add", expand_conv},
      {"Dequant", "Sub in int64, Mul in float32", expand_dequant, true},
      {"Expand", kMoves, nullptr},
      {"Flatten", kMoves, nullptr},
      {"Gather", kMoves, nullptr},
      {"Gemm", "MatMulInteger of uint8 operands, Add", expand_gemm},
      {"GlobalAveragePool", "ReduceSum, rounded division", expand_mean},
      {"GlobalMaxPool", "ReduceMax", expand_reduction},
      {"ITAMax", "ReduceMax, shifts as Div by powers of two", expand_itamax},
      {"ITAPartialMax", "as ITAMax, a group after the other", expand_ita_partial_max},
      {"Identity", kMoves, nullptr},
      {"IntegerDiv", "Mul, Add, Div in int64", expand_integer_div},
      {"IntegerMean", "ReduceSum, rounded division", expand_mean},
      {"MatMul", "MatMulInteger of uint8 operands; MatMul in int32 for wider ones", expand_matmul},
      {"Max", kWide, expand_arithmetic},
      {"MaxPool", "as it is; of wider integers Max of strided slices", expand_max_pool},
      {"Min", kWide, expand_arithmetic},
      {"Mul", kWide, expand_arithmetic},
      {"Neg", kWide, expand_arithmetic},
      {"Pad", "Pad in int32", expand_pad},
      {"ReduceMax", kWide, expand_reduction},
      {"ReduceMean", "ReduceSum, rounded division", expand_mean},
      {"ReduceMin", kWide, expand_reduction},
      {"ReduceSum", kWide, expand_reduction},
      {"Relu", "Clip in int64", expand_clip},
      {"Quant", "in float32; read from a chain Div-Add-Round-Clip, this again", expand_quant, true},
      {"RequantShift", "Mul, Add, floor division by 2^shift, Clip in int64", expand_requant},
      {"Reshape", kMoves, nullptr},
      {"Sign", "Clip in int64", expand_sign},
      {"Slice", kMoves, nullptr},
      {"Split", kMoves, nullptr},
      {"Squeeze", kMoves, nullptr},
      {"Sub", kWide, expand_arithmetic},
      {"Table", "Gather by Clip(x - first)", expand_table},
      {"Tile", kMoves, nullptr},
      {"Transpose", kMoves, nullptr},
      {"TrueIntegerDiv", "Mul by the constant factor", expand_true_integer_div},
      {"Unsqueeze", kMoves, nullptr},
      {"iGELU", "Min, Mul, Clip in int64", expand_igelu},
      {"iGRU", "a step after the other: MatMul in int32, Gather and Mul in int64", expand_igru},
      {"iHardswish", "Clip, Mul in int64", expand_ihardswish},
      {"iLSTM", "as iGRU", expand_ilstm},
      {"iLayerNorm", "ReduceSum, Div; the root by comparing with squares, or bit by bit",
       expand_ilayernorm},
      {"iNoNorm", "Mul, Add, floor division", expand_inonorm},
      {"iRMSNorm", "ReduceSum, Div; the root by comparing with squares", expand_irmsnorm},
      {"iSoftmax", "ReduceMax, Mul, shifts as Div by powers of two", expand_isoftmax},
  };
  return rows;
}

namespace {

std::vector<ValueId> kept(const Graph& source, Graph& out, const Node& node,
                          std::vector<ValueId> inputs) {
  Node copy;
  copy.op = node.op;
  copy.name = node.name;
  copy.origin = node.origin;
  copy.attrs = node.attrs;
  copy.inputs = std::move(inputs);
  for (ValueId id : node.outputs)
    copy.outputs.push_back(id.valid() ? out.add_value(source.value(id).name, source.value(id).type)
                                      : ValueId{});
  const NodeId added = out.add_node(std::move(copy));
  return out.node(added).outputs;
}

}  // namespace

std::vector<ValueId> translate(const Graph& source, Graph& out, const Node& node,
                               std::vector<ValueId> inputs) {
  const auto& rows = standard_operators();
  const auto row = std::ranges::find(
      rows, node.op, [](const StandardOperator& r) { return std::string_view(r.op); });
  if (row == rows.end())
    throw Error(ErrorCode::not_integer, node.name,
                fmt::format("{} has no form in standard operators", node.op));
  if (!row->expand) return kept(source, out, node, std::move(inputs));
  const std::size_t before = out.node_count();
  Expansion e(source, out, node, std::move(inputs));
  const TensorType& type = source.value(node.outputs.front()).type;
  ValueId result = e.cast(row->expand(e), type.dtype);
  // Its name will be the source's, so it must not be somebody else's tensor.
  if (!out.value(result).producer.valid() ||
      static_cast<std::size_t>(out.value(result).producer.index) < before)
    result = e.op("Identity", {result});
  WAVEQ_CHECK(out.value(result).type == type);
  return {result};
}

}  // namespace standard

namespace {

/// Copies a network node by node; the tensors of the source keep name, shape and dtype.
class StandardNetwork {
 public:
  explicit StandardNetwork(const Graph& source) : source_(source) {
    out_.name = source.name;
    for (ValueId id : source.inputs())
      if (!source.is_constant(id))
        ids_[id] = out_.add_input(source.value(id).name, source.value(id).type);
  }

  /// Adds what stands for one node. \throws Error where it has no standard form.
  void add(const Node& node) {
    std::vector<ValueId> inputs;
    for (ValueId in : node.inputs) inputs.push_back(in.valid() ? mapped(in) : ValueId{});
    const std::vector<ValueId> results = standard::translate(source_, out_, node, inputs);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (!results[i].valid()) continue;
      out_.rename(results[i], source_.value(node.outputs[i]).name);
      ids_[node.outputs[i]] = results[i];
    }
  }

  /// A tensor of the source that its node could not provide, so that the next ones can be tried.
  void leave_open(const Node& node) {
    for (ValueId id : node.outputs)
      if (id.valid()) ids_[id] = out_.add_value(source_.value(id).name, source_.value(id).type);
  }

  Graph finish() {
    for (ValueId id : source_.outputs()) out_.add_output(mapped(id));
    out_.compact();
    out_.verify();
    return std::move(out_);
  }

 private:
  ValueId mapped(ValueId id) {
    const auto it = ids_.find(id);
    if (it != ids_.end()) return it->second;
    WAVEQ_CHECK(source_.is_constant(id));
    return ids_[id] = out_.add_constant(source_.value(id).name, source_.value(id).constant);
  }

  const Graph& source_;
  Graph out_;
  std::map<ValueId, ValueId> ids_;
};

std::vector<Finding> check(const TargetProfile&, const Graph& graph) {
  return refusals(graph, StandardNetwork(graph));
}

std::string to_file(const TargetProfile& profile, const Graph& source) {
  StandardNetwork network(source);
  for (NodeId id : source.topological_order()) network.add(source.node(id));
  OnnxWriteOptions options;
  options.opset = profile.opset;
  return to_onnx_bytes(network.finish(), options);
}

}  // namespace

TargetProfile onnx_standard() {
  TargetProfile p;
  p.name = "onnx";
  p.summary = "standard ONNX operators on integers: any runtime computes the same integers";
  p.source = "ONNX operator set 13; ONNX Runtime 1.30, CPU";
  p.opset = 13;
  for (const standard::StandardOperator& row : standard::standard_operators())
    p.operators.push_back({row.op, row.spelling});
  p.integers_of = {"deeploy-generic", "waveq"};
  p.limits = {"the integers are those of deeploy-generic where it runs the network, else waveq's",
              "static shapes; every tensor has the integer type it has on a device",
              "constant weights, requant parameters and bounds"};
  p.check = check;
  p.to_file = to_file;
  p.files = integer_files;
  return p;
}

}  // namespace waveq
