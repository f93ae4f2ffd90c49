#include <algorithm>

#include "lowering/rules.h"

namespace waveq {

// One rule an operator of the canonical float graph. Adding one: a function in
// lowering/<family>.cpp, its declaration in rules.h and a row here.
const std::vector<LoweringRule>& all_lowerings() {
  static const std::vector<LoweringRule> rules = {
      {{"Add",
        "a*s_a + b*s_b: both 8-bit at one scale, Add, requant; + constant: the requant's add",
        "Deeploy Add; deeploy-dialect.md 6.7, 13.8"},
       lower_add},
      {{"AveragePool",
        "sum over the window as a depthwise Conv of ones, requant by 1/window; borders that divide "
        "by less: a factor for each position",
        "integer-approximations.md 4; ONNX AveragePool-19"},
       lower_average_pool},
      {{"Clip", "[0, c]: unsigned requant that saturates at c", "deeploy-dialect.md 5"},
       lower_clip},
      {{"Concat",
        "all inputs at the largest scale, Concat; each on its own where convolutions take them",
        "integer-approximations.md 4"},
       lower_concat},
      {{"Conv", "int8 weights per channel, int32 accumulator, bias in the requant's add",
        "Deeploy Conv; deeploy-dialect.md 6.1"},
       lower_conv},
      {{"Div",
        "by a constant: the scale; by an activation: IntegerDiv(num, den) with Delta, eta, eps "
        "proven not to wrap",
        "Deeploy Div_s32.c; integer-approximations.md 10.4"},
       lower_div},
      {{"Expand", "repeats integers: Slice, Concat", "ONNX Expand-8"}, lower_repetition},
      {{"Flatten", "moves integers", "ONNX Flatten"}, lower_movement},
      {{"GRU", "iGRU: int8 weights, gates by 512 segments, 16-bit state",
        "integer-approximations.md 12; docs/waveq-operators.md"},
       lower_recurrent},
      {{"Gather", "constant indices: Slices, Concat and Reshape", "ONNX Gather"}, lower_gather},
      {{"Gelu", "iGELU, requant",
        "I-BERT i-GELU; Deeploy GELU_s8.c; integer-approximations.md 7.1"},
       lower_gelu},
      {{"Gemm", "int8 weights per output, int32 bias, int32 accumulator",
        "Deeploy Gemm; deeploy-dialect.md 6.2"},
       lower_gemm},
      {{"GlobalMaxPool", "MaxPool over the map", "ONNX GlobalMaxPool"}, lower_global_max_pool},
      {{"LSTM", "iLSTM: int8 weights, gates by 512 segments, 16-bit cell and state",
        "integer-approximations.md 12; docs/waveq-operators.md"},
       lower_recurrent},
      {{"LayerNormalization",
        "iLayerNorm with full-precision weights, rounding, gain against the floored root; no row "
        "can leave int8",
        "Deeploy Layernorm_s8.c; integer-approximations.md 9.1"},
       lower_layer_norm},
      {{"LogSoftmax",
        "distance from the row's maximum and the table of the logarithm of the sum of "
        "exponentials; where the target has tables",
        "integer-approximations.md 6.2; ONNX LogSoftmax-13"},
       lower_log_softmax},
      {{"MatMul", "int8 x int8 -> int32; constant weights as for Gemm",
        "Deeploy MatMul; deeploy-dialect.md 6.2"},
       lower_matmul},
      {{"MaxPool", "on integers, the scale kept; padding is the lowest code",
        "Deeploy MaxPool; deeploy-dialect.md T16"},
       lower_max_pool},
      {{"Mul", "by a constant: the scale; of activations: int32 product, requant",
        "Deeploy Mul; deeploy-dialect.md 6.7"},
       lower_mul},
      {{"Pad", "with a code, on integers; reflections, edges and crops pick elements",
        "Deeploy Pad"},
       lower_pad},
      {{"RMSNormalization",
        "iRMSNorm with full-precision weights, gain against the floored root; half a step of its "
        "rounding down goes into the next linear nodes",
        "Deeploy iRMSNorm_s8.c; deeploy-dialect.md 6.5"},
       lower_rms_norm},
      {{"RNN", "iGRU whose gates pass the new state alone: tanh(W x + R h + b)",
        "integer-approximations.md 12; docs/waveq-operators.md"},
       lower_recurrent},
      {{"ReduceMax", "on integers, the scale kept: ReduceMax, or MaxPool over rows",
        "ONNX ReduceMax"},
       lower_reduce_max},
      {{"ReduceMean", "MatMul with a column of ones, requant by 1/N to a scale of its own",
        "waveformer-accuracy.md 2"},
       lower_reduce},
      {{"ReduceSum", "MatMul with a column of ones, requant", "waveformer-accuracy.md 2"},
       lower_reduce},
      {{"Relu", "the lower clip of an unsigned requant", "deeploy-dialect.md 5"}, lower_relu},
      {{"Reshape", "moves integers", "ONNX Reshape"}, lower_movement},
      {{"Resize", "nearest: repeats and picks integers", "ONNX Resize-10, 11, 13, 18, 19"},
       lower_resize},
      {{"Slice", "moves integers", "ONNX Slice"}, lower_movement},
      {{"Softmax",
        "iSoftmax with searched constants (octaves of ln 2), ITAMax, or a table of exponentials",
        "I-BERT i-exp; Deeploy Softmax_s8.c; integer-approximations.md 6"},
       lower_softmax},
      {{"Split", "a Slice an output", "ONNX Split"}, lower_split},
      {{"Squeeze", "moves integers", "ONNX Squeeze"}, lower_movement},
      {{"Sub", "as Add with the second operand negated", "Deeploy Sub"}, lower_sub},
      {{"Tile", "repeats integers: Slice, Concat", "ONNX Tile-6"}, lower_repetition},
      {{"Transpose", "moves integers", "ONNX Transpose"}, lower_movement},
      {{"Unsqueeze", "moves integers", "ONNX Unsqueeze"}, lower_movement},
      {{"Upsample", "nearest: repeats and picks integers", "ONNX Upsample-7, 9"}, lower_resize},
  };
  return rules;
}

const LoweringRule* find_lowering(std::string_view op) {
  const auto& rules = all_lowerings();
  const auto it = std::ranges::find(
      rules, op, [](const LoweringRule& r) { return std::string_view(r.info.op); });
  return it == rules.end() ? nullptr : &*it;
}

std::vector<LoweringInfo> lowering_rules() {
  std::vector<LoweringInfo> infos;
  for (const LoweringRule& r : all_lowerings()) infos.push_back(r.info);
  return infos;
}

}  // namespace waveq
