// What rounds, wraps and saturates in each operator, by family of targets. Facts:
// deeploy-dialect.md 4.2 and 6, kernels of pulp-platform/Deeploy bf64cfa and
// pulp-platform/pulp-nn-mixed b69ec23.
#include "dialects/dialects.h"

namespace waveq {

namespace {

/// What all targets compute alike.
std::vector<ArithmeticRule> common_rules() {
  return {
      {"Conv", "int32 sums wrap; padding is 0", "Generic/src/Convolution_s8.c, pulp_nn_conv"},
      {"Gemm", "alpha*A*B + beta*C in int32 wraps", "Generic/src/GEMM_s8.c"},
      {"MatMul", "int32 sums wrap", "Generic/src/MatMul_s8.c"},
      {"Add, Sub, Mul", "int32 results wrap", "Generic templates Add, Sub, Mul"},
      {"ReduceSum", "int32 sums wrap", "Generic template ReduceSum"},
      {"IntegerMean, ReduceMean",
       "half up for a power of two, (sum + count/2) >> log2 count; else half away from zero; int32 "
       "sums wrap",
       "Generic templates IntegerMean, ReduceMean"},
      {"IntegerDiv", "half away from zero in 64 bits; Delta*eta and the quotient wrap at 32 bits",
       "Generic/src/Div_s32.c"},
      {"TrueIntegerDiv", "the factor floor(Delta*eta / (y*eta + eps)) floors; products wrap",
       "Generic Passes.py"},
      {"iGELU", "the halving floors; b is int8, one is int16; int32 products wrap",
       "Generic/src/GELU_s8.c"},
      {"iHardswish", "int32 steps wrap", "Generic/src/Hardswish_s8.c"},
      {"iLayerNorm",
       "mean and quotient truncate, the root and the shift floor; the low 8 bits are kept, nothing "
       "saturates",
       "Generic/src/Layernorm_s8.c"},
      {"iRMSNorm", "the quotient truncates, the root and the shift floor; saturates at 8 bits",
       "Generic/src/iRMSNorm_s8.c"},
      {"iNoNorm", "the shift floors; the low 8 bits are kept, nothing saturates",
       "Snitch/src/iNoNorm.c"},
      {"Table", "a look-up: its entries were rounded to nearest when it was made",
       "docs/waveq-operators.md"},
      {"iGRU, iLSTM", "gate sums are int32 and wrap; their requants round half up and saturate",
       "docs/waveq-operators.md"},
      {"Quant",
       "x*scale + zero_point in float32, where scale is the float32 next to 1/divisor; half away "
       "from "
       "zero by adding 0.5, which float32 rounds up just below 0.5 too; saturates at bit_width, to "
       "which bounds that are no power of two apart are cut; beyond int32 undefined",
       "Generic templates Quant, Passes.py",
       {},
       {"divisor"}},
      {"Dequant", "(x - zero_point)*scale in float32", "Generic template Dequant"},
      {"ITAMax, ITAPartialMax", "shifts round half up, the quotient floors",
       "Generic/src/Softmax_s8.c"},
  };
}

const ArithmeticRule kRequant = {
    "RequantShift",
    "half of the divisor is added by the target, then the shift floors (half up); product and sums "
    "wrap at 32 bits; saturates at n_levels",
    "Generic/src/RequantShift_s8.c",
    {},
    {"rounding"}};

std::vector<ArithmeticRule> with(std::vector<ArithmeticRule> first) {
  for (ArithmeticRule& r : common_rules()) first.push_back(std::move(r));
  return first;
}

bool names(const ArithmeticRule& rule, const std::string& op) {
  return (", " + rule.op + ",").find(", " + op + ",") != std::string::npos;
}

}  // namespace

Graph as_computed_on(const TargetProfile& target, Graph graph) {
  for (const NodeId id : graph.nodes())
    for (const ArithmeticRule& rule : target.arithmetic) {
      if (!names(rule, graph.node(id).op)) continue;
      Attrs attrs = graph.node(id).attrs;
      for (const auto& [name, value] : rule.fixed) attrs.set(name, value);
      for (const std::string& name : rule.unknown) attrs.erase(name);
      graph.set_attrs(id, std::move(attrs));
    }
  return graph;
}

std::vector<ArithmeticRule> generic_arithmetic() {
  return with(
      {kRequant,
       {"iSoftmax",
        "quotients floor; the octave is int8: it wraps where log2 is 1; exponentials, their sum "
        "and the product with n_levels - 1 wrap at 32 bits",
        "Generic/src/Softmax_s8.c",
        {},
        {"octave"}},
       {"MaxPool", "no arithmetic; where it pads, Generic compares with 0 (a defect: lint T16)",
        "Generic passes, extracted Pad"}});
}

std::vector<ArithmeticRule> pulp_arithmetic() {
  ArithmeticRule requant = kRequant;
  requant.meaning += "; fused behind Conv, Gemm and MatMul at 8 bits whatever n_levels says";
  requant.source = "PULPOpen UniformRequantShift.c, pulp_nn_*_i8";
  return with({std::move(requant),
               {"iSoftmax",
                "quotients floor; coeffA is 1 and n_levels 256 whatever the node says; the octave "
                "is uint8",
                "PULPOpen/src/Softmax.c",
                {{"coeffA", std::int64_t{1}},
                 {"n_levels", std::int64_t{256}},
                 {"octave", std::string("uint8")}}},
               {"MaxPool", "no arithmetic; padding does not take part", "pulp_nn_maxpool"}});
}

}  // namespace waveq
