#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"

namespace waveq {

namespace {

/// Real values as codes: round half away from zero, saturated; infinities saturate. A NaN (the root
/// of a number that is negative by rounding alone) takes the value of its nearest neighbour that is
/// one.
std::vector<std::int32_t> entries(const std::vector<double>& values, const QuantParams& quant) {
  std::vector<std::int32_t> codes(values.size(), 0);
  std::ptrdiff_t last = -1;
  const auto count = static_cast<std::ptrdiff_t>(values.size());
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const double v = values[static_cast<std::size_t>(i)];
    if (std::isnan(v)) continue;
    const double q = std::clamp(std::round(v / quant.scale), static_cast<double>(quant.lo()),
                                static_cast<double>(quant.hi()));
    // Undefined entries in front: half way back to the last defined one, all at the start.
    const std::ptrdiff_t from = last < 0 ? 0 : last + (i - last + 1) / 2;
    for (std::ptrdiff_t k = std::max(from, last + 1); k <= i; ++k)
      codes[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(q);
    for (std::ptrdiff_t k = last + 1; k < from; ++k)
      codes[static_cast<std::size_t>(k)] = codes[static_cast<std::size_t>(last)];
    last = i;
  }
  for (std::ptrdiff_t k = last + 1; last >= 0 && k < count; ++k)
    codes[static_cast<std::size_t>(k)] = codes[static_cast<std::size_t>(last)];
  return codes;
}

Tensor stored(const Shape& shape, const std::vector<std::int32_t>& codes,
              const QuantParams& quant) {
  return cast(Tensor::from<std::int32_t>(shape, codes), quant.storage());
}

/// Where f changes: the part of x's range outside of which every entry is the one at the end.
Range varying_part(Lowering& to, ValueId x, ValueId y, const QuantParams& quant) {
  const Range all = to.range(x, {to.options().activation_levels, Signedness::automatic});
  constexpr int kPoints = 512;
  std::vector<double> points;
  for (int i = 0; i <= kPoints; ++i) points.push_back(all.lo + (all.hi - all.lo) * i / kPoints);
  std::size_t first = points.size() - 1, last = 0;
  for (const std::vector<double>& row : to.chains().evaluate(y, points)) {
    const std::vector<std::int32_t> codes = entries(row, quant);
    const auto differs = [&](std::int32_t end) {
      return [end](std::int32_t code) { return code != end; };
    };
    const auto from = std::ranges::find_if(codes, differs(codes.front()));
    first = std::min(first, static_cast<std::size_t>(from - codes.begin()));
    std::size_t k = codes.size();
    while (k > 0 && codes[k - 1] == codes.back()) --k;
    last = std::max(last, k);
  }
  if (first > last) return all;
  return {points[first > 0 ? first - 1 : 0], points[std::min(last, points.size() - 1)]};
}

}  // namespace

/// y = f_c(x) by one table over the codes of x: T[c][q - lo] = round(f_c(scale_x*q) / scale_y),
/// exact to half a step of y where y is not clipped. Source: integer-approximations.md 8.1.
void lower_table(Lowering& to, ValueId x, ValueId y) {
  const QuantParams quant = to.wanted(y);
  const Activation in = to.activation_within(x, varying_part(to, x, y, quant));
  const std::int64_t first = in.quant.is_signed ? -128 : 0;
  std::vector<double> points;
  for (std::int64_t q = first; q < first + 256; ++q)
    points.push_back(in.quant.scale * static_cast<double>(q));
  std::vector<std::int32_t> codes;
  const auto rows = to.chains().evaluate(y, points);
  for (const std::vector<double>& row : rows) {
    const std::vector<std::int32_t> part = entries(row, quant);
    codes.insert(codes.end(), part.begin(), part.end());
  }
  Shape shape{static_cast<std::int64_t>(points.size())};
  if (rows.size() > 1) shape.insert(shape.begin(), static_cast<std::int64_t>(rows.size()));
  Attrs attrs;
  attrs.set("first", first);
  attrs.set("n_levels_out", quant.n_levels);
  attrs.set("signed", std::int64_t{quant.is_signed});
  const ValueId table =
      to.out().add_constant(to.name_for(y, "_table"), stored(shape, codes, quant));
  const Activation out{to.emit("Table", to.name_for(y), {in.id, table}, attrs), quant};
  to.out().set_quant(out.id, quant);
  to.define(y, out);
}

}  // namespace waveq
