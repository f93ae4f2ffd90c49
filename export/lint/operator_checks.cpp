// Traps of single operators, and what the consumer wants of them. Facts: deeploy-dialect.md 5, 6
// and 12, deeploy-import-notes.md.
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <map>

#include "lint/context.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

bool is_power_of_two(std::int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

/// Number of elements a mean runs over; 0 where unknown.
std::int64_t mean_length(const LintNode& node) {
  const Shape x = node.shape(0);
  if (x.empty()) return 0;
  std::vector<std::int64_t> axes = node.attrs().has("axes") ? node.list("axes") : node.integers(1);
  if (axes.empty() && !node.attrs().has("axes"))
    for (std::size_t i = 0; i < x.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  const auto rank = static_cast<std::int64_t>(x.size());
  std::int64_t length = 1;
  for (std::int64_t axis : axes) {
    if (axis < -rank || axis >= rank) return 0;
    length *= x[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
  }
  return length;
}

void mean_keepdims(LintContext& c) {
  for_ops(c, {"IntegerMean", "ReduceMean"}, [&](const LintNode& node) {
    if (node.integer("keepdims", 1) != 0)
      c.report(node, node.attrs().has("keepdims") ? "keepdims is 1"
                                                  : "keepdims is not given, which means 1");
  });
}
void mean_length_uneven(LintContext& c) {
  for_ops(c, {"IntegerMean", "ReduceMean"}, [&](const LintNode& node) {
    const std::int64_t n = mean_length(node);
    if (n > 1 && !is_power_of_two(n)) c.report(node, fmt::format("over {} elements", n));
  });
}
void mean_length_one(LintContext& c) {
  for_ops(c, {"IntegerMean", "ReduceMean"}, [&](const LintNode& node) {
    if (mean_length(node) == 1)
      c.report(node, fmt::format("over one element of {}", to_string(node.shape(0))));
  });
}
void mean_on_pulp(LintContext& c) {
  for_ops(c, {"IntegerMean", "ReduceMean"},
          [&](const LintNode& node) { c.report(node, "generates C that does not compile"); });
}

void quant_bounds(LintContext& c) {
  for_ops(c, {"Quant"}, [&](const LintNode& node) {
    const QuantParameters q = read_quant_parameters(node.attrs());
    if (q.lo >= 0)
      c.report(node, fmt::format("gives {}..{}", q.lo, q.hi));
    else if (q.lo != -q.hi - 1 || !is_power_of_two(q.hi + 1) || q.hi > 127)
      c.report(node, fmt::format("clips at {}..{}", q.lo, q.hi));
  });
}

void division_shapes(LintContext& c) {
  for_ops(c, {"IntegerDiv"}, [&](const LintNode& node) {
    const Shape n = node.shape(0), d = node.shape(1);
    if (n.empty() || d.empty()) return;
    bool fits = n.size() == d.size() && n != d;
    if (fits) {
      const auto axis = std::ranges::mismatch(n, d).in2;
      fits = std::all_of(axis, d.end(), [](std::int64_t v) { return v == 1; });
    }
    if (!fits)
      c.report(node, fmt::format("numerator {}, denominator {}", to_string(n), to_string(d)));
  });
}

/// Whether the product's features have parameters of their own: bias, mul or add that differ.
bool parameters_differ(const LintNode& product, const LintNode& requant) {
  const auto differ = [](const std::vector<std::int64_t>& v) {
    return std::ranges::adjacent_find(v, std::not_equal_to<>()) != v.end();
  };
  return differ(requant.integers(1)) || differ(requant.integers(2)) ||
         (product.is({"Gemm"}) && differ(product.integers(2)));
}

void linear_odd_outputs(LintContext& c) {
  for_ops(c, {"RequantShift"}, [&](const LintNode& node) {
    const auto product = node.merged_producer();
    if (!product || !product->is({"Gemm", "MatMul"}) || node.shape(0).empty()) return;
    const std::int64_t outputs = node.shape(0).back();
    if ((outputs % 2 != 0 || (outputs + 7) / 8 % 2 != 0) && outputs > 1 &&
        parameters_differ(*product, node))
      c.report(*product, fmt::format("{} outputs whose parameters differ", outputs));
  });
}

void rms_norm_length(LintContext& c) {
  for_ops(c, {"iRMSNorm"}, [&](const LintNode& node) {
    if (!node.shape(0).empty() && node.shape(0).back() % 8 != 0)
      c.report(node, fmt::format("rows of {} elements", node.shape(0).back()));
  });
}

void max_pool_pads(LintContext& c) {
  for_ops(c, {"MaxPool"}, [&](const LintNode& node) {
    if (std::ranges::any_of(node.list("pads"), [](std::int64_t p) { return p != 0; }))
      c.report(node, "has pads");
  });
}

void chunk_sizes(LintContext& c) {
  for_ops(c, {"RequantShift", "Mul", "iHardswish"}, [&](const LintNode& node) {
    const auto before = node.merged_producer();
    const bool merged = node.is({"RequantShift"}) && before &&
                        before->is({"Conv", "Gemm", "MatMul", "Add", "IntegerDiv", "TrueIntegerDiv",
                                    "iGELU", "iHardswish"});
    if (const std::int64_t n = element_count(node.out_shape()); !merged && n > 32767)
      c.report(node, fmt::format("{} elements", n));
  });
}

void produced_operators(LintContext& c) {
  for (const LintNode& node : c.nodes())
    if (node->op.starts_with("RQ") || node->op.starts_with("Requantized"))
      c.report(node, fmt::format("is of type {}", node->op));
}

std::int64_t log2_floor(std::int64_t d) {
  int s = 0;
  while (d > 1) {
    d >>= 1;
    ++s;
  }
  return s;
}

/// Largest |t*w / sigma| of a row with N elements and |w| <= weight: one element t alone
/// contributes t^2 to the variance, so sigma is at least isqrt(t^2/N + 1).
std::int64_t normalized_bound(std::int64_t weight, std::int64_t N) {
  std::int64_t bound = 0;
  for (std::int64_t t = 1; t <= 255; ++t)
    bound = std::max(bound, static_cast<std::int64_t>(__int128{t} * weight / isqrt(t * t / N + 1)));
  return bound;
}

/// Whether ((|x| <= reach) + bias) >> shift stays in int8.
bool fits_int8(std::int64_t reach, std::int64_t bias, std::int64_t shift) {
  return ((__int128{bias} + reach) >> shift) <= 127 && ((__int128{bias} - reach) >> shift) >= -128;
}

void norm_wrap(LintContext& c) {
  for_ops(c, {"iLayerNorm", "iNoNorm"}, [&](const LintNode& node) {
    const auto weight = node.integers(1), bias = node.integers(2);
    const std::int64_t D = node.integer("D", 0);
    if (weight.empty() || bias.empty() || D < 1 || node.shape(0).empty() ||
        (bias.size() != weight.size() && bias.size() != 1))
      return c.report(node, "its parameters are not known");
    const bool layer_norm = node.is({"iLayerNorm"});
    const std::int64_t N = std::max<std::int64_t>(node.shape(0).back(), 1),
                       mul = node.integer("mul", 1);
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const std::int64_t w = weight[i], b = bias[bias.size() > 1 ? i : 0];
      constexpr std::int64_t kLimit = std::int64_t{1} << 40;
      bool fits = std::abs(static_cast<double>(w)) < kLimit &&
                  std::abs(static_cast<double>(b)) < kLimit &&
                  std::abs(static_cast<double>(mul)) < 2147483648.0;
      if (fits && layer_norm) fits = fits_int8(normalized_bound(std::abs(w), N), b, log2_floor(D));
      // The product with mul is int32 in the kernel.
      if (fits && !layer_norm)
        fits = (__int128{128} * std::abs(w) + std::abs(b)) * std::abs(mul) <= 2147483647 &&
               fits_int8(static_cast<std::int64_t>((__int128{128} * std::abs(w) + std::abs(b)) *
                                                   std::abs(mul)),
                         0, log2_floor(D));
      if (!fits)
        return c.report(node, fmt::format("element {}: weight {}, bias {}, D {}", i, w, b, D));
    }
  });
}

void both_norms(LintContext& c) {
  const LintNode* layer = nullptr;
  const LintNode* rms = nullptr;
  for (const LintNode& node : c.nodes()) {
    if (!layer && node.is({"iLayerNorm"})) layer = &node;
    if (!rms && node.is({"iRMSNorm"})) rms = &node;
  }
  if (layer && rms) c.report(*rms, fmt::format("iRMSNorm beside iLayerNorm '{}'", (*layer)->name));
}

void unsigned_product(LintContext& c) {
  for_ops(c, {"MatMul", "Mul"}, [&](const LintNode& node) {
    for (const std::size_t slot : {std::size_t{0}, std::size_t{1}})
      if (node.dtype(slot) == DType::u8 && !node.is_constant(slot))
        return c.report(node, fmt::format("operand {} is unsigned", slot));
  });
}

void matmul_leading_axes(LintContext& c) {
  for_ops(c, {"MatMul"}, [&](const LintNode& node) {
    const Shape a = node.shape(0), b = node.shape(1);
    if (a.size() < 2 || b.size() < 2) return;
    const std::int64_t batch_a = element_count(Shape(a.begin(), a.end() - 2)),
                       batch_b = element_count(Shape(b.begin(), b.end() - 2));
    const bool equal = a.size() == b.size() && std::equal(a.begin(), a.end() - 2, b.begin());
    if (!equal && (batch_a != 1 || batch_b != 1))
      c.report(node, fmt::format("leading axes of {} and {} differ", to_string(a), to_string(b)));
  });
}
void gemm_factors(LintContext& c) {
  for_ops(c, {"Gemm"}, [&](const LintNode& node) {
    const double alpha = node.real("alpha", 1), beta = node.real("beta", 1);
    if (alpha != 1 || beta != 1) c.report(node, fmt::format("alpha {}, beta {}", alpha, beta));
  });
}
void residual_on_matmul(LintContext& c) {
  for_ops(c, {"Add"}, [&](const LintNode& node) {
    if (node.is_constant(0) || node.is_constant(1)) return;
    for (const std::size_t slot : {std::size_t{0}, std::size_t{1}})
      if (const auto product = node.producer(slot); product && product->is({"MatMul"}))
        return c.report(node,
                        fmt::format("adds onto the accumulator of MatMul '{}'", (*product)->name));
  });
}
void add_shapes(LintContext& c) {
  for_ops(c, {"Add", "Sub"}, [&](const LintNode& node) {
    const Shape a = node.shape(0), b = node.shape(1);
    const bool lower = a.size() != b.size() && node.is_constant(a.size() < b.size() ? 0 : 1);
    if (a != b && !lower)
      c.report(node, fmt::format("operands {} and {}", to_string(a), to_string(b)));
  });
}

void gelu_constants(LintContext& c) {
  for_ops(c, {"iGELU"}, [&](const LintNode& node) {
    const std::int64_t b = node.integer("b", 0), one = node.integer("one", 0);
    if (b < -128 || b >= 0 || one < 1 || one > 32767)
      c.report(node, fmt::format("b {}, one {}", b, one));
  });
}

/// Whether a tensor is wider than 8 bits on the device. Graph inputs of foreign networks are not:
/// what type they get is told by their samples.
bool is_wide(const LintNode& node, std::size_t slot) {
  if (!node.has(slot)) return false;
  if (node.is_constant(slot))
    return std::ranges::any_of(node.integers(slot),
                               [](std::int64_t v) { return v < -128 || v > 255; });
  if (size_of(node.dtype(slot)) <= 1) return false;
  auto source = node.producer(slot);
  while (source) {
    const OpDef* op = find_op((*source)->op);
    if (!op ||
        !(op->moves_data || source->is({"MaxPool", "IntegerMean", "ReduceMean", "Pad", "Concat"})))
      return true;
    source = source->has(0) ? source->producer(0) : std::nullopt;
  }
  return false;
}
void wide_operands(LintContext& c) {
  for_ops(c,
          {"Conv", "Gemm", "MatMul", "iGELU", "iHardswish", "iSoftmax", "ITAMax", "ITAPartialMax",
           "iLayerNorm", "iRMSNorm", "iNoNorm"},
          [&](const LintNode& node) {
            const bool two = node.is({"Conv", "Gemm", "MatMul"});
            for (std::size_t slot = 0; slot < (two ? 2u : 1u); ++slot)
              if (is_wide(node, slot))
                return c.report(node, fmt::format("operand {} has more than 8 bits", slot));
          });
}

void pool_ceil(LintContext& c) {
  for_ops(c, {"MaxPool"}, [&](const LintNode& node) {
    if (node.integer("ceil_mode", 0) != 0) c.report(node, "ceil_mode is 1");
  });
}
void concat_inputs(LintContext& c) {
  for_ops(c, {"Concat"}, [&](const LintNode& node) {
    if (node->inputs.size() != 2) c.report(node, fmt::format("{} inputs", node->inputs.size()));
  });
}
void slice_bounds(LintContext& c) {
  for_ops(c, {"Slice"}, [&](const LintNode& node) {
    std::size_t slot = 1;
    for (const char* name : {"starts", "ends", "axes", "steps"}) {
      const auto values = node.attrs().has(name) ? node.list(name) : node.integers(slot);
      ++slot;
      for (std::int64_t v : values)
        if (v < 0 || v > 255) return c.report(node, fmt::format("{} = {}", name, v));
    }
  });
}
void gather_index(LintContext& c) {
  for_ops(c, {"Gather"}, [&](const LintNode& node) {
    if (node.integers(1).size() != 1 || node.integer("axis", 0) < 0)
      c.report(node, node.integer("axis", 0) < 0 ? "axis is negative" : "not one constant index");
  });
}

/// Which platforms map an operator at all, merged with a requant or alone.
const std::map<std::string_view, LintPlatforms>& mappings() {
  constexpr LintPlatforms kFour = kGeneric | kCortexM | kMemPool | kPulp;
  static const std::map<std::string_view, LintPlatforms> table = {
      {"Add", kAllPlatforms},
      {"Concat", kGeneric | kPulp},
      {"Conv", kFour},
      {"Dequant", kGeneric | kPulp},
      {"Flatten", kFour},
      {"Gather", kGeneric | kCortexM | kMemPool},
      {"Gemm", kAllPlatforms},
      {"ITAMax", kGeneric | kMemPool},
      {"ITAPartialMax", kGeneric | kMemPool},
      {"Identity", kAllPlatforms},
      {"IntegerDiv", kAllPlatforms},
      {"IntegerMean", kFour},
      {"MatMul", kAllPlatforms},
      {"MaxPool", kFour},
      {"Mul", kFour},
      {"Pad", kFour},
      {"Quant", kGeneric | kPulp},
      {"ReduceMean", kFour},
      {"ReduceSum", kGeneric | kCortexM | kMemPool},
      {"RequantShift", kAllPlatforms},
      {"Reshape", kFour},
      {"Slice", kFour},
      {"Squeeze", kGeneric | kPulp},
      {"Sub", kGeneric},
      {"Transpose", kFour},
      {"TrueIntegerDiv", kPulp},
      {"Unsqueeze", kFour},
      {"iGELU", kFour},
      {"iHardswish", kPulp},
      {"iLayerNorm", kGeneric | kCortexM | kMemPool | kSnitch},
      {"iNoNorm", kSnitch},
      {"iRMSNorm", kPulp},
      {"iSoftmax", kAllPlatforms}};
  return table;
}

/// One check function a platform: a template over the bit keeps the table's function pointers
/// plain.
template <LintPlatforms platform>
void unmapped(LintContext& c) {
  for (const LintNode& node : c.nodes()) {
    if (node->op.starts_with("RQ") || node->op.starts_with("Requantized")) continue;
    if (!node->inputs.empty() && std::ranges::all_of(node->inputs, [&](ValueId v) {
          return !v.valid() || c.graph().is_constant(v);
        }))
      continue;
    const auto row = mappings().find(node->op);
    if (row == mappings().end() || !(row->second & platform))
      c.report(node, fmt::format("{} has no integer mapping", node->op));
  }
}

}  // namespace

std::vector<LintCheck> lint_operator_checks() {
  using enum LintEffect;
  std::vector<LintCheck> rows = {
      {"N", "quant_bounds", kGeneric | kPulp, wrong,
       "Quant stores int8 and clips at the bounds of a bit width: unsigned results miss the offset "
       "that their readers expect, bounds such as -127..127 become -64..63",
       "clip at -128..127, or at the bounds of fewer bits", quant_bounds},
      {"T11", "mean_keepdims", kGeneric | kPulp, rejected,
       "keepdims = 1 generates C with an undeclared name",
       "use keepdims = 0 and a Reshape behind it", mean_keepdims},
      {"T11", "mean_length_uneven", kGeneric | kPulp, rejected,
       "only means over a power of two have a template",
       "pad or crop to a power of two, or use a product with ones and a requant",
       mean_length_uneven},
      {"T11", "mean_length_one", kGeneric | kPulp, wrong, "a mean over one element shifts by -1",
       "use a Reshape", mean_length_one},
      {"T12", "mean_on_pulp", kPulp, rejected, "the template casts to an array type, which is no C",
       "use a product with ones and a requant", mean_on_pulp},
      {"T13", "division_shapes", kAllPlatforms, wrong,
       "from the first axis that differs the denominator must hold one element: the outer loop "
       "overruns otherwise, and equal shapes leave two parameters undefined",
       "divide [..., M, d] by [..., M, 1]", division_shapes},
      {"T15", "linear_odd_outputs", kPulp, wrong,
       "with an odd number of outputs, or of groups of eight of them, outputs take the first one's "
       "parameters",
       "pad the outputs to a multiple of 16, or write a 1x1 Conv", linear_odd_outputs},
      {"T15", "rms_norm_length", kPulp, wrong,
       "rows that are no multiple of 8 write into the next row", "pad rows to a multiple of 8",
       rms_norm_length},
      {"T16", "max_pool_pads", kGeneric | kMemPool, wrong,
       "pads are filled with 0, or minus infinity, not with the smallest 8-bit value",
       "use pads 0 and an explicit Pad where data are not negative", max_pool_pads},
      {"T17", "chunk_sizes", kPulp, wrong, "chunk indices are int16",
       "keep tensors of standalone requants and products at 32767 elements or fewer", chunk_sizes},
      {"T19", "produced_operators", kAllPlatforms, rejected,
       "names that start with RQ or Requantized belong to what the consumer's own passes make, and "
       "their inputs come in another order (add before mul)",
       "write the plain operator and a RequantShift", produced_operators},
      {"T21", "norm_wrap", kAllPlatforms, wrong,
       "the result is narrowed to 8 bits without a clip; a bound that it fits could not be shown",
       "scale weight and bias down, or raise D, so that it fits", norm_wrap},
      {"T22", "both_norms", kGeneric, rejected,
       "the library defines _plp_sqrt_q32 in both kernels and does not link",
       "use one kind of normalization", both_norms},
      {"S6", "unsigned_product", kPulp, rejected, "MatMul and Mul bind with signed operands only",
       "requantize the operand to signed 8 bit", unsigned_product},
      {"S6", "matmul_leading_axes", kAllPlatforms, wrong,
       "both operands advance together over the leading axes: unequal ones read past the smaller",
       "use batch 1, or repeat the smaller operand", matmul_leading_axes},
      {"S6", "gemm_factors", kCortexM | kPulp, wrong, "merged products ignore alpha and beta",
       "use alpha = beta = 1", gemm_factors},
      {"N", "residual_on_matmul", kGeneric | kMemPool, rejected,
       "an Add behind a raw MatMul is taken for its bias", "requantize the product first",
       residual_on_matmul},
      {"S6", "add_shapes", kAllPlatforms, rejected,
       "operands must have one shape, or the one of lower rank be constant",
       "expand the smaller operand", add_shapes},
      {"S6", "gelu_constants", kAllPlatforms, wrong,
       "the kernel takes b as int8 (negative) and one as int16", "use a larger input scale",
       gelu_constants},
      {"S6", "wide_operands", kAllPlatforms, rejected,
       "products and nonlinear operators bind with 8-bit operands only",
       "requantize to 8 bits first", wide_operands},
      {"S6", "pool_ceil", kAllPlatforms, rejected, "ceil_mode 1 is not mapped",
       "pad so that ceil_mode 0 gives the same size", pool_ceil},
      {"S6", "concat_inputs", kAllPlatforms, rejected, "exactly two inputs are accepted",
       "chain Concats", concat_inputs},
      {"S6", "slice_bounds", kAllPlatforms, rejected,
       "starts, ends, axes and steps are bound as uint8", "use bounds within 0..255", slice_bounds},
      {"S6", "gather_index", kAllPlatforms, rejected,
       "one constant index and a non-negative axis are accepted", "use several Gathers or a Slice",
       gather_index},
  };
  const auto mapped = [&](const char* name, LintPlatforms platform, void (*run)(LintContext&)) {
    rows.push_back({"S5", name, platform, rejected,
                    "the platform maps no such operator on integers",
                    "write it with operators that it maps; `waveq targets` lists them", run});
  };
  mapped("unmapped_generic", kGeneric, unmapped<kGeneric>);
  mapped("unmapped_cortexm", kCortexM, unmapped<kCortexM>);
  mapped("unmapped_mempool", kMemPool, unmapped<kMemPool>);
  mapped("unmapped_pulp", kPulp, unmapped<kPulp>);
  mapped("unmapped_snitch", kSnitch, unmapped<kSnitch>);
  return rows;
}

}  // namespace waveq
