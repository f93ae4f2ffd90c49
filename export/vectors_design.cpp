#include "vectors_design.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "waveq/graph/integer_arithmetic.h"

namespace waveq::vectors_detail {

namespace {

using i128 = __int128;

std::int64_t floor_mod(i128 a, std::int64_t m) {
  const i128 r = a % m;
  return static_cast<std::int64_t>(r < 0 ? r + m : r);
}

/// (g, u) with g = gcd(a, m) and a*u = g (mod m).
std::pair<std::int64_t, std::int64_t> bezout(std::int64_t a, std::int64_t m) {
  i128 r0 = a, r1 = m, u0 = 1, u1 = 0;
  while (r1 != 0) {
    const i128 q = r0 / r1;
    std::swap(r0 -= q * r1, r1);
    std::swap(u0 -= q * u1, u1);
  }
  return {static_cast<std::int64_t>(r0), floor_mod(u0, m)};
}

}  // namespace

std::int64_t ordinal_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto magnitude = static_cast<std::int64_t>(bits & 0x7fffffffU);
  return bits >> 31 == 0 ? magnitude : -1 - magnitude;
}

float at_ordinal(std::int64_t ordinal) {
  const std::int64_t magnitude = ordinal >= 0 ? ordinal : -1 - ordinal;
  WAVEQ_CHECK(magnitude <= 0x7f800000);
  return std::bit_cast<float>(static_cast<std::uint32_t>(magnitude) |
                              (ordinal >= 0 ? 0U : 0x80000000U));
}

Interval InputDomain::hull() const {
  Interval all = lanes.front();
  for (const Interval& i : lanes) all = {std::min(all.lo, i.lo), std::max(all.hi, i.hi)};
  return all;
}

std::int64_t InputDomain::clamped(std::size_t lane, std::int64_t x) const {
  return std::clamp(x, lanes[lane].lo, lanes[lane].hi);
}

Design::Design(const Graph& graph, std::vector<InputDomain> domains)
    : graph_(graph),
      node_(graph.nodes().front()),
      domains_(std::move(domains)),
      executor_(graph, Overflow::error) {}

std::optional<std::size_t> Design::input_of_slot(std::size_t slot) const {
  if (slot >= node().inputs.size() || !node().inputs[slot].valid()) return std::nullopt;
  const auto at = std::ranges::find(graph_.inputs(), node().inputs[slot]);
  if (at == graph_.inputs().end()) return std::nullopt;
  return static_cast<std::size_t>(at - graph_.inputs().begin());
}

Codes Design::constant(std::size_t slot) const {
  if (slot >= node().inputs.size() || !graph_.is_constant(node().inputs[slot])) return {};
  return to_int64(graph_.constant(node().inputs[slot]));
}

std::vector<Tensor> Design::tensors(const std::vector<Codes>& inputs) const {
  WAVEQ_CHECK(inputs.size() == domains_.size());
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const TensorType& type = domains_[i].type;
    if (type.dtype == DType::f32) {
      std::vector<float> x;
      for (const std::int64_t ordinal : inputs[i]) x.push_back(at_ordinal(ordinal));
      out.push_back(Tensor::from<float>(type.shape, x));
      continue;
    }
    for (std::int64_t x : inputs[i])
      WAVEQ_CHECK(x >= lowest(type.dtype) && x <= highest(type.dtype));
    out.push_back(cast(Tensor::from<std::int64_t>(type.shape, inputs[i]), type.dtype));
  }
  return out;
}

std::optional<std::vector<Tensor>> Design::evaluate(const std::vector<Codes>& inputs,
                                                    std::string* why) {
  try {
    return executor_.run(tensors(inputs));
  } catch (const Error& e) {
    if (e.code() != ErrorCode::overflow) throw;
    if (why) *why = e.found();
    return std::nullopt;
  }
}

bool Design::add(const std::vector<std::string>& conditions, const std::vector<Codes>& inputs) {
  std::vector<Tensor> made = tensors(inputs);
  const auto same =
      std::ranges::find_if(cases, [&](const VectorCase& c) { return c.inputs == made; });
  if (same != cases.end()) {
    for (const std::string& c : conditions)
      if (std::ranges::find(same->conditions, c) == same->conditions.end())
        same->conditions.push_back(c);
    return true;
  }
  std::string why;
  auto outputs = evaluate(inputs, &why);
  if (!outputs) {
    for (const std::string& c : conditions) unreached(c, "would overflow: " + why);
    return false;
  }
  cases.push_back({conditions, std::move(made), std::move(*outputs)});
  return true;
}

void Design::unreached(std::string condition, std::string why) {
  missing.push_back({std::move(condition), std::move(why)});
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
}

std::int64_t Congruence::at_least(std::int64_t lo) const {
  return lo + floor_mod(i128{first} - lo, period);
}
std::int64_t Congruence::at_most(std::int64_t hi) const {
  return hi - floor_mod(i128{hi} - first, period);
}

std::optional<Congruence> solve_congruence(std::int64_t a, std::int64_t r, std::int64_t m) {
  WAVEQ_CHECK(m >= 1);
  a = floor_mod(a, m);
  r = floor_mod(r, m);
  const auto [g, u] = bezout(a, m);
  if (r % g != 0) return std::nullopt;
  const std::int64_t period = m / g;
  return Congruence{floor_mod(i128{u} * (r / g), period), period};
}

std::vector<std::size_t> broadcast_lanes(const Shape& shape, const Shape& small) {
  std::vector<std::int64_t> step(shape.size(), 0);
  const std::vector<std::int64_t> strides = strides_of(small);
  for (std::size_t i = 0; i < small.size(); ++i)
    if (small[i] != 1) step[shape.size() - small.size() + i] = strides[i];
  std::vector<std::size_t> out(static_cast<std::size_t>(element_count(shape)));
  const std::vector<std::int64_t> outer = strides_of(shape);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < shape.size(); ++d)
      at += static_cast<std::int64_t>(i) / outer[d] % shape[d] * step[d];
    out[i] = static_cast<std::size_t>(at);
  }
  return out;
}

}  // namespace waveq::vectors_detail
