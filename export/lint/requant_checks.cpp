// Traps of requantization. Facts: deeploy-dialect.md 4, 6.4, 6.7, 6.9 and 12.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "lint/context.h"

namespace waveq {

namespace {

/// Calls f(node, requant) for every RequantShift with constant parameters.
template <class F>
void for_requants(LintContext& c, F f) {
  for (const LintNode& node : c.nodes()) {
    if (!node.is({"RequantShift"})) continue;
    const LintRequant rq(node);
    if (rq.valid) f(node, rq);
  }
}

/// As above with the node right in front, for requants that a pass merges with one of `ops`.
template <class F>
void for_merged_requants(LintContext& c, std::initializer_list<std::string_view> ops, F f) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    const auto before = node.merged_producer();
    if (before && before->is(ops)) f(node, rq, *before);
  });
}

/// Whether PULP merges the requant with what is in front of it.
bool merges_on_pulp(const LintNode& node) {
  const auto before = node.merged_producer();
  return before && before->is({"Conv", "Gemm", "MatMul", "Add", "IntegerDiv", "TrueIntegerDiv",
                               "iGELU", "iHardswish"});
}

/// A [M,N] tensor with one parameter for each of its M > 1 rows, told by the shape [M,1].
bool is_per_row(const LintNode& node) {
  const Shape x = node.shape(0), mul = node.shape(1);
  return x.size() == 2 && mul.size() == 2 && mul[0] == x[0] && mul[0] > 1 && mul[1] == 1;
}

/// Every add = q*mul + div/2, and they are not all multiples of mul. Chance produces that with a
/// probability of about 1 / product of |mul|; below one in a thousand it is called what it looks
/// like.
void half_in_add(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    if (rq.div < 2) return;
    double surprise = 0;
    bool plain = true;
    for (std::size_t i = 0; i < rq.sets(); ++i) {
      const std::int64_t m = rq.mul_of(i), a = rq.add_of(i);
      if (m == 0 || std::abs(static_cast<double>(a)) > 0x1p52 || (a - rq.div / 2) % m != 0) return;
      plain = plain && a % m == 0;
      surprise += std::log2(std::abs(static_cast<double>(m)));
    }
    if (!plain && surprise >= 10)
      c.report(
          node,
          fmt::format(
              "add - div/2 is a multiple of mul everywhere, add is not: e.g. add {} = {}*mul + {}",
              rq.add_of(0), (rq.add_of(0) - rq.div / 2) / rq.mul_of(0), rq.div / 2));
  });
}

/// Unproven nodes of the given operators, or with an empty list those whose own int32 arithmetic is
/// too wide.
void report_unproven(LintContext& c, std::initializer_list<std::string_view> ops) {
  constexpr double kInt32Limit = 2147483647.0;
  const auto named = [](std::initializer_list<std::string_view> list, const std::string& op) {
    return std::ranges::find(list, op) != list.end();
  };
  for (const NodeProof& n : c.proof().nodes) {
    if (n.proven) continue;
    const bool own_row = named({"RequantShift", "IntegerDiv", "iLayerNorm", "iNoNorm"}, n.op);
    if (ops.size() > 0 ? named(ops, n.op) : !own_row && n.bound > kInt32Limit)
      c.report(n.node, n.bound > 0
                           ? n.reason
                           : fmt::format("no bound: it or an operator in front {}", n.reason));
  }
}

void requant_wrap(LintContext& c) { report_unproven(c, {"RequantShift"}); }
void division_wrap(LintContext& c) { report_unproven(c, {"IntegerDiv"}); }
void accumulator_wrap(LintContext& c) { report_unproven(c, {}); }

/// Whether round(add / (mul + 1e-3)) * mul gives add back, by the rule of deeploy-dialect.md 4.2.
bool survives_emulation(std::int64_t mul, std::int64_t add) {
  if (add == 0) return true;
  if (mul == 0 || mul == std::numeric_limits<std::int64_t>::min() ||
      add == std::numeric_limits<std::int64_t>::min())
    return false;
  return add % mul == 0 &&
         static_cast<double>(std::abs(add / mul)) < 500.0 * std::abs(static_cast<double>(mul));
}

void add_not_emulated(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    std::size_t bad = 0, first = 0;
    for (std::size_t i = 0; i < rq.sets(); ++i)
      if (!survives_emulation(rq.mul_of(i), rq.add_of(i)) && bad++ == 0) first = i;
    if (bad > 0)
      c.report(node, fmt::format("{} of {} pairs, first: mul {}, add {}", bad, rq.sets(),
                                 rq.mul_of(first), rq.add_of(first)));
  });
}

void add_behind(LintContext& c, std::initializer_list<std::string_view> ops) {
  for_merged_requants(
      c, ops, [&](const LintNode& node, const LintRequant& rq, const LintNode& before) {
        if (rq.has_add())
          c.report(node, fmt::format("add is not 0 behind {} '{}'", before->op, before->name));
      });
}
void gelu_requant_add(LintContext& c) { add_behind(c, {"iGELU"}); }
void division_requant_add(LintContext& c) { add_behind(c, {"IntegerDiv", "TrueIntegerDiv"}); }
void hardswish_requant_add(LintContext& c) { add_behind(c, {"iHardswish"}); }

void form_behind(LintContext& c, std::initializer_list<std::string_view> ops) {
  for_merged_requants(
      c, ops, [&](const LintNode& node, const LintRequant& rq, const LintNode& before) {
        if (!rq.is_signed || rq.per_channel())
          c.report(node,
                   fmt::format("is {} behind {} '{}'", !rq.is_signed ? "unsigned" : "per channel",
                               before->op, before->name));
      });
}
void gelu_requant_form(LintContext& c) { form_behind(c, {"iGELU"}); }
void division_requant_form(LintContext& c) { form_behind(c, {"IntegerDiv"}); }

void gemm_bias_and_add(LintContext& c) {
  for_merged_requants(
      c, {"Gemm"}, [&](const LintNode& node, const LintRequant& rq, const LintNode& gemm) {
        if (gemm.has(2) && rq.has_add())
          c.report(node, fmt::format("add is not 0, and '{}' in front has a bias", gemm->name));
      });
}

void report_gain(LintContext& c, const LintNode& node, const LintRequant& rq) {
  std::size_t bad = 0;
  std::int64_t worst = 0;
  for (std::int64_t m : rq.mul) {
    if (std::abs(static_cast<double>(m)) < static_cast<double>(rq.div)) continue;
    ++bad;
    if (std::abs(static_cast<double>(m)) > std::abs(static_cast<double>(worst))) worst = m;
  }
  if (bad > 0)
    c.report(node,
             fmt::format("{} of {} mul, largest {}, div {}", bad, rq.mul.size(), worst, rq.div));
}
void merged_mul_ge_div(LintContext& c) {
  for_merged_requants(c, {"Conv", "Gemm", "MatMul"},
                      [&](const LintNode& node, const LintRequant& rq, const LintNode&) {
                        report_gain(c, node, rq);
                      });
}
void mul_ge_div(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) { report_gain(c, node, rq); });
}

/// The operand's own requant is absorbed and clipped by the type of what that one reads.
void add_operand_sign(LintContext& c) {
  for (const LintNode& node : c.nodes()) {
    if (!node.is({"Add"}) || node.is_constant(0) || node.is_constant(1)) continue;
    const auto& uses = c.graph().value(node.output()).uses;
    if (uses.size() != 1 || c.graph().node(uses.front()).op != "RequantShift") continue;
    for (const std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      const auto operand = node.producer(slot);
      if (!operand || !operand->is({"RequantShift"})) continue;
      const LintRequant rq(*operand);
      const DType storage = operand->dtype(0);
      if (!rq.valid || rq.per_channel() || (storage != DType::i8 && storage != DType::u8)) continue;
      if ((storage == DType::i8) == rq.is_signed) continue;
      const auto x = c.bounds(operand->input(0));
      if (x) {
        // Monotonic in x: both ends tell whether the clip of the other sign could act.
        const auto scaled = [&](std::int64_t v) {
          return std::floor((static_cast<double>(v) * static_cast<double>(rq.mul[0]) +
                             static_cast<double>(rq.add[0])) /
                                static_cast<double>(rq.div) +
                            0.5);
        };
        const double lo = std::min(scaled(x->lo), scaled(x->hi)),
                     hi = std::max(scaled(x->lo), scaled(x->hi));
        if (lo >= static_cast<double>(rq.lo()) && hi <= static_cast<double>(rq.hi())) continue;
      }
      c.report(node, fmt::format("operand '{}' is requantized to {} from {} data", (*operand)->name,
                                 rq.is_signed ? "signed" : "unsigned",
                                 storage == DType::i8 ? "signed" : "unsigned"));
    }
  }
}

void per_channel_unmerged(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    if (!rq.per_channel()) return;
    const auto before = node.merged_producer();
    // One parameter a column of a plain matrix product is what the merged product applies.
    const bool merges = before && (before->is({"Conv", "Gemm"}) ||
                                   (before->is({"MatMul"}) && node.shape(0).size() == 2));
    if (!merges)
      c.report(node,
               fmt::format("{} parameters, {}", rq.sets(),
                           before ? fmt::format("behind {} '{}'", (*before)->op, (*before)->name)
                                  : "not right behind a product it could merge with"));
  });
}

void unsigned_unmerged(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    if (!rq.is_signed && !merges_on_pulp(node))
      c.report(node, rq.per_channel() ? "per channel: the generated code calls "
                                        "RequantShift_s64_u8_NHWC, which does not exist"
                                      : "per tensor: no mapping");
  });
}

void levels_behind(LintContext& c, std::initializer_list<std::string_view> ops) {
  for_merged_requants(
      c, ops, [&](const LintNode& node, const LintRequant& rq, const LintNode& before) {
        if (rq.n_levels != 256)
          c.report(node,
                   fmt::format("{} levels behind {} '{}'", rq.n_levels, before->op, before->name));
      });
}
void merged_levels(LintContext& c) { levels_behind(c, {"Conv", "Gemm", "MatMul", "Add"}); }
void gelu_levels(LintContext& c) { levels_behind(c, {"iGELU"}); }
void division_levels(LintContext& c) { levels_behind(c, {"IntegerDiv"}); }

void per_row_requant(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    if (is_per_row(node))
      c.report(node, fmt::format("one parameter for each of {} rows", rq.sets()));
  });
}
void per_column_requant(LintContext& c) {
  for_merged_requants(
      c, {"Gemm", "MatMul"}, [&](const LintNode& node, const LintRequant& rq, const LintNode&) {
        if (rq.per_channel() && !is_per_row(node))
          c.report(node, fmt::format("one parameter for each of {} columns", rq.sets()));
      });
}

void unity_behind_movement(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    const auto before = node.producer(0);
    if (!before || !before->is({"Reshape", "Transpose", "Concat"})) return;
    if (rq.has_add() || std::ranges::any_of(rq.mul, [&](std::int64_t m) { return m != rq.div; }))
      return;
    const auto x = c.bounds(node.input(0));
    if (!x || x->lo < rq.lo() || x->hi > rq.hi())
      c.report(node,
               fmt::format("behind {} '{}', and its clip can act", (*before)->op, (*before)->name));
  });
}

void unit_div(LintContext& c) {
  for_requants(c, [&](const LintNode& node, const LintRequant& rq) {
    if (rq.div == 1) c.report(node, "div is 1");
  });
}

constexpr LintPlatforms kGeluMerged = kGeneric | kCortexM | kMemPool | kPulp,
                        kDivisionMerged = kCortexM | kPulp | kSnitch;

}  // namespace

std::vector<LintCheck> lint_requant_checks() {
  using enum LintEffect;
  return {
      // Fragile: told by divisibility, which a file can have by design.
      {"T1", "half_in_add", kAllPlatforms, fragile,
       "every backend adds div/2 itself before the shift; an add that holds it already rounds up "
       "by half a step too much",
       "subtract div/2 from every add", half_in_add},
      {"T2", "requant_wrap", kGeneric | kMemPool | kPulp | kSnitch, wrong,
       "x*mul + add + div/2 is computed in int32 and wraps; a bound for it could not be shown",
       "halve mul, add and div until the bound holds; `waveq prove` shows bounds", requant_wrap},
      {"T2", "division_wrap", kAllPlatforms, wrong,
       "the quotient is cast to int32 and a small divisor makes it large; nothing in the file "
       "bounds it, or the divisor can be 0",
       "raise eps, lower Delta, or clamp the numerator's scale so that the quotient is bounded",
       division_wrap},
      {"T2", "accumulator_wrap", kAllPlatforms, wrong, "an int32 sum or product wraps",
       "requantize its operands further down, or split the sum", accumulator_wrap},
      {"T4", "add_not_emulated", kAllPlatforms, wrong,
       "CortexM uses round(add/(mul+1e-3)) before the product, and the test harness rewrites add "
       "as round(add/(mul+1e-3))*mul for all other platforms: another add than the file's",
       "make add = q*mul with |q| < 500*|mul|", add_not_emulated},
      {"T5", "gelu_requant_add", kGeluMerged, wrong,
       "the pass that merges iGELU with its requant divides add by mul, the merged kernel does not "
       "expect that",
       "use add = 0 behind iGELU", gelu_requant_add},
      {"T5", "division_requant_add", kDivisionMerged, wrong,
       "the pass that merges a division with its requant divides add by mul, the merged kernel "
       "does not expect that",
       "use add = 0 behind divisions", division_requant_add},
      {"T5", "hardswish_requant_add", kPulp, wrong,
       "the pass that merges iHardswish with its requant divides add by mul, the merged kernel "
       "does not expect that",
       "use add = 0 behind iHardswish", hardswish_requant_add},
      {"T5", "gelu_requant_form", kGeluMerged, wrong,
       "the merged kernel has one mul and stores signed 8 bit whatever `signed` says",
       "use a signed requant per tensor behind iGELU", gelu_requant_form},
      {"T5", "division_requant_form", kDivisionMerged, wrong,
       "the merged kernel has one mul and stores signed 8 bit whatever `signed` says",
       "use a signed requant per tensor behind IntegerDiv", division_requant_form},
      {"T6", "gemm_bias_and_add", kCortexM, wrong,
       "merging a Gemm that has a bias drops the requant's add",
       "fold add into the Gemm bias, or write MatMul and Add", gemm_bias_and_add},
      {"T7", "merged_mul_ge_div", kCortexM, wrong,
       "the product's requant becomes a Q31 multiplier, which overflows for mul >= div",
       "keep |mul| < div: put the gain into the next layer's weights", merged_mul_ge_div},
      {"T7", "mul_ge_div", kAllPlatforms, fragile,
       "a gain of 1 or more skips output codes, and lies outside of the range in which all "
       "platforms agree",
       "keep |mul| < div: put the gain into the next layer", mul_ge_div},
      {"T8", "add_operand_sign", kPulp | kSnitch, wrong,
       "the merged Add clips an operand by the type of the data its requant reads, not by the "
       "requant's sign",
       "keep data and requant of one sign in front of an Add, or values that fit both",
       add_operand_sign},
      {"T9", "per_channel_unmerged", kPulp | kCortexM, wrong,
       "a requant that merges with nothing addresses its parameters channels-last while the data "
       "are channels-first",
       "put per-channel requants right behind Conv or Gemm, that being its only reader",
       per_channel_unmerged},
      {"T10", "unsigned_unmerged", kPulp, rejected,
       "a requant with unsigned output exists on PULP only merged with a product",
       "requantize unsigned right behind the product, and to signed from there on",
       unsigned_unmerged},
      {"T14", "merged_levels", kPulp | kSnitch | kMemPool, wrong,
       "merged kernels clip to 8 bits and ignore n_levels", "use 256 levels", merged_levels},
      {"T14", "gelu_levels", kGeluMerged, wrong,
       "the merged iGELU clips to 8 bits and ignores n_levels", "use 256 levels", gelu_levels},
      {"T14", "division_levels", kDivisionMerged, wrong,
       "the merged division clips to 8 bits and ignores n_levels", "use 256 levels",
       division_levels},
      {"T18", "per_row_requant", kGeneric | kCortexM | kPulp, rejected,
       "parameters run along axis 1; one for each row of a matrix cannot be broadcast",
       "give one for each column, or one for all", per_row_requant},
      {"T18", "per_column_requant", kSnitch | kMemPool, wrong,
       "the merged product reads one parameter for each row",
       "give one for all, or one for each row", per_column_requant},
      {"T24", "unity_behind_movement", kPulp | kSnitch, wrong,
       "a requant with mul = div and add = 0 behind Reshape, Transpose or Concat is deleted, its "
       "clip with it",
       "clip in the requant in front of the movement", unity_behind_movement},
      {"N", "unit_div", kPulp, wrong, "half of div is computed as 1 << -1",
       "use div = 2 or more and double mul and add", unit_div},
  };
}

}  // namespace waveq
