// The PACTOps dialect as Deeploy's PULP platforms (Siracusa, PULPOpen, GAP9) accept it. Facts:
// deeploy-dialect.md 4, 5, 6, 11.4, 12 and deeploy-import-notes.md, "PULP findings".
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "dialects/deeploy_checks.h"
#include "dialects/dialects.h"
#include "legalize/legalize.h"
#include "waveq/integerize/bounds.h"

namespace waveq {

namespace {

using namespace deeploy;

// Of a depthwise kernel.
constexpr std::int64_t kLeastTaps = 4;

bool is_requant(const Node* node) { return node && node->op == "RequantShift"; }

/// The operator has a kernel only together with the requant behind it, which must be its only
/// reader.
void require_fused(const Check& c) {
  c.require(is_requant(c.only_user()), "fused_requant",
            "runs only fused with one RequantShift behind it");
}

void check_conv_2d(const Check& c) {
  check_conv(c);
  require_fused(c);
  const Shape& x = c.shape(0);
  c.require(x.size() == 4, "conv_2d",
            "Conv1D binds only with equal signs in and out, and its depthwise form computes wrong "
            "values; use a Conv2D of height 1");
  if (x.size() != 4) return;
  c.require(x[0] == 1, "conv_batch", "the kernel computes the first of a batch alone");
  const auto pads = c.node.attrs.get_ints("pads", {0, 0, 0, 0}),
             strides = c.node.attrs.get_ints("strides", {1, 1});
  const bool padded = std::ranges::any_of(pads, [](std::int64_t p) { return p != 0; });
  c.require(std::ranges::all_of(pads, [&](std::int64_t p) { return p == pads.front(); }),
            "conv_pads", "pads must be equal on all four sides; use an explicit Pad");
  const bool depthwise = x[1] > 1 && c.node.attrs.get_int("group", 1) == x[1];
  c.require(
      !depthwise || c.shape(1)[2] * c.shape(1)[3] >= kLeastTaps, "conv_depthwise_taps",
      fmt::format("a depthwise kernel of fewer than {} taps computes wrong values", kLeastTaps));
  c.require(
      !(depthwise && padded && std::ranges::any_of(strides, [](std::int64_t s) { return s != 1; })),
      "conv_depthwise_pads",
      "a strided depthwise kernel computes the last column wrong where it reads padding; use "
      "an explicit Pad");
}

// Requants of their own and products count elements in int16, sums in uint16; each of 8 cores does
// a share, and an odd one takes it past its end (deeploy-dialect.md T17; UniformRequantShift.c,
// pulp_nn_add_*.c).
constexpr WideElementwise kSizes{
    .requant_elements = 32767, .requant_multiple = 16, .add_elements = 65535};

void require_chunks(const Check& c) {
  const std::int64_t n = c.elements(0);
  c.require(n <= kSizes.requant_elements, "int16_index",
            fmt::format("{} elements, the kernel counts to {}", n, kSizes.requant_elements));
  c.require(n % kSizes.requant_multiple == 0, "odd_chunk",
            fmt::format("{} elements; where the share of each of 8 cores is odd, the kernel writes "
                        "past its end",
                        n));
}

/// Operators whose kernel takes the requant behind them along.
bool fuses_requant(const Node* producer) {
  static const std::set<std::string, std::less<>> ops = {"Conv",  "Gemm",       "MatMul",    "Add",
                                                         "iGELU", "IntegerDiv", "iHardswish"};
  return producer && ops.contains(producer->op);
}

void check_requant_pulp(const Check& c) {
  check_requant(c);
  c.require(c.node.attrs.get_int("n_levels_out", 256) == 256, "requant_levels",
            "fused kernels clip to 8 bits whatever the number of levels");
  const Node* before = c.producer(0);
  if (fuses_requant(before)) return;
  c.require(c.node.attrs.get_int("signed", 1) == 1, "requant_unsigned",
            "a requant of its own has no unsigned kernel");
  require_chunks(c);
}

void check_matmul_pulp(const Check& c) {
  check_matmul(c);
  c.require(c.dtype(0) == DType::i8 && c.dtype(1) == DType::i8, "matmul_types",
            "wants two int8 operands");
}

void check_mul_pulp(const Check& c) {
  c.require(c.dtype(0) == DType::i8 && c.dtype(1) == DType::i8, "mul_types",
            "wants two int8 operands");
  require_chunks(c);
}

/// A requant in front of the sum is absorbed and then clips where the storage of its operand says:
/// it must not clip.
void check_add_pulp(const Check& c) {
  check_add(c);
  c.require(
      c.elements(0) <= kSizes.add_elements, "uint16_index",
      fmt::format("{} elements, the kernel counts to {}", c.elements(0), kSizes.add_elements));
  const auto& users = c.graph.value(c.node.outputs.front()).uses;
  c.require(
      users.size() == 1 ||
          std::ranges::none_of(users, [&](NodeId user) { return is_requant(&c.graph.node(user)); }),
      "add_readers", "the requant that is merged with the sum must be its only reader");
  c.require(!c.graph.is_constant(c.node.inputs[1]) || c.shape(1) == c.shape(0), "add_constant",
            "a constant of lower rank is folded into the requant behind it, one value a column, "
            "which has no kernel");
  for (std::size_t i = 0; i < 2; ++i) {
    const Node* requant = c.producer(i);
    if (!is_requant(requant)) continue;
    const NodeId source = c.graph.value(requant->inputs[0]).producer;
    if (source.valid() && fuses_requant(&c.graph.node(source))) continue;
    if (c.graph.value(requant->inputs[0]).type.dtype != DType::u8) continue;
    const std::int64_t mul = to_int64(c.graph.constant(requant->inputs[1])).front(),
                       add = to_int64(c.graph.constant(requant->inputs[2])).front(),
                       div = requant->attrs.require_int("div");
    c.require(255 * mul + add + div / 2 < 128 * div, "add_operand_clip",
              fmt::format("its operand '{}' saturates, which the fused kernel does at 255",
                          c.graph.value(c.node.inputs[i]).name));
  }
}

void check_division_pulp(const Check& c) {
  check_division(c);
  require_fused(c);
}

void check_gelu_pulp(const Check& c) {
  check_gelu(c);
  require_fused(c);
}

void check_pad_pulp(const Check& c) {
  const auto pads = c.node.attrs.get_ints("pads", {});
  bool outer = false;
  for (std::size_t i : {std::size_t{0}, std::size_t{1}, pads.size() / 2, pads.size() / 2 + 1})
    outer = outer || (i < pads.size() && pads[i] != 0);
  c.require(!outer && (c.shape(0).size() == 3 || c.shape(0).size() == 4), "pad_axes",
            "pads anything but the last axes of a tensor [1,C,...]");
  c.require(c.dtype(0) == DType::i8, "pad_types", "wants int8 data");
}

void check_softmax_pulp(const Check& c) {
  check_isoftmax(c);
  c.require(c.node.attrs.get_int("coeffA", 1) == 1 && c.node.attrs.get_int("n_levels", 256) == 256,
            "softmax_constants", "the kernel takes coeffA for 1 and n_levels for 256");
}

/// Rows whose share of 8 elements would end in the next row (deeploy-dialect.md T15).
constexpr std::int64_t kRowMultiple = 8;

void check_rms_norm_pulp(const Check& c) {
  c.require(c.dtype(0) == DType::i8, "rms_norm_types", "wants int8 rows");
  c.require(c.shape(0).back() % kRowMultiple == 0, "rms_norm_row",
            fmt::format("rows of {} elements; where they are not a multiple of {}, the kernel "
                        "writes into the next row",
                        c.shape(0).back(), kRowMultiple));
}

const Rows& rows() {
  static const Rows table = {
      {"Add", {"int8 + int8 of one shape, with the requant behind it", check_add_pulp}},
      {"Concat", {"two inputs of one type", check_concat}},
      {"Conv",
       {"2-D with the requant behind it; group 1 or depthwise; dilation 1; no bias; equal pads",
        check_conv_2d}},
      {"Flatten", {"moves data", check_nothing}},
      {"IntegerDiv",
       {"int32 [..., M, d] / [..., M, 1] with the requant behind it", check_division_pulp}},
      {"MatMul", {"int8 x int8 -> int32, equal leading axes", check_matmul_pulp}},
      {"MaxPool", {"no pads, no ceil_mode", check_max_pool}},
      {"Mul", {"int8 x int8 -> int32, at most 32767 elements, a multiple of 16", check_mul_pulp}},
      {"Pad", {"int8, constant 0, spatial axes", check_pad_pulp}},
      {"Dequant", {"int8 or int32 -> float32", check_dequant}},
      {"Quant", {"float32 -> int8, signed, bounds of a bit width", check_quant}},
      {"RequantShift",
       {"scalar, or per channel right behind Conv; 256 levels; unsigned only behind Conv, MatMul "
        "and Add; elsewhere at most 32767 elements, a multiple of 16",
        check_requant_pulp}},
      {"Reshape", {"moves data", check_nothing}},
      {"Squeeze", {"moves data", check_nothing}},
      {"Transpose", {"perm given", check_nothing}},
      {"Unsqueeze", {"moves data", check_nothing}},
      {"iGELU", {"int8 with the requant behind it; b int8, one int16", check_gelu_pulp}},
      {"iRMSNorm", {"int8 rows of a multiple of 8 elements", check_rms_norm_pulp}},
      {"iSoftmax", {"the last axis; coeffA 1, 256 levels", check_softmax_pulp}},
  };
  return table;
}

std::vector<Finding> check(const TargetProfile& profile, const Graph& graph) {
  return check_network(profile, graph, rows());
}

}  // namespace

TargetProfile deeploy_siracusa() {
  TargetProfile p = profile("deeploy-siracusa",
                            "PACTOps dialect as Deeploy's PULP platforms map it: Siracusa, "
                            "PULPOpen, GAP9",
                            rows());
  p.source = "pulp-platform/Deeploy bf64cfa, Targets/PULPOpen; pulp-nn-mixed b69ec23";
  p.arithmetic = pulp_arithmetic();
  p.lowering.form.int8_operands = true;
  p.lowering.form.gemm_bias_in_requant = true;
  p.lowering.form.rows_as_channels = true;
  p.lowering.form.norm_row_multiple = kRowMultiple;
  p.lowering.form.legalizations = {
      distinct_concat_legalization(),
      {"slices_as_conv", "Slice(x) = RQ(1x1 Conv with rows of I), the axis as channels",
       "integers are sliced by the cluster's DMA alone, in tiles (PULPOpen/Bindings.py)",
       slices_as_conv},
      {"separate_requants", "RQ1(f(x)), RQ2(f(x)) = RQ1(f(x)), RQ2(f'(x)) with a copy f' of f",
       "f and its requant are one kernel (deeploy-dialect.md 5)", separate_requants},
      {"conv_as_2d", "Conv1D = Conv2D of height 1; Gemm = Conv2D of one pixel",
       "Conv1D binds only with equal signs, depthwise it is wrong; linear kernels with an odd "
       "number of outputs are wrong (deeploy-dialect.md 11.4, T15, T25)",
       conv_as_2d},
      {"widen_depthwise_kernels",
       "depthwise Conv of 1 to 3 taps = the same with taps of zero on both sides",
       "the depthwise kernel is wrong below 4 taps: run on pulp-nn-mixed b69ec23 (builtins in C), "
       "kernels 1x1, 1x2, 1x3, 3x1 fail in 3 of 4 channels, 2x2, 1x4 and larger are right",
       [](Graph& graph) { widen_depthwise_kernels(graph, kLeastTaps); }},
      {"explicit_pads", "Conv(x){pads} = Conv(Pad(x))",
       "pads must be equal on all sides, and 0 for strided depthwise kernels "
       "(deeploy-dialect.md 6.1, T15)",
       explicit_pads},
      {"wide_elementwise_as_conv",
       "RQ(x) = RQ(1x1 Conv with I); a + b = 1x1 Conv with [I I] over [a, b]",
       "elementwise kernels count in 16 bits (deeploy-dialect.md T17); a requant of its own has no "
       "unsigned kernel (T10)",
       [](Graph& graph) { wide_elementwise_as_conv(graph, kSizes); }},
      {"own_summand_requants", "a + b = RQ(a) + RQ(b), RQ by one",
       "RequantizedAdd takes the requants of its operands along: one that another node reads, or "
       "an "
       "operand without, finds no mapping (PULPAddRequantMergePass, run on Siracusa)",
       own_summand_requants},
  };
  p.check = check;
  return p;
}

}  // namespace waveq
