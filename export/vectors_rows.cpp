// Designed inputs of kernels that work on each row of the last axis alone: softmax forms and
// normalizations.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "vectors_design.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq::vectors_detail {

namespace {

/// Rows of different purpose share a case: the kernel works on each alone.
class RowCases {
 public:
  explicit RowCases(Design& d)
      : d_(d),
        length_(static_cast<std::size_t>(d.shape(0).back())),
        count_(d.inputs()[0].lanes.size() / length_) {}

  std::size_t length() const { return length_; }

  /// Rows that are there already get the condition added; one that overflows is listed as
  /// unreached.
  void add(const std::string& condition, Codes row) {
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = d_.inputs()[0].clamped(i, row[i]);
    for (auto& [known, conditions] : rows_)
      if (known == row) return void(conditions.insert(condition));
    std::string why;
    if (!d_.evaluate({repeated({row})}, &why))
      return d_.unreached(condition, "would overflow: " + why);
    rows_.push_back({std::move(row), {condition}});
  }
  void add(const std::string& condition, const std::function<std::int64_t(std::size_t)>& f) {
    Codes row(length_);
    for (std::size_t i = 0; i < length_; ++i) row[i] = f(i);
    add(condition, std::move(row));
  }

  /// Turns the rows into cases.
  void flush() {
    for (std::size_t first = 0; first < rows_.size(); first += count_) {
      std::vector<Codes> part;
      std::set<std::string> conditions;
      for (std::size_t i = 0; i < count_; ++i) {
        const auto& [row, names] = rows_[(first + i) % rows_.size()];
        part.push_back(row);
        conditions.insert(names.begin(), names.end());
      }
      d_.add({conditions.begin(), conditions.end()}, {repeated(part)});
    }
  }

 private:
  Codes repeated(const std::vector<Codes>& part) const {
    Codes x;
    for (std::size_t r = 0; r < count_; ++r)
      x.insert(x.end(), part[r % part.size()].begin(), part[r % part.size()].end());
    return x;
  }

  Design& d_;
  std::size_t length_, count_;
  std::vector<std::pair<Codes, std::set<std::string>>> rows_;
};

/// Row k of a sequence that mixes amplitudes (small ones make a change of 1 under the root
/// visible), offsets (means that are not zero) and numbers of elements that differ from the rest.
Codes trial_row(std::mt19937_64& engine, const Interval& range, std::size_t length) {
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(n));
  };
  constexpr std::array<std::int64_t, 10> kAmplitudes = {1, 2, 3, 4, 6, 10, 20, 45, 90, 255};
  const std::int64_t amplitude = kAmplitudes[static_cast<std::size_t>(below(kAmplitudes.size()))],
                     span = range.hi - range.lo + 1;
  const std::int64_t offset = below(2) == 0 ? std::clamp<std::int64_t>(0, range.lo, range.hi)
                                            : range.lo + below(span),
                     density = 1 + below(4);
  Codes row(length);
  for (std::int64_t& x : row) {
    x = offset;
    if (density == 4 || below(4) < density) x += below(2 * amplitude + 1) - amplitude;
    x = std::clamp(x, range.lo, range.hi);
  }
  return row;
}

// ---- Softmax forms.

/// Rows whose result changes when one parameter changes by one: a slip in that step cannot hide in
/// them.
void add_sensitive_rows(Design& d, RowCases& rows) {
  const Attrs& attrs = d.node().attrs;
  ISoftmax right;
  right.coeff_a = static_cast<std::int32_t>(attrs.get_int("coeffA", 1));
  right.coeff_b = static_cast<std::int32_t>(attrs.require_int("coeffB"));
  right.coeff_c = attrs.require_int("coeffC");
  right.log2 = static_cast<std::int32_t>(attrs.require_int("log2"));
  right.n_levels = static_cast<std::int32_t>(attrs.require_int("n_levels"));
  right.unsigned_octave = attrs.get_string("octave", "int8") == "uint8";
  std::vector<std::pair<std::string, ISoftmax>> open;
  for (const int by : {-1, 1}) {
    const auto change = [&](const char* name, auto ISoftmax::*member) {
      open.emplace_back(fmt::format("shows_{}_{:+}", name, by), right);
      open.back().second.*member += by;
      if (open.back().second.log2 == 0 || open.back().second.n_levels > 256) open.pop_back();
    };
    change("coeffA", &ISoftmax::coeff_a);
    change("coeffB", &ISoftmax::coeff_b);
    change("coeffC", &ISoftmax::coeff_c);
    change("log2", &ISoftmax::log2);
    change("n_levels", &ISoftmax::n_levels);
  }
  constexpr int kTrials = 2000;
  std::mt19937_64 engine(17);  // any: the trials are the same everywhere
  std::vector<std::int32_t> y(rows.length()), z(rows.length());
  for (int k = 0; k < kTrials && !open.empty(); ++k) {
    const Codes row = trial_row(engine, d.inputs()[0].hull(), rows.length());
    const std::vector<std::int32_t> x(row.begin(), row.end());
    try {
      isoftmax(x, right, y);
    } catch (const Error&) {
      continue;
    }
    std::erase_if(open, [&](const auto& slip) {
      try {
        isoftmax(x, slip.second, z, Overflow::wrap);
      } catch (const Error&) {
        return false;
      }
      if (z == y) return false;
      rows.add(slip.first, row);
      return true;
    });
  }
  for (const auto& [condition, changed] : open)
    d.unreached(condition, fmt::format("no row of {} tried changes", kTrials));
}

/// Distances from the maximum at which the exponential changes its shift, and their neighbours.
Codes shift_edges(const Node& node, std::int64_t span) {
  const bool octaves = node.op == "iSoftmax";
  const std::int64_t period = octaves ? node.attrs.require_int("log2") : 32;
  std::set<std::int64_t> out;
  for (std::int64_t edge = octaves ? period : 16; period > 0 && edge <= span + 1; edge += period)
    for (const std::int64_t x : {edge - 1, edge, edge + 1})
      if (x <= span) out.insert(x);
  return {out.begin(), out.end()};
}

void add_distances(const Node& node, const Interval& range, RowCases& rows) {
  const Codes edges = shift_edges(node, range.hi - range.lo);
  for (std::size_t next = 0; next < edges.size();) {
    Codes row(rows.length(), range.hi);
    std::string condition = fmt::format("distances_from_{}", edges[next]);
    for (std::size_t i = 1; i < row.size(); ++i)
      row[i] = range.hi - edges[std::min(next++, edges.size() - 1)];
    rows.add(condition, std::move(row));
  }
  // The other end of the codes: one element above a row of the lowest.
  for (const std::int64_t edge : edges)
    rows.add(fmt::format("lowest_below_{}", edge),
             [&](std::size_t i) { return i == rows.length() / 2 ? range.lo + edge : range.lo; });
}

/// Streaming form: the maximum rises by r from group to group, up to the highest code. 16 is the
/// least that shifts the sum, and several in a row shift out bits that one large rise would keep.
void add_rises(const Node& node, const Interval& range, RowCases& rows) {
  const auto width = static_cast<std::size_t>(node.attrs.require_int("group_width"));
  const std::size_t groups = rows.length() / width;
  if (groups < 2) return;
  for (const std::int64_t rise : {0, 15, 16, 17, 31, 32, 47, 48, 255})
    for (const std::int64_t fill : {0, 16, 32, 80, 255}) {
      rows.add(fmt::format("rise_{}", rise), [&](std::size_t i) {
        const auto after = static_cast<std::int64_t>(groups - 1 - i / width);
        const std::int64_t top = std::max(range.lo, range.hi - rise * after);
        return i % width == 0
                   ? top
                   : std::max(range.lo, top - fill * static_cast<std::int64_t>(i % width));
      });
    }
}

// ---- Normalizations.

/// A slip in one step of a normalization, as kernels make it.
enum class Slip {
  none,
  mean_floor,
  mean_nearest,
  square_nearest,
  variance_less,
  variance_more,
  root_up,
  root_nearest,
  quotient_floor,
  quotient_nearest,
  shift_truncates,
  shift_nearest
};
constexpr std::array kSlips = {std::pair{Slip::mean_floor, "shows_floor_of_mean"},
                               std::pair{Slip::mean_nearest, "shows_rounded_mean"},
                               std::pair{Slip::square_nearest, "shows_rounded_mean_square"},
                               std::pair{Slip::variance_less, "shows_variance_minus_1"},
                               std::pair{Slip::variance_more, "shows_variance_plus_1"},
                               std::pair{Slip::root_up, "shows_ceiling_of_root"},
                               std::pair{Slip::root_nearest, "shows_rounded_root"},
                               std::pair{Slip::quotient_floor, "shows_floor_of_quotient"},
                               std::pair{Slip::quotient_nearest, "shows_rounded_quotient"},
                               std::pair{Slip::shift_truncates, "shows_truncating_shift"},
                               std::pair{Slip::shift_nearest, "shows_rounding_shift"}};

struct Norm {
  Codes weight, bias;  ///< no bias: the form without mean (iRMSNorm)
  int log2_d = 0;
  bool wide = false;  ///< iLayerNorm with 16-bit operands and int32 results
  std::int64_t epsilon = 1;
};

std::int64_t nearest(std::int64_t a, std::int64_t b) {
  return a < 0 ? -floor_div(-2 * a + b, 2 * b) : floor_div(2 * a + b, 2 * b);
}

struct Moments {
  std::int64_t mean, variance;  ///< what stands under the root
};

Moments moments(const Norm& norm, const Codes& row, Slip slip) {
  const auto n = static_cast<std::int64_t>(row.size());
  std::int64_t sum = 0, squares = 0;
  for (const std::int64_t x : row) sum += x;
  const std::int64_t mean = norm.bias.empty()            ? 0
                            : slip == Slip::mean_floor   ? floor_div(sum, n)
                            : slip == Slip::mean_nearest ? nearest(sum, n)
                                                         : sum / n;
  for (const std::int64_t x : row) squares += (x - mean) * (x - mean);
  const std::int64_t mean_square = slip == Slip::square_nearest ? nearest(squares, n) : squares / n;
  return {mean,
          std::max<std::int64_t>(1, mean_square + norm.epsilon + (slip == Slip::variance_more) -
                                        (slip == Slip::variance_less))};
}

/// The results with the slip; without one they are the operator's.
Codes slipped(const Norm& norm, const Codes& row, Slip slip) {
  const auto [mean, v] = moments(norm, row, slip);
  std::int64_t root = isqrt(v);
  if (slip == Slip::root_up && root * root < v) ++root;
  if (slip == Slip::root_nearest && v - root * root > root) ++root;
  const std::int64_t divisor = std::int64_t{1} << norm.log2_d;
  Codes out;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::int64_t a = (row[i] - mean) * norm.weight[i];
    std::int64_t q = slip == Slip::quotient_floor     ? floor_div(a, root)
                     : slip == Slip::quotient_nearest ? nearest(a, root)
                                                      : a / root;
    if (!norm.bias.empty()) q += norm.bias[i];
    q = slip == Slip::shift_truncates ? q / divisor
        : slip == Slip::shift_nearest ? floor_div(2 * q + divisor, 2 * divisor)
                                      : floor_div(q, divisor);
    out.push_back(norm.bias.empty() ? std::clamp<std::int64_t>(q, -128, 127) : q);
  }
  return out;
}

bool computes(const Norm& norm, const Codes& row) {
  const std::vector<std::int32_t> x(row.begin(), row.end()),
      w(norm.weight.begin(), norm.weight.end()), b(norm.bias.begin(), norm.bias.end());
  std::vector<std::int32_t> y(row.size());
  try {
    if (b.empty())
      irmsnorm(x, w, norm.log2_d, y);
    else if (norm.wide)
      ilayernorm_wide(x, w, b, norm.log2_d, norm.epsilon, y);
    else
      ilayernorm(x, w, b, norm.log2_d, y);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// Tries rows until each slip has shown in some, each end of the results is attained, and the
/// variance has stood at a square and at both its neighbours.
void search_norm_rows(Design& d, const Norm& norm, RowCases& rows) {
  constexpr int kWanted = 2;
  constexpr std::size_t kWork = 1 << 22;  // elements looked at
  const std::size_t trials = std::clamp<std::size_t>(kWork / rows.length(), 2000, 40000);
  const Interval range = d.inputs()[0].hull();
  std::mt19937_64 engine(16);  // any: the trials are the same everywhere
  std::map<std::string, int> found;
  const auto want = [&](const std::string& condition, const Codes& row) {
    if (found[condition] >= kWanted) return;
    ++found[condition];
    rows.add(condition, row);
  };
  std::int64_t lowest_y = 0, highest_y = 0;
  Codes lowest_row, highest_row;
  for (std::size_t k = 0; k < trials; ++k) {
    const Codes row = trial_row(engine, range, rows.length());
    if (!computes(norm, row)) continue;
    const Codes right = slipped(norm, row, Slip::none);
    for (const auto& [slip, condition] : kSlips)
      if (found[condition] < kWanted && slipped(norm, row, slip) != right) want(condition, row);
    const std::int64_t v = moments(norm, row, Slip::none).variance, root = isqrt(v);
    if (v == root * root) want("variance_square", row);
    if (v == root * root + 1) want("variance_square_plus_1", row);
    if (v == (root + 1) * (root + 1) - 1) want("variance_square_minus_1", row);
    const auto [lo, hi] = std::ranges::minmax(right);
    if (lo < lowest_y) lowest_row = row, lowest_y = lo;
    if (hi > highest_y) highest_row = row, highest_y = hi;
  }
  if (!lowest_row.empty()) rows.add(fmt::format("result_{}", lowest_y), lowest_row);
  if (!highest_row.empty()) rows.add(fmt::format("result_{}", highest_y), highest_row);
  for (const auto& [slip, condition] : kSlips)
    if (found[condition] == 0 &&
        !(norm.bias.empty() && (slip == Slip::mean_floor || slip == Slip::mean_nearest)))
      d.unreached(condition,
                  fmt::format("no row of {} tried shows it with these parameters", trials));
}

}  // namespace

void design_rows(Design& d) {
  const auto input = d.input_of_slot(0);
  if (!input || d.inputs().size() != 1 || d.shape(0).empty()) return;
  RowCases rows(d);
  if (rows.length() < 2) return d.unreached("row_distances", "rows of one element");
  const Interval range = d.inputs()[0].hull();
  const std::int64_t last = static_cast<std::int64_t>(rows.length()) - 1;
  const auto step = [&](std::size_t i) {
    return (range.hi - range.lo) * static_cast<std::int64_t>(i) / last;
  };
  rows.add("row_all_equal", [&](std::size_t) { return range.lo; });
  rows.add("row_one_maximum",
           [&](std::size_t i) { return i == rows.length() / 2 ? range.hi : range.lo; });
  rows.add("row_two_maxima",
           [&](std::size_t i) { return i == 0 || i + 1 == rows.length() ? range.hi : range.lo; });
  rows.add("row_maximum_last",
           [&](std::size_t i) { return i + 1 == rows.length() ? range.hi : range.lo; });
  rows.add("row_rising", [&](std::size_t i) { return range.lo + step(i); });
  rows.add("row_falling", [&](std::size_t i) { return range.hi - step(i); });
  // Distances that stay small: no element's share vanishes, and every step of the exponential
  // counts.
  for (const std::int64_t stride : {1, 3, 7})
    rows.add(fmt::format("row_near_maximum_{}", stride), [&](std::size_t i) {
      return range.hi - static_cast<std::int64_t>(i) * stride %
                            std::max<std::int64_t>(1, (range.hi - range.lo) / 4);
    });
  add_distances(d.node(), range, rows);
  if (d.node().op == "iSoftmax") add_sensitive_rows(d, rows);
  if (d.node().op == "ITAPartialMax") add_rises(d.node(), range, rows);
  rows.flush();
}

void design_norm(Design& d) {
  const auto input = d.input_of_slot(0);
  Norm norm;
  norm.weight = d.constant(1);
  norm.bias = d.constant(2);
  const bool has_mean = d.node().op == "iLayerNorm";
  if (!input || d.inputs().size() != 1 || norm.weight.empty() || (has_mean && norm.bias.empty()))
    return d.unreached("variance_square", "the parameters vary");
  norm.log2_d = exact_log2(d.node().attrs.require_int("D"), "D");
  norm.wide = d.node().attrs.get_int("output_bits", 8) == 32;
  norm.epsilon = d.node().attrs.get_int("epsilon", 1);
  RowCases rows(d);
  const Interval range = d.inputs()[0].hull();
  const std::size_t n = rows.length();
  rows.add("zero_variance", [&](std::size_t) { return range.lo; });
  rows.add("row_one_hot", [&](std::size_t i) { return i == n / 2 ? range.hi : 0; });
  rows.add("row_one_low", [&](std::size_t i) { return i == n / 2 ? range.lo : range.hi; });
  search_norm_rows(d, norm, rows);
  rows.flush();
}

}  // namespace waveq::vectors_detail
