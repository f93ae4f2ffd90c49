#include "waveq/integerize/fake_quant.h"

#include "net.h"
#include "waveq/graph/infer.h"
#include "waveq/graph/quantizer.h"

// Whole models of other tools: tests/cli/quantized_models_test.py.
namespace waveq {
namespace {

using namespace test;

/// x [1,4] -> Q/DQ -> Relu -> Q (Clip) DQ -> y
struct Quantized {
  FloatNet net;
  ValueId x, relu, y;

  explicit Quantized(float out_scale = 0.25F, bool clip = false, float back_scale = 0) {
    x = net.input("x", {1, 4});
    relu = net.op("Relu", {pair(x, 0.5F, Tensor::scalar(std::int8_t{0}), false, 0.5F)});
    y = pair(relu, out_scale, Tensor::scalar(std::uint8_t{0}), clip,
             back_scale > 0 ? back_scale : out_scale);
    net.output(y);
  }

  ValueId pair(ValueId v, float scale, Tensor zero, bool clip, float back) {
    Graph& g = net.graph;
    const ValueId z = g.add_constant("z", zero);
    ValueId q = g.emit("QuantizeLinear", "q", {v, g.add_constant("s", Tensor::scalar(scale)), z});
    if (clip)
      q = g.emit("Clip", "clip",
                 {q, g.add_constant("lo", cast(Tensor::scalar(std::int64_t{0}), zero.dtype())),
                  g.add_constant("hi", cast(Tensor::scalar(std::int64_t{15}), zero.dtype()))});
    return g.emit("DequantizeLinear", "dq", {q, g.add_constant("s", Tensor::scalar(back)), z});
  }
};

std::vector<std::string> operators(const Graph& g) {
  std::vector<std::string> ops;
  for (NodeId id : g.topological_order()) ops.push_back(g.node(id).op);
  return ops;
}

TEST_CASE("fake quantization: roundings are taken out and known by the tensors they round") {
  Quantized q;
  Graph g = q.net.graph;
  const std::string out = g.value(q.y).name;
  const FakeQuantization fake = take_out_fake_quantization(g);
  CHECK(operators(g) == std::vector<std::string>{"Relu"});
  CHECK(g.value(g.outputs()[0]).name == out);
  CHECK(fake.tensors ==
        std::map<std::string, TensorGrid>{{"x", {0.5, -128, 127}}, {out, {0.25, 0, 255}}});
  CHECK(!fake.weights);
  REQUIRE(fake.reference.has_value());
  const Tensor x = Tensor::from<float>({1, 4}, {-1.0F, 0.3F, 0.8F, 70.0F});
  // 0.3 is 0.6 steps of the first grid, 0.8 is 1.6, 70 beyond its end at 127.
  CHECK(Executor(*fake.reference).run(std::vector<Tensor>{x}).front() ==
        Tensor::from<float>({1, 4}, {0.0F, 0.5F, 1.0F, 63.5F}));
}

TEST_CASE("fake quantization: Clip narrows the grid") {
  Quantized q(0.25F, true);
  Graph g = q.net.graph;
  const FakeQuantization fake = take_out_fake_quantization(g);
  const TensorGrid grid = fake.tensors.at(g.value(g.outputs()[0]).name);
  CHECK(grid == TensorGrid{0.25, 0, 15});
  CHECK(grid.n_levels(false) == 16);
  CHECK(grid.n_levels(true) == 32);
  CHECK(grid.range() == Range{0, 3.75});
}

TEST_CASE("fake quantization: unequal scales on the two sides are no rounding and stay") {
  Quantized q(0.25F, false, 0.5F);
  Graph g = q.net.graph;
  const FakeQuantization fake = take_out_fake_quantization(g);
  CHECK(operators(g) == std::vector<std::string>{"Relu", "QuantizeLinear", "DequantizeLinear"});
  CHECK(fake.tensors.size() == 1);
}

TEST_CASE("fake quantization: a float network is left as it is") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4});
  net.output(net.op("Relu", {x}));
  const FakeQuantization fake = take_out_fake_quantization(net.graph);
  CHECK(!fake.reference.has_value());
  CHECK(fake.tensors.empty());
}

/// x + Quant(c), and what the constant becomes.
Tensor rounded_constant(const std::string& mode, std::int64_t is_signed, float bits, float zero,
                        const std::string& op = std::string(kQonnxQuant)) {
  FloatNet net;
  Graph& g = net.graph;
  const ValueId x = net.input("x", {1, 8});
  Node quant;
  quant.op = op;
  quant.name = "quant";
  quant.attrs.set("waveq_domain", std::string("qonnx.custom_op.general"));
  quant.attrs.set("rounding_mode", mode);
  quant.attrs.set("signed", is_signed);
  const auto scalar = [&](float v) { return g.add_constant("p", Tensor::scalar(v)); };
  const ValueId c = g.add_constant(
      "c", Tensor::from<float>({8}, {-20.0F, -1.25F, -0.75F, -0.5F, 0.25F, 0.75F, 1.3F, 20.0F}));
  quant.inputs = {c, scalar(0.5F), scalar(zero), scalar(bits)};
  if (op == "BipolarQuant") quant.inputs.resize(2);
  const ValueId q = g.add_value("q", {DType::f32, {8}});
  quant.outputs = {q};
  g.add_node(std::move(quant));
  net.output(net.op("Add", {x, q}));
  const FakeQuantization fake = take_out_fake_quantization(g);
  CHECK(fake.weights);
  CHECK(operators(g) == std::vector<std::string>{"Add"});
  return g.constant(g.node(g.nodes()[0]).inputs[1]);
}

TEST_CASE("fake quantization: constants are rounded as QONNX says, ties included") {
  const auto check = [](const char* mode, std::vector<float> steps) {
    INFO(mode);
    for (float& s : steps) s *= 0.5F;
    CHECK(rounded_constant(mode, 1, 4, 0) == Tensor::from<float>({8}, steps));
  };
  // In steps: -40, -2.5, -1.5, -1, 0.5, 1.5, 2.6, 40 on -8..7.
  check("ROUND", {-8, -2, -2, -1, 0, 2, 3, 7});
  check("half_even", {-8, -2, -2, -1, 0, 2, 3, 7});
  check("HALF_UP", {-8, -3, -2, -1, 1, 2, 3, 7});
  check("HALF_DOWN", {-8, -2, -1, -1, 0, 1, 3, 7});
  check("FLOOR", {-8, -3, -2, -1, 0, 1, 2, 7});
  check("CEIL", {-8, -2, -1, -1, 1, 2, 3, 7});
  check("UP", {-8, -3, -2, -1, 1, 2, 3, 7});
  check("DOWN", {-8, -2, -1, -1, 0, 1, 2, 7});
  check("ROUND_TO_ZERO", {-8, -2, -1, -1, 0, 1, 2, 7});
  // Unsigned, zero point 3: codes 0..15 stand for -3..12 steps.
  CHECK(rounded_constant("ROUND", 0, 4, 3) ==
        Tensor::from<float>({8}, {-1.5F, -1.5F, -0.5F, -0.5F, 0.5F, 0.5F, 1.5F, 6}));
  const std::vector<float> signs{-0.5F, -0.5F, -0.5F, -0.5F, 0.5F, 0.5F, 0.5F, 0.5F};
  CHECK(rounded_constant("ROUND", 1, 1, 0) == Tensor::from<float>({8}, signs));
  CHECK(rounded_constant("ROUND", 1, 1, 0, "BipolarQuant") == Tensor::from<float>({8}, signs));
  CHECK_THROWS_AS(rounded_constant("STOCHASTIC", 1, 4, 0), Error);
  CHECK_THROWS_AS(rounded_constant("ROUND", 1, 2.5F, 0), Error);
}

TEST_CASE("fake quantization: levels of grids that symmetric ones cover") {
  CHECK(TensorGrid{1, -128, 127}.n_levels(true) == 256);
  CHECK(TensorGrid{1, -127, 127}.n_levels(true) == 256);
  CHECK(TensorGrid{1, -7, 7}.n_levels(true) == 16);
  CHECK(TensorGrid{1, -8, 7}.n_levels(true) == 16);
  CHECK(TensorGrid{1, -128, 127}.n_levels(false) == 128);  // behind a ReLU
  CHECK(TensorGrid{1, -100, 155}.n_levels(true) == 256);   // asymmetric: as fine as 8 bits allow
}

TEST_CASE("fake quantization: weights and ranges of a quantized Conv are kept to the integer") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 6});
  const std::vector<std::int8_t> codes{127, -3, 50, 0, 126, -127, 5, 127, -126, 11, 12, 13};
  Graph& g = net.graph;
  const ValueId w = g.emit("DequantizeLinear", "w",
                           {g.add_constant("codes", Tensor::from<std::int8_t>({2, 2, 3}, codes)),
                            g.add_constant("scales", Tensor::from<float>({2}, {0.003F, 0.007F})),
                            g.add_constant("zeros", Tensor::from<std::int8_t>({2}, {0, 0}))},
                           attributes({{"axis", std::int64_t{0}}}));
  net.output(net.op("Conv", {x, w}));
  const FakeQuantization fake = take_out_fake_quantization(g);
  CHECK(fake.weights);
  IntegerizeOptions options;
  options.keep_weight_grids = true;
  const IntegerNetwork n = integerize(
      g,
      [](const std::string&, const QuantSpec&) {
        return Range{-1.0, 1.0};
      },
      options);
  for (NodeId id : n.graph.nodes())
    if (n.graph.node(id).op == "Conv")
      CHECK(n.graph.constant(n.graph.node(id).inputs[1]) ==
            Tensor::from<std::int8_t>({2, 2, 3}, codes));
}

}  // namespace
}  // namespace waveq
