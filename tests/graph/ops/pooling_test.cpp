#include <limits>

#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

TEST_CASE("MaxPool: one dimension, strides, pads, dilations") {
  const Tensor x = tensor({1, 1, 5}, {-5, -1, -3, -2, -4});
  CHECK(run({"MaxPool", {x}, {{"kernel_shape", {2}}}}) == tensor({1, 1, 4}, {-1, -1, -2, -2}));
  CHECK(run({"MaxPool", {x}, {{"kernel_shape", {2}}, {"strides", {2}}}}) ==
        tensor({1, 1, 2}, {-1, -2}));
  // Padding never wins, even against negative elements.
  CHECK(run({"MaxPool", {x}, {{"kernel_shape", {3}}, {"strides", {3}}, {"pads", {1, 1}}}}) ==
        tensor({1, 1, 2}, {-1, -2}));
  CHECK(run({"MaxPool", {x}, {{"kernel_shape", {2}}, {"dilations", {3}}}}) ==
        tensor({1, 1, 2}, {-2, -1}));
  CHECK(run({"MaxPool",
             {x},
             {{"kernel_shape", {3}}, {"strides", {2}}, {"auto_pad", "SAME_UPPER"}}}) ==
        tensor({1, 1, 3}, {-1, -1, -2}));
}

TEST_CASE("MaxPool: ceil_mode adds a window, but none that starts in the padding") {
  const Tensor x = tensor({1, 1, 4}, {1, 2, 3, 4});
  CHECK(run({"MaxPool", {x}, {{"kernel_shape", {3}}, {"strides", {2}}, {"ceil_mode", 1}}}) ==
        tensor({1, 1, 2}, {3, 4}));
  CHECK(run({"MaxPool", {x}, {{"kernel_shape", {2}}, {"strides", {3}}, {"ceil_mode", 1}}}) ==
        tensor({1, 1, 2}, {2, 4}));
  // 1 + ceil((4 + 1 - 1) / 3) = 3 windows; the third would start at position 6, past the end.
  CHECK(run({"MaxPool",
             {x},
             {{"kernel_shape", {1}}, {"strides", {3}}, {"pads", {0, 1}}, {"ceil_mode", 1}}}) ==
        tensor({1, 1, 2}, {1, 4}));
}

TEST_CASE("MaxPool: two dimensions with positions, integers keep their dtype") {
  const Tensor x = tensor({1, 2, 2, 3}, {1, 5, 2, 3, 4, 6, 9, 8, 7, 0, 0, 0});
  const auto out =
      run_all({.op = "MaxPool", .inputs = {x}, .attrs = {{"kernel_shape", {2, 2}}}, .outputs = 2});
  CHECK(out[0] == tensor({1, 2, 1, 2}, {5, 6, 9, 8}));
  CHECK(out[1] == tensor<std::int64_t>({1, 2, 1, 2}, {1, 5, 6, 7}));
  CHECK(run({"MaxPool",
             {tensor<std::int8_t>({1, 1, 3}, {-128, -7, -9})},
             {{"kernel_shape", {3}}, {"pads", {2, 2}}, {"strides", {2}}}}) ==
        tensor<std::int8_t>({1, 1, 3}, {-128, -7, -9}));
  CHECK(run({"MaxPool", {tensor<std::uint8_t>({1, 1, 2}, {3, 200})}, {{"kernel_shape", {2}}}}) ==
        tensor<std::uint8_t>({1, 1, 1}, {200}));
}

TEST_CASE("AveragePool: with and without its padding") {
  const Tensor x = tensor({1, 1, 4}, {2, 4, 6, 8});
  CHECK(run({"AveragePool", {x}, {{"kernel_shape", {2}}, {"strides", {2}}}}) ==
        tensor({1, 1, 2}, {3, 7}));
  CHECK(run({"AveragePool", {x}, {{"kernel_shape", {3}}, {"pads", {1, 1}}}}) ==
        tensor({1, 1, 4}, {3, 4, 6, 7}));
  CHECK(run({"AveragePool",
             {x},
             {{"kernel_shape", {3}}, {"pads", {1, 1}}, {"count_include_pad", 1}}}) ==
        tensor({1, 1, 4}, {2, 4, 6, 14.0f / 3.0f}));
  // The window that ceil_mode adds reaches one position past the padding, which never counts.
  CHECK(run({"AveragePool",
             {x},
             {{"kernel_shape", {3}},
              {"strides", {2}},
              {"ceil_mode", 1},
              {"count_include_pad", 1}}}) == tensor({1, 1, 2}, {4, 7}));
  CHECK(run({"AveragePool", {x}, {{"kernel_shape", {2}}, {"dilations", {2}}}}) ==
        tensor({1, 1, 2}, {4, 6}));
  CHECK(run({"AveragePool", {tensor({1, 1, 2, 2}, {1, 2, 3, 6})}, {{"kernel_shape", {2, 2}}}}) ==
        tensor({1, 1, 1, 1}, {3}));
  CHECK(error_of(
            {"AveragePool", {tensor<std::int8_t>({1, 1, 2}, {3, 2})}, {{"kernel_shape", {2}}}}) ==
        ErrorCode::shape);
}

TEST_CASE("pooling: a dilated window may miss the input altogether") {
  const Tensor x = tensor({1, 1, 1}, {5});
  const std::vector<NamedAttr> gap = {{"kernel_shape", {2}}, {"dilations", {2}}, {"pads", {1, 1}}};
  CHECK(run({"MaxPool", {x}, gap}) == tensor({1, 1, 1}, {-std::numeric_limits<float>::infinity()}));
  CHECK(run({"AveragePool", {x}, gap}) == tensor({1, 1, 1}, {0}));
}

TEST_CASE("pooling: random windows against a plain loop") {
  std::mt19937_64 engine(5);
  const auto pick = [&](int low, int high) {
    return low + static_cast<int>(engine() % static_cast<std::uint64_t>(high - low + 1));
  };
  for (int round = 0; round < 200; ++round) {
    const int n = pick(4, 12), k = pick(1, 3), s = pick(1, 4), d = pick(1, 2),
              before = pick(0, k - 1), after = pick(0, k - 1);
    const Tensor x = random_floats({1, 1, n}, engine());
    const Tensor y = run(
        {"MaxPool",
         {x},
         {{"kernel_shape", {k}}, {"strides", {s}}, {"dilations", {d}}, {"pads", {before, after}}}});
    INFO("n=" << n << " k=" << k << " s=" << s << " d=" << d << " pads " << before << "," << after);
    REQUIRE(y.size() == (n + before + after - (k - 1) * d - 1) / s + 1);
    for (int o = 0; o < y.size(); ++o) {
      float want = -std::numeric_limits<float>::infinity();
      for (int i = 0; i < k; ++i) {
        const int at = o * s + i * d - before;
        if (at >= 0 && at < n) want = std::max(want, x.as<float>()[at]);
      }
      CHECK(y.as<float>()[o] == want);
    }
  }
}

TEST_CASE("pooling: attributes that do not fit are refused") {
  const Tensor x = tensor({1, 1, 4}, {1, 2, 3, 4});
  CHECK(error_of({"MaxPool", {x}, {{"kernel_shape", {5}}}}) == ErrorCode::shape);
  CHECK(error_of({"MaxPool", {x}, {{"kernel_shape", {2, 2}}}}) == ErrorCode::shape);
  CHECK(error_of({"MaxPool", {x}, {{"kernel_shape", {0}}}}) == ErrorCode::shape);
  CHECK(error_of({"MaxPool", {x}, {{"kernel_shape", {2}}, {"auto_pad", "WIDE"}}}) ==
        ErrorCode::shape);
  CHECK(error_of({"MaxPool", {tensor({1, 4}, {1, 2, 3, 4})}, {{"kernel_shape", {2}}}}) ==
        ErrorCode::shape);
}
