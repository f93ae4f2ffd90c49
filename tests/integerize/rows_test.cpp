#include "net.h"
#include "waveq/integerize/approximation.h"
#include "waveq/integerize/bounds.h"
#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using namespace test;

TEST_CASE("approximations: each is as good as the handbook says, within a decibel") {
  for (const ApproximationError& e : measure_approximations()) {
    INFO(e.name, ", ", e.setting);
    CHECK(e.decibel > e.handbook - 1.0);
    CHECK(!e.section.empty());
  }
}

TEST_CASE("iSoftmax: constants at a literal scale, within the kernel's domain at every scale") {
  const ISoftmax q = quantlib_isoftmax(1.0 / 255);
  CHECK(q.coeff_b == 345);
  CHECK(q.coeff_c == 62395);
  CHECK(q.log2 == 255);
  const ISoftmax p = search_isoftmax(0.0625);
  CHECK(p.coeff_b == 22);
  CHECK(p.coeff_c == 248);
  CHECK(p.log2 == 11);
  for (double scale = kSoftmaxFinest; scale <= kSoftmaxCoarsest; scale *= 1.37) {
    INFO(scale);
    const ISoftmax s = search_isoftmax(scale);
    CHECK(s.log2 >= 2);
    CHECK(std::int64_t{s.coeff_b} * s.coeff_b + s.coeff_c < 16777216);
    // exp(-8 steps) relative to exp(0), from the kernel.
    std::vector<std::int32_t> y(2);
    isoftmax(std::vector<std::int32_t>{0, -8}, s, y);
    CHECK(std::abs(y[1] - 255.0 / (1.0 + std::exp(8 * scale))) < 6.0);
  }
}

FloatNet softmax_net(Shape shape) {
  FloatNet net;
  net.output(net.op("Softmax", {net.input("x", std::move(shape))},
                    attributes({{"axis", std::int64_t{-1}}})));
  return net;
}

TEST_CASE("lowering: Softmax is iSoftmax in steps of 1/255, proven; ITAMax where asked for") {
  const FloatNet net = softmax_net({1, 2, 3, 10});
  const Lowered q = lower_and_compare(net, -4, 4);
  REQUIRE(q.count("iSoftmax") == 1);
  CHECK(q.out().scale == 1.0 / 255);
  CHECK(!q.out().is_signed);
  CHECK(q.worst_steps < 8);
  CHECK(prove(q.graph()).overflow_free());
  IntegerizeOptions options;
  options.softmax = "itamax";
  const Lowered ita = lower_and_compare(net, -2, 2, options);
  REQUIRE(ita.count("ITAMax") == 1);
  const ValueId in = ita.nodes("ITAMax").front()->inputs[0];
  CHECK(ita.graph().value(in).quant->scale == doctest::Approx(std::log(2.0) / 32).epsilon(1e-4));
  CHECK(ita.worst_steps < 64);
  CHECK(prove(ita.graph()).overflow_free());
}

TEST_CASE(
    "lowering: a Softmax of logits beyond iSoftmax's domain saturates them, and stays proven") {
  FloatNet net;
  const ValueId logits =
      net.op("Gemm", {net.input("x", {1, 12}), net.random({12, 12}, -40, 40, 9)});
  net.output(net.op("Softmax", {logits}, attributes({{"axis", std::int64_t{-1}}})));
  const Lowered q = lower_and_compare(net);
  CHECK(q.graph().value(q.nodes("iSoftmax").front()->inputs[0]).quant->scale <= 0.3401);
  CHECK(prove(q.graph()).overflow_free());
}

FloatNet layer_norm_net(std::int64_t length, double gain, double bias) {
  FloatNet net;
  const ValueId x = net.input("x", {1, 5, length});
  net.output(
      net.op("LayerNormalization",
             {x, net.random({length}, 0.5 * gain, gain, 1), net.random({length}, -bias, bias, 2)},
             attributes({{"axis", std::int64_t{-1}}, {"epsilon", 1e-5}})));
  return net;
}

TEST_CASE("isoftmax_scale: makes up for codes that are rounded down") {
  CHECK(isoftmax_scale(std::vector<double>(256, 0.0)) == 1.0 / 255);
  std::vector<double> counts(256, 0.0);
  counts[4] = 10;  // half of them 3 for 3.75, half 4 for 4.25
  CHECK(255 * isoftmax_scale(counts) == doctest::Approx((3.75 * 3 + 4.25 * 4) / (9 + 16)));
  counts[1] = 1e6;  // q = 0 for 0.75, 1 for 1.25
  CHECK(255 * isoftmax_scale(counts) == doctest::Approx(1.25).epsilon(1e-3));
  counts[200] = 1e9;
  CHECK(255 * isoftmax_scale(counts) == doctest::Approx(1.0).epsilon(0.005));
}

TEST_CASE("lowering: LayerNormalization is iLayerNorm, proven not to wrap at any length and gain") {
  for (const std::int64_t length : {2, 3, 8, 31, 64, 256})
    for (const double gain : {0.1, 1.0, 7.0}) {
      INFO(length, " ", gain);
      const Lowered q = lower_and_compare(layer_norm_net(length, gain, 2.0));
      REQUIRE(q.count("iLayerNorm") == 1);
      if (length >= 8) CHECK(q.worst_steps < 4);  // the floor of a small root costs more
      CHECK(prove(q.graph()).overflow_free());
    }
}

TEST_CASE("iLayerNorm: the bound of a normalized element is reached, and holds for every row") {
  // N = 8: a row of one 4 among zeros has mean 0 and isqrt(16/8 + 1) = 1.
  CHECK(largest_normalized(8, 255) == 4.0);
  CHECK(largest_normalized(64, 255) < 14.0);
  CHECK(largest_normalized(1, 255) == 0.0);
  const std::vector<double> gain(8, 1.0), bias(8, 0.0);
  const LayerNormParameters p = choose_layer_norm(gain, bias, -128, 127, 1e-6, 32);
  std::vector<std::int32_t> row(8, 0), y(8);
  row[3] = 4;
  ilayernorm(row, p.weight, p.bias, p.log2_d, y);
  CHECK(y[3] >= 126);
  // One step finer and that row would wrap: the chosen scale is the finest one, within a percent.
  std::vector<std::int32_t> finer = p.weight;
  for (std::int32_t& w : finer) w += w / 50;
  CHECK_THROWS_AS(ilayernorm(row, finer, p.bias, p.log2_d, y), Error);
  std::mt19937_64 engine(3);
  for (int k = 0; k < 20000; ++k) {
    const auto width = static_cast<std::int64_t>(1 + engine() % 255);
    for (std::int32_t& x : row)
      x = static_cast<std::int32_t>(
          -128 + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(width + 1)));
    if (k % 3 == 0) row[engine() % 8] = 127;
    CHECK_NOTHROW(ilayernorm(row, p.weight, p.bias, p.log2_d, y));
  }
}

Graph row_op(const std::string& op, Attrs attrs, std::vector<Tensor> parameters, Shape shape,
             DType dtype = DType::i8) {
  Graph g;
  std::vector<ValueId> inputs{g.add_input("x", {dtype, std::move(shape)})};
  for (Tensor& t : parameters) inputs.push_back(g.add_constant("p", std::move(t)));
  g.add_output(g.emit(op, "n", inputs, std::move(attrs)));
  return g;
}

Attrs softmax_attrs(std::int64_t b, std::int64_t c, std::int64_t log2) {
  return attributes({{"coeffA", std::int64_t{1}},
                     {"coeffB", b},
                     {"coeffC", c},
                     {"log2", log2},
                     {"n_levels", std::int64_t{256}}});
}

TEST_CASE("proof: iSoftmax constants at the edge of uint32, of the octave and of zero") {
  const auto proven = [](std::int64_t b, std::int64_t c, std::int64_t log2, std::int64_t length) {
    return prove(row_op("iSoftmax", softmax_attrs(b, c, log2), {}, {1, length})).overflow_free();
  };
  // 4103^2 + 8400 = 16843009 = floor((2^32 - 1)/255).
  CHECK(proven(4103, 8400, 2000, 255));
  CHECK(!proven(4103, 8401, 2000, 255));
  CHECK(!proven(4103, 8400, 2000, 256));
  CHECK(!proven(20, 250, 1, 8));
  CHECK(!proven(0, 0, 10, 8));
  CHECK(proven(20, 250, 2, 8));
}

TEST_CASE("proof: a normalization whose result can leave int8 is named, with its interval") {
  const auto norm = [](std::int32_t w, std::int32_t b) {
    return prove(row_op("iLayerNorm",
                        attributes({{"D", std::int64_t{16}}, {"n_levels", std::int64_t{256}}}),
                        {Tensor::from<std::int32_t>({8}, std::vector<std::int32_t>(8, w)),
                         Tensor::from<std::int32_t>({8}, std::vector<std::int32_t>(8, b))},
                        {1, 8}));
  };
  // (4*511 + 3) >> 4 = 2047 >> 4 = 127.
  CHECK(norm(511, 3).overflow_free());
  CHECK(!norm(511, 4).overflow_free());
  CHECK(norm(512, 0).nodes.front().reason.find("in [-128, 128]") != std::string::npos);
  const auto rms = [](std::int32_t w) {
    return prove(row_op("iRMSNorm",
                        attributes({{"D", std::int64_t{16}}, {"n_levels", std::int64_t{256}}}),
                        {Tensor::from<std::int32_t>({8}, std::vector<std::int32_t>(8, w))}, {1, 8}))
        .overflow_free();
  };
  CHECK(rms(16777215));  // 128*w = 2^31 - 128
  CHECK(!rms(16777216));
}

TEST_CASE("bounds: rows of softmax and normalizations stay within their intervals") {
  const std::vector<std::int32_t> weight{300, -200, 100, 0, 406, 50, -406, 7},
      bias{0, 5, -9, 40, 0, 100, 0, 3};
  const Attrs d16 = attributes({{"D", std::int64_t{16}}, {"n_levels", std::int64_t{256}}});
  const Attrs levels =
      attributes({{"n_levels", std::int64_t{256}}, {"group_width", std::int64_t{4}}});
  const Tensor w = Tensor::from<std::int32_t>({8}, weight),
               b = Tensor::from<std::int32_t>({8}, bias);
  for (const DType dtype : {DType::i8, DType::u8})
    for (const Graph& g : {row_op("iSoftmax", softmax_attrs(22, 252, 11), {}, {4, 8}, dtype),
                           row_op("ITAMax", levels, {}, {4, 8}, dtype),
                           row_op("ITAPartialMax", levels, {}, {4, 8}, dtype),
                           row_op("iLayerNorm", d16, {w, b}, {4, 8}, dtype),
                           row_op("iRMSNorm", d16, {w}, {4, 8}, dtype)}) {
      INFO(dump(g));
      CHECK(prove(g).overflow_free());
      BoundsAnalysis bounds(g);
      const Interval y = bounds.of(g.outputs().front()).hull();
      Executor executor(g, Overflow::error);
      std::mt19937_64 engine(5);
      for (int k = 0; k < 500; ++k) {
        Tensor x(dtype, {4, 8});
        const std::uint64_t width = 1 + engine() % 256;
        visit_integer(dtype, [&](auto e) {
          for (auto& v : x.as<decltype(e)>())
            v = static_cast<decltype(e)>(lowest(dtype) +
                                         static_cast<std::int64_t>(engine() % width));
        });
        for (const std::int64_t v : to_int64(executor.run(std::vector<Tensor>{x}).front())) {
          CHECK(v >= y.lo);
          CHECK(v <= y.hi);
        }
      }
    }
}

TEST_CASE("lowering: Concat with a constant rounds it to the common scale") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 4});
  net.output(net.op("Concat", {net.floats({1, 1, 4}, {1.0F, -2.0F, 0.5F, 3.0F}), x},
                    attributes({{"axis", std::int64_t{1}}})));
  const Lowered q = lower_and_compare(net);
  CHECK(q.worst_steps < 1.01);
  CHECK(q.out().scale == doctest::Approx(3.0 / 127));
}

/// What a target with tables, maxima and operands that repeat runs.
IntegerizeOptions general_target() {
  IntegerizeOptions options;
  options.target.operators = {"Table", "ReduceMax"};
  options.target.broadcast = true;
  return options;
}

TEST_CASE(
    "lowering: a stabilized exponential keeps the maximum exact and all levels for the distance "
    "that counts") {
  FloatNet net;
  const ValueId x = net.op("MatMul", {net.input("x", {1, 6, 4}), net.random({4, 8}, -3, 3, 40)});
  const ValueId most =
      net.op("ReduceMax", {x}, attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{1}}}));
  net.output(net.op("Exp", {net.op("Neg", {net.op("Sub", {most, x})})}));
  const auto lowered = [&](const IntegerizeOptions& options) {
    const Lowered q = lower_and_compare(net.graph, samples_for(net.graph, 20), options);
    REQUIRE(q.count("ReduceMax") == 1);
    REQUIRE(q.count("Table") == 1);
    CHECK(prove(q.graph()).overflow_free());
    CHECK(q.graph().value(q.nodes("Table").front()->inputs[0]).type.dtype == DType::u8);
    return q;
  };
  // 8 bits: the distance is as coarse as x, 16/255, which costs up to a step of e^-r in 16.
  const Lowered narrow = lowered(general_target());
  CHECK(narrow.worst_steps < 16);
  // 16 bits: half a step of the distance, whose range ends where e^-r is half a step of 1/255.
  IntegerizeOptions options = general_target();
  options.target.int16 = {"RequantShift", "ReduceMax", "Sub"};
  const Lowered fine = lowered(options);
  const ValueId distance = fine.nodes("Table").front()->inputs[0];
  CHECK(fine.graph().value(distance).quant->scale * 255 < 6.5);
  CHECK(fine.worst_steps < 7);  // the rounded weights of x are in it
}

TEST_CASE("lowering: softmax by a table of exponentials is exact to half a step") {
  IntegerizeOptions options = general_target();
  options.softmax = "lut";
  for (const auto& rows : {std::pair{Shape{1, 2, 5, 9}, 4.0},
                           {Shape{3, 40}, 12.0},
                           {Shape{2, 1}, 1.0},
                           {Shape{1, 300}, 0.01}}) {
    const Shape& shape = rows.first;
    const double reach = rows.second;
    FloatNet net;
    net.output(
        net.op("Softmax", {net.input("x", shape)}, attributes({{"axis", std::int64_t{-1}}})));
    const Lowered q = lower_and_compare(net, -reach, reach, options);
    INFO(to_string(shape));
    CHECK(q.worst_steps < 0.52);  // 1/1000 of the quotient over long rows
    // The range that occurs, in steps that are a power of two of the quotient's.
    const double most = measure_ranges(net.graph, samples_for(net.graph, 20, -reach, reach))
                            .at(net.graph.value(net.graph.outputs()[0]).name)
                            .hi;
    CHECK(q.out().scale * 255 >= 0.999 * most);
    CHECK(q.out().scale * 255 < 2 * std::max(most, 1.0 / 128));
    const auto delta =
        static_cast<double>(q.nodes("IntegerDiv").front()->attrs.require_int("Delta"));
    CHECK(std::exp2(std::round(std::log2(q.out().scale * delta))) == q.out().scale * delta);
    CHECK(prove(q.graph()).overflow_free());
    // Rows of one value, at either end of int8: shares of 1/N, nothing wraps.
    for (int code : {-128, 0, 127}) {
      Tensor x(DType::i8, shape);
      for (std::int8_t& v : x.as<std::int8_t>()) v = static_cast<std::int8_t>(code);
      const Tensor share = Executor(q.graph()).run(std::vector<Tensor>{x}).front();
      for (double v : to_double(share))
        CHECK(std::abs(v - 1.0 / (q.out().scale * static_cast<double>(shape.back()))) < 0.51);
    }
  }
  FloatNet net;
  net.output(
      net.op("Softmax", {net.input("x", {1, 32769})}, attributes({{"axis", std::int64_t{-1}}})));
  CHECK(explain_refusals(net.graph, options).at(0).reason.find("do not sum up in int32") !=
        std::string::npos);
  options.target = {};
  CHECK(explain_refusals(net.graph, options).at(0).reason.find("takes a lookup table") !=
        std::string::npos);
}

TEST_CASE(
    "lowering: Softmax is a table by itself where the target has one and rows are short enough") {
  const FloatNet net = softmax_net({1, 3, 10});
  CHECK(lower_and_compare(net, -4, 4, general_target()).count("iSoftmax") == 0);
  CHECK(lower_and_compare(net, -4, 4).count("iSoftmax") == 1);
  IntegerizeOptions asked = general_target();
  asked.softmax = "ibert";
  asked.target.operators.insert("iSoftmax");
  CHECK(lower_and_compare(net, -4, 4, asked).count("iSoftmax") == 1);
  // Logits that iSoftmax would saturate, whatever was asked for.
  CHECK(lower_and_compare(net, -90, 90, asked).count("iSoftmax") == 0);
}

TEST_CASE(
    "lowering: logits in steps beyond iSoftmax's are refused by the name of the model's node") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 12});
  net.output(net.op("Softmax", {net.op("Gemm", {x, net.random({12, 12}, -1e7, 1e7, 9)})},
                    attributes({{"axis", std::int64_t{-1}}})));
  const auto ranges = lookup(measure_ranges(net.graph, samples_for(net.graph, 5)));
  CHECK(explain_refusals(net.graph, {}).empty());  // a matter of the numbers
  try {
    integerize(net.graph, ranges, {});
    FAIL("not refused");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::not_integer);
    CHECK(e.where() == "Softmax 'Softmax'");
    CHECK(e.found().find("its input comes in steps of") == 0);
  }
  CHECK(lower_and_compare(net, -1, 1, general_target()).worst_steps < 2);
}

IntegerizeOptions wide_norms() {
  IntegerizeOptions options;
  options.target.int16 = {"iLayerNorm", "RequantShift"};
  return options;
}

TEST_CASE(
    "lowering: LayerNormalization of long rows keeps the levels that occur where int32 comes out") {
  for (const std::int64_t length : {64, 512, 2000}) {
    INFO(length);
    const Lowered q = lower_and_compare(layer_norm_net(length, 1.0, 0.5), -1, 1, wide_norms());
    REQUIRE(q.count("iLayerNorm") == 1);
    CHECK(q.graph().value(q.nodes("iLayerNorm").front()->outputs[0]).type.dtype == DType::i32);
    CHECK(q.worst_steps < 3);
    CHECK(q.out().scale < 3.5 / 127);
    CHECK(prove(q.graph()).overflow_free());
  }
  const Lowered narrow = lower_and_compare(layer_norm_net(512, 1.0, 0.5));
  CHECK(narrow.out().scale > 20.0 / 127);
}

TEST_CASE("lowering: an epsilon far above the variance damps the rows as the model's does") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 4, 32});
  net.output(net.op("LayerNormalization", {x, net.floats({32}, std::vector<float>(32, 2.0F))},
                    attributes({{"axis", std::int64_t{-1}}, {"epsilon", 1e-2}})));
  const Lowered q = lower_and_compare(net, -1e-3, 1e-3, wide_norms());
  CHECK(q.worst_steps < 2);
  CHECK(q.out().scale * 127 < 0.1);
  const Node& norm = *q.nodes("iLayerNorm").front();
  const double step = q.graph().value(norm.inputs[0]).quant->scale;
  CHECK(static_cast<double>(norm.attrs.require_int("epsilon")) ==
        doctest::Approx(1e-2 / (step * step)).epsilon(1e-6));
  CHECK(prove(q.graph()).overflow_free());
}

TEST_CASE("proof: the int32 form of a normalization, its bound attained and its operand checked") {
  const auto net = [](DType dtype, std::int64_t weight, std::int64_t epsilon) {
    return row_op(
        "iLayerNorm",
        attributes(
            {{"D", std::int64_t{1}}, {"output_bits", std::int64_t{32}}, {"epsilon", epsilon}}),
        {Tensor::from<std::int32_t>(
             {8}, std::vector<std::int32_t>(8, static_cast<std::int32_t>(weight))),
         Tensor::from<std::int32_t>({8}, std::vector<std::int32_t>(8, 0))},
        {1, 8}, dtype);
  };
  // A row of one 4 among zeros has mean 0 and root isqrt(16/8 + 1) = 1: 4*weight.
  CHECK(prove(net(DType::i16, 500000000, 1)).overflow_free());
  CHECK_FALSE(prove(net(DType::i16, 540000000, 1)).overflow_free());
  CHECK(prove(net(DType::i16, 540000000, 4)).overflow_free());
  const Graph g = net(DType::i16, 500000000, 1);
  BoundsAnalysis bounds(g);
  CHECK(bounds.of(g.outputs()[0]).hull() == Interval{-2000000000, 2000000000});
  const Tensor x = Tensor::from<std::int16_t>({1, 8}, {0, 0, 4, 0, 0, 0, 0, 0});
  CHECK(to_int64(Executor(g).run(std::vector{x}).front())[2] == 2000000000);
}

TEST_CASE("lowering: a maximum is refused where the target lacks it") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 3, 4});
  net.output(
      net.op("Sub", {x, net.op("ReduceMax", {x},
                               attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{1}}}))}));
  const auto refused = explain_refusals(net.graph, {});
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].op == "ReduceMax");
  CHECK(explain_refusals(net.graph, general_target()).empty());
  CHECK(lower_and_compare(net.graph, samples_for(net.graph, 20), general_target()).worst_steps < 2);
}

}  // namespace
}  // namespace waveq
