#include <doctest/doctest.h>

#include "op_case.h"

namespace waveq {
namespace {

using test::OpCase;

Attr whole(std::int64_t v) { return v; }

Tensor look_up(const Tensor& x, const Tensor& table, std::int64_t first, std::int64_t levels,
               bool is_signed) {
  return test::run({.op = "Table",
                        .inputs = {x, table},
                        .attrs = {{"first", whole(first)},
                                  {"n_levels_out", whole(levels)},
                                  {"signed", whole(is_signed)}}});
}

TEST_CASE("table: literal entries, codes outside take the nearest end") {
  const Tensor x = Tensor::from<std::int8_t>({5}, {-3, -2, 0, 1, 100});
  const Tensor table = Tensor::from<std::int8_t>({4}, {10, -20, 30, 127});
  CHECK(look_up(x, table, -2, 256, true) ==
        Tensor::from<std::int8_t>({5}, {10, 10, 30, 127, 127}));
}

TEST_CASE("table: a row for each index of axis 1") {
  const Tensor x = Tensor::from<std::uint8_t>({1, 2, 3}, {0, 1, 2, 2, 1, 0});
  const Tensor table = Tensor::from<std::uint8_t>({2, 3}, {1, 2, 3, 40, 50, 255});
  CHECK(look_up(x, table, 0, 256, false) ==
        Tensor::from<std::uint8_t>({1, 2, 3}, {1, 2, 3, 255, 50, 40}));
  const Tensor column = Tensor::from<std::uint8_t>({2, 2}, {0, 0, 1, 1});
  CHECK(look_up(column, table, 0, 256, false) ==
        Tensor::from<std::uint8_t>({2, 2}, {1, 40, 2, 50}));
}

TEST_CASE("table: every 8-bit code to 16 bits and back") {
  std::vector<std::int8_t> codes;
  std::vector<std::int16_t> wide, want;
  for (int q = -128; q < 128; ++q) {
    codes.push_back(static_cast<std::int8_t>(q));
    wide.push_back(static_cast<std::int16_t>(255 * q));
  }
  const Tensor x = Tensor::from<std::int8_t>({256}, codes),
               table = Tensor::from<std::int16_t>({256}, wide);
  const Tensor y = look_up(x, table, -128, 65536, true);
  CHECK(y == table);
  std::vector<std::int8_t> back(65536);
  for (int q = -32768; q < 32768; ++q)
    back[static_cast<std::size_t>(q + 32768)] =
        static_cast<std::int8_t>(q >= 0 ? q / 256 : -((-q + 255) / 256));
  const Tensor z = look_up(y, Tensor::from<std::int8_t>({65536}, back), -32768, 256, true);
  for (std::size_t i = 0; i < 256; ++i) {
    const int q = wide[i];
    CHECK(int{z.as<std::int8_t>()[i]} == (q >> 8));
  }
}

TEST_CASE("table: what it refuses") {
  const Tensor x = Tensor::from<std::int8_t>({1, 2}, {0, 1});
  const auto fails = [&](const Tensor& table, std::int64_t levels) {
    try {
      look_up(x, table, 0, levels, true);
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  CHECK(fails(Tensor::from<std::int8_t>({0}, {}), 256));
  CHECK(fails(Tensor::from<std::int8_t>({3, 2}, {0, 0, 0, 0, 0, 0}), 256));  // 3 rows, 2 channels
  CHECK(fails(Tensor::from<std::int8_t>({1, 1, 2}, {0, 0}), 256));
  CHECK(fails(Tensor::from<std::int32_t>({2}, {0, 128}), 256));  // an entry beyond int8
  CHECK(fails(Tensor::from<std::int8_t>({2}, {0, 1}), 65537));
  CHECK_FALSE(fails(Tensor::from<std::int32_t>({2}, {-128, 127}), 256));
}

}  // namespace
}  // namespace waveq
