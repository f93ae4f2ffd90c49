#include <algorithm>
#include <cmath>
#include <vector>

#include "observers/methods.h"

namespace waveq::observers_detail {

namespace {

constexpr double kStep = 1e-5;  // share of the values given up in one step

/// The signed bins in order of value, as one row.
struct Row {
  std::vector<double> edge;   ///< n+1, outermost ones at min and max
  std::vector<double> below;  ///< n: values in bins 0..i
};

Row row_of(const TensorStatistics& s) {
  constexpr int kBins = TensorStatistics::kBins;
  const double unit = std::ldexp(1.0, s.exponent());
  Row row;
  double sum = 0.0;
  const auto add = [&](double lower, std::uint64_t n) {
    sum += static_cast<double>(n);
    row.edge.push_back(std::clamp<double>(lower * unit, s.min(), s.max()));
    row.below.push_back(sum);
  };
  for (int i = kBins - 1; i >= 0; --i) add(-TensorStatistics::edge(i + 1), s.negative(i));
  add(-TensorStatistics::edge(0), s.near_zero());
  for (int i = 0; i < kBins; ++i) add(TensorStatistics::edge(i), s.positive(i));
  row.edge.push_back(s.max());
  return row;
}

}  // namespace

Range histogram(const TensorStatistics& s, const QuantSpec& spec) {
  const Row row = row_of(s);
  const double count = static_cast<double>(s.count());
  // The outermost bins that hold anything.
  std::size_t start = 0, end = row.below.size() - 1;
  while (row.below[start] == 0.0) ++start;
  while (end > start && row.below[end - 1] == count) --end;
  double alpha = 0.0, beta = 1.0;
  Range best = min_max(s, 1.0);
  double least = quantization_error(s, choose_params(best, spec)).total;
  while (alpha < beta && start < end) {
    std::size_t left = start, right = end;
    while (left < end && row.below[left] < (alpha + kStep) * count) ++left;
    while (right > start && row.below[right - 1] > (beta - kStep) * count) --right;
    const bool move_left =
        row.edge[left] - row.edge[start] > row.edge[end + 1] - row.edge[right + 1];
    if (move_left)
      alpha += kStep;
    else
      beta -= kStep;
    if (move_left ? left == start : right == end) continue;
    (move_left ? start : end) = move_left ? left : right;
    const Range candidate{row.edge[start], row.edge[end + 1]};
    const double error = quantization_error(s, choose_params(candidate, spec)).total;
    if (error > least) break;
    least = error;
    best = candidate;
  }
  return best;
}

}  // namespace waveq::observers_detail
