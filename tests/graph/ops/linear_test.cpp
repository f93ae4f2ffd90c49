#include <limits>

#include "op_case.h"
#include "waveq/graph/op.h"

using namespace waveq;
using namespace waveq::test;

namespace {

/// Conv straight from its definition, on [N,C,H,W], in T (float sums of these tests are exact).
struct Geometry {
  std::int64_t group, stride[2], dilation[2], pad[4];
};
template <class Acc, class T>
std::vector<Acc> plain_conv(const Tensor& x, const Tensor& w, const Geometry& g, Shape& out_shape) {
  const Shape &xs = x.shape(), &ws = w.shape();
  const auto length = [&](int d) {
    return (xs[2 + d] + g.pad[d] + g.pad[2 + d] - ((ws[2 + d] - 1) * g.dilation[d] + 1)) /
               g.stride[d] +
           1;
  };
  const std::int64_t OH = length(0), OW = length(1), M = ws[0], Mg = M / g.group;
  out_shape = {xs[0], M, OH, OW};
  std::vector<Acc> y;
  for (std::int64_t n = 0; n < xs[0]; ++n)
    for (std::int64_t m = 0; m < M; ++m)
      for (std::int64_t oh = 0; oh < OH; ++oh)
        for (std::int64_t ow = 0; ow < OW; ++ow) {
          Acc sum{};
          for (std::int64_t c = 0; c < ws[1]; ++c)
            for (std::int64_t i = 0; i < ws[2]; ++i)
              for (std::int64_t j = 0; j < ws[3]; ++j) {
                const std::int64_t ih = oh * g.stride[0] + i * g.dilation[0] - g.pad[0];
                const std::int64_t iw = ow * g.stride[1] + j * g.dilation[1] - g.pad[1];
                if (ih < 0 || iw < 0 || ih >= xs[2] || iw >= xs[3]) continue;
                const std::int64_t channel = (m / Mg) * ws[1] + c;
                sum += Acc{x.as<T>()[((n * xs[1] + channel) * xs[2] + ih) * xs[3] + iw]} *
                       Acc{w.as<T>()[((m * ws[1] + c) * ws[2] + i) * ws[3] + j]};
              }
          y.push_back(sum);
        }
  return y;
}

std::vector<NamedAttr> attrs_of(const Geometry& g) {
  const auto i = [](std::int64_t v) { return static_cast<int>(v); };
  return {{"group", i(g.group)},
          {"strides", {i(g.stride[0]), i(g.stride[1])}},
          {"dilations", {i(g.dilation[0]), i(g.dilation[1])}},
          {"pads", {i(g.pad[0]), i(g.pad[1]), i(g.pad[2]), i(g.pad[3])}}};
}

}  // namespace

TEST_CASE("Conv: literal 1-D cross-correlation with bias") {
  const Tensor x = tensor({1, 1, 4}, {1, 2, 3, 4}), w = tensor({1, 1, 2}, {10, 1}),
               b = tensor({1}, {0.5});
  CHECK(run({"Conv", {x, w, b}}) == tensor({1, 1, 3}, {12.5f, 23.5f, 34.5f}));
  CHECK(run({"Conv", {x, w}, {{"pads", {1, 1}}, {"strides", {2}}}}) ==
        tensor({1, 1, 3}, {1, 23, 40}));
}

TEST_CASE("Conv: auto_pad puts the odd element last for SAME_UPPER and first for SAME_LOWER") {
  const Tensor x = tensor({1, 1, 3}, {1, 2, 3}), w = tensor({1, 1, 2}, {10, 1});
  CHECK(run({"Conv", {x, w}, {{"auto_pad", "SAME_UPPER"}}}) == tensor({1, 1, 3}, {12, 23, 30}));
  CHECK(run({"Conv", {x, w}, {{"auto_pad", "SAME_LOWER"}}}) == tensor({1, 1, 3}, {1, 12, 23}));
  CHECK(run({"Conv", {x, w}, {{"auto_pad", "VALID"}}}) == tensor({1, 1, 2}, {12, 23}));
  // ceil(3 / 2) = 2 outputs, one padded position
  CHECK(run({"Conv", {x, w}, {{"auto_pad", "SAME_UPPER"}, {"strides", {2}}}}) ==
        tensor({1, 1, 2}, {12, 30}));
}

TEST_CASE(
    "Conv: every group, stride, dilation and padding as in the definition, float and integer") {
  std::uint64_t seed = 1;
  for (const Geometry& g :
       {Geometry{1, {1, 1}, {1, 1}, {0, 0, 0, 0}}, Geometry{1, {2, 3}, {1, 2}, {1, 2, 0, 3}},
        Geometry{2, {1, 2}, {2, 1}, {2, 0, 1, 1}}, Geometry{6, {1, 1}, {1, 1}, {1, 1, 1, 1}},
        Geometry{6, {2, 4}, {1, 3}, {0, 5, 2, 2}}, Geometry{3, {3, 1}, {1, 1}, {0, 9, 0, 9}}})
    for (const Shape& kernel : {Shape{1, 1}, Shape{3, 2}, Shape{1, 5}}) {
      const Shape xs = {2, 6, 7, 21}, ws = {12, 6 / g.group, kernel[0], kernel[1]};
      INFO("group " << g.group << " kernel " << to_string(kernel));
      Shape out;
      const Tensor x = random_floats(xs, ++seed), w = random_floats(ws, ++seed);
      const auto want = plain_conv<double, float>(x, w, g, out);
      CHECK(run({"Conv", {x, w}, attrs_of(g)}) ==
            Tensor::from<float>(out, {want.begin(), want.end()}));
      const auto xi = random_ints<std::int8_t>(xs, -128, 127, ++seed),
                 wi = random_ints<std::int8_t>(ws, -128, 127, ++seed);
      const auto want_i = plain_conv<std::int64_t, std::int8_t>(xi, wi, g, out);
      CHECK(run({"Conv", {xi, wi}, attrs_of(g)}) ==
            Tensor::from<std::int32_t>(out, {want_i.begin(), want_i.end()}));
    }
}

TEST_CASE("Conv: mixed integer storage widens to int32, bias included") {
  const Tensor x = tensor<std::uint8_t>({1, 1, 2}, {255, 1}),
               w = tensor<std::int16_t>({1, 1, 1}, {-300});
  CHECK(run({"Conv", {x, w, tensor<std::int32_t>({1}, {7})}}) ==
        tensor<std::int32_t>({1, 1, 2}, {-76493, -293}));
}

TEST_CASE("Conv: an integer sum beyond int32 is an error, or wraps") {
  const std::int32_t big = 1 << 30;
  const Tensor x = tensor<std::int32_t>({1, 1, 3}, {big, big, 1}),
               w = tensor<std::int8_t>({1, 1, 2}, {1, 1});
  CHECK(error_of({"Conv", {x, w}}) == ErrorCode::overflow);
  CHECK(run({.op = "Conv", .inputs = {x, w}, .overflow = Overflow::wrap}) ==
        tensor<std::int32_t>({1, 1, 2}, {std::numeric_limits<std::int32_t>::min(), big + 1}));
  // The bound is crossed, the sums are not: no error.
  const Tensor mixed = tensor<std::int32_t>({1, 1, 3}, {big, -big, big});
  CHECK(run({"Conv", {mixed, w}}) == tensor<std::int32_t>({1, 1, 2}, {0, 0}));
  // One below and exactly at the limit.
  const Tensor one = tensor<std::int8_t>({1, 1, 1}, {1}),
               top = tensor<std::int32_t>({1, 1, 1}, {2147483646});
  CHECK(run({"Conv", {top, one, tensor<std::int32_t>({1}, {1})}}) ==
        tensor<std::int32_t>({1, 1, 1}, {2147483647}));
  CHECK(error_of({"Conv", {top, one, tensor<std::int32_t>({1}, {2})}}) == ErrorCode::overflow);
}

TEST_CASE("Conv: operands that do not fit are refused") {
  const Tensor x = random_floats({1, 4, 9}, 1);
  CHECK(error_of({"Conv", {x, random_floats({2, 3, 1}, 2)}}) == ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({3, 2, 1}, 2)}, {{"group", 2}}}) == ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({2, 4, 10}, 2)}}) == ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({2, 4, 3}, 2)}, {{"strides", {0}}}}) ==
        ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({2, 4, 3}, 2)}, {{"pads", {1}}}}) == ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({2, 4, 3}, 2)}, {{"kernel_shape", {5}}}}) ==
        ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({2, 4, 3}, 2)}, {{"group", 0}}}) == ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_ints<std::int8_t>({2, 4, 3}, 0, 1, 2)}}) == ErrorCode::shape);
  CHECK(error_of({"Conv", {x, random_floats({2, 4, 3}, 2), random_floats({3}, 2)}}) ==
        ErrorCode::shape);
  CHECK(error_of({"Conv", {x}}) == ErrorCode::shape);
}

TEST_CASE("ConvTranspose: literal values") {
  const Tensor x = tensor({1, 1, 2}, {1, 2}), w = tensor({1, 1, 3}, {1, 10, 100});
  CHECK(run({"ConvTranspose", {x, w}}) == tensor({1, 1, 4}, {1, 12, 120, 200}));
  CHECK(run({"ConvTranspose", {x, w, tensor({1}, {0.5})}, {{"strides", {2}}, {"pads", {1, 0}}}}) ==
        tensor({1, 1, 4}, {10.5f, 102.5f, 20.5f, 200.5f}));
  CHECK(run({"ConvTranspose", {x, w}, {{"strides", {2}}, {"output_padding", {1}}}}) ==
        tensor({1, 1, 6}, {1, 10, 102, 20, 200, 0}));
  CHECK(run({"ConvTranspose", {x, w}, {{"strides", {2}}, {"output_shape", {4}}}}) ==
        tensor({1, 1, 4}, {10, 102, 20, 200}));
  CHECK(run({"ConvTranspose", {x, w}, {{"strides", {2}}, {"auto_pad", "SAME_UPPER"}}}) ==
        tensor({1, 1, 4}, {1, 10, 102, 20}));
}

TEST_CASE("ConvTranspose: is the adjoint of Conv, in groups and two dimensions") {
  // <Conv(a), b> = <a, ConvTranspose(b)>, exact for these floats.
  const std::vector<NamedAttr> attrs = {
      {"group", 2}, {"strides", {2, 3}}, {"dilations", {1, 2}}, {"pads", {1, 0, 2, 1}}};
  const Tensor a = random_floats({1, 4, 7, 12}, 1), w = random_floats({6, 2, 3, 2}, 2);
  const Tensor forward = run({"Conv", {a, w}, attrs});
  const Tensor b = random_floats(forward.shape(), 3);
  std::vector<NamedAttr> back = attrs;
  back.emplace_back("output_shape", Attr(std::vector<std::int64_t>{7, 12}));
  std::vector<NamedAttr> explicit_pads = attrs;
  // 2*(oh-1) + 3 - 3 = 7 and 3*(ow-1) + 3 - 1 = 12 leave what output_padding must add.
  const Shape& os = forward.shape();
  explicit_pads.emplace_back(
      "output_padding",
      Attr(std::vector<std::int64_t>{7 - 2 * (os[2] - 1), 12 - (3 * (os[3] - 1) + 2)}));
  const Tensor backward = run({"ConvTranspose", {b, w}, explicit_pads});
  REQUIRE(backward.shape() == a.shape());
  double left = 0, right = 0;
  for (std::int64_t i = 0; i < b.size(); ++i)
    left += static_cast<double>(forward.as<float>()[i]) * b.as<float>()[i];
  for (std::int64_t i = 0; i < a.size(); ++i)
    right += static_cast<double>(backward.as<float>()[i]) * a.as<float>()[i];
  CHECK(left == right);
}

TEST_CASE("ConvTranspose: integers accumulate in int32") {
  const Tensor x = tensor<std::int8_t>({1, 1, 2}, {-128, 2}),
               w = tensor<std::int8_t>({1, 1, 2}, {100, -128});
  CHECK(run({"ConvTranspose", {x, w}}) == tensor<std::int32_t>({1, 1, 3}, {-12800, 16584, -256}));
  const std::int32_t big = 1 << 30;
  const OpCase over = {.op = "ConvTranspose",
                       .inputs = {tensor<std::int32_t>({1, 1, 2}, {big, big}),
                                  tensor<std::int8_t>({1, 1, 2}, {1, 1})}};
  CHECK(error_of(over) == ErrorCode::overflow);
  OpCase wraps = over;
  wraps.overflow = Overflow::wrap;
  CHECK(run(wraps) ==
        tensor<std::int32_t>({1, 1, 3}, {big, std::numeric_limits<std::int32_t>::min(), big}));
}

TEST_CASE("Gemm: transposes, factors and a broadcast addend") {
  const Tensor a = tensor({2, 2}, {1, 2, 3, 4}), b = tensor({2, 2}, {5, 6, 7, 8}),
               c = tensor({2}, {100, 200});
  CHECK(run({"Gemm", {a, b}}) == tensor({2, 2}, {19, 22, 43, 50}));
  CHECK(run({"Gemm", {a, b, c}}) == tensor({2, 2}, {119, 222, 143, 250}));
  CHECK(run({"Gemm", {a, b, tensor({2, 1}, {100, 200})}}) == tensor({2, 2}, {119, 122, 243, 250}));
  CHECK(run({"Gemm", {a, b}, {{"transA", 1}}}) == tensor({2, 2}, {26, 30, 38, 44}));
  CHECK(run({"Gemm", {a, b}, {{"transB", 1}}}) == tensor({2, 2}, {17, 23, 39, 53}));
  CHECK(run({"Gemm", {a, b, c}, {{"alpha", 0.5}, {"beta", 2.0}}}) ==
        tensor({2, 2}, {209.5f, 411, 221.5f, 425}));
}

TEST_CASE("Gemm: integers against 64-bit sums, and overflow") {
  const auto a = random_ints<std::int8_t>({5, 37}, -128, 127, 1),
             b = random_ints<std::uint8_t>({9, 37}, 0, 255, 2);
  const auto c = random_ints<std::int32_t>({9}, -1000000, 1000000, 3);
  std::vector<std::int32_t> want;
  for (int m = 0; m < 5; ++m)
    for (int n = 0; n < 9; ++n) {
      std::int64_t sum = 0;
      for (int k = 0; k < 37; ++k)
        sum += std::int64_t{a.as<std::int8_t>()[m * 37 + k]} * b.as<std::uint8_t>()[n * 37 + k];
      want.push_back(static_cast<std::int32_t>(-3 * sum + 2 * c.as<std::int32_t>()[n]));
    }
  CHECK(run({"Gemm", {a, b, c}, {{"transB", 1}, {"alpha", -3.0}, {"beta", 2.0}}}) ==
        tensor<std::int32_t>({5, 9}, want));
  CHECK(error_of({"Gemm", {a, b}, {{"transB", 1}, {"alpha", 0.5}}}) == ErrorCode::shape);

  const Tensor one = tensor<std::int8_t>({1, 1}, {1}),
               top = tensor<std::int32_t>({1, 1}, {2147483647});
  CHECK(run({"Gemm", {one, one, tensor<std::int32_t>({1}, {2147483646})}}) == top);
  CHECK(error_of({"Gemm", {one, one, tensor<std::int32_t>({1}, {2147483647})}}) ==
        ErrorCode::overflow);
  CHECK(run({.op = "Gemm", .inputs = {one, one, top}, .overflow = Overflow::wrap}) ==
        tensor<std::int32_t>({1, 1}, {std::numeric_limits<std::int32_t>::min()}));
  // The product leaves int32, the total does not.
  CHECK(run({"Gemm",
             {top, tensor<std::int8_t>({1, 1}, {2}), tensor<std::int32_t>({1}, {-2147483647})}}) ==
        top);
}

TEST_CASE("MatMul: vectors, batches and broadcasting as in NumPy") {
  const Tensor v = tensor({2}, {1, 10}), m = tensor({2, 2}, {1, 2, 3, 4});
  CHECK(run({"MatMul", {v, v}}) == tensor({}, {101}));
  CHECK(run({"MatMul", {v, m}}) == tensor({2}, {31, 42}));
  CHECK(run({"MatMul", {m, v}}) == tensor({2}, {21, 43}));
  const Tensor a = random_floats({3, 1, 4, 5}, 1), b = random_floats({2, 5, 6}, 2);
  const Tensor y = run({"MatMul", {a, b}});
  REQUIRE(y.shape() == Shape{3, 2, 4, 6});
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t p = i / 48, q = i / 24 % 2, r = i / 6 % 4, c = i % 6;
    double want = 0;
    for (std::int64_t k = 0; k < 5; ++k)
      want += static_cast<double>(a.as<float>()[(p * 4 + r) * 5 + k]) *
              b.as<float>()[(q * 5 + k) * 6 + c];
    CHECK(static_cast<double>(y.as<float>()[i]) == want);
  }
  CHECK(run({"MatMul", {random_floats({2, 0}, 1), random_floats({0, 3}, 1)}}) ==
        tensor({2, 3}, {0, 0, 0, 0, 0, 0}));
}

TEST_CASE("MatMul: one right operand for a whole batch, and narrow results of tall products") {
  const Tensor a = random_floats({2, 3, 19, 7}, 1);
  for (std::int64_t n : {1, 3, 8}) {
    const Tensor b = random_floats({7, n}, 2);
    const Tensor y = run({"MatMul", {a, b}});
    REQUIRE(y.shape() == Shape{2, 3, 19, n});
    for (std::int64_t i = 0; i < y.size(); ++i) {
      double want = 0;
      for (std::int64_t k = 0; k < 7; ++k)
        want += static_cast<double>(a.as<float>()[i / n * 7 + k]) * b.as<float>()[k * n + i % n];
      CHECK(static_cast<double>(y.as<float>()[i]) == want);
    }
  }
}

TEST_CASE("MatMul: integers are exact or refused") {
  const Tensor a = tensor<std::int16_t>({1, 2}, {32767, -32768}),
               b = tensor<std::int16_t>({2, 1}, {32767, 32767});
  CHECK(run({"MatMul", {a, b}}) == tensor<std::int32_t>({1, 1}, {-32767}));
  const Tensor square = tensor<std::int16_t>({2, 1}, {-32768, -32768}),
               low = tensor<std::int16_t>({1, 2}, {-32768, -32768});
  CHECK(error_of({"MatMul", {low, square}}) == ErrorCode::overflow);
  CHECK(run({.op = "MatMul", .inputs = {low, square}, .overflow = Overflow::wrap}) ==
        tensor<std::int32_t>({1, 1}, {std::numeric_limits<std::int32_t>::min()}));
  CHECK(error_of({"MatMul", {low, random_floats({2, 1}, 1)}}) == ErrorCode::shape);
  CHECK(error_of({"MatMul", {ints({1, 2}), ints({3, 4})}}) == ErrorCode::shape);
  CHECK(error_of({"MatMul", {random_floats({2, 3}, 1), random_floats({2, 3}, 1)}}) ==
        ErrorCode::shape);
  CHECK(error_of({"MatMul", {tensor({}, {1}), tensor({1}, {1})}}) == ErrorCode::shape);
}

TEST_CASE("linear operators: multiply-accumulates") {
  const auto macs = [](const OpCase& c) {
    const Graph g = graph_of(c);
    return find_op(c.op)->macs(g, g.node(g.nodes().front()));
  };
  CHECK(
      macs({"Conv", {random_floats({2, 4, 10}, 1), random_floats({6, 2, 3}, 1)}, {{"group", 2}}}) ==
      2 * 6 * 8 * 2 * 3);
  CHECK(macs({"ConvTranspose", {random_floats({1, 4, 10}, 1), random_floats({4, 3, 5}, 1)}}) ==
        10 * 4 * 3 * 5);
  CHECK(macs({"Gemm", {random_floats({2, 3}, 1), random_floats({5, 3}, 1)}, {{"transB", 1}}}) ==
        30);
  CHECK(macs({"MatMul", {random_floats({7, 2, 3}, 1), random_floats({3, 5}, 1)}}) == 210);
}
