#include "waveq/integerize/quotient.h"

#include <doctest/doctest.h>

#include <random>

#include "waveq/graph/executor.h"
#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

constexpr std::int64_t kD = 3, kN = 6, kE = 2, kM = 4;

/// What is changed about the linear attention of `attention`.
struct Variant {
  bool other_k = false, signed_q = false, signed_k = false, weighted_sum = false, regrouped = false, other_q = false;
  std::int32_t a_mul = 30, e_mul = 40, e_add = 0;
  std::int64_t eta = 4, eps = 3, delta = 64;
};

/// y = IntegerDiv(Q.rq(K.V), Q.rq(K.1)), inputs q, k, v.
struct Attention {
  Graph g;
  ValueId num, den, y;
};

ValueId requant(Graph& g, ValueId x, std::int32_t mul, std::int32_t add, bool is_signed) {
  Attrs attrs;
  attrs.set("div", std::int64_t{1024});
  attrs.set("n_levels_out", std::int64_t{256});
  attrs.set("signed", std::int64_t{is_signed});
  return g.emit("RequantShift", "rq", {x, g.add_constant("m", Tensor::scalar(mul)), g.add_constant("a", Tensor::scalar(add))}, attrs);
}

Attention attention(const Variant& variant = {}) {
  Attention a;
  Graph& g = a.g;
  const ValueId q = g.add_input("q", {variant.signed_q ? DType::i8 : DType::u8, {1, kM, kD}});
  const ValueId k = g.add_input("k", {variant.signed_k ? DType::i8 : DType::u8, {1, kD, kN}});
  const ValueId v = g.add_input("v", {DType::i8, {1, kN, kE}});
  ValueId other = k;
  if (variant.other_k) other = g.add_input("k2", {DType::u8, {1, kD, kN}});
  const ValueId q2 = variant.other_q ? g.add_input("q2", {DType::u8, {1, kM, kD}}) : q;
  if (variant.regrouped) {
    Attrs turn;
    turn.set("perm", std::vector<std::int64_t>{0, 2, 1});
    const ValueId t = g.emit("Transpose", "t", {k}, turn);
    other = g.emit("Reshape", "regrouped", {t, g.add_constant("s", Tensor::from<std::int64_t>({3}, {1, kD, kN}))});
  }
  std::vector<std::int8_t> ones(kN, 1);
  if (variant.weighted_sum) ones[1] = 2;
  const ValueId kv = requant(g, g.emit("MatMul", "kv", {k, v}), variant.a_mul, 0, true);
  const ValueId ks = requant(g, g.emit("MatMul", "ks", {other, g.add_constant("ones", Tensor::from<std::int8_t>({1, kN, 1}, ones))}), variant.e_mul, variant.e_add, false);
  a.num = g.emit("MatMul", "num", {q, kv});
  a.den = g.emit("MatMul", "den", {q2, ks});
  Attrs attrs;
  attrs.set("Delta", variant.delta);
  attrs.set("eta", variant.eta);
  attrs.set("eps", variant.eps);
  a.y = g.emit("IntegerDiv", "y", {a.num, a.den}, attrs);
  g.add_output(a.y);
  return a;
}

QuotientBound bound_of(Attention& a, const Variant& variant = {}) {
  BoundsAnalysis bounds(a.g);
  return bound_quotient(bounds, a.num, a.den, variant.eta, variant.eps, "y");
}

bool is_relational(const QuotientBound& b) { return b.argument.find("relational") != std::string::npos; }
double value(const QuotientBound& b) { return static_cast<double>(b.numerator) / static_cast<double>(b.denominator); }

TEST_CASE("quotient: linear attention is bounded relationally, far below numerator over divisor") {
  // Every key counts at least 1 in the denominator and at most 1 in the numerator.
  const Variant variant{.a_mul = 8, .e_mul = 1000};
  Attention a = attention(variant);
  const QuotientBound tight = bound_of(a, variant);
  REQUIRE(is_relational(tight));
  BoundsAnalysis bounds(a.g);
  const double plain = static_cast<double>(bounds.of(a.num).hull().hi) / 3.0;
  CHECK(value(tight) < plain / 50);
  CHECK(prove(a.g).overflow_free());
}

TEST_CASE("quotient: the relational bound holds for random and extreme keys, values and queries") {
  for (const Variant& variant : {Variant{}, Variant{.a_mul = -100, .e_mul = 7, .eta = 1, .eps = 1}, Variant{.a_mul = 900, .e_mul = 900, .e_add = 3000, .eta = 7, .eps = 100},
                                 Variant{.a_mul = 1, .e_mul = 1, .eta = 256, .eps = 1}}) {
    Attention a = attention(variant);
    const QuotientBound bound = bound_of(a, variant);
    BoundsAnalysis bounds(a.g);
    const std::int64_t y_limit = bounds.of(a.y).hull().hi;
    Executor executor(a.g);
    std::mt19937_64 engine(11);
    double reached = 0;
    for (int run = 0; run < 4000; ++run) {
      Tensor q(DType::u8, {1, kM, kD}), k(DType::u8, {1, kD, kN}), v(DType::i8, {1, kN, kE});
      // Sparse and small keys drive the denominator towards 0 while the numerator survives its rounding.
      const auto key_limit = static_cast<std::uint64_t>(run % 3 == 0 ? 256 : run % 3 == 1 ? 16 : 2);
      for (auto& e : q.as<std::uint8_t>()) e = static_cast<std::uint8_t>(run % 2 ? (engine() & 1) * 255 : engine() % 256);
      for (auto& e : k.as<std::uint8_t>()) e = static_cast<std::uint8_t>(run % 5 == 0 ? (engine() & 1) * (key_limit - 1) : engine() % key_limit);
      for (auto& e : v.as<std::int8_t>()) e = static_cast<std::int8_t>(run % 4 == 0 ? -128 : run % 4 == 1 ? 127 : static_cast<int>(engine() % 256) - 128);
      std::vector<std::int64_t> num, den;
      const auto out = executor.run(std::vector{q, k, v}, [&](ValueId id, const Tensor& t) {
        if (id == a.num) num = to_int64(t);
        if (id == a.den) den = to_int64(t);
      });
      for (std::size_t i = 0; i < num.size(); ++i) {
        const __int128 n = num[i] < 0 ? -num[i] : num[i], d = __int128{variant.eta} * den[i / kE] + variant.eps;
        REQUIRE(n * bound.denominator <= bound.numerator * d);
        reached = std::max(reached, static_cast<double>(n) / static_cast<double>(d));
      }
      for (std::int64_t y : to_int64(out[0])) REQUIRE(std::abs(y) <= y_limit);
    }
    // All-zero keys: numerator and denominator are what is left of the requants' adds.
    CHECK(reached > 0);
  }
}

TEST_CASE("quotient: the bound is attained where queries and values are at their ends") {
  // e = rq(S) = 0 while S*40 + 512 < 1024, so S <= 12; a = (128*12*30 + 512) >> 10 = 45; 765*45 / 3.
  Attention a = attention();
  const QuotientBound b = bound_of(a);
  CHECK(value(b) == doctest::Approx(765.0 * 45 / 3));
  Tensor q(DType::u8, {1, kM, kD}), k(DType::u8, {1, kD, kN}), v(DType::i8, {1, kN, kE});
  for (auto& e : q.as<std::uint8_t>()) e = 255;
  for (auto& e : k.as<std::uint8_t>()) e = 2;  // S = 12
  for (auto& e : v.as<std::int8_t>()) e = -128;
  std::int64_t num = 0, den = -1;
  Executor(a.g).run(std::vector{q, k, v}, [&](ValueId id, const Tensor& t) {
    if (id == a.num) num = to_int64(t)[0];
    if (id == a.den) den = to_int64(t)[0];
  });
  CHECK(num == -765 * 45);
  CHECK(den == 0);
}

TEST_CASE("quotient: graphs that are not linear attention get the plain bound") {
  for (const auto& entry : std::vector<std::pair<std::string, Variant>>{
           {"numerator and denominator read other keys", {.other_k = true}},
           {"rows of the keys are regrouped in between", {.regrouped = true}},
           {"keys are weighted in the denominator", {.weighted_sum = true}},
           {"numerator and denominator have other queries", {.other_q = true}}}) {
    const std::string& what = entry.first;
    const Variant& variant = entry.second;
    INFO(what);
    Attention a = attention(variant);
    const QuotientBound b = bound_of(a, variant);
    CHECK(!is_relational(b));
    CHECK(value(b) == doctest::Approx(255.0 * kD * 128 / 3).epsilon(0.2));
  }
}

TEST_CASE("quotient: a divisor that can be negative or zero is an overflow") {
  Variant variant{.signed_q = true};
  Attention negative = attention(variant);
  CHECK_THROWS_AS(bound_of(negative, variant), Error);
  const ProofReport proof = prove(negative.g);
  CHECK(proof.unproven == std::vector<std::string>{"y"});
  variant = {.eps = 0};
  Attention zero = attention(variant);
  CHECK_THROWS_AS(bound_of(zero, variant), Error);
  // A divisor whose smallest value is positive needs no eps.
  variant = {.e_add = 4096, .eps = 0};
  Attention kept = attention(variant);
  CHECK_THROWS_AS(bound_of(kept, variant), Error);  // the queries can all be zero
}

TEST_CASE("quotient: signed keys leave the plain bound, absurd parameters are unproven") {
  Variant variant{.signed_k = true};
  Attention a = attention(variant);
  CHECK(!is_relational(bound_of(a, variant)));
  for (const Variant& odd : {Variant{.eta = -1}, Variant{.eta = 2147483647}, Variant{.delta = -5}, Variant{.delta = 2147483647}}) {
    Attention b = attention(odd);
    CHECK(prove(b.g).unproven == std::vector<std::string>{"y"});
  }
}

TEST_CASE("quotient: numerator and denominator that weight the same elements are at most the largest element apart") {
  const auto bound = [](std::vector<std::int8_t> w, DType a_type, bool other_a) {
    Graph g;
    const ValueId a = g.add_input("a", {a_type, {1, kM, kN}}), v = g.add_input("v", {DType::i8, {1, kN, kE}});
    const ValueId b = other_a ? g.add_input("b", {a_type, {1, kM, kN}}) : a;
    const ValueId num = g.emit("MatMul", "num", {a, v});
    const ValueId den = g.emit("MatMul", "den", {b, g.add_constant("w", Tensor::from<std::int8_t>({1, kN, 1}, w))});
    BoundsAnalysis bounds(g);
    const QuotientBound q = bound_quotient(bounds, num, den, 4, 1, "here");
    return std::pair{static_cast<std::int64_t>(q.numerator), static_cast<std::int64_t>(q.denominator)};
  };
  // 128/(4*2); without the relation 6*255*128 over eps = 1.
  CHECK(bound({2, 2, 3, 2, 9, 2}, DType::u8, false) == std::pair<std::int64_t, std::int64_t>{128, 8});
  CHECK(bound({2, 2, 3, 2, 9, 2}, DType::u8, true) == std::pair<std::int64_t, std::int64_t>{6 * 255 * 128, 1});
  CHECK(bound({2, 2, 0, 2, 9, 2}, DType::u8, false) == std::pair<std::int64_t, std::int64_t>{6 * 255 * 128, 1});
  CHECK_THROWS_AS(bound({2, 2, 3, 2, 9, 2}, DType::i8, false), Error);
}

}  // namespace
}  // namespace waveq
