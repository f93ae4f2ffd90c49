// What costs accuracy on every platform alike. Source: waveformer-accuracy.md 2, 4 and 6.
#include <fmt/format.h>

#include <algorithm>

#include "lint/context.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

void division_8bit(LintContext& c) {
  for_ops(c, {"IntegerDiv", "TrueIntegerDiv"}, [&](const LintNode& node) {
    for (const auto& [slot, operand] : {std::pair{0, "numerator"}, std::pair{1, "denominator"}}) {
      const auto s = static_cast<std::size_t>(slot);
      if (node.has(s) && !node.is_constant(s) && size_of(node.dtype(s)) == 1)
        c.report(node, fmt::format("its {} has 8 bits", operand));
    }
  });
}

/// The requant whose codes reach the node moved at most.
std::optional<LintNode> requant_in_front(const LintNode& node) {
  auto before = node.producer(0);
  while (before && !before->is({"RequantShift"})) {
    const OpDef* op = find_op((*before)->op);
    if (!op || !op->moves_data || (*before)->op == "Concat") return std::nullopt;
    before = before->producer(0);
  }
  return before;
}

/// Whether the requant's clip is nothing but the end of 8 bits: none of fewer levels, and none at
/// zero of what goes below.
bool only_saturates(LintContext& c, const LintNode& node, const LintRequant& rq) {
  if (rq.n_levels != 256) return false;
  if (rq.is_signed) return true;
  const auto x = c.bounds(node.input(0));
  if (!x) return false;
  for (std::size_t i = 0; i < rq.sets(); ++i) {
    const double m = static_cast<double>(rq.mul_of(i)), a = static_cast<double>(rq.add_of(i));
    const double least = std::min(static_cast<double>(x->lo) * m, static_cast<double>(x->hi) * m);
    if (least + a < -0.5 * static_cast<double>(rq.div)) return false;
  }
  return true;
}

/// Whether the requant hands 8-bit codes on as they are: one that a kernel wants for its form.
bool keeps_codes(const LintRequant& rq) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // beyond it nothing is handed on
  const auto is_large = [](std::int64_t v) { return v < -kMost || v > kMost; };
  if (!rq.valid || rq.n_levels != 256 || is_large(rq.div) ||
      std::ranges::any_of(rq.mul, is_large) || std::ranges::any_of(rq.add, is_large))
    return false;
  for (std::size_t i = 0; i < rq.sets(); ++i)
    for (std::int64_t x = rq.lo(); x <= rq.hi(); ++x) {
      const std::int64_t scaled = x * rq.mul_of(i) + rq.add_of(i) + rq.div / 2;
      if (scaled < x * rq.div || scaled >= (x + 1) * rq.div) return false;
    }
  return true;
}

void requant_behind_requant(LintContext& c) {
  for_ops(c, {"RequantShift"}, [&](const LintNode& node) {
    const auto first = requant_in_front(node);
    if (!first || keeps_codes(LintRequant(node))) return;
    const LintRequant rq(*first);
    if (rq.valid && only_saturates(c, *first, rq))
      c.report(node, fmt::format("rounds what '{}' has rounded, and no clip lies between",
                                 (*first)->name));
  });
}

}  // namespace

std::vector<LintCheck> lint_accuracy_checks() {
  using enum LintEffect;
  return {
      {"A4", "division_8bit", kAllPlatforms, coarse,
       "a quotient is as coarse as its operands: 8 bits in place of 32 cost linear attention 5 to "
       "8 dB",
       "divide the accumulators of the products, without a requant in front", division_8bit},
      {"A4", "requant_behind_requant", kAllPlatforms, coarse,
       "the second rounding adds noise that one requant does not have",
       "let the second requant read what the first one reads, with the product of both factors",
       requant_behind_requant},
  };
}

}  // namespace waveq
