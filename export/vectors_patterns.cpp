// Cases that make sense for every operator, and drawn ones.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <random>

#include "vectors_design.h"

namespace waveq::vectors_detail {

namespace {

using Fill = std::function<std::int64_t(const InputDomain&, std::size_t lane)>;

Codes filled(const InputDomain& d, const Fill& f) {
  Codes x(d.lanes.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = f(d, i);
  return x;
}

std::vector<Codes> all_filled(const Design& d, const Fill& f) {
  std::vector<Codes> out;
  for (const InputDomain& in : d.inputs()) out.push_back(filled(in, f));
  return out;
}

std::int64_t low(const InputDomain& d, std::size_t i) { return d.lanes[i].lo; }
std::int64_t high(const InputDomain& d, std::size_t i) { return d.lanes[i].hi; }

bool holds_zero(const InputDomain& d) {
  for (std::size_t i = 0; i < d.lanes.size(); ++i)
    if (!d.contains(i, 0)) return false;
  return true;
}

void add_zero(Design& d) {
  for (const InputDomain& in : d.inputs())
    if (!holds_zero(in))
      return d.unreached("all_zero",
                         fmt::format("'{}' lies in {}..{}", in.name, in.hull().lo, in.hull().hi));
  d.add({"all_zero"}, all_filled(d, [](const InputDomain&, std::size_t) { return 0; }));
}

/// One element at an extreme, all others zero (or as near to it as they can be).
void add_single_hot(Design& d) {
  for (const bool positive : {true, false})
    for (const bool first : {true, false}) {
      const std::string name = fmt::format("single_hot_{}_{}", positive ? "positive" : "negative",
                                           first ? "first" : "last");
      const auto pick = [&](const InputDomain& in, std::size_t i) {
        const std::size_t hot = first ? 0 : in.lanes.size() - 1;
        return i != hot ? in.clamped(i, 0) : positive ? in.lanes[i].hi : in.lanes[i].lo;
      };
      bool possible = false;
      for (const InputDomain& in : d.inputs()) {
        const Interval& lane = in.lanes[first ? 0 : in.lanes.size() - 1];
        possible = possible || (positive ? lane.hi > 0 : lane.lo < 0);
      }
      if (possible)
        d.add({name}, all_filled(d, pick));
      else
        d.unreached(name, fmt::format("no input can be {}", positive ? "positive" : "negative"));
    }
}

/// Two inputs: each at its end while the other is at the opposite one, and single hot elements
/// against ramps.
void add_opposites(Design& d) {
  if (d.inputs().size() != 2) return;
  const InputDomain &a = d.inputs()[0], &b = d.inputs()[1];
  d.add({"min_against_max"}, {filled(a, low), filled(b, high)});
  d.add({"max_against_min"}, {filled(a, high), filled(b, low)});
}

/// Position `i` of a ramp: neighbours differ by `stride` codes where there are few codes, else the
/// ramp is spread over the interval.
std::int64_t ramp_at(const InputDomain& d, std::size_t i, std::int64_t start, std::int64_t stride) {
  const Interval& lane = d.lanes[i];
  const std::int64_t span = lane.hi - lane.lo + 1, n = static_cast<std::int64_t>(d.lanes.size());
  const auto at = static_cast<std::int64_t>(i);
  if (span <= 65536) return lane.lo + (at * stride + start) % span;
  if (n == 1) return lane.lo + span / 2;
  return static_cast<std::int64_t>(lane.lo + static_cast<__int128>(span - 1) * at / (n - 1));
}

bool equals_transposed(const Tensor& y) {
  const Shape& s = y.shape();
  if (s.size() < 2 || s[s.size() - 1] != s[s.size() - 2]) return false;
  const std::vector<std::int64_t> v = to_int64(y);
  const auto n = static_cast<std::size_t>(s.back());
  for (std::size_t i = 0; i < v.size(); ++i) {
    const std::size_t base = i / (n * n) * (n * n), r = i % (n * n) / n, c = i % n;
    if (v[i] != v[base + c * n + r]) return false;
  }
  return true;
}

/// Ramps that start where the last one ended, until every code of every input has occurred. The
/// second input runs with another stride, so that swapped operands or axes show.
void add_ramps(Design& d) {
  constexpr std::int64_t kMostCases = 64;
  std::int64_t needed = 1;
  bool narrow = true;
  for (const InputDomain& in : d.inputs()) {
    const Interval hull = in.hull();
    const std::int64_t span = hull.hi - hull.lo + 1, n = static_cast<std::int64_t>(in.lanes.size());
    if (span > 256)
      narrow = false;
    else
      needed = std::max(needed, (span + n - 1) / n);
  }
  if (needed > kMostCases)
    d.unreached("all_codes",
                fmt::format("would take {} cases of so few elements; the first {} are there",
                            needed, kMostCases));
  if (!narrow) d.unreached("all_codes", "an input has more than 256 codes");
  const std::int64_t cases = std::min(needed, kMostCases);
  for (std::int64_t k = 0; k < cases; ++k) {
    std::vector<Codes> inputs;
    for (std::size_t j = 0; j < d.inputs().size(); ++j) {
      const InputDomain& in = d.inputs()[j];
      // 37 is prime and no divisor of a number of codes that occurs, so every code is visited.
      const std::int64_t stride = j == 0 ? 1 : 37, n = static_cast<std::int64_t>(in.lanes.size());
      inputs.push_back(filled(in, [&](const InputDomain& in_, std::size_t i) {
        return ramp_at(in_, i, (k * n * stride) % 65536, stride);
      }));
    }
    std::vector<std::string> conditions = {"ramp"};
    if (narrow && needed <= kMostCases)
      conditions.push_back(cases == 1 ? "all_codes"
                                      : fmt::format("all_codes_part_{}_of_{}", k + 1, cases));
    if (d.node().op == "MatMul" && k == 0) {
      const auto y = d.evaluate(inputs);
      if (y && !equals_transposed(y->front())) conditions.push_back("asymmetric");
    }
    d.add(conditions, inputs);
  }
}

/// Every element its own number, over all inputs, one digit a case: moved, doubled and dropped
/// elements show also where there are more of them than codes.
void add_positions(Design& d) {
  std::int64_t total = 0, base = 65536;
  for (const InputDomain& in : d.inputs()) {
    total += static_cast<std::int64_t>(in.lanes.size());
    for (const Interval& lane : in.lanes) base = std::min(base, lane.hi - lane.lo + 1);
  }
  if (base < 2) return;
  int digit = 0;
  for (std::int64_t weight = 1; weight < total; weight *= base, ++digit) {
    std::int64_t before = 0;
    std::vector<Codes> inputs;
    for (const InputDomain& in : d.inputs()) {
      inputs.push_back(filled(in, [&](const InputDomain& in_, std::size_t i) {
        return in_.lanes[i].lo + (before + static_cast<std::int64_t>(i)) / weight % base;
      }));
      before += static_cast<std::int64_t>(in.lanes.size());
    }
    d.add({fmt::format("positions_digit_{}", digit)}, inputs);
  }
}

std::uint64_t name_hash(const std::string& text) {
  std::uint64_t h = 14695981039346656037ULL;  // FNV-1a
  for (const char ch : text) h = (h ^ static_cast<unsigned char>(ch)) * 1099511628211ULL;
  return h;
}

/// Uniform in [lo, hi] by rejection: the same numbers with every standard library.
std::int64_t uniform(std::mt19937_64& engine, const Interval& range) {
  const auto span = static_cast<std::uint64_t>(range.hi) - static_cast<std::uint64_t>(range.lo) + 1;
  if (span == 0) return static_cast<std::int64_t>(engine());
  const std::uint64_t limit = ~std::uint64_t{0} - ~std::uint64_t{0} % span;
  std::uint64_t r = engine();
  while (r >= limit) r = engine();
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(range.lo) + r % span);
}

}  // namespace

Codes draw_uniform(std::uint64_t seed, const std::string& name, const Interval& range,
                   std::size_t count) {
  std::mt19937_64 engine(seed * 0x9E3779B97F4A7C15ULL + name_hash(name));
  Codes out(count);
  for (std::int64_t& x : out) x = uniform(engine, range);
  return out;
}

void design_patterns(Design& d) {
  d.add({"all_min"}, all_filled(d, low));
  d.add({"all_max"}, all_filled(d, high));
  add_zero(d);
  d.add({"alternating_low_first"}, all_filled(d, [](const InputDomain& in, std::size_t i) {
          return i % 2 == 0 ? in.lanes[i].lo : in.lanes[i].hi;
        }));
  d.add({"alternating_high_first"}, all_filled(d, [](const InputDomain& in, std::size_t i) {
          return i % 2 == 0 ? in.lanes[i].hi : in.lanes[i].lo;
        }));
  add_opposites(d);
  if (d.node().op != "Quant") {  // ramps of float32 are design_quant's
    add_ramps(d);
    add_positions(d);
  }
  add_single_hot(d);
}

void design_random(Design& d, const VectorOptions& options, const std::string& node) {
  constexpr int kAttempts = 6;
  constexpr std::int64_t kSteps = std::int64_t{1} << 32;
  for (std::size_t k = 0; k < options.random; ++k) {
    std::mt19937_64 engine(options.seed * 0x9E3779B97F4A7C15ULL + name_hash(node) + k);
    const std::string condition = fmt::format("random_{}", k);
    bool done = false;
    std::string why;
    for (int attempt = 0; attempt < kAttempts && !done; ++attempt) {
      // Where wide inputs overflow, the next attempt draws from a quarter of the interval.
      std::vector<Codes> inputs = all_filled(d, [&](const InputDomain& in, std::size_t i) {
        const Interval& lane = in.lanes[i];
        if (in.type.dtype == DType::f32)
          return quant_input(d.node(), static_cast<double>(uniform(engine, {0, kSteps})) / kSteps);
        if (size_of(in.type.dtype) <= 2 || attempt == 0) return uniform(engine, lane);
        const std::int64_t middle = in.clamped(i, 0), width = (lane.hi - lane.lo) >> (2 * attempt);
        return uniform(engine,
                       {std::max(lane.lo, middle - width), std::min(lane.hi, middle + width)});
      });
      done = d.evaluate(inputs, &why).has_value() && d.add({condition}, inputs);
    }
    if (!done) d.unreached(condition, "would overflow: " + why);
  }
}

}  // namespace waveq::vectors_detail
