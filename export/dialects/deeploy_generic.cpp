// The PACTOps dialect as Deeploy's Generic platform accepts it.
#include "dialects/deeploy_checks.h"
#include "dialects/dialects.h"
#include "legalize/legalize.h"

namespace waveq {

namespace {

using namespace deeploy;

const Rows& rows() {
  static const Rows table = {
      {"Add", {"int8 + int8 of one shape -> int32; or a constant of lower rank", check_add}},
      {"Concat", {"two inputs of one type", check_concat}},
      {"Conv",
       {"1-D, 2-D; group 1 or depthwise; dilation 1; no bias; total padding other than 1",
        check_conv}},
      {"Flatten", {"moves data", check_nothing}},
      {"Gather", {"one constant index", check_gather}},
      {"Gemm", {"int8 weights, int32 bias, alpha = beta = 1, one row", check_gemm}},
      {"IntegerDiv", {"int32 [..., M, d] / [..., M, 1]; Delta*eta < 2^31", check_division}},
      {"MatMul", {"8-bit x 8-bit -> int32, equal leading axes", check_matmul_eight_bit}},
      {"MaxPool", {"no pads, no ceil_mode", check_max_pool}},
      {"Mul", {"8-bit x 8-bit -> int32", check_nothing}},
      {"Pad", {"a constant, in space; equal amounts above and below", check_nothing}},
      {"Dequant", {"int8 or int32 -> float32", check_dequant}},
      {"Quant", {"float32 -> int8, signed, bounds of a bit width", check_quant}},
      {"RequantShift",
       {"scalar, or per channel right behind Conv and Gemm; add = q*mul, |q| < 500|mul|, |add| <= "
        "2^24, |mul| < div",
        check_requant}},
      {"Reshape", {"moves data", check_nothing}},
      {"Slice", {"constant bounds within 0..255", check_slice}},
      {"Squeeze", {"moves data", check_nothing}},
      {"Sub", {"int8 - int8 -> int32", check_add}},
      {"Transpose", {"perm given", check_nothing}},
      {"Unsqueeze", {"moves data", check_nothing}},
      {"ITAMax", {"int8 -> uint8, last axis", check_itamax}},
      {"iLayerNorm",
       {"8-bit -> int8, last axis; weight and bias int32 within 2^24", check_layer_norm}},
      {"iSoftmax", {"int8 -> uint8, last axis; log2 >= 2, B^2 + C < 2^24", check_isoftmax}},
      {"iGELU", {"int8 -> int32; b int8, one int16", check_gelu}},
  };
  return table;
}

std::vector<Finding> check(const TargetProfile& profile, const Graph& graph) {
  return check_network(profile, graph, rows());
}

}  // namespace

TargetProfile deeploy_generic() {
  TargetProfile p =
      profile("deeploy-generic", "PACTOps dialect as Deeploy's Generic platform maps it", rows());
  p.source = "pulp-platform/Deeploy bf64cfa, Targets/Generic";
  p.arithmetic = generic_arithmetic();
  p.lowering.zero_points = true;
  p.lowering.form.legalizations = {
      distinct_concat_legalization(),
      {"part_added_requants", "RQ(f(x)) + add = RQ(Reshape(f(x))) + add, f = iGELU, IntegerDiv",
       "f and its requant become one kernel, which applies the add wrongly and stores signed codes "
       "(deeploy-dialect.md T5)",
       part_added_requants},
  };
  p.check = check;
  return p;
}

}  // namespace waveq
