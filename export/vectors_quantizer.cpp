// Designed inputs of Quant: the values around which its rounding and its clip change the result.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "vectors_design.h"
#include "waveq/graph/quantizer.h"

namespace waveq::vectors_detail {

namespace {

/// Ordinals of all finite float32 values.
const Interval kFinite = {ordinal_of(std::numeric_limits<float>::lowest()),
                          ordinal_of(std::numeric_limits<float>::max())};

/// The first ordinal in `range` where `holds`, which never turns false again; range.hi + 1 where it
/// does nowhere.
std::int64_t first_where(Interval range, const std::function<bool(float)>& holds) {
  ++range.hi;
  while (range.lo < range.hi) {
    const std::int64_t middle = floor_div(range.lo + range.hi, 2);
    if (holds(at_ordinal(middle)))
      range.hi = middle;
    else
      range.lo = middle + 1;
  }
  return range.lo;
}

/// A Quant that keeps every integer, to see where the rounding steps; with a negative scale of the
/// mirrored input, so that it rises.
class Steps {
 public:
  explicit Steps(const QuantParameters& q) : q_(q), mirrored_(q.divisor.value_or(q.scale) < 0) {
    q_.lo = std::numeric_limits<std::int32_t>::min();
    q_.hi = std::numeric_limits<std::int32_t>::max();
  }
  /// The code before the clip; beyond int32 its end.
  std::int64_t code(float x) const {
    if (const auto y = quantize(turned(x), q_)) return *y;
    return x < 0 ? std::numeric_limits<std::int64_t>::min()
                 : std::numeric_limits<std::int64_t>::max();
  }
  /// x / divisor + zero_point in the steps of the kernel.
  float shifted(float x) const {
    if (q_.divisor)
      return turned(x) / static_cast<float>(*q_.divisor) + static_cast<float>(q_.zero_point);
    const auto scaled = static_cast<float>(double{turned(x)} * q_.scale);
    return static_cast<float>(double{scaled} + q_.zero_point);
  }
  float turned(float x) const { return mirrored_ ? -x : x; }

 private:
  QuantParameters q_;
  bool mirrored_;
};

struct Point {
  std::string condition;
  std::int64_t ordinal;
};

/// Collects values inside the domain, each once, in the order of their importance.
class Points {
 public:
  Points(const QuantParameters& q, const Interval& domain) : q_(q), steps_(q), domain_(domain) {
    turned_domain_ = steps_.turned(1) < 0 ? Interval{turn(domain.hi), turn(domain.lo)} : domain;
  }

  std::vector<Point> all() {
    step("saturation_low", q_.lo);
    step("saturation_low_minus_1", q_.lo - 1);
    step("saturation_high", q_.hi + 1);
    step("saturation_high_plus_1", q_.hi + 2);
    for (const float x : {0.0F, -0.0F, kTiny, -kTiny}) add(x == 0 ? "zero" : "denormal", x);
    step("zero_code", 0);
    step("one", 1);
    if (std::abs(q_.zero_point) < 0x1p31) {
      const auto zero = static_cast<std::int64_t>(std::nearbyint(q_.zero_point));
      for (const std::int64_t c : {zero, zero + 1}) step("zero_point", c);
    }
    wraps();
    codes();
    return std::move(points_);
  }

 private:
  static constexpr float kTiny = 0x1p-127F;  ///< a denormal, and one that Deeploy's tools take

  static std::int64_t turn(std::int64_t ordinal) { return -1 - ordinal; }

  void add(const std::string& condition, float x) {
    const std::int64_t at = ordinal_of(x);
    if (at < domain_.lo || at > domain_.hi) return;
    if (seen_.insert(at).second) points_.push_back({condition, at});
  }
  /// Around the step from code - 1 to `code`: the exact tie by the parameters, the first value that
  /// rounds up, the ends of those that float32 makes a tie, and all their neighbours.
  void step(const std::string& condition, std::int64_t code) {
    const float half = static_cast<float>(code) - 0.5F;
    around(condition, ordinal_of(steps_.turned(position(half))));
    around(condition, first_where(turned_domain_, [&](float x) { return steps_.code(x) >= code; }));
    const std::int64_t tie =
        first_where(turned_domain_, [&](float x) { return steps_.shifted(x) >= half; });
    if (tie > turned_domain_.hi || steps_.shifted(at_ordinal(tie)) != half) return;
    const char* name = code > 0 ? "tie_positive" : "tie_negative";
    around(name, tie);
    around(name, first_where(turned_domain_, [&](float x) { return steps_.shifted(x) > half; }));
  }
  void around(const std::string& condition, std::int64_t turned) {
    for (const std::int64_t at : {turned, turned - 1, turned + 1})
      if (at >= turned_domain_.lo && at <= turned_domain_.hi)
        add(condition, steps_.turned(at_ordinal(at)));
  }
  /// Codes that 8 and 16 bits would show as small ones.
  void wraps() {
    for (const std::int64_t c : {256, 300, 65536, 65541, 16777217})
      for (const std::int64_t code : {c, -c}) centre("wraps", code);
  }
  /// Every code, and the step to the next one.
  void codes() {
    for (std::int64_t c = q_.lo; c <= q_.hi; ++c) centre("all_codes", c);
    if (q_.hi - q_.lo > 255) return;  // 16 bits: their ends are there
    for (std::int64_t c = q_.lo; c <= q_.hi; ++c) step("all_steps", c);
  }
  void centre(const std::string& condition, std::int64_t code) {
    add(condition, position(static_cast<double>(code)));
  }
  /// The input that the parameters put at `code`.
  float position(double code) const {
    return static_cast<float>((code - q_.zero_point) * q_.divisor.value_or(1 / q_.scale));
  }

  const QuantParameters& q_;
  Steps steps_;
  Interval domain_, turned_domain_;
  std::vector<Point> points_;
  std::set<std::int64_t> seen_;
};

}  // namespace

std::optional<Interval> quant_domain(const Node& node) {
  const QuantParameters q = read_quant_parameters(node.attrs);
  if ((q.divisor ? *q.divisor : q.scale) == 0) return std::nullopt;
  const auto inside = [&](float x) { return quantize(x, q).has_value(); };
  // Convertible values are one interval, and it holds the value that becomes 0, or none is whole.
  const auto centre = static_cast<float>(-q.zero_point * q.divisor.value_or(1 / q.scale));
  if (!std::isfinite(centre) || !inside(centre)) return std::nullopt;
  const std::int64_t from = ordinal_of(centre);
  const std::int64_t lo = first_where({kFinite.lo, from}, inside),
                     beyond = first_where({from, kFinite.hi}, [&](float x) { return !inside(x); });
  return Interval{lo, beyond - 1};
}

std::int64_t quant_input(const Node& node, double part) {
  const QuantParameters q = read_quant_parameters(node.attrs);
  const auto lo = static_cast<double>(q.lo), levels = static_cast<double>(q.hi - q.lo + 1);
  const double code = lo - levels / 4 + part * 1.5 * levels;
  const double x = (code - q.zero_point) * q.divisor.value_or(1 / q.scale);
  const Interval domain = quant_domain(node).value();
  return std::clamp(ordinal_of(static_cast<float>(x)), domain.lo, domain.hi);
}

void design_quant(Design& d) {
  constexpr std::size_t kMostCases = 96;
  const QuantParameters q = read_quant_parameters(d.node().attrs);
  const InputDomain& in = d.inputs()[0];
  const std::vector<Point> points = Points(q, in.lanes.front()).all();
  const std::size_t n = in.lanes.size(), cases = (points.size() + n - 1) / n;
  for (std::size_t k = 0; k < std::min(cases, kMostCases); ++k) {
    Codes x;
    std::set<std::string> conditions;
    for (std::size_t i = 0; i < n; ++i) {
      const Point& p = points[(k * n + i) % points.size()];
      x.push_back(p.ordinal);
      conditions.insert(p.condition);
    }
    d.add({conditions.begin(), conditions.end()}, {x});
  }
  if (cases > kMostCases)
    d.unreached("all_steps", fmt::format("would take {} cases of so few elements; the first {} are "
                                         "there",
                                         cases, kMostCases));
}

}  // namespace waveq::vectors_detail
