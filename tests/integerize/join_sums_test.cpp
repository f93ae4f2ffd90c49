#include "net.h"

namespace waveq {
namespace {

using namespace test;

IntegerizeOptions joining(bool join) {
  IntegerizeOptions options;
  options.join_sums = join;
  return options;
}

constexpr std::int64_t kIn = 8, kOut = 4;

struct Choice {
  bool clipped = false;       ///< the other operand is a ReLU
  bool convolution = false;   ///< so is a convolution in front of it
  double gain = 1;            ///< of the other operand
  bool read_twice = false;    ///< something else reads the convolution's result
  std::int64_t inputs = kIn;  ///< channels that the convolution reads
};

/// W.x + z and a convolution behind it, which reads the sum.
FloatNet sum_of(const Choice& c) {
  FloatNet n;
  const ValueId in = n.input("in", {1, 3, 16});
  const ValueId x = n.op("Conv", {in, n.random({c.inputs, 3, 1}, -1, 1, 1)});
  const ValueId w = n.op(
      "Conv", {x, n.random({kOut, c.inputs, 1}, -1, 1, 2), n.floats({kOut}, {0.5F, -0.25F, 0, 1})});
  ValueId z =
      n.op("Conv",
           {in, n.random({kOut, 3, 3}, -c.gain, c.gain, 3), n.floats({kOut}, {1, 0.5F, -0.5F, 0})},
           attributes({{"pads", Ints{1, 1}}}));
  if (c.clipped) z = n.op("Relu", {z});
  if (c.convolution) z = n.op("Conv", {z, n.random({kOut, kOut, 1}, -1, 1, 4)});
  const ValueId sum = n.op("Add", {w, z});
  n.output(n.op("Conv", {sum, n.random({2, kOut, 1}, -1, 1, 5)}));
  if (c.read_twice) n.output(n.op("Conv", {w, n.random({2, kOut, 1}, -1, 1, 6)}));
  return n;
}

/// sum of squares of float minus dequantized integer outputs, in real units
double noise(const Lowered& r, const Graph& real) {
  double squares = 0;
  for (const auto& sample : samples_for(real, 20)) {
    Executor a(real), b(r.graph());
    const Value& input = r.graph().value(r.graph().inputs().front());
    const auto want = to_double(a.run(sample).front());
    const auto got =
        to_double(b.run(std::vector{quantize_tensor(sample.front(), *input.quant)}).front());
    for (std::size_t i = 0; i < want.size(); ++i)
      squares += std::pow(want[i] - got[i] * r.out().scale, 2);
  }
  return squares;
}

TEST_CASE("join_sums: one convolution, one rounding, each operand on its own scale") {
  for (const bool clipped : {false, true})
    for (const bool convolution : {false, true})
      for (const double gain : {0.1, 1.0, 10.0}) {
        const FloatNet n = sum_of({.clipped = clipped, .convolution = convolution, .gain = gain});
        const Lowered apart = lower_and_compare(n, -1, 1, joining(false)),
                      joined = lower_and_compare(n, -1, 1, joining(true));
        INFO("clipped ", clipped, ", convolution ", convolution, ", gain ", gain);
        CHECK(apart.count("Add") == 1);
        if (!clipped && !convolution && gain >= 1.0) {
          // z would make W's weights coarser by more than the two roundings cost.
          CHECK(joined.count("Add") == 1);
          continue;
        }
        CHECK(joined.count("Add") == 0);
        REQUIRE(joined.count("Concat") == 1);
        CHECK(joined.count("Conv") == apart.count("Conv") - (convolution ? 1 : 0));
        CHECK(noise(joined, n.graph) < 1.2 * noise(apart, n.graph));
        // The two scales differ by what the ranges do.
        const Node& both = *joined.nodes("Concat").front();
        const QuantParams x = *joined.graph().value(both.inputs[0]).quant,
                          z = *joined.graph().value(both.inputs[1]).quant;
        if (gain != 1.0) CHECK((z.scale > x.scale) == (gain > 1));
        for (ValueId id : both.inputs) CHECK(joined.graph().value(id).type.dtype == DType::i8);
      }
}

TEST_CASE("join_sums: a clip at 0 lies at the lowest code and keeps 8 bits") {
  const Lowered r = lower_and_compare(sum_of({.clipped = true}), -1, 1, joining(true));
  const Node& both = *r.nodes("Concat").front();
  const QuantParams z = *r.graph().value(both.inputs[1]).quant;
  CHECK(z.is_signed);
  CHECK(z.zero_point == -128);
  // The joined convolution's constant term takes the zero point off: for each channel c, and with
  // the requant's add = steps*mul,
  //   steps[c] = round(bias[c]/scale[c]) - sum_k w[c,k]*z[k].
  const Node& conv = r.graph().node(r.graph().value(both.outputs.front()).uses.front());
  const Node& requant = r.graph().node(r.graph().value(conv.outputs.front()).uses.front());
  const auto w = to_int64(r.graph().constant(conv.inputs[1]));
  const auto mul = to_int64(r.graph().constant(requant.inputs[1])),
             add = to_int64(r.graph().constant(requant.inputs[2]));
  const double out = r.graph().value(requant.outputs.front()).quant->scale;
  const std::vector<double> bias{0.5, -0.25, 0, 1};
  for (std::size_t c = 0; c < kOut; ++c) {
    std::int64_t sum = 0;
    for (std::size_t k = kIn; k < kIn + kOut; ++k) sum += w[c * (kIn + kOut) + k] * -128;
    const double scale =
        out * static_cast<double>(mul[c]) / static_cast<double>(requant.attrs.require_int("div"));
    CHECK(static_cast<double>(add[c] / mul[c] + sum) ==
          doctest::Approx(std::floor(bias[c] / scale + 0.5)));
    // z comes in with a factor of one: its scale over the accumulator's.
    const double factor = static_cast<double>(w[c * (kIn + kOut) + kIn + c]) * scale / z.scale;
    CHECK(factor == doctest::Approx(1).epsilon(0.02));
  }
}

TEST_CASE("join_sums: sums that would cost more, or lose a bit, stay") {
  IntegerizeOptions wide = joining(true);
  wide.target.int16.insert("Add");
  CHECK(lower_and_compare(sum_of({.read_twice = true}), -1, 1, joining(true)).count("Add") == 1);
  CHECK(lower_and_compare(sum_of({.inputs = 7}), -1, 1, joining(true)).count("Add") == 1);
  CHECK(lower_and_compare(sum_of({}), -1, 1, wide).count("Add") == 1);

  // A rule of the recipe is still to find the node that it names.
  IntegerizeOptions weights = joining(true), bits = joining(true);
  weights.weight_levels_of = {{"Conv_1", 16}};
  bits.precision = {{"Add", 8}};
  CHECK(lower_and_compare(sum_of({.clipped = true}), -1, 1, weights).count("Add") == 1);
  CHECK(lower_and_compare(sum_of({.clipped = true}), -1, 1, bits).count("Add") == 1);

  FloatNet n;  // the ReLU is read by a product of activations as well
  const ValueId x = n.op("Conv", {n.input("in", {1, 3, 16}), n.random({kIn, 3, 1}, -1, 1, 1)});
  const ValueId z = n.op("Relu", {n.op("Conv", {x, n.random({kOut, kIn, 1}, -1, 1, 2)})});
  const ValueId sum = n.op("Add", {n.op("Conv", {x, n.random({kOut, kIn, 1}, -1, 1, 3)}), z});
  n.output(n.op("Mul", {n.op("Conv", {sum, n.random({kOut, kOut, 1}, -1, 1, 4)}), z}));
  CHECK(lower_and_compare(n, -1, 1, joining(true)).count("Add") == 1);
}

TEST_CASE("join_sums: the channels of a model's own Concat keep their scales, too") {
  FloatNet n;
  const ValueId in = n.input("in", {1, 3, 16});
  const ValueId fine = n.op("Conv", {in, n.random({4, 3, 1}, -0.01, 0.01, 1)}),
                coarse = n.op("Conv", {in, n.random({4, 3, 1}, -10, 10, 2)});
  Tensor weights = random_tensor({2, 8, 1}, -1, 1, 3);
  for (std::size_t i = 0; i < 16; ++i)
    if (i % 8 < 4) weights.as<float>()[i] *= 1000;
  const ValueId both = n.op("Concat", {fine, coarse}, attributes({{"axis", std::int64_t{1}}}));
  n.output(n.op("Conv", {both, n.graph.add_constant("w", weights)}));
  const Lowered one = lower_and_compare(n, -1, 1, joining(false)),
                own = lower_and_compare(n, -1, 1, joining(true));
  CHECK(noise(own, n.graph) < 0.05 * noise(one, n.graph));
}

}  // namespace
}  // namespace waveq
