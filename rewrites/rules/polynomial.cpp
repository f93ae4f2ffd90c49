#include "rules/polynomial.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "rules/support.h"

namespace waveq::rules {

namespace {

constexpr int kMaxDegree = 4;
/// Levels of operators looked through; the longest spelling in use (GELU by tanh) has eight.
constexpr int kMaxDepth = 10;

Polynomial constant_of(double c) { return c == 0.0 ? Polynomial{} : Polynomial{{{0, 0}, c}}; }

Polynomial sum(const Polynomial& a, const Polynomial& b, double sign) {
  Polynomial out = a;
  for (const auto& [power, c] : b) out[power] += sign * c;
  std::erase_if(out, [](const auto& term) { return term.second == 0.0; });
  return out;
}

std::optional<Polynomial> product(const Polynomial& a, const Polynomial& b) {
  Polynomial out;
  for (const auto& [pa, ca] : a)
    for (const auto& [pb, cb] : b) {
      const std::pair power{pa.first + pb.first, pa.second + pb.second};
      if (power.first > kMaxDegree || power.second > kMaxDegree) return std::nullopt;
      out[power] += ca * cb;
    }
  std::erase_if(out, [](const auto& term) { return term.second == 0.0; });
  return out;
}

bool is_arithmetic(const Node& node) {
  if (node.inputs.size() != (node.op == "Neg" ? 1 : 2)) return false;
  return node.op == "Add" || node.op == "Sub" || node.op == "Mul" || node.op == "Div" ||
         node.op == "Neg" || node.op == "Pow";
}

struct Expander {
  const Graph& graph;
  ValueId x, t;

  std::optional<Polynomial> of(ValueId value, int depth) const {
    if (value == x) return Polynomial{{{1, 0}, 1.0}};
    if (t.valid() && value == t) return Polynomial{{{0, 1}, 1.0}};
    if (const auto c = scalar_of(graph, value)) return constant_of(*c);
    const Node* node = producer_of(graph, value);
    if (!node || depth == 0 || !is_arithmetic(*node)) return std::nullopt;
    const auto a = of(node->inputs[0], depth - 1);
    if (!a) return std::nullopt;
    if (node->op == "Neg") return sum({}, *a, -1.0);
    if (node->op == "Pow") return power(*a, scalar_of(graph, node->inputs[1]));
    if (node->op == "Div") {
      const auto c = scalar_of(graph, node->inputs[1]);
      if (!c || *c == 0.0) return std::nullopt;
      return product(*a, constant_of(1.0 / *c));
    }
    const auto b = of(node->inputs[1], depth - 1);
    if (!b) return std::nullopt;
    if (node->op == "Mul") return product(*a, *b);
    return sum(*a, *b, node->op == "Add" ? 1.0 : -1.0);
  }

  static std::optional<Polynomial> power(const Polynomial& base, std::optional<double> exponent) {
    if (!exponent || *exponent < 0 || *exponent > kMaxDegree || *exponent != std::floor(*exponent))
      return std::nullopt;
    std::optional<Polynomial> out = constant_of(1.0);
    for (int i = 0; out && i < static_cast<int>(*exponent); ++i) out = product(*out, base);
    return out;
  }
};

}  // namespace

std::optional<Polynomial> expand(const Graph& graph, ValueId value, ValueId x, ValueId t) {
  return Expander{graph, x, t}.of(value, kMaxDepth);
}

bool nearly_equal(const Polynomial& a, const Polynomial& b) {
  if (a.size() != b.size()) return false;
  return std::ranges::equal(a, b, [](const auto& u, const auto& v) {
    return u.first == v.first && std::abs(u.second - v.second) <= 1e-3 * std::abs(v.second);
  });
}

std::string to_string(const Polynomial& p) {
  std::string out;
  for (const auto& [power, c] : p) {
    out += fmt::format("{}{:.6g}", out.empty() ? "" : " + ", c);
    for (const auto& [name, n] : {std::pair{"x", power.first}, std::pair{"t", power.second}})
      if (n > 0) out += n == 1 ? fmt::format("*{}", name) : fmt::format("*{}^{}", name, n);
  }
  return out.empty() ? "0" : out;
}

std::vector<ValueId> arithmetic_leaves(const Graph& graph, ValueId value, std::size_t limit) {
  std::vector<ValueId> found = {value};
  for (std::size_t next = 0; next < found.size(); ++next) {
    const Node* node = producer_of(graph, found[next]);
    if (!node || !is_arithmetic(*node)) continue;
    for (ValueId in : node->inputs) {
      if (!in.valid() || graph.is_constant(in) || std::ranges::find(found, in) != found.end())
        continue;
      if (found.size() == limit) return found;
      found.push_back(in);
    }
  }
  return found;
}

}  // namespace waveq::rules
