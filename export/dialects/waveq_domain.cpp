// waveq's own operator domain: everything that waveq evaluates on integers, for what other dialects
// have no operator for. docs/waveq-operators.md is its specification.
#include <fmt/format.h>

#include <algorithm>

#include "dialects/dialects.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

/// Operators a lowered network may hold, with their operands' types.
const std::vector<TargetOperator>& rows() {
  static const std::vector<TargetOperator> table = {
      {"Add", "integers -> int32; an operand may repeat along axes of length 1"},
      {"Concat", "integers of one type"},
      {"Conv", "1-D, 2-D, 3-D; any group, dilation and padding; no bias; -> int32"},
      {"Flatten", "moves data"},
      {"Gather", "constant indices"},
      {"Gemm", "int8 weights, int32 bias -> int32"},
      {"IntegerDiv", "int32 / int32; Delta*eta < 2^31"},
      {"MatMul", "integers -> int32"},
      {"MaxPool", "any padding, dilation and ceil_mode"},
      {"Mul", "integers -> int32"},
      {"Pad", "constant"},
      {"ReduceMax", "keeps the type; axes as attribute"},
      {"RequantShift", "to 2..65536 levels; scalar, or per index of axis 1; product_bits 32 or 64"},
      {"Reshape", "moves data"},
      {"Slice", "constant bounds"},
      {"Squeeze", "moves data"},
      {"Sub", "as Add"},
      {"Table", "up to 65536 entries, one table or one for each index of axis 1"},
      {"Transpose", "perm given"},
      {"Unsqueeze", "moves data"},
      {"ITAMax", "int8 -> uint8"},
      {"iGELU", "int8 -> int32"},
      {"iGRU", "int8 weights, 16-bit gates and state, one direction"},
      {"iLSTM", "int8 weights, 16-bit gates, cell and state, one direction"},
      {"iLayerNorm", "int8 or int16 -> int32, proven not to wrap"},
      {"iSoftmax", "int8 -> uint8"},
  };
  return table;
}

std::vector<Finding> check(const TargetProfile& profile, const Graph& graph) {
  std::vector<Finding> findings;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (std::ranges::none_of(profile.operators,
                             [&](const TargetOperator& o) { return o.op == node.op; }))
      findings.push_back({node.name, "operator", fmt::format("{} is not of this domain", node.op)});
    for (ValueId out : node.outputs)
      if (out.valid() && !is_integer(graph.value(out).type.dtype))
        findings.push_back(
            {node.name, "types",
             fmt::format("makes {}, not integers", to_string(graph.value(out).type))});
  }
  return findings;
}

std::string to_file(const TargetProfile& profile, const Graph& graph) {
  OnnxWriteOptions options;
  options.opset = profile.opset;
  options.domain_for_dialect = profile.dialect_domain;
  return to_onnx_bytes(graph, options);
}

}  // namespace

TargetProfile waveq_domain() {
  TargetProfile p;
  p.name = "waveq";
  p.summary = "every integer operator that waveq evaluates, tables and 16-bit tensors among them";
  p.source = "docs/waveq-operators.md";
  p.opset = 13;
  p.dialect_domain = "waveq";
  p.operators = rows();
  p.lowering.int16 = {"Add",       "Concat",    "Conv",    "Flatten", "Gemm",
                      "MatMul",    "MaxPool",   "Mul",     "Pad",     "ReduceMax",
                      "Reshape",   "Slice",     "Squeeze", "Sub",     "RequantShift",
                      "Transpose", "Unsqueeze", "iGRU",    "iLSTM",   "iLayerNorm"};
  p.lowering.general_conv = true;
  p.lowering.requant_per_channel = true;
  p.lowering.zero_points = true;
  p.lowering.max_add_per_mul = std::int64_t{1} << 24;
  p.lowering.wide_requants = true;
  p.lowering.broadcast = true;
  p.limits = {"static shapes; tensors have the integer types they mean",
              "requant: (x*mul + add + div/2) >> log2(div) in int32, or in int64 where the node "
              "says so, half up, clip"};
  p.check = check;
  p.to_file = to_file;
  p.files = integer_files;
  return p;
}

}  // namespace waveq
