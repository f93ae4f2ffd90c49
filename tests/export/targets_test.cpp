#include "net.h"
#include "waveq/export/target.h"
#include "waveq/graph/file.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {
namespace {

using namespace test;

std::vector<Finding> findings_of(const Build& build) {
  Net net;
  net.g.opset = 10;
  net.g.add_output(build(net));
  const TargetProfile& target = find_target("deeploy-generic");
  return target.check(target, net.g);
}

void check_clean(const Build& build) {
  for (const Finding& f : findings_of(build)) FAIL_CHECK(f.node, " ", f.rule, ": ", f.problem);
}

/// The network breaks this rule, and no other.
void check_breaks(const std::string& rule, const Build& build) {
  const auto findings = findings_of(build);
  INFO(rule);
  REQUIRE(!findings.empty());
  for (const Finding& f : findings) {
    CHECK(f.rule == rule);
    CHECK(!f.node.empty());
    CHECK(!f.problem.empty());
  }
}

const Attrs kPads = attributes({{"pads", Ints{1, 1}}});
Attr one_int(std::int64_t v) { return Ints{v}; }

TEST_CASE("targets: the default comes first, an unknown name lists the known ones") {
  CHECK(targets().front().name == "deeploy-generic");
  CHECK(!targets().front().operators.empty());
  try {
    find_target("toaster");
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    CHECK(e.hint().find("deeploy-generic") != std::string::npos);
  }
}

TEST_CASE("deeploy-generic: Conv") {
  check_clean([](Net& n) { return n.op("Conv", {n.in({1, 2, 8}), n.c({3, 2, 3})}, kPads); });
  check_clean([](Net& n) { return n.op("Conv", {n.in({1, 2, 8}, DType::u8), n.c({2, 1, 3})}, attributes({{"group", std::int64_t{2}}})); });
  check_breaks("conv_bias", [](Net& n) { return n.op("Conv", {n.in({1, 2, 8}), n.c({3, 2, 3}), n.c<std::int32_t>({3})}); });
  // Only a foreign network has it: waveq does not evaluate a 3-D Conv.
  check_breaks("conv_rank", [](Net& n) {
    Node conv;
    conv.op = conv.name = "Conv";
    conv.inputs = {n.in({1, 1, 4, 4, 4}), n.c({1, 1, 1, 1, 1})};
    const ValueId y = n.g.add_value("y", {DType::i32, {1, 1, 4, 4, 4}});
    conv.outputs = {y};
    n.g.add_node(conv);
    return y;
  });
  check_breaks("conv_group", [](Net& n) { return n.op("Conv", {n.in({1, 4, 8}), n.c({4, 2, 3})}, attributes({{"group", std::int64_t{2}}})); });
  check_breaks("conv_group", [](Net& n) { return n.op("Conv", {n.in({1, 2, 8}), n.c({4, 1, 3})}, attributes({{"group", std::int64_t{2}}})); });
  check_breaks("conv_dilation", [](Net& n) { return n.op("Conv", {n.in({1, 2, 8}), n.c({3, 2, 3})}, attributes({{"dilations", one_int(2)}})); });
  check_breaks("conv_pads", [](Net& n) { return n.op("Conv", {n.in({1, 2, 8}), n.c({3, 2, 3})}, attributes({{"pads", Ints{0, 1}}})); });
  check_breaks("conv_pads", [](Net& n) { return n.op("Conv", {n.in({1, 2, 8, 8}), n.c({3, 2, 3, 3})}, attributes({{"pads", Ints{1, 1, 2, 1}}})); });
  check_breaks("conv_types", [](Net& n) { return n.op("Conv", {n.in({1, 2, 8}, DType::i32), n.c({3, 2, 3})}); });
}

TEST_CASE("deeploy-generic: MatMul and Gemm") {
  check_clean([](Net& n) { return n.op("MatMul", {n.in({1, 4, 3}), n.c({1, 3, 2})}); });
  check_breaks("matmul_batch", [](Net& n) { return n.op("MatMul", {n.in({1, 5, 4, 3}), n.c({1, 1, 3, 2})}); });
  check_breaks("matmul_rank", [](Net& n) { return n.op("MatMul", {n.in({1, 3}), n.c({3})}); });
  check_breaks("matmul_types", [](Net& n) { return n.op("MatMul", {n.in({1, 4, 3}), n.c<std::int32_t>({1, 3, 2})}); });
  check_clean([](Net& n) { return n.op("Gemm", {n.in({1, 3}), n.c({3, 2}), n.c<std::int32_t>({2})}); });
  check_breaks("gemm_factors", [](Net& n) { return n.op("Gemm", {n.in({1, 3}), n.c({3, 2})}, attributes({{"alpha", 2.0}})); });
  check_breaks("gemm_factors", [](Net& n) { return n.op("Gemm", {n.in({1, 3}), n.c({3, 2})}, attributes({{"beta", 2.0}})); });
  check_breaks("gemm_types", [](Net& n) { return n.op("Gemm", {n.in({1, 3}), n.c<std::int32_t>({3, 2})}); });
  check_breaks("gemm_batch", [](Net& n) {
    const ValueId rows = n.op("Reshape", {n.in({1, 6}), n.g.add_constant("s", Tensor::from<std::int64_t>({2}, {2, 3}))});
    const ValueId y = n.op("Gemm", {rows, n.c({3, 2})});
    return n.op("Reshape", {y, n.g.add_constant("s", Tensor::from<std::int64_t>({2}, {1, 4}))});
  });
}

TEST_CASE("deeploy-generic: RequantShift") {
  const auto behind_conv = [](std::vector<std::int32_t> mul, std::vector<std::int32_t> add, std::int64_t div = 64) {
    return [=](Net& n) {
      const ValueId y = n.op("Conv", {n.in({1, 2, 8}), n.c({2, 2, 1})});
      const auto count = static_cast<std::int64_t>(mul.size());
      const Shape shape = count == 1 ? Shape{} : Shape{count, 1};
      return n.requant(y, n.g.add_constant("m", Tensor::from(shape, mul)), n.g.add_constant("a", Tensor::from(shape, add)), div);
    };
  };
  check_clean(behind_conv({3, -5}, {6, -10}));
  check_clean(behind_conv({63}, {0}));
  check_breaks("requant_mul", behind_conv({3, 64}, {0, 0}));
  check_breaks("requant_mul", behind_conv({0}, {0}));
  check_breaks("requant_mul", behind_conv({-64}, {0}));
  check_breaks("requant_add", behind_conv({3}, {4}));                      // not a multiple
  check_breaks("requant_add", behind_conv({3}, {3 * 1500}));               // |q| = 500*|mul|
  check_clean(behind_conv({3}, {3 * 1499}));
  check_breaks("requant_add", behind_conv({1 << 12}, {(1 << 24) + (1 << 12)}, 1 << 14));  // beyond 2^24
  check_breaks("requant_per_channel", [](Net& n) { return n.requant(n.op("Add", {n.in({1, 2, 8}), n.in({1, 2, 8})}), n.c<std::int32_t>({2, 1}), n.c<std::int32_t>({2, 1}, 0)); });
  const Attrs gelu = attributes({{"b", std::int64_t{-40}}, {"one", std::int64_t{900}}});
  check_clean([&](Net& n) { return n.requant(n.op("iGELU", {n.in({1, 8})}, gelu), n.c<std::int32_t>({}), n.c<std::int32_t>({}, 0)); });
  check_breaks("requant_fused", [&](Net& n) { return n.requant(n.op("iGELU", {n.in({1, 8})}, gelu), n.c<std::int32_t>({}), n.c<std::int32_t>({}, 1)); });
  check_breaks("requant_fused", [&](Net& n) { return n.requant(n.op("iGELU", {n.in({1, 8})}, gelu), n.c<std::int32_t>({}), n.c<std::int32_t>({}, 0), 64, 0); });
}

TEST_CASE("deeploy-generic: Add, IntegerDiv, iGELU") {
  check_clean([](Net& n) { return n.op("Add", {n.in({1, 2, 8}), n.in({1, 2, 8})}); });
  check_clean([](Net& n) { return n.op("Add", {n.in({1, 2, 8}), n.c<std::int32_t>({8})}); });
  check_breaks("add_shapes", [](Net& n) { return n.op("Add", {n.in({1, 2, 8}), n.in({1, 2, 1})}); });
  check_breaks("add_shapes", [](Net& n) { return n.op("Add", {n.in({1, 2, 8}), n.c<std::int32_t>({1, 1, 8})}); });
  check_breaks("add_types", [](Net& n) { return n.op("Sub", {n.in({1, 2, 8}), n.in({1, 2, 8}, DType::u8)}); });
  const Attrs div = attributes({{"Delta", std::int64_t{4}}, {"eta", std::int64_t{1}}, {"eps", std::int64_t{1}}});
  check_clean([&](Net& n) { return n.op("IntegerDiv", {n.in({1, 4, 3}, DType::i32), n.in({1, 4, 1}, DType::i32)}, div); });
  check_breaks("division_shapes", [&](Net& n) { return n.op("IntegerDiv", {n.in({1, 4, 3}, DType::i32), n.in({1, 4, 3}, DType::i32)}, div); });
  check_breaks("division_shapes", [&](Net& n) { return n.op("IntegerDiv", {n.in({1, 4, 3}, DType::i32), n.in({1, 1, 3}, DType::i32)}, div); });
  check_breaks("division_types", [&](Net& n) { return n.op("IntegerDiv", {n.in({1, 4, 3}), n.in({1, 4, 1}, DType::i32)}, div); });
  const auto gelu = [](std::int64_t b, std::int64_t one, DType dtype) {
    return [=](Net& n) { return n.op("iGELU", {n.in({1, 8}, dtype)}, attributes({{"b", b}, {"one", one}})); };
  };
  check_clean(gelu(-128, 32767, DType::i8));
  check_breaks("gelu_constants", gelu(-129, 100, DType::i8));
  check_breaks("gelu_constants", gelu(0, 100, DType::i8));
  check_breaks("gelu_constants", gelu(-10, 32768, DType::i8));
  check_breaks("gelu_constants", gelu(-10, 0, DType::i8));
  check_breaks("gelu_types", gelu(-10, 100, DType::u8));
}

TEST_CASE("deeploy-generic: MaxPool, Concat, Slice") {
  const std::pair<std::string, Attr> window{"kernel_shape", Ints{3}};
  check_clean([&](Net& n) { return n.op("MaxPool", {n.in({1, 2, 8})}, attributes({window})); });
  check_breaks("max_pool_pads", [&](Net& n) { return n.op("MaxPool", {n.in({1, 2, 8})}, attributes({window, {"pads", Ints{1, 1}}})); });
  check_breaks("max_pool_ceil", [&](Net& n) { return n.op("MaxPool", {n.in({1, 2, 8})}, attributes({window, {"ceil_mode", std::int64_t{1}}})); });
  const Attrs axis = attributes({{"axis", std::int64_t{1}}});
  check_clean([&](Net& n) { return n.op("Concat", {n.in({1, 2}), n.in({1, 3})}, axis); });
  check_breaks("concat_inputs", [&](Net& n) { return n.op("Concat", {n.in({1, 2}), n.in({1, 3}), n.in({1, 1})}, axis); });
  const auto slice = [](std::int64_t start, std::int64_t end) {
    return [=](Net& n) { return n.op("Slice", {n.in({1, 300})}, attributes({{"axes", Ints{1}}, {"starts", Ints{start}}, {"ends", Ints{end}}})); };
  };
  check_clean(slice(0, 255));
  check_breaks("slice_bounds", slice(0, 256));
  check_breaks("slice_bounds", slice(-5, 255));
}

TEST_CASE("deeploy-generic: unknown operators, batches and names") {
  check_breaks("operator", [](Net& n) { return n.op("ReduceMax", {n.in({1, 8})}, attributes({{"axes", Ints{1}}})); });
  check_breaks("batch", [](Net& n) { return n.op("Mul", {n.in({2, 8}), n.in({2, 8})}); });
  check_breaks("batch", [](Net& n) { return n.op("Reshape", {n.in({1, 1}), n.g.add_constant("s", Tensor::from<std::int64_t>({0}, {}))}); });
  check_breaks("names", [](Net& n) { return n.op("Mul", {n.g.add_input("a.b", {DType::i8, {1, 2}}), n.g.add_input("a/b", {DType::i8, {1, 2}})}); });
}

TEST_CASE("deeploy-generic: the file reads back as the same integer network") {
  const QuantizeJob job = small_job(scratch_dir());
  const QuantizeResult result = quantize(job);
  const TargetProfile& target = find_target("deeploy-generic");
  const std::string bytes = target.to_file(target, result.network.graph);
  CHECK(bytes == target.to_file(target, result.network.graph));
  const fs::path path = scratch_dir() / "n.onnx";
  write_file(path, bytes);
  const Graph read = read_onnx(path);
  CHECK(looks_integer(read));
  for (ValueId in : read.inputs()) CHECK(read.value(in).type.dtype == DType::f32);
  for (NodeId id : read.nodes()) {
    if (read.node(id).op != "RequantShift") continue;
    for (const char* name : {"div", "n_levels_out", "signed"}) {
      REQUIRE(read.node(id).attrs.find(name) != nullptr);
      const Tensor* t = std::get_if<Tensor>(read.node(id).attrs.find(name));
      REQUIRE(t != nullptr);
      CHECK(t->dtype() == DType::f32);
    }
  }
  const Graph back = to_integer_network(read);
  CHECK(back.nodes().size() == result.network.graph.nodes().size());
}

}  // namespace
}  // namespace waveq
