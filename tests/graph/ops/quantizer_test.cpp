#include "waveq/graph/quantizer.h"

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "op_case.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/integer_import.h"

// Deeploy's Quant and Dequant: nodes, functions, spelled-out chains.
namespace waveq {
namespace {

using namespace test;

Attrs quant_attrs(double scale, double zero_point, std::int64_t bits = 8,
                  std::int64_t is_signed = 1) {
  Attrs attrs;
  attrs.set("scale", scale);
  attrs.set("zero_point", zero_point);
  attrs.set("bit_width", bits);
  attrs.set("signed", is_signed);
  return attrs;
}

std::vector<NamedAttr> node_attrs(double scale, double zero_point, std::int64_t bits = 8,
                                  std::int64_t is_signed = 1) {
  std::vector<NamedAttr> out;
  const Attrs attrs = quant_attrs(scale, zero_point, bits, is_signed);
  for (const auto& [name, value] : attrs.all()) out.emplace_back(name, value);
  return out;
}

std::optional<std::int32_t> quantized(float x, double scale, double zero_point = 0) {
  return quantize(x, read_quant_parameters(quant_attrs(scale, zero_point)));
}

TEST_CASE("Quant: half away from zero, and away just below 0.5 too") {
  CHECK(quantized(0.5F, 1) == 1);
  CHECK(quantized(1.5F, 1) == 2);
  CHECK(quantized(2.5F, 1) == 3);
  CHECK(quantized(-0.5F, 1) == -1);
  CHECK(quantized(-2.5F, 1) == -3);
  CHECK(quantized(std::nextafter(0.5F, 0.0F), 1) == 1);  // 0.49999997 + 0.5 rounds to 1
  CHECK(quantized(std::nextafter(-0.5F, 0.0F), 1) == -1);
  CHECK(quantized(std::nextafter(1.5F, 0.0F), 1) == 1);
  CHECK(quantized(0.49F, 1) == 0);
  CHECK(quantized(-0.0F, 1) == 0);
  CHECK(quantized(0x1p-149F, 1) == 0);
}

TEST_CASE("Quant: clips behind the zero point; the sign of a tie is that of the sum") {
  CHECK(quantized(127.49F, 1) == 127);
  CHECK(quantized(128.0F, 1) == 127);
  CHECK(quantized(-128.5F, 1) == -128);
  CHECK(quantized(-1.0F, 0.5, 3) == 3);   // 2.5
  CHECK(quantized(-7.0F, 0.5, 3) == -1);  // -0.5
  CHECK(quantized(-300.0F, 1, 200) == -100);
}

TEST_CASE("Quant: what leaves int32 has no answer") {
  CHECK(quantized(2147483520.0F, 1) == 127);
  CHECK_FALSE(quantized(2147483648.0F, 1).has_value());
  CHECK(quantized(-2147483648.0F, 1) == -128);
  CHECK_FALSE(quantized(-2147483904.0F, 1).has_value());
  CHECK_FALSE(quantized(std::numeric_limits<float>::infinity(), 1).has_value());
  CHECK_FALSE(quantized(std::numeric_limits<float>::quiet_NaN(), 1).has_value());
}

TEST_CASE("Quant: any float32 and any parameters agree with exact binary fractions") {
  std::mt19937 engine(7);
  const auto draw = [&](std::uint32_t least, std::uint32_t exponents) {
    const auto bits = static_cast<std::uint32_t>(engine());
    const std::uint32_t exponent = least + static_cast<std::uint32_t>(engine()) % exponents;
    return std::bit_cast<float>((bits & 0x807fffffU) | (exponent << 23));
  };
  // long double has 64 bits: products and sums are exact or rounded once.
  for (int i = 0; i < 200000; ++i) {
    const float x = draw(100, 50), scale = draw(110, 30);
    const auto zero = static_cast<float>(static_cast<std::int64_t>(engine() % 512) - 256) / 2;
    const auto scaled = static_cast<float>(static_cast<long double>(x) * scale);
    const auto shifted = static_cast<float>(static_cast<long double>(scaled) + zero);
    const long double half = shifted >= 0 ? 0.5L : -0.5L;
    const auto moved = static_cast<float>(shifted + half);
    const auto expected =
        std::abs(moved) < 0x1p31F
            ? std::optional(std::clamp(std::llround(std::trunc(moved)), -128LL, 127LL))
            : std::nullopt;
    const auto got = quantized(x, scale, zero);
    REQUIRE(got.has_value() == (expected.has_value() || moved == -0x1p31F));
    if (expected) REQUIRE(*got == *expected);
  }
}

TEST_CASE("Quant, Dequant: types, and what is refused") {
  const auto type_of = [](std::int64_t bits, std::int64_t is_signed) {
    return read_quant_parameters(quant_attrs(1, 0, bits, is_signed)).storage();
  };
  CHECK(type_of(8, 1) == DType::i8);
  CHECK(type_of(2, 1) == DType::i8);
  CHECK(type_of(8, 0) == DType::u8);
  CHECK(type_of(9, 1) == DType::i16);
  CHECK(type_of(16, 0) == DType::u16);
  const Tensor x = tensor({2}, {1.0F, -1.0F});
  CHECK(run({"Quant", {x}, node_attrs(3, 1, 4)}) == tensor<std::int8_t>({2}, {4, -2}));
  CHECK(run({"Quant", {x}, node_attrs(3, 1, 4, 0)}) == tensor<std::uint8_t>({2}, {4, 0}));
  CHECK(error_of({"Quant", {x}, node_attrs(3, 1, 17)}) == ErrorCode::parse);
  CHECK(error_of({"Quant", {x}, node_attrs(3, 1, 0)}) == ErrorCode::parse);
  CHECK(error_of({"Quant", {x}, node_attrs(3, 1, 8, 2)}) == ErrorCode::parse);
  CHECK(error_of({"Quant", {x}, node_attrs(std::nan(""), 1)}) == ErrorCode::parse);
  CHECK(error_of({"Quant", {x}}) == ErrorCode::parse);
  for (const std::pair<int, int>& ends : {std::pair{5, 5}, {0, 70000}, {-70000, 0}}) {
    std::vector<NamedAttr> chain = node_attrs(3, 1);
    chain.emplace_back("divisor", 0.5);
    chain.emplace_back("min_val", ends.first);
    chain.emplace_back("max_val", ends.second);
    CHECK(error_of({"Quant", {x}, chain}) == ErrorCode::parse);
  }
  CHECK(error_of({"Quant", {tensor<std::int8_t>({1}, {1})}, node_attrs(1, 0)}) == ErrorCode::shape);
  CHECK(error_of({"Quant", {tensor({1}, {3e9F})}, node_attrs(1, 0)}) == ErrorCode::overflow);
  CHECK(error_of({"Dequant", {tensor<std::int64_t>({1}, {1})}, node_attrs(1, 0)}) ==
        ErrorCode::shape);
}

TEST_CASE("Dequant: the difference rounds to float32, then the product") {
  CHECK(run({"Dequant", {tensor<std::int8_t>({3}, {-128, 0, 127})}, node_attrs(0.5, 3)}) ==
        tensor({3}, {-65.5F, -1.5F, 62.0F}));
  CHECK(run({"Dequant", {tensor<std::uint8_t>({1}, {255})}, node_attrs(-2, 128)}) ==
        tensor({1}, {-254.0F}));
  CHECK(dequantize(16777217, 1, 0) == 16777216.0F);  // 2^24 + 1
  CHECK(dequantize(16777217, 1, 1) == 16777216.0F);
  CHECK(dequantize(16777219, 3, 0) == 50331660.0F);  // 16777220 * 3
  CHECK(dequantize(2147483647, 1, -1) == 2147483648.0F);
  CHECK(dequantize(3, static_cast<double>(0.1F), 0.5) == 2.5F * 0.1F);
}

/// x -> Div, Add, Round, Clip -> Sub, Mul with one constant each.
Graph chains(float divisor, float zero, float lo, float hi, float scale) {
  Graph g;
  const auto c = [&](float v) { return g.add_constant("c", Tensor::scalar(v)); };
  const ValueId x = g.add_input("x", {DType::f32, {4}});
  ValueId y = g.emit("Div", "div", {x, c(divisor)});
  y = g.emit("Add", "add", {y, c(zero)});
  y = g.emit("Round", "round", {y});
  y = g.emit("Clip", "clip", {y, c(lo), c(hi)});
  y = g.emit("Sub", "sub", {y, c(zero)});
  y = g.emit("Mul", "mul", {c(scale), y});
  g.rename(y, "y");
  g.add_output(y);
  return g;
}

TEST_CASE("merge_quantizers: chains become nodes that compute what the chains do") {
  Graph g = chains(0.25F, 3, -128, 127, 0.25F);
  const Graph spelled = g;
  CHECK(merge_quantizers(g) == 2);
  g.verify();
  REQUIRE(g.nodes().size() == 2);
  CHECK(g.node(g.topological_order()[0]).op == "Quant");
  CHECK(g.node(g.topological_order()[1]).op == "Dequant");
  CHECK(g.find_value("y") == g.outputs()[0]);
  const Graph integer = to_integer_network(spelled);
  // 0.125/0.25 + 3 = 3.5 and -0.875/0.25 + 3 = -0.5: to even.
  const std::vector<Tensor> x = {tensor({4}, {0.125F, -0.875F, 100.0F, -0.0F})};
  CHECK(Executor(spelled, Overflow::error).run(x)[0] == tensor({4}, {0.25F, -0.75F, 31.0F, 0.0F}));
  CHECK(Executor(integer, Overflow::error).run(x) == Executor(spelled, Overflow::error).run(x));
  CHECK(looks_integer(spelled, x));
}

TEST_CASE("merge_quantizers: bits are counted as Deeploy counts them") {
  const auto attrs = [](float lo, float hi) {
    Graph g = chains(0.1F, 0, lo, hi, 0.1F);
    CHECK(merge_quantizers(g) == 2);
    return g.node(g.topological_order()[0]).attrs;
  };
  CHECK(attrs(-128, 127).require_int("bit_width") == 8);
  CHECK(attrs(-127, 127).require_int("bit_width") == 7);
  CHECK(attrs(0, 255).require_int("signed") == 0);
  CHECK(attrs(0, 255).require_int("bit_width") == 8);
  CHECK(attrs(-8, 7).require_int("bit_width") == 4);
  CHECK(attrs(-8, 7).get_float("scale", 0) == static_cast<double>(1 / 0.1F));
}

TEST_CASE("merge_quantizers: what is read elsewhere, varies or is integral stays") {
  Graph g = chains(0.25F, 3, -128, 127, 1);  // Sub and Mul of integers
  CHECK(merge_quantizers(g) == 1);
  Graph shared = chains(0.25F, 3, -128, 127, 0.5F);
  for (const NodeId id : shared.nodes())
    if (shared.node(id).op == "Round" || shared.node(id).op == "Sub")
      shared.add_output(shared.node(id).outputs[0]);
  CHECK(merge_quantizers(shared) == 0);
  Graph zero = chains(0, 3, -128, 127, 1);
  CHECK(merge_quantizers(zero) == 0);
  Graph wide = chains(1, 0, -70000, 60000, 1);
  CHECK(merge_quantizers(wide) == 0);
  Graph fraction = chains(1, 3, -128, 127.5F, 1);
  CHECK(merge_quantizers(fraction) == 0);
}

TEST_CASE("to_integer_network: floats stay before a Quant and behind a Dequant") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 2}});
  const ValueId half = g.add_constant("half", Tensor::scalar(0.5F));
  Attrs spelled = quant_attrs(4, 0);
  spelled.set(std::string(kSpelledAsFloat), std::int64_t{1});
  const ValueId q = g.emit("Quant", "quant", {g.emit("Mul", "before", {x, half})}, spelled);
  const ValueId w = g.add_constant("w", tensor({2, 2}, {1, -2, 3, 4}));
  const ValueId acc = g.emit("MatMul", "matmul", {q, w});
  const ValueId y = g.emit("Dequant", "dequant", {acc}, quant_attrs(0.25, 0));
  g.add_output(g.emit("Add", "behind", {y, half}));
  CHECK(g.value(q).type.dtype == DType::f32);
  const Graph integer = to_integer_network(g);
  const auto dtype = [&](const char* name) {
    return integer.value(integer.find_value(name).value()).type.dtype;
  };
  CHECK(dtype("x") == DType::f32);
  CHECK(dtype("half") == DType::f32);
  CHECK(dtype("w") == DType::i8);
  CHECK(integer.value(q).type.dtype == DType::i8);
  CHECK(integer.value(acc).type.dtype == DType::i32);
  // 0.5*4 = 2 and -1.5*4 = -6: (2 - 18, -4 - 24)/4 + 0.5.
  const std::vector<Tensor> in = {tensor({1, 2}, {1.0F, -3.0F})};
  CHECK(Executor(integer, Overflow::error).run(in)[0] == tensor({1, 2}, {-3.5F, -6.5F}));
}

}  // namespace
}  // namespace waveq
