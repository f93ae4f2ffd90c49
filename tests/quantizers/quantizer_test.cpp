#include "waveq/quantizers/quantizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>

#include "waveq/graph/error.h"

using namespace waveq;

namespace {

ErrorCode code_of(Range range, QuantSpec spec = {}) {
  try {
    choose_params(range, spec);
  } catch (const Error& e) {
    return e.code();
  }
  return ErrorCode::internal;
}

}  // namespace

TEST_CASE("symmetric: a range without negative part becomes unsigned") {
  const QuantParams p = choose_params({0.0, 51.0});
  CHECK(p == QuantParams{0.2, 0, 256, false});
  CHECK(choose_params({2.0, 51.0}) == p);
}

TEST_CASE("symmetric: the tighter of both signed limits sets the scale") {
  CHECK(choose_params({-1.0, 1.0}).scale == 1.0 / 127.0);
  CHECK(choose_params({-1.0, 0.5}).scale == 1.0 / 128.0);
  CHECK(choose_params({-1.0, 0.5}).is_signed);
  CHECK(choose_params({-4.0, -3.0}).scale == 4.0 / 128.0);
  CHECK(choose_params({-0.0, 1.0}).is_signed == false);
}

TEST_CASE("symmetric: the spec can force either signedness") {
  CHECK(choose_params({0.0, 1.0}, {256, Signedness::signed_}) ==
        QuantParams{1.0 / 127.0, 0, 256, true});
  CHECK(choose_params({-3.0, 1.0}, {256, Signedness::unsigned_}) ==
        QuantParams{1.0 / 255.0, 0, 256, false});
  CHECK(choose_params({-3.0, -1.0}, {256, Signedness::unsigned_}).scale == 1.0);
}

TEST_CASE("affine: unsigned, the whole range on the grid, zero exactly a code") {
  CHECK(choose_params({-0.5, 2.05}, {256, Signedness::affine}) ==
        QuantParams{2.55 / 255.0, 50, 256, false});
  CHECK(choose_params({0.0, 51.0}, {256, Signedness::affine}) == QuantParams{0.2, 0, 256, false});
  CHECK(choose_params({3.0, 51.0}, {256, Signedness::affine}) == QuantParams{0.2, 0, 256, false});
  CHECK(choose_params({-51.0, -3.0}, {256, Signedness::affine}) ==
        QuantParams{0.2, 255, 256, false});
  CHECK(choose_params({0.0, 0.0}, {256, Signedness::affine}) == QuantParams{1.0, 0, 256, false});
  const QuantParams pow2 =
      make_quantizer("symmetric_pow2")({-0.5, 2.05}, {256, Signedness::affine});
  CHECK(pow2 == QuantParams{0x1p-6, 32, 256, false});
}

TEST_CASE("symmetric: every number of levels keeps both ends on the grid") {
  for (std::int64_t n : {3, 4, 5, 15, 16, 255, 256, 65535, 65536}) {
    for (const Range r : {Range{-1.0, 1.0}, Range{-7.0, 0.3}, Range{-0.1, 5.0}, Range{0.0, 3.0}}) {
      const QuantParams p = choose_params(r, {n, Signedness::automatic});
      CHECK(r.hi <= p.scale * static_cast<double>(p.hi()) * (1 + 1e-15));
      CHECK(r.lo >= p.scale * static_cast<double>(p.lo()) * (1 + 1e-15));
      CHECK(p.n_levels == n);
    }
  }
}

TEST_CASE("symmetric: two signed levels hold -1 and 0 alone") {
  CHECK(choose_params({-3.0, 0.0}, {2, Signedness::automatic}).scale == 3.0);
  CHECK(choose_params({0.0, 3.0}, {2, Signedness::automatic}).scale == 3.0);
  CHECK(code_of({-3.0, 1.0}, {2, Signedness::automatic}) == ErrorCode::invalid_argument);
}

TEST_CASE("symmetric: a range of zeros, or of what float32 takes for zero, gets scale 1") {
  CHECK(choose_params({0.0, 0.0}).scale == 1.0);
  CHECK(choose_params({-1e-45, 1e-45}).scale == 1.0);
  CHECK(choose_params({0.0, 5e-324}).scale == 1.0);
  CHECK(choose_params({-5e-324, 5e-324}, {2, Signedness::automatic}).scale == 1.0);
  CHECK(choose_params({0.0, 0x1p-126}).scale == 0x1p-126 / 255.0);
}

TEST_CASE("symmetric: the largest floats stay finite") {
  const double big = std::numeric_limits<float>::max();
  CHECK(choose_params({-big, big}).scale == big / 127.0);
}

TEST_CASE(
    "symmetric: non-finite and reversed ranges are data errors, absurd levels argument errors") {
  const double nan = std::nan(""), inf = HUGE_VAL;
  for (const Range r : {Range{nan, 1}, Range{0, nan}, Range{-inf, 1}, Range{0, inf}, Range{2, 1}})
    CHECK(code_of(r) == ErrorCode::data);
  for (std::int64_t n : {-1, 0, 1, 65537})
    CHECK(code_of({0, 1}, {n, {}}) == ErrorCode::invalid_argument);
}

TEST_CASE("symmetric_pow2: the scale is the next power of two") {
  const Quantizer pow2 = make_quantizer("symmetric_pow2");
  CHECK(pow2({-1.0, 0.9}, {}).scale == 0x1p-7);
  CHECK(pow2({-1.0, 1.0}, {}).scale == 0x1p-6);
  CHECK(pow2({0.0, 0.0}, {}).scale == 1.0);
  CHECK(pow2({0.0, 255.0}, {}).scale == 1.0);
  CHECK(pow2({0.0, 256.0}, {}).scale == 2.0);
}

TEST_CASE("quantizers: every row has a name of its own, texts and a working function") {
  std::set<std::string_view> names;
  for (const QuantizerRow& row : quantizers()) {
    CHECK(names.insert(row.name).second);
    CHECK(!row.summary.empty());
    CHECK(!row.source.empty());
    CHECK(row.make()({-1.0, 1.0}, {}).scale >= 1.0 / 127.0);
  }
  CHECK(quantizers().front().name == "symmetric");
  CHECK(make_quantizer("symmetric")({-1.0, 1.0}, {}) == choose_params({-1.0, 1.0}));
}

TEST_CASE("quantizers: an unknown name is answered with the known ones") {
  try {
    make_quantizer("afine");
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    CHECK(std::string(e.what()) ==
          "afine: no quantizer has this name; use one of symmetric, symmetric_pow2");
  }
  CHECK(signedness_from("affine") == Signedness::affine);
  CHECK(signedness_from("unsigned") == Signedness::unsigned_);
  CHECK(to_string(signedness_from("signed")) == "signed");
  CHECK(to_string(signedness_from("automatic")) == "automatic");
  CHECK_THROWS_AS(signedness_from("both"), Error);
}
