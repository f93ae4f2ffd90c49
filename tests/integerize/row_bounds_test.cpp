#include <doctest/doctest.h>

#include <cstdlib>
#include <random>

#include "net.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/integerize/bounds.h"

namespace waveq {
namespace {

using test::attributes;
using test::Ints;

struct Row {
  Graph graph;
  ValueId x, y;
  NodeBound check;
  Interval range;

  Row(const std::string& op, std::int64_t length, const std::vector<std::int32_t>& weight,
      const std::vector<std::int32_t>& bias, const Attrs& attrs, Interval input = {-128, 127}) {
    x = graph.add_input("x", {DType::i32, {2, length}});
    std::vector<ValueId> inputs{x};
    for (const auto* p : {&weight, &bias})
      if (!p->empty())
        inputs.push_back(graph.add_constant(
            "p", Tensor::from<std::int32_t>({static_cast<std::int64_t>(p->size())}, *p)));
    y = graph.emit(op, "y", inputs, attrs);
    graph.add_output(y);
    BoundsAnalysis bounds(graph);
    bounds.assume(x, Bounds::all(input));
    check = bounds.check(graph.value(y).producer);
    range = bounds.of(y).hull();
  }
};

TEST_CASE("rows: the bound of a layer norm holds for every row, and is reached") {
  // All rows of 2 and 3 elements within -9..9, and of 5 within -2..2, by enumeration.
  for (const auto& [length, reach] :
       std::vector<std::pair<std::int64_t, int>>{{2, 9}, {3, 9}, {5, 2}}) {
    const auto n = static_cast<std::size_t>(length);
    const std::vector<std::int32_t> weight(n, 40), bias(n, 3);
    const Row net("iLayerNorm", length, weight, bias, attributes({{"D", std::int64_t{4}}}),
                  {-reach, reach});
    REQUIRE(net.check.proven);
    Interval seen{0, 0};
    std::vector<std::int32_t> row(n, -reach), out(n);
    for (bool more = true; more;) {
      ilayernorm(row, weight, bias, 2, out);
      for (std::int32_t v : out)
        seen = {std::min<std::int64_t>(seen.lo, v), std::max<std::int64_t>(seen.hi, v)};
      more = false;
      for (std::size_t i = 0; i < n && !more; ++i) {
        more = row[i] < reach;
        row[i] = more ? row[i] + 1 : -reach;
      }
    }
    INFO("rows of ", n);
    CHECK(net.range.lo <= seen.lo);
    CHECK(net.range.hi >= seen.hi);
    CHECK(net.range.lo >= 2 * seen.lo - 4);  // the relation between a deviation and the root counts
    CHECK(net.range.hi <= 2 * seen.hi + 4);
  }
}

TEST_CASE("rows: a layer norm is proven where its largest result fits int8, not where it may not") {
  // 13 once among 63 zeros: v = 169/64 + 1 = 3, its root 1, and y = 13*w/D; no row gives more.
  const std::vector<std::int32_t> bias(64, 0);
  const auto with_weight = [&](std::int32_t w) {
    return Row("iLayerNorm", 64, std::vector<std::int32_t>(64, w), bias,
               attributes({{"D", std::int64_t{256}}}));
  };
  const Row fits = with_weight(9 * 256);
  CHECK(fits.check.proven);
  CHECK(fits.range == Interval{-117, 117});
  const Row wide = with_weight(10 * 256);
  CHECK(!wide.check.proven);
  CHECK(wide.check.reason.find("without a clip") != std::string::npos);
  CHECK(wide.range == Interval{-128, 127});
  std::vector<std::int32_t> row(64, 0), out(64);
  row[0] = 13;
  ilayernorm(row, std::vector<std::int32_t>(64, 9 * 256), bias, 8, out);
  CHECK(out[0] == 117);
  CHECK_THROWS_AS(ilayernorm(row, std::vector<std::int32_t>(64, 10 * 256), bias, 8, out), Error);
}

TEST_CASE("rows: random normalizations stay within their bounds") {
  std::mt19937_64 engine(5);
  const auto draw = [&](std::int64_t lo, std::int64_t hi) {
    return static_cast<std::int32_t>(
        lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1)));
  };
  for (int round = 0; round < 60; ++round) {
    const auto length = static_cast<std::size_t>(draw(1, 12));
    std::vector<std::int32_t> weight(length), bias(length), row(length), out(length);
    for (auto& w : weight) w = draw(-3000, 3000);
    for (auto& b : bias) b = draw(-9000, 9000);
    const Interval input{draw(-128, 0), draw(1, 127)};
    const auto n = static_cast<std::int64_t>(length);
    const Row layer("iLayerNorm", n, weight, bias, attributes({{"D", std::int64_t{256}}}), input);
    const Row rms("iRMSNorm", n, weight, {}, attributes({{"D", std::int64_t{256}}}), input);
    const Row none("iNoNorm", n, weight, bias,
                   attributes({{"D", std::int64_t{65536}}, {"mul", std::int64_t{11}}}), input);
    REQUIRE(layer.check.proven);
    REQUIRE(rms.check.proven);
    REQUIRE(none.check.proven);
    for (int trial = 0; trial < 60; ++trial) {
      const bool extreme = trial % 2 != 0;
      for (auto& v : row)
        v = extreme ? static_cast<std::int32_t>(draw(0, 7) ? input.lo : input.hi)
                    : draw(input.lo, input.hi);
      ilayernorm(row, weight, bias, 8, out);
      for (std::int32_t v : out) REQUIRE((v >= layer.range.lo && v <= layer.range.hi));
      irmsnorm(row, weight, 8, out);
      for (std::int32_t v : out) REQUIRE((v >= rms.range.lo && v <= rms.range.hi));
      for (std::size_t i = 0; i < length; ++i) {
        const std::int32_t v = inonorm(row[i], weight[i], bias[i], 11, 16);
        REQUIRE((v >= none.range.lo && v <= none.range.hi));
      }
    }
  }
}

TEST_CASE("rows: what a normalization computes on the way counts, too") {
  // x*w leaves int32, although the clipped result could not.
  CHECK(!Row("iRMSNorm", 4, std::vector<std::int32_t>(4, 1 << 24), {},
             attributes({{"D", std::int64_t{1} << 30}}))
             .check.proven);
  CHECK(Row("iRMSNorm", 4, std::vector<std::int32_t>(4, (1 << 24) - 1), {},
            attributes({{"D", std::int64_t{1} << 30}}))
            .check.proven);
  CHECK(!Row("iNoNorm", 2, {1, 1}, {0, 0},
             attributes({{"D", std::int64_t{1} << 30}, {"mul", std::int64_t{1} << 25}}))
             .check.proven);
  CHECK(!Row("iNoNorm", 2, {1, 1}, {0, 1},
             attributes({{"D", std::int64_t{1}}, {"mul", std::int64_t{1}}}))
             .check.proven);
  CHECK(Row("iNoNorm", 2, {1, 1}, {0, 0},
            attributes({{"D", std::int64_t{1}}, {"mul", std::int64_t{1}}}))
            .check.proven);
}

Attrs softmax_attrs(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t log2) {
  return attributes({{"coeffA", a},
                     {"coeffB", b},
                     {"coeffC", c},
                     {"log2", log2},
                     {"n_levels", std::int64_t{256}}});
}

/// Whether the evaluator computes a row with every difference that 8 bits allow.
bool computes(const Attrs& attrs, std::size_t length) {
  std::vector<std::int32_t> row(length, 127), out(length);
  const ISoftmax p{static_cast<std::int32_t>(attrs.require_int("coeffA")),
                   static_cast<std::int32_t>(attrs.require_int("coeffB")),
                   attrs.require_int("coeffC"),
                   static_cast<std::int32_t>(attrs.require_int("log2")), 256};
  try {
    for (std::int32_t v = -128; v <= 127; ++v) {
      row.back() = v;
      isoftmax(row, p, out);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST_CASE("rows: a softmax is proven where, and only where, every row can be computed") {
  const struct {
    std::int64_t a, b, c, log2;
    bool proven;
  } cases[] = {
      {1, 60, 9000, 30, true},
      {1, 60, 9000, 1, false},         // the octave of a difference of 255 leaves int8
      {-1, 60, 0, 30, false},          // negative polynomial
      {1, 0, 0, 30, false},            // exp(0) is 0: so is the sum of equal elements
      {600000, 60, 9000, 30, false},   // A*(p+B)^2 leaves int32
      {1, 60, 20'000'000, 30, false},  // e*(n-1) leaves uint32
      {1, 60, 5'000'000, 30, true},
      {1, 60, 5'000'000, -1, false},
  };
  for (const auto& c : cases) {
    INFO("A ", c.a, " B ", c.b, " C ", c.c, " log2 ", c.log2);
    const Attrs attrs = softmax_attrs(c.a, c.b, c.c, c.log2);
    const Row net("iSoftmax", 16, {}, {}, attrs);
    CHECK(net.check.proven == c.proven);
    CHECK(computes(attrs, 16) == c.proven);
    CHECK(net.range == Interval{0, 255});
  }
  // The sum over a row: 1000 exponentials of 5003600 leave uint32, 800 do not.
  CHECK(!Row("iSoftmax", 1000, {}, {}, softmax_attrs(1, 60, 5'000'000, 30)).check.proven);
  CHECK(!computes(softmax_attrs(1, 60, 5'000'000, 30), 1000));
  CHECK(Row("iSoftmax", 800, {}, {}, softmax_attrs(1, 60, 5'000'000, 30)).check.proven);
  CHECK(computes(softmax_attrs(1, 60, 5'000'000, 30), 800));
}

TEST_CASE("rows: power-of-two softmax sums at most 256 an element") {
  const Row whole("ITAMax", 8, {}, {}, attributes({{"n_levels", std::int64_t{256}}}));
  CHECK(whole.check.proven);
  CHECK(whole.check.worst == 1024);  // in halves: the sum is uint32
  CHECK(whole.range == Interval{0, 255});
  const Row part("ITAPartialMax", 8, {}, {},
                 attributes({{"n_levels", std::int64_t{256}}, {"group_width", std::int64_t{4}}}));
  CHECK(part.check.proven);
  CHECK(part.range == Interval{0, 127});
  CHECK(!Row("ITAMax", std::int64_t{1} << 24, {}, {}, attributes({{"n_levels", std::int64_t{256}}}))
             .check.proven);
}

TEST_CASE("rows: kernels that read 8 bits are unproven on wider inputs") {
  for (const char* op : {"ITAMax", "iSoftmax"}) {
    const Attrs attrs = softmax_attrs(1, 60, 9000, 30);
    CHECK(Row(op, 4, {}, {}, attrs, {0, 255}).check.proven);
    CHECK(!Row(op, 4, {}, {}, attrs, {-1, 128}).check.proven);
    CHECK(!Row(op, 4, {}, {}, attrs, {0, 256}).check.proven);
  }
  const Row gelu("iGELU", 4, {}, {},
                 attributes({{"b", std::int64_t{-40}}, {"one", std::int64_t{900}}}), {-300, 300});
  CHECK(!gelu.check.proven);
  const Row swish("iHardswish", 4, {}, {},
                  attributes({{"three", std::int64_t{30}},
                              {"six", std::int64_t{60}},
                              {"one_over_six", std::int64_t{1} << 26}}),
                  {0, 1});
  CHECK(!swish.check.proven);  // 31 * 2^26 leaves int32
}

TEST_CASE("rows: division by a constant is a product with one factor") {
  // floor(1000*3 / (7*3 + 1)) = 136.
  const Attrs attrs = attributes({{"Delta", std::int64_t{1000}},
                                  {"eta", std::int64_t{3}},
                                  {"eps", std::int64_t{1}},
                                  {"y", std::int64_t{7}}});
  const Row net("TrueIntegerDiv", 4, {}, {}, attrs, {-5, 9});
  CHECK(net.range == Interval{-680, 1224});
  CHECK(net.check.proven);
  CHECK(net.check.worst == 1224);
}

}  // namespace
}  // namespace waveq
