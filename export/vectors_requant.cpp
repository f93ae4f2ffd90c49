// Designed inputs of RequantShift: rounding ties, saturation, channel boundaries.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "vectors_design.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq::vectors_detail {

namespace {

/// Elements that share parameters and interval.
struct Group {
  std::int32_t mul = 0;
  std::int64_t add = 0;
  Interval range;
  std::size_t channel = 0;  ///< of the first element
  std::vector<std::size_t> lanes;
};

struct Point {
  std::int64_t x;
  std::string condition;
};

std::vector<Group> groups_of(const Design& d, const LaneParameters& p) {
  std::map<std::tuple<std::int32_t, std::int64_t, std::int64_t, std::int64_t>, std::size_t> index;
  std::vector<Group> groups;
  const InputDomain& in = d.inputs()[0];
  for (std::size_t i = 0; i < in.lanes.size(); ++i) {
    const auto [at, fresh] =
        index.try_emplace({p.mul[i], p.add[i], in.lanes[i].lo, in.lanes[i].hi}, groups.size());
    if (fresh) groups.push_back({p.mul[i], p.add[i], in.lanes[i], p.channel[i], {}});
    groups[at->second].lanes.push_back(i);
  }
  return groups;
}

/// All x of the group for which vlo <= x*mul + add <= vhi; empty (lo > hi) where there is none.
Interval preimage(const Group& g, std::int64_t vlo, std::int64_t vhi) {
  std::int64_t a = vlo - g.add, b = vhi - g.add;
  const std::int64_t m = g.mul;
  if (m < 0) std::swap(a, b);
  const Interval x{-floor_div(-a, m), floor_div(b, m)};
  return {std::max(x.lo, g.range.lo), std::min(x.hi, g.range.hi)};
}

/// The points of one group; conditions that have none are noted in `d`.
class Points {
 public:
  Points(Design& d, const Group& g, const RequantForm& form, bool many)
      : d_(d), g_(g), form_(form), suffix_(many ? fmt::format(":channel_{}", g.channel) : "") {}

  std::vector<Point> collect() {
    if (g_.mul == 0) {
      d_.unreached("tie" + suffix_, "mul is 0: the result does not depend on the input");
      return {};
    }
    saturation();
    if (form_.shift == 0)
      d_.unreached("tie" + suffix_, "shift is 0: no bit is dropped");
    else
      ties();
    return std::move(points_);
  }

 private:
  void put(std::int64_t x, const std::string& condition) {
    if (x >= g_.range.lo && x <= g_.range.hi) points_.push_back({x, condition + suffix_});
  }

  /// Inputs at both ends of those that give lo-1, lo, hi and hi+1 before the clip.
  void saturation() {
    const bool rounds = form_.rounding == Rounding::half_up && form_.shift > 0;
    const std::int64_t half = rounds ? std::int64_t{1} << (form_.shift - 1) : 0,
                       step = std::int64_t{1} << form_.shift;
    const std::pair<std::int64_t, const char*> targets[] = {{form_.lo - 1, "lands_on_lo_minus_1"},
                                                            {form_.lo, "lands_on_lo"},
                                                            {form_.hi, "lands_on_hi"},
                                                            {form_.hi + 1, "lands_on_hi_plus_1"}};
    for (const auto& [t, name] : targets) {
      const Interval x = preimage(g_, t * step - half, (t + 1) * step - 1 - half);
      if (x.lo > x.hi) {
        d_.unreached(name + suffix_,
                     fmt::format("no input in {}..{} gives {} with mul {}, add {}, shift {}",
                                 g_.range.lo, g_.range.hi, t, g_.mul, g_.add, form_.shift));
        continue;
      }
      put(x.lo, name);
      if (x.hi != x.lo) put(x.hi, name);
    }
  }

  /// Inputs whose dropped bits are exactly half of the divisor, and their neighbours. Only where
  /// the clip does not hide the rounding: the result rounded up and down must both lie within
  /// lo..hi.
  void ties() {
    const std::int64_t step = std::int64_t{1} << form_.shift, half = step >> 1;
    const Interval negative = preimage(g_, form_.lo * step, -1),
                   positive = preimage(g_, std::max<std::int64_t>(form_.lo * step, 0),
                                       form_.hi * step - 1);
    const auto seek = [&](const char* name, const Interval& where, std::int64_t remainder) {
      const auto all = solve_congruence(g_.mul, remainder - g_.add, step);
      if (!all)
        return d_.unreached(name + suffix_,
                            fmt::format("x*{} + {} is never {} modulo {}: a power of two in mul "
                                        "does not divide what is asked",
                                        g_.mul, g_.add, remainder, step));
      if (where.lo > where.hi)
        return d_.unreached(name + suffix_,
                            fmt::format("no input in {}..{} gives such a result without being "
                                        "clipped (mul {}, add {}, shift {})",
                                        g_.range.lo, g_.range.hi, g_.mul, g_.add, form_.shift));
      const std::int64_t first = all->at_least(where.lo), last = all->at_most(where.hi);
      if (first > where.hi)
        return d_.unreached(
            name + suffix_,
            fmt::format(
                "the inputs {}..{} that are not clipped hold none (mul {}, add {}, shift {})",
                where.lo, where.hi, g_.mul, g_.add, form_.shift));
      // The second next to the first: results of either parity, where the multiplier allows it.
      for (const std::int64_t x :
           std::set<std::int64_t>{first, std::min(first + all->period, last), last}) {
        put(x, name);
        put(x - 1, std::string(name) + "_minus_1");
        put(x + 1, std::string(name) + "_plus_1");
      }
    };
    seek("tie_positive", positive, half);
    seek("tie_negative", negative, half);
    if (form_.shift < 2) return;
    near_half("just_below_half_positive", positive, -1);
    near_half("just_above_half_positive", positive, 1);
    near_half("just_below_half_negative", negative, -1);
    near_half("just_above_half_negative", negative, 1);
  }

  /// The inputs whose dropped bits come nearest to half of the divisor from one side, smallest and
  /// largest: scaling with too few bits (single precision) falls on the wrong side there.
  void near_half(const char* name, const Interval& where, std::int64_t side) {
    constexpr std::int64_t kFarthest = 4096;
    const std::int64_t step = std::int64_t{1} << form_.shift, half = step >> 1;
    for (std::int64_t distance = 1;
         distance <= std::min(kFarthest, half - 1) && where.lo <= where.hi; ++distance) {
      const auto all = solve_congruence(g_.mul, half + side * distance - g_.add, step);
      if (!all || all->at_least(where.lo) > where.hi) continue;
      put(all->at_least(where.lo), name);
      put(all->at_most(where.hi), name);
      return;
    }
    d_.unreached(
        name + suffix_,
        fmt::format(
            "no input that is not clipped comes within {} of half (mul {}, add {}, shift {})",
            kFarthest, g_.mul, g_.add, form_.shift));
  }

  Design& d_;
  const Group& g_;
  RequantForm form_;
  std::string suffix_;
  std::vector<Point> points_;
};

/// Inputs of each group spread over those that are not clipped: results of every kind, where ramps
/// over the whole interval mostly saturate.
void add_unclipped(Design& d, const std::vector<Group>& groups, const RequantForm& form) {
  const std::int64_t step = std::int64_t{1} << form.shift;
  Codes x(d.inputs()[0].lanes.size());
  for (const Group& g : groups) {
    Interval where = g.mul == 0 ? g.range : preimage(g, form.lo * step, form.hi * step);
    if (where.lo > where.hi) where = g.range;
    const auto n = static_cast<std::int64_t>(g.lanes.size());
    for (std::int64_t i = 0; i < n; ++i)
      x[g.lanes[static_cast<std::size_t>(i)]] =
          where.lo + static_cast<std::int64_t>(static_cast<__int128>(where.hi - where.lo) *
                                               (2 * i + 1) / (2 * n));
  }
  d.add({"unclipped_ramp"}, {x});
}

/// Spreads the points of all groups over as few cases as hold them; elements without a point
/// repeat.
void add_points(Design& d, const std::vector<Group>& groups,
                const std::vector<std::vector<Point>>& points) {
  std::size_t cases = 0;
  for (std::size_t g = 0; g < groups.size(); ++g)
    cases =
        std::max(cases, (points[g].size() + groups[g].lanes.size() - 1) / groups[g].lanes.size());
  for (std::size_t k = 0; k < cases; ++k) {
    std::set<std::string> conditions;
    Codes x(d.inputs()[0].lanes.size());
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const std::size_t n = groups[g].lanes.size();
      for (std::size_t i = 0; i < n; ++i) {
        if (points[g].empty()) {
          x[groups[g].lanes[i]] = d.inputs()[0].clamped(groups[g].lanes[i], 0);
          continue;
        }
        const Point& p = points[g][(k * n + i) % points[g].size()];
        x[groups[g].lanes[i]] = p.x;
        conditions.insert(p.condition);
      }
    }
    d.add({conditions.begin(), conditions.end()}, {x});
  }
}

/// The ends of an interval and values in between, each about half as large again as the last.
std::vector<std::int64_t> candidates(const Interval& range) {
  std::vector<std::int64_t> out = {range.lo, range.hi};
  for (std::int64_t v = 1; v <= highest(DType::i32); v = v * 2 - v / 2)
    for (const std::int64_t x : {v, -v})
      if (x > range.lo && x < range.hi) out.push_back(x);
  return out;
}

/// The same input everywhere, chosen so that the output changes at channel boundaries: a kernel
/// that takes a neighbour's parameters is seen.
void add_boundaries(Design& d, const LaneParameters& p, const RequantForm& form) {
  if (p.channels < 2) return;
  std::vector<std::int32_t> mul(p.channels);
  std::vector<std::int64_t> add(p.channels);
  const InputDomain& in = d.inputs()[0];
  Interval common = in.lanes[0];
  for (std::size_t i = 0; i < in.lanes.size(); ++i) {
    mul[p.channel[i]] = p.mul[i];
    add[p.channel[i]] = p.add[i];
    common = {std::max(common.lo, in.lanes[i].lo), std::min(common.hi, in.lanes[i].hi)};
  }
  std::set<std::size_t> open;
  for (std::size_t c = 0; c + 1 < p.channels; ++c) {
    if (mul[c] == mul[c + 1] && add[c] == add[c + 1])
      d.unreached(fmt::format("channel_boundary_{}", c), "both channels have the same parameters");
    else
      open.insert(c);
  }
  const std::vector<std::int64_t> values = common.lo <= common.hi ? candidates(common) : Codes{};
  constexpr int kMostCases = 4;
  for (int k = 0; k < kMostCases && !open.empty(); ++k) {
    std::vector<std::size_t> best;
    std::int64_t best_x = 0;
    for (const std::int64_t x : values) {
      std::vector<std::size_t> shown;
      const auto y = [&](std::size_t c) {
        return requant(static_cast<std::int32_t>(x), form.with(mul[c], add[c]));
      };
      for (const std::size_t c : open)
        if (y(c) != y(c + 1)) shown.push_back(c);
      if (shown.size() > best.size()) {
        best = std::move(shown);
        best_x = x;
      }
    }
    if (best.empty()) break;
    std::vector<std::string> conditions;
    for (const std::size_t c : best) {
      open.erase(c);
      conditions.push_back(fmt::format("channel_boundary_{}", c));
    }
    d.add(conditions, {Codes(in.lanes.size(), best_x)});
  }
  for (const std::size_t c : open)
    d.unreached(fmt::format("channel_boundary_{}", c),
                "no tried input gives the two channels different results");
}

}  // namespace

RequantForm read_requant(const Attrs& attrs) {
  const bool is_signed = attrs.require_int("signed") != 0;
  const std::int64_t levels =
      attrs.require_int(attrs.has("n_levels_out") ? "n_levels_out" : "n_levels");
  RequantForm form;
  form.shift = exact_log2(attrs.require_int("div"), "div");
  form.lo = is_signed ? -(levels / 2) : 0;
  form.hi = is_signed ? levels / 2 - 1 : levels - 1;
  form.rounding =
      attrs.get_string("rounding", "half_up") == "floor" ? Rounding::floor : Rounding::half_up;
  form.product_bits = static_cast<int>(attrs.get_int("product_bits", 32));
  return form;
}

LaneParameters requant_lanes(const Graph& graph, const Node& node) {
  const Shape& x = graph.value(node.inputs.at(0)).type.shape;
  const auto n = static_cast<std::size_t>(element_count(x));
  LaneParameters out;
  out.channel.assign(n, 0);
  const auto spread = [&]<class T>(ValueId id, std::vector<T>& lanes) {
    const Codes q = to_int64(graph.constant(id));
    const Shape& s = graph.value(id).type.shape;
    lanes.resize(n);
    std::size_t step = n;
    if (q.size() > 1) {
      const bool rows = x.size() == 2 && s.size() == 2 &&
                        s[0] == static_cast<std::int64_t>(q.size()) && s[0] == x[0];
      step = 1;
      for (std::size_t i = rows ? 1 : 2; i < x.size(); ++i) step *= static_cast<std::size_t>(x[i]);
      out.channels = q.size();
    }
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t c = i / step % q.size();
      lanes[i] = static_cast<T>(q[c]);
      if (q.size() > 1) out.channel[i] = c;
    }
  };
  spread(node.inputs.at(1), out.mul);
  spread(node.inputs.at(2), out.add);
  return out;
}

void design_requant(Design& d) {
  const RequantForm form = read_requant(d.node().attrs);
  const LaneParameters lanes = requant_lanes(d.graph(), d.node());
  const std::vector<Group> groups = groups_of(d, lanes);
  std::vector<std::vector<Point>> points;
  for (const Group& g : groups) points.push_back(Points(d, g, form, groups.size() > 1).collect());
  add_points(d, groups, points);
  add_unclipped(d, groups, form);
  add_boundaries(d, lanes, form);
}

}  // namespace waveq::vectors_detail
