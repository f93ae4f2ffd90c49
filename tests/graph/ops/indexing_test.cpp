#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

namespace {

Tensor reals(Shape shape, const std::vector<float>& v) { return Tensor::from<float>(std::move(shape), v); }
Tensor ints(Shape shape, const std::vector<std::int64_t>& v) { return Tensor::from<std::int64_t>(std::move(shape), v); }

}  // namespace

TEST_CASE("ScatterND: rows and elements, negative indices, later updates over earlier") {
  const Tensor x = reals({3, 2}, {1, 2, 3, 4, 5, 6});
  CHECK(run({.op = "ScatterND", .inputs = {x, ints({2, 1}, {2, 0}), reals({2, 2}, {7, 8, 9, 10})}}) ==
        reals({3, 2}, {9, 10, 3, 4, 7, 8}));
  CHECK(run({.op = "ScatterND", .inputs = {x, ints({3, 2}, {0, 1, -1, -2, 0, 1}), reals({3}, {7, 8, 9})}}) ==
        reals({3, 2}, {1, 9, 3, 4, 8, 6}));
  const Tensor codes = Tensor::from<std::int8_t>({3}, {1, 2, 3});
  CHECK(run({.op = "ScatterND", .inputs = {codes, ints({1, 1}, {1}), Tensor::from<std::int8_t>({1}, {-5})}}) ==
        Tensor::from<std::int8_t>({3}, {1, -5, 3}));
  CHECK_THROWS_AS(run({.op = "ScatterND", .inputs = {x, ints({1, 1}, {3}), reals({1, 2}, {0, 0})}}), Error);
  CHECK_THROWS_AS(run({.op = "ScatterND", .inputs = {x, ints({1, 1}, {0}), reals({1, 3}, {0, 0, 0})}}), Error);
  CHECK_THROWS_AS(run({.op = "ScatterND", .inputs = {x, ints({1, 3}, {0, 0, 0}), reals({1}, {0})}}), Error);
}

TEST_CASE("GatherElements: an index for each element, along either axis") {
  const Tensor x = reals({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(run({.op = "GatherElements", .inputs = {x, ints({1, 3}, {1, 0, -1})}}) == reals({1, 3}, {4, 2, 6}));
  CHECK(run({.op = "GatherElements", .inputs = {x, ints({2, 2}, {2, 0, 0, 1})}, .attrs = {{"axis", Attr(std::int64_t{1})}}}) ==
        reals({2, 2}, {3, 1, 4, 5}));
  CHECK_THROWS_AS(run({.op = "GatherElements", .inputs = {x, ints({1, 3}, {2, 0, 0})}}), Error);
  CHECK_THROWS_AS(run({.op = "GatherElements", .inputs = {x, ints({1, 4}, {0, 0, 0, 0})}}), Error);
}

TEST_CASE("CumSum: along an axis, exclusive, reverse") {
  const Tensor x = reals({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto sums = [&](std::int64_t axis, std::int64_t exclusive, std::int64_t reverse) {
    return run({.op = "CumSum",
                .inputs = {x, ints({}, {axis})},
                .attrs = {{"exclusive", Attr(exclusive)}, {"reverse", Attr(reverse)}}});
  };
  CHECK(sums(1, 0, 0) == reals({2, 3}, {1, 3, 6, 4, 9, 15}));
  CHECK(sums(-1, 1, 0) == reals({2, 3}, {0, 1, 3, 0, 4, 9}));
  CHECK(sums(1, 0, 1) == reals({2, 3}, {6, 5, 3, 15, 11, 6}));
  CHECK(sums(0, 1, 1) == reals({2, 3}, {4, 5, 6, 0, 0, 0}));
  CHECK_THROWS_AS(sums(2, 0, 0), Error);
}

TEST_CASE("LRN: squares of neighbouring channels") {
  // size 2: channel c and the one behind it; beta 1, alpha/size 1, bias 1.
  const Tensor x = reals({1, 3, 1}, {1, 2, 3});
  CHECK(run({.op = "LRN",
             .inputs = {x},
             .attrs = {{"size", Attr(std::int64_t{2})}, {"alpha", Attr(2.0)}, {"beta", Attr(1.0)}}}) ==
        reals({1, 3, 1}, {1.0F / 6, 2.0F / 14, 0.3F}));
  CHECK_THROWS_AS(run({.op = "LRN", .inputs = {x}, .attrs = {{"size", Attr(std::int64_t{0})}}}), Error);
}

TEST_CASE("LpNormalization: both norms, any axis, rows of zeros stay") {
  const Tensor x = reals({2, 2}, {3, 4, 0, 0});
  const auto norm = [&](std::int64_t p, std::int64_t axis) {
    return run({.op = "LpNormalization", .inputs = {x}, .attrs = {{"p", Attr(p)}, {"axis", Attr(axis)}}});
  };
  CHECK(norm(2, -1) == reals({2, 2}, {0.6F, 0.8F, 0, 0}));
  CHECK(norm(1, 1) == reals({2, 2}, {3.0F / 7, 4.0F / 7, 0, 0}));
  CHECK(norm(2, 0) == reals({2, 2}, {1, 1, 0, 0}));
  CHECK_THROWS_AS(norm(3, 0), Error);
}

TEST_CASE("MeanVarianceNormalization: over the axes named") {
  const Tensor x = reals({1, 2, 1, 2}, {1, 3, 5, 5});
  CHECK(run({.op = "MeanVarianceNormalization", .inputs = {x}}) == reals({1, 2, 1, 2}, {-1, 1, 0, 0}));
  CHECK(run({.op = "MeanVarianceNormalization", .inputs = {x}, .attrs = {{"axes", Attr(std::vector<std::int64_t>{1})}}}) ==
        reals({1, 2, 1, 2}, {-1, -1, 1, 1}));
}
