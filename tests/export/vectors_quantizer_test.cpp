// Designed inputs of Quant and Dequant.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>

#include "vectors_design.h"
#include "vectors_net.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

using namespace test;
using namespace vectors_detail;

namespace {

KernelVectors vectors_of(const std::string& op, const std::string& operand,
                         const std::vector<std::string>& attributes,
                         const VectorOptions& options = {}) {
  const OperatorNetwork net = operator_network({op, "node", {operand}, attributes});
  BoundsAnalysis bounds(net.graph);
  return kernel_vectors(bounds, net.graph.nodes().front(), options);
}

std::vector<std::string> parameters(const std::string& scale, const std::string& zero_point,
                                    int bits = 8, int is_signed = 1) {
  return {"scale=" + scale, "zero_point=" + zero_point, "bit_width=" + std::to_string(bits),
          "signed=" + std::to_string(is_signed)};
}

std::set<float> inputs_of(const KernelVectors& v) {
  std::set<float> out;
  for (const VectorCase& c : v.cases)
    for (const float x : c.inputs.front().as<float>()) out.insert(x);
  return out;
}

std::set<std::int64_t> outputs_of(const KernelVectors& v) {
  std::set<std::int64_t> out;
  for (const VectorCase& c : v.cases)
    for (const std::int64_t y : to_int64(c.outputs.front())) out.insert(y);
  return out;
}

}  // namespace

TEST_CASE("vectors: ordinals of float32 are in order and have no gaps") {
  CHECK(ordinal_of(0.0F) == 0);
  CHECK(ordinal_of(-0.0F) == -1);
  CHECK(std::signbit(at_ordinal(-1)));
  for (const float x : {-3e38F, -1.0F, -1e-40F, 1e-45F, 0.1F, 1.0F, 65504.0F}) {
    CHECK(at_ordinal(ordinal_of(x)) == x);
    CHECK(at_ordinal(ordinal_of(x) + 1) ==
          std::nextafter(x, std::numeric_limits<float>::infinity()));
  }
}

TEST_CASE("vectors: Quant sees every code, every tie and both neighbours of each step") {
  const KernelVectors v = vectors_of("Quant", "f32[1,3,33]", parameters("2", "3"));
  const std::set<float> x = inputs_of(v);
  CHECK(outputs_of(v).size() == 256);
  // x*2 + 3 = code + 0.5
  for (int code = -128; code < 127; ++code) {
    const float tie = (static_cast<float>(code) + 0.5F - 3) / 2;
    CAPTURE(tie);
    CHECK(x.contains(tie));
    CHECK(x.contains(std::nextafter(tie, -1e9F)));
    CHECK(x.contains(std::nextafter(tie, 1e9F)));
  }
  // One step beyond either end, and the ends of what the kernel can convert.
  CHECK(x.contains((128.5F - 3) / 2));
  CHECK(x.contains((-129.5F - 3) / 2));
  CHECK(*x.begin() * 2 + 3 >= -0x1p31F);
  CHECK(*x.begin() < -1e9F);
  CHECK(*x.rbegin() > 1e9F);
  CHECK(x.contains(0x1p-127F));
  CHECK(v.unreached.empty());
}

TEST_CASE("vectors: scales of every kind, negative and tiny ones too, give every code") {
  for (const char* scale : {"10", "-12.7", "0.0009", "30000", "0.333"}) {
    CAPTURE(scale);
    CHECK(outputs_of(vectors_of("Quant", "f32[1,5,17]", parameters(scale, "-20"))).size() == 256);
  }
  CHECK(outputs_of(vectors_of("Quant", "f32[7]", parameters("3", "0.5", 4))).size() == 16);
  const KernelVectors u8 = vectors_of("Quant", "f32[1,64]", parameters("3", "128", 8, 0));
  CHECK(*outputs_of(u8).begin() == 0);
  CHECK(*outputs_of(u8).rbegin() == 255);
  CHECK(u8.cases.front().outputs.front().dtype() == DType::u8);
}

TEST_CASE("vectors: few elements leave steps out, and say so") {
  const KernelVectors v = vectors_of("Quant", "f32[2]", parameters("2", "3"));
  CHECK(v.unreached.size() == 1);
  CHECK(v.unreached.front().condition == "all_steps");
}

TEST_CASE("vectors: drawn inputs of Quant are its levels and a quarter more") {
  const KernelVectors v =
      vectors_of("Quant", "f32[1,500]", parameters("10", "0"), {.random = 3, .designed = false});
  CHECK(v.cases.size() == 3);
  const std::set<float> x = inputs_of(v);
  CHECK(*x.begin() >= -19.2F);
  CHECK(*x.rbegin() <= 19.2F);
  CHECK(x.size() > 1400);
}

TEST_CASE("vectors: a Quant whose inputs all leave int32 is refused") {
  CHECK_THROWS_AS(vectors_of("Quant", "f32[2]", parameters("0", "3")), Error);
  CHECK_THROWS_AS(vectors_of("Quant", "f32[2]", parameters("0.0000001", "3e38")), Error);
}

TEST_CASE("vectors: Dequant sees every code and gives float32") {
  const KernelVectors v = vectors_of("Dequant", "u8[1,5,9]", parameters("0.1", "128"));
  std::set<std::int64_t> codes;
  for (const VectorCase& c : v.cases)
    for (const std::int64_t q : to_int64(c.inputs.front())) codes.insert(q);
  CHECK(codes.size() == 256);
  CHECK(v.cases.front().outputs.front().dtype() == DType::f32);
  const std::string header = vectors_header(v);
  CHECK(header.find("static const float waveq_node_out0_case0") != std::string::npos);
  CHECK(header.find("0 and -0 are equal") != std::string::npos);
}

TEST_CASE("vectors: floats in the header are exact") {
  const KernelVectors v = vectors_of("Quant", "f32[1]", parameters("1", "0"));
  const std::string header = vectors_header(v);
  CHECK(header.find("-0x1p-127f") != std::string::npos);
  CHECK(header.find("0x1.fffffep-2f") != std::string::npos);  // just below 0.5
  CHECK(header.find("-0x0p+0f") != std::string::npos);
}

}  // namespace waveq
