// Designed inputs of divisions, accumulators, means and affine forms.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <set>

#include "vectors_design.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq::vectors_detail {

namespace {

struct Division {
  IntegerDiv p;
  std::int64_t stretch = 1;  ///< Delta*eta
  Interval num, den;
};

struct Numerator {
  std::int64_t x;
  std::vector<std::string> conditions;
};

std::int64_t divisor(const Division& v, std::int64_t den) { return v.p.eta * den + v.p.eps; }

bool computes(const Division& v, std::int64_t num, std::int64_t den) {
  try {
    integer_div(static_cast<std::int32_t>(num), static_cast<std::int32_t>(den), v.p);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// Numerators worth dividing by `den`; those that overflow are left out.
std::vector<Numerator> numerators(const Division& v, std::int64_t den) {
  std::vector<Numerator> out;
  const auto put = [&](std::int64_t x, const std::string& condition) {
    if (x < v.num.lo || x > v.num.hi || !computes(v, x, den)) return;
    out.push_back({x, {condition}});
    if (den == 0)
      out.back().conditions.push_back(x == 0 ? "den_zero_num_zero" : "den_zero_num_nonzero");
    if (std::abs(x) == std::max(std::abs(v.num.lo), std::abs(v.num.hi)))
      out.back().conditions.push_back("num_largest_magnitude");
  };
  put(0, "num_zero");
  put(v.num.lo, "num_lowest");
  put(v.num.hi, "num_highest");
  put(1, "num_one");
  put(-1, "num_minus_one");
  const std::int64_t d = divisor(v, den);
  if (d <= 0 || d % 2 != 0) return out;
  const auto all = solve_congruence(v.stretch, d / 2, d);
  if (!all) return out;
  for (const std::int64_t x : {all->at_least(1), all->at_most(-1)}) {
    const std::string name = (x < 0) != (v.stretch < 0) ? "tie_negative" : "tie_positive";
    put(x, name);
    put(x - 1, name + "_minus_1");
    put(x + 1, name + "_plus_1");
  }
  return out;
}

/// Divisors worth trying: zero, the ends, odd and even, and one for which a tie exists: it needs
/// more factors of two than Delta*eta has.
Codes denominators(const Division& v) {
  std::set<std::int64_t> out = {v.den.lo, v.den.hi};
  const auto put = [&](std::int64_t x) {
    if (x >= v.den.lo && x <= v.den.hi) out.insert(x);
  };
  for (const std::int64_t x : {0, 1, 2, 3, 4, 5, 6, 7}) put(x);
  put(v.den.lo + 1);
  put(v.den.hi - 1);
  if (v.p.eps != 0) out.insert(0);  // guarded: a kernel must answer whatever the network delivers
  const int twos = std::countr_zero(static_cast<std::uint64_t>(v.stretch));
  if (v.stretch != 0 && twos < 31)
    if (const auto all =
            solve_congruence(v.p.eta, -std::int64_t{v.p.eps}, std::int64_t{2} << twos)) {
      put(all->at_least(std::max<std::int64_t>(v.den.lo, 1)));
      put(all->at_least(std::max<std::int64_t>(v.den.lo, 1)) + all->period);
    }
  return {out.begin(), out.end()};
}

void note_missing(Design& d, const Division& v, const std::set<std::string>& reached) {
  const auto missing = [&](const char* condition, const std::string& why) {
    if (!reached.contains(condition)) d.unreached(condition, why);
  };
  const std::string ties = fmt::format(
      "no divisor in {}..{} has more factors of two than Delta*eta = {} and a quotient that fits",
      v.den.lo, v.den.hi, v.stretch);
  missing("tie_positive", ties);
  missing("tie_negative",
          v.num.lo >= 0 ? fmt::format("the numerator lies in {}..{}", v.num.lo, v.num.hi) : ties);
  const std::string zero =
      v.p.eps == 0 ? "eps is 0: a zero denominator has no result" : "the quotient leaves int32";
  missing("den_zero_num_zero", zero);
  missing("den_zero_num_nonzero", zero);
  missing("num_largest_magnitude", "every quotient of it leaves int32");
}

/// One output element as a weighted sum of inputs.
struct Accumulator {
  std::int64_t channel = 0;
  std::size_t output = 0;                                  ///< its flat index
  std::vector<std::pair<std::size_t, std::int64_t>> taps;  ///< flat index of the input and weight
  std::int64_t bias = 0;
};

/// First or last output position along one axis whose window lies inside the input; -1 where none
/// does.
std::int64_t inner_position(std::int64_t in, std::int64_t out, std::int64_t kernel,
                            std::int64_t stride, std::int64_t dilation, std::int64_t pad,
                            bool last) {
  std::int64_t found = -1;
  for (std::int64_t p = 0; p < out; ++p) {
    const std::int64_t start = p * stride - pad;
    if (start < 0 || start + dilation * (kernel - 1) >= in) continue;
    found = p;
    if (!last) break;
  }
  return found;
}

std::optional<Accumulator> conv_accumulator(const Design& d, const Codes& w, std::int64_t f,
                                            bool last) {
  const Attrs& attrs = d.node().attrs;
  const Shape &xs = d.shape(0), &ws = d.shape(1), &ys = d.output_shape();
  const std::size_t rank = xs.size() - 2;
  const std::vector<std::int64_t> ones(rank, 1), none(2 * rank, 0);
  const auto strides = attrs.get_ints("strides", ones),
             dilations = attrs.get_ints("dilations", ones), pads = attrs.get_ints("pads", none);
  const std::int64_t group = attrs.get_int("group", 1), per_group = ws[1],
                     first_channel = f / (ws[0] / group) * per_group;
  std::vector<std::int64_t> start(rank);
  std::int64_t output = f, taps = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t p =
        inner_position(xs[i + 2], ys[i + 2], ws[i + 2], strides[i], dilations[i], pads[i], last);
    if (p < 0) return std::nullopt;
    start[i] = p * strides[i] - pads[i];
    output = output * ys[i + 2] + p;
    taps *= ws[i + 2];
  }
  Accumulator a{f, static_cast<std::size_t>(output), {}, 0};
  for (std::int64_t c = 0; c < per_group; ++c)
    for (std::int64_t k = 0; k < taps; ++k) {
      std::int64_t rest = k, at = 0, scale = 1;
      for (std::size_t i = rank; i-- > 0;) {
        at += (start[i] + rest % ws[i + 2] * dilations[i]) * scale;
        rest /= ws[i + 2];
        scale *= xs[i + 2];
      }
      a.taps.emplace_back(static_cast<std::size_t>((first_channel + c) * scale + at),
                          w[static_cast<std::size_t>((f * per_group + c) * taps + k)]);
    }
  if (const Codes bias = d.constant(2); !bias.empty()) a.bias = bias[static_cast<std::size_t>(f)];
  return a;
}

Accumulator gemm_accumulator(const Design& d, const Codes& w, std::int64_t n, bool last) {
  const Attrs& attrs = d.node().attrs;
  const bool trans_a = attrs.get_int("transA", 0) != 0, trans_b = attrs.get_int("transB", 0) != 0;
  const Shape &as = d.shape(0), &bs = d.shape(1), &ys = d.output_shape();
  const std::int64_t M = ys[0], N = ys[1], K = as[trans_a ? 0 : 1], m = last ? M - 1 : 0;
  Accumulator a{n, static_cast<std::size_t>(m * N + n), {}, 0};
  for (std::int64_t k = 0; k < K; ++k)
    a.taps.emplace_back(static_cast<std::size_t>(trans_a ? k * as[1] + m : m * K + k),
                        w[static_cast<std::size_t>(trans_b ? n * bs[1] + k : k * bs[1] + n)]);
  if (const Codes c = d.constant(2); !c.empty())
    a.bias = c[broadcast_lanes(ys, d.shape(2))[a.output]];
  return a;
}

/// One element of the first matrix of a batch; `slot` is the one that varies.
Accumulator matmul_accumulator(const Design& d, const Codes& w, std::int64_t channel,
                               std::size_t slot, bool last) {
  const Shape &as = d.shape(0), &bs = d.shape(1);
  const std::int64_t K = as.back(), N = bs.back(), M = as[as.size() - 2],
                     other = last ? (slot == 0 ? M : N) - 1 : 0;
  const std::int64_t m = slot == 0 ? other : channel, n = slot == 0 ? channel : other;
  Accumulator a{channel, static_cast<std::size_t>(m * N + n), {}, 0};
  for (std::int64_t k = 0; k < K; ++k) {
    const auto in_a = static_cast<std::size_t>(m * K + k),
               in_b = static_cast<std::size_t>(k * N + n);
    a.taps.emplace_back(slot == 0 ? in_a : in_b, w[slot == 0 ? in_b : in_a]);
  }
  return a;
}

std::int64_t extreme(const Accumulator& a, const InputDomain& in, bool highest_sum) {
  std::int64_t sum = a.bias;
  for (const auto& [lane, w] : a.taps)
    sum += w * ((w > 0) == highest_sum ? in.lanes[lane].hi : in.lanes[lane].lo);
  return sum;
}

/// First, last, and those with the largest and the smallest reachable sum.
std::set<std::int64_t> chosen_channels(
    const std::vector<std::pair<std::int64_t, std::int64_t>>& ends) {
  const auto highest_at =
      std::ranges::max_element(ends, {}, &std::pair<std::int64_t, std::int64_t>::second) -
      ends.begin();
  const auto lowest_at =
      std::ranges::min_element(ends, {}, &std::pair<std::int64_t, std::int64_t>::first) -
      ends.begin();
  return {0, static_cast<std::int64_t>(ends.size()) - 1, highest_at, lowest_at};
}

/// What the overflow proof says about one channel of the node's output, for these inputs.
Interval static_bound(const Design& d, std::int64_t channel, std::size_t channels) {
  BoundsAnalysis bounds(d.graph());
  for (std::size_t i = 0; i < d.inputs().size(); ++i)
    bounds.assume(d.graph().inputs()[i], Bounds::all(d.inputs()[i].hull()));
  const Bounds& y = bounds.of(d.graph().outputs().front());
  return y.channels.size() == channels ? y.of(static_cast<std::size_t>(channel)) : y.hull();
}

void add_accumulators(Design& d, std::size_t input, std::size_t channels,
                      const std::function<std::optional<Accumulator>(std::int64_t, bool)>& make) {
  const InputDomain& in = d.inputs()[input];
  std::vector<std::pair<std::int64_t, std::int64_t>> ends;
  for (std::size_t c = 0; c < channels; ++c) {
    const auto a = make(static_cast<std::int64_t>(c), false);
    if (!a) return d.unreached("accumulator_highest", "every window reaches into the padding");
    ends.emplace_back(extreme(*a, in, false), extreme(*a, in, true));
  }
  for (const std::int64_t channel : chosen_channels(ends))
    for (const bool up : {true, false}) {
      const Accumulator a = *make(channel, !up);
      Codes x(in.lanes.size());
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = in.clamped(i, 0);
      for (const auto& [lane, w] : a.taps)
        x[lane] = (w > 0) == up ? in.lanes[lane].hi : in.lanes[lane].lo;
      const std::int64_t sum = extreme(a, in, up);
      const std::string condition =
          fmt::format("accumulator_{}:channel_{}", up ? "highest" : "lowest", channel);
      std::string why;
      const auto y = d.evaluate({x}, &why);
      if (!y) {
        d.unreached(condition, "would overflow: " + why);
        continue;
      }
      // The interpreter and our own sum must agree; the bound of the proof may be wider.
      WAVEQ_CHECK(to_int64(y->front())[a.output] == sum);
      const Interval bound = static_bound(d, channel, channels);
      const std::int64_t end = up ? bound.hi : bound.lo;
      d.add({end == sum ? condition : fmt::format("largest_sum:channel_{}", channel)}, {x});
      if (end != sum)
        d.unreached(condition,
                    fmt::format("the bound is {}, the most that inputs can do is {}", end, sum));
    }
}

/// Two varying operands: the patterns are tried against the bound.
void mark_accumulators(Design& d) {
  const Interval bound = static_bound(d, 0, 1);
  bool low = false, high = false;
  for (VectorCase& c : d.cases) {
    const Codes y = to_int64(c.outputs.front());
    const auto [lo, hi] = std::ranges::minmax(y);
    if (lo == bound.lo) c.conditions.push_back("accumulator_lowest");
    if (hi == bound.hi) c.conditions.push_back("accumulator_highest");
    low = low || lo == bound.lo;
    high = high || hi == bound.hi;
  }
  if (!low)
    d.unreached("accumulator_lowest", fmt::format("no pattern attains the bound {}", bound.lo));
  if (!high)
    d.unreached("accumulator_highest", fmt::format("no pattern attains the bound {}", bound.hi));
}

}  // namespace

void design_division(Design& d) {
  const Attrs& attrs = d.node().attrs;
  const auto num_input = d.input_of_slot(0), den_input = d.input_of_slot(1);
  if (!num_input || !den_input || num_input == den_input)
    return d.unreached("tie_negative", "one operand is constant, or both are the same tensor");
  Division v;
  v.p = {static_cast<std::int32_t>(attrs.require_int("Delta")),
         static_cast<std::int32_t>(attrs.require_int("eps")),
         static_cast<std::int32_t>(attrs.require_int("eta"))};
  v.stretch = std::int64_t{v.p.delta} * v.p.eta;
  v.num = d.inputs()[*num_input].hull();
  v.den = d.inputs()[*den_input].hull();
  std::vector<std::pair<std::int64_t, std::vector<Numerator>>> table;
  std::size_t longest = 0;
  for (const std::int64_t den : denominators(v)) {
    table.emplace_back(den, numerators(v, den));
    longest = std::max(longest, table.back().second.size());
    if (table.back().second.empty()) table.pop_back();
  }
  std::set<std::string> reached;
  const std::vector<std::size_t> group = broadcast_lanes(d.shape(0), d.shape(1));
  const auto groups = static_cast<std::size_t>(element_count(d.shape(1)));
  const std::size_t width = group.size() / groups;
  for (std::size_t first = 0; first < table.size(); first += groups)
    for (std::size_t offset = 0; offset < longest; offset += width) {
      std::vector<Codes> inputs(2);
      Codes &num = inputs[*num_input], &den = inputs[*den_input];
      std::set<std::string> conditions;
      std::vector<std::size_t> rank(groups, 0);
      for (std::size_t g = 0; g < groups; ++g)
        den.push_back(table[(first + g) % table.size()].first);
      for (const std::size_t g : group) {
        const std::vector<Numerator>& choices = table[(first + g) % table.size()].second;
        const Numerator& n = choices[(offset + rank[g]++) % choices.size()];
        num.push_back(n.x);
        conditions.insert(n.conditions.begin(), n.conditions.end());
        conditions.insert(divisor(v, den[g]) % 2 == 0 ? "divisor_even" : "divisor_odd");
        if (den[g] == 1) conditions.insert("den_one");
        if (den[g] == v.den.hi) conditions.insert("den_highest");
      }
      if (d.add({conditions.begin(), conditions.end()}, inputs))
        reached.insert(conditions.begin(), conditions.end());
    }
  note_missing(d, v, reached);
}

void design_accumulator(Design& d) {
  const Node& node = d.node();
  const auto data = d.input_of_slot(0), weights = d.input_of_slot(1);
  if (data && weights) return mark_accumulators(d);
  if (node.inputs.size() > 2 && node.inputs[2].valid() && !d.graph().is_constant(node.inputs[2]))
    return d.unreached("accumulator_highest", "the bias is an input");
  if (node.op == "Conv") {
    const std::string auto_pad = node.attrs.get_string("auto_pad", "NOTSET");
    if (!data || (auto_pad != "NOTSET" && auto_pad != "VALID"))
      return d.unreached("accumulator_highest", "the weights vary, or the padding is automatic");
    const Codes w = d.constant(1);
    add_accumulators(d, *data, static_cast<std::size_t>(d.shape(1)[0]),
                     [&](std::int64_t f, bool last) { return conv_accumulator(d, w, f, last); });
  } else if (node.op == "Gemm") {
    if (!data || node.attrs.get_float("alpha", 1) != 1 || node.attrs.get_float("beta", 1) != 1)
      return d.unreached("accumulator_highest",
                         "the first operand is constant, or alpha or beta is not 1");
    const Codes w = d.constant(1);
    add_accumulators(d, *data, static_cast<std::size_t>(d.output_shape()[1]),
                     [&](std::int64_t n, bool last) { return gemm_accumulator(d, w, n, last); });
  } else {
    const Shape &as = d.shape(0), &bs = d.shape(1);
    if (as.size() < 2 || bs.size() < 2)
      return d.unreached("accumulator_highest", "an operand is a vector");
    const std::size_t slot = data ? 0 : 1;
    const Codes w = d.constant(1 - slot);
    const auto channels = static_cast<std::size_t>(slot == 0 ? bs.back() : as[as.size() - 2]);
    add_accumulators(d, data ? *data : *weights, channels, [&](std::int64_t c, bool last) {
      return matmul_accumulator(d, w, c, slot, last);
    });
  }
}

void design_mean(Design& d) {
  const auto input = d.input_of_slot(0);
  if (!input || d.inputs().size() != 1) return;
  const Shape& shape = d.shape(0);
  Codes axes = d.node().attrs.get_ints("axes", d.constant(1));
  Shape kept = shape;
  if (axes.empty()) kept.assign(shape.size(), 1);
  for (const std::int64_t axis : axes)
    kept[static_cast<std::size_t>(normalize_axis(axis, shape.size(), d.node().name))] = 1;
  const std::vector<std::size_t> group = broadcast_lanes(shape, kept);
  const std::int64_t count = element_count(shape) / element_count(kept);
  if (count % 2 != 0)
    return d.unreached("tie",
                       fmt::format("a mean of {} integers is never halfway between two", count));
  const InputDomain& in = d.inputs()[0];
  const Interval hull = in.hull();
  const std::pair<std::int64_t, const char*> targets[] = {
      {-count / 2, "tie_negative"},
      {-count / 2 - 1, "tie_negative_minus_1"},
      {-count / 2 + 1, "tie_negative_plus_1"},
      {-count - count / 2, "tie_negative"},
      {count / 2, "tie_positive"},
      {count / 2 - 1, "tie_positive_minus_1"},
      {count / 2 + 1, "tie_positive_plus_1"},
      {count + count / 2, "tie_positive"},
      {hull.lo * count + count / 2, "tie_lowest"},
      {hull.hi * count - count / 2, "tie_highest"}};
  for (const auto& [sum, name] : targets) {
    const std::int64_t base = floor_div(sum, count), extra = sum - base * count;
    std::vector<std::int64_t> rank(static_cast<std::size_t>(element_count(kept)), 0);
    Codes x;
    bool fits = true;
    for (std::size_t i = 0; i < group.size(); ++i) {
      x.push_back(base + (rank[group[i]]++ < extra ? 1 : 0));
      fits = fits && in.contains(i, x.back());
    }
    if (fits)
      d.add({name}, {x});
    else
      d.unreached(name, fmt::format("the inputs lie in {}..{}", hull.lo, hull.hi));
  }
}

/// x*weight + bias, times mul: for each element the codes at which something can go wrong in it.
void design_nonorm(Design& d) {
  const Codes weight = d.constant(1), bias = d.constant(2);
  if (!d.input_of_slot(0) || d.inputs().size() != 1 || weight.empty() || bias.empty())
    return d.unreached("result_highest", "the parameters vary");
  const InputDomain& in = d.inputs()[0];
  const auto mul = static_cast<std::int32_t>(d.node().attrs.require_int("mul"));
  const std::int64_t divisor = d.node().attrs.require_int("D");
  const int log2_d = exact_log2(divisor, "D");
  const std::vector<std::size_t> weights = broadcast_lanes(d.shape(0), d.shape(1)),
                                 biases = broadcast_lanes(d.shape(0), d.shape(2));
  constexpr std::array<const char*, 6> kNames = {"lowest_legal",     "highest_legal",
                                                 "result_lowest",    "result_highest",
                                                 "negative_inexact", "remainder_half_or_more"};
  std::array<Codes, kNames.size()> x;
  for (std::size_t i = 0; i < in.lanes.size(); ++i) {
    const auto w = static_cast<std::int32_t>(weight[weights[i]]),
               b = static_cast<std::int32_t>(bias[biases[i]]);
    std::vector<std::pair<std::int64_t, std::int64_t>> legal;  // result and code
    std::optional<std::int64_t> negative, half;
    for (std::int64_t q = in.lanes[i].lo; q <= in.lanes[i].hi; ++q) {
      try {
        legal.emplace_back(inonorm(static_cast<std::int32_t>(q), w, b, mul, log2_d), q);
      } catch (const Error&) {
        continue;
      }
      const std::int64_t wide = (q * w + b) * mul, rest = wide - floor_div(wide, divisor) * divisor;
      if (wide < 0 && rest != 0) negative = q;
      if (2 * rest >= divisor) half = q;
    }
    if (legal.empty())
      return d.unreached("result_highest", fmt::format("every input of element {} leaves int8", i));
    const auto [low, high] = std::ranges::minmax(legal);
    const std::array<std::int64_t, kNames.size()> chosen = {
        legal.front().second, legal.back().second,           low.second,
        high.second,          negative.value_or(low.second), half.value_or(high.second)};
    for (std::size_t k = 0; k < chosen.size(); ++k) x[k].push_back(chosen[k]);
  }
  for (std::size_t k = 0; k < x.size(); ++k) d.add({kNames[k]}, {x[k]});
}

}  // namespace waveq::vectors_detail
