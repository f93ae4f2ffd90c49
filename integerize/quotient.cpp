#include "waveq/integerize/quotient.h"

#include <fmt/format.h>

#include <algorithm>

#include "transfer.h"

namespace waveq {

namespace {

using i128 = __int128;

constexpr std::int64_t kInt32 = 2147483647;

const Node* producer(const Graph& graph, ValueId id) {
  const NodeId node = graph.value(id).producer;
  return node.valid() ? &graph.node(node) : nullptr;
}

/// Looks through nodes that only regroup the leading axes: row r of the flattened [rows, last]
/// matrix stays row r, which is all the argument needs.
ValueId through_reshapes(const Graph& graph, ValueId id) {
  for (;;) {
    const Node* node = producer(graph, id);
    if (!node || (node->op != "Reshape" && node->op != "Unsqueeze" && node->op != "Squeeze" &&
                  node->op != "Identity"))
      return id;
    id = node->inputs.front();
  }
}

/// A = requant(MatMul(K, other)) with one mul and one add.
struct RequantizedProduct {
  const Node* requant;
  ValueId left, right;
};

std::optional<RequantizedProduct> requantized_product(const Graph& graph, ValueId id) {
  const Node* rq = producer(graph, through_reshapes(graph, id));
  if (!rq || rq->op != "RequantShift") return std::nullopt;
  const Node* product = producer(graph, rq->inputs.front());
  if (!product || product->op != "MatMul") return std::nullopt;
  return RequantizedProduct{rq, product->inputs[0], product->inputs[1]};
}

/// True where `ones` is a constant column of ones: MatMul with it sums each row.
bool sums_rows(const Graph& graph, ValueId ones) {
  if (!graph.is_constant(ones) || graph.value(ones).type.shape.back() != 1) return false;
  const std::vector<std::int64_t> q = to_int64(graph.constant(ones));
  return std::ranges::all_of(q, [](std::int64_t v) { return v == 1; });
}

bool less(i128 an, i128 ad, i128 bn, i128 bd) { return an * bd < bn * ad; }

struct LinearAttention {
  RequantizedProduct a, e;
  std::int64_t features;  ///< d, the inner length of Q.A and Q.E
  std::int64_t q_max, v_max, k_max, keys;
};

std::optional<LinearAttention> match(BoundsAnalysis& bounds, ValueId num, ValueId den) {
  const Graph& graph = bounds.graph();
  const Node *n = producer(graph, num), *d = producer(graph, den);
  if (!n || !d || n->op != "MatMul" || d->op != "MatMul" || n->inputs[0] != d->inputs[0])
    return std::nullopt;
  const auto a = requantized_product(graph, n->inputs[1]);
  const auto e = requantized_product(graph, d->inputs[1]);
  if (!a || !e || !sums_rows(graph, e->right)) return std::nullopt;
  // Row (batch, j) of A and of E must stand for the same feature, and both products must read the
  // same rows of K: reshapes between them may regroup leading axes only.
  const Shape &a_shape = graph.value(n->inputs[1]).type.shape,
              &e_shape = graph.value(d->inputs[1]).type.shape;
  const auto width = [&](const RequantizedProduct& p) {
    return graph.value(p.requant->outputs.front()).type.shape.back();
  };
  if (a_shape.size() != e_shape.size() ||
      !std::equal(a_shape.begin(), a_shape.end() - 1, e_shape.begin()) ||
      width(*a) != a_shape.back() || width(*e) != 1 || e_shape.back() != 1)
    return std::nullopt;
  const ValueId k_of_a = through_reshapes(graph, a->left),
                k_of_e = through_reshapes(graph, e->left);
  if (k_of_a != k_of_e ||
      graph.value(a->left).type.shape.back() != graph.value(e->left).type.shape.back())
    return std::nullopt;
  const Interval q = bounds.of(n->inputs[0]).hull(), k = bounds.of(a->left).hull(),
                 v = bounds.of(a->right).hull();
  // Operands of 16 bits at most, as all products of them below fit then.
  constexpr std::int64_t kLimit = 65536;
  if (q.lo < 0 || k.lo < 0 || q.hi > kLimit || k.hi > kLimit || v.lo < -kLimit || v.hi > kLimit)
    return std::nullopt;
  return LinearAttention{*a,
                         *e,
                         graph.value(n->inputs[0]).type.shape.back(),
                         q.hi,
                         std::max(-v.lo, v.hi),
                         k.hi,
                         graph.value(a->left).type.shape.back()};
}

std::optional<QuotientBound> relational(BoundsAnalysis& bounds, const LinearAttention& la,
                                        std::int64_t eta, std::int64_t eps) {
  const Graph& graph = bounds.graph();
  const TransferContext ca{graph, *la.a.requant, bounds}, ce{graph, *la.e.requant, bounds};
  if (requant_channels(ca) != 1 || requant_channels(ce) != 1) return std::nullopt;
  const RequantParams ra = requant_params(ca, 0), re = requant_params(ce, 0);
  constexpr std::int64_t kLimit = 65536;
  // A negative eps would not shrink with the number of terms it is shared by.
  if (re.mul <= 0 || re.lo < 0 || eps < 0 || eta > kLimit || re.hi > kLimit || ra.hi > kLimit ||
      la.features > kLimit || la.keys > kInt32 / 2)
    return std::nullopt;
  const std::int64_t s_max = la.k_max * la.keys;
  const i128 dq = i128{la.features} * la.q_max;
  QuotientBound best{0, 1, ""};
  std::int64_t s = 0;
  while (s <= s_max) {
    // The last S with the same e(S): a(S) is non-decreasing, so it is the worst of the step.
    const std::int64_t e = requant_interval({s, s}, re).lo;
    std::int64_t last = s_max;
    if (e < re.hi) {
      const i128 next_at =
          ((i128{e} + 1) << re.shift) - re.half - re.add;  // smallest S*mul that reaches e+1
      last = static_cast<std::int64_t>(std::min<i128>(s_max, (next_at + re.mul - 1) / re.mul - 1));
    }
    const Interval reach = requant_interval({-la.v_max * last, la.v_max * last}, ra);
    const std::int64_t a = std::max(-reach.lo, reach.hi);
    const i128 numerator = dq * a, denominator = i128{eta} * dq * e + eps;
    if (denominator <= 0) return std::nullopt;
    if (less(best.numerator, best.denominator, numerator, denominator))
      best = {numerator, denominator, ""};
    s = std::max(last, s) + 1;
  }
  best.argument = "numerator and denominator weight the same keys (relational bound)";
  return best;
}

/// num = A.V, den = A.W of the same A >= 0, W a constant column of positive numbers: a quotient of
/// sums over the same weights is at most its largest term,
/// |num|/(eta*den + eps) <= max_j |v_j|/(eta*w_j) for eps >= 0.
std::optional<QuotientBound> same_weights(BoundsAnalysis& bounds, ValueId num, ValueId den,
                                          std::int64_t eta, std::int64_t eps) {
  const Graph& graph = bounds.graph();
  const Node *n = producer(graph, num), *d = producer(graph, den);
  if (!n || !d || n->op != "MatMul" || d->op != "MatMul" || eta < 1 || eps < 1 ||
      through_reshapes(graph, n->inputs[0]) != through_reshapes(graph, d->inputs[0]) ||
      graph.value(n->inputs[0]).type.shape.back() != graph.value(d->inputs[0]).type.shape.back() ||
      !graph.is_constant(d->inputs[1]) || graph.value(den).type.shape.back() != 1)
    return std::nullopt;
  const Interval a = bounds.of(n->inputs[0]).hull(), v = bounds.of(n->inputs[1]).hull();
  const std::vector<std::int64_t> w = to_int64(graph.constant(d->inputs[1]));
  if (a.lo < 0 || w.empty() || std::ranges::min(w) < 1) return std::nullopt;
  return QuotientBound{std::max(-i128{v.lo}, i128{v.hi}), i128{eta} * std::ranges::min(w),
                       "numerator and denominator weight the same elements (relational bound)"};
}

}  // namespace

QuotientBound bound_quotient(BoundsAnalysis& bounds, ValueId num, ValueId den, std::int64_t eta,
                             std::int64_t eps, const std::string& where) {
  if (eta < 0 || eta > kInt32 || eps < -kInt32 || eps > kInt32)
    throw Error(
        ErrorCode::overflow, where,
        fmt::format("eta = {} and eps = {} are not both in int32, eta at least 0", eta, eps));
  const Interval n = bounds.of(num).hull(), d = bounds.of(den).hull();
  // Nothing is known of a quotient of values that may have wrapped; it also keeps the fractions
  // below within 128 bits.
  if (n.lo < -kInt32 - 1 || n.hi > kInt32 || d.hi > kInt32)
    throw Error(
        ErrorCode::overflow, where,
        fmt::format("num in [{}, {}] or den in [{}, {}] leaves int32", n.lo, n.hi, d.lo, d.hi));
  const i128 smallest = i128{eta} * d.lo + eps;
  if (d.lo < 0 || smallest <= 0)
    throw Error(ErrorCode::overflow, where,
                fmt::format("the divisor eta*den + eps can be {} (den in [{}, {}])",
                            static_cast<std::int64_t>(smallest), d.lo, d.hi),
                "the denominator must be a sum of non-negative terms and eps at least 1");
  QuotientBound plain{std::max(-i128{n.lo}, i128{n.hi}), smallest,
                      "largest numerator over smallest divisor"};
  if (const auto la = match(bounds, num, den))
    if (auto tight = relational(bounds, *la, eta, eps);
        tight && less(tight->numerator, tight->denominator, plain.numerator, plain.denominator))
      return *tight;
  if (const auto tight = same_weights(bounds, num, den, eta, eps);
      tight && less(tight->numerator, tight->denominator, plain.numerator, plain.denominator))
    return *tight;
  return plain;
}

}  // namespace waveq
