#include "channel_means.h"

#include "net.h"
#include "shared_data.h"
#include "waveq/graph/npz.h"

namespace waveq {
namespace {

using namespace test;

constexpr std::int64_t kChannels = 4;
const std::vector<double> kMeans{6, -3, 0.5, 9};

/// A sample [1,4,n] (or, `last`, [1,n,4]) whose channels are the means and something around them.
Tensor around_means(const Shape& shape, bool last, double spread, std::uint64_t seed) {
  Tensor t = random_tensor(shape, -spread, spread, seed);
  const auto values = t.as<float>();
  const auto inner = static_cast<std::size_t>(last ? 1 : element_count(shape) / kChannels);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] += static_cast<float>(kMeans[i / inner % kChannels]);
  return t;
}

struct Corrected {
  double error = 0;  ///< at the means, largest over the outputs, in output steps
  std::size_t nodes = 0;
};

/// What the integer network makes of the means themselves, weights having four levels.
Corrected at_means(const FloatNet& net, bool last, bool correct, bool general_conv = false,
                   std::map<std::string, std::vector<double>> means_of = {}) {
  const Shape shape = net.graph.value(net.graph.inputs().front()).type.shape;
  std::vector<std::vector<Tensor>> samples;
  for (std::uint64_t s = 0; s < 8; ++s) samples.push_back({around_means(shape, last, 2, s)});
  IntegerizeOptions options;
  means_of.emplace("x", kMeans);
  options.weight_levels = 4;
  options.correct_biases = correct;
  options.target.general_conv = general_conv;
  options.means = [&](const std::string& tensor, std::size_t axis) {
    const auto found = means_of.find(tensor);
    const bool here = found != means_of.end() && axis == (last ? shape.size() - 1 : 1);
    return here ? found->second : std::vector<double>{};
  };
  const IntegerNetwork q =
      integerize(net.graph, lookup(measure_ranges(net.graph, samples)), options);
  check_structure(q.graph);
  const std::vector<Tensor> means{around_means(shape, last, 0, 1)};
  const auto real = to_double(Executor(net.graph).run(means).front());
  const auto codes = to_double(Executor(q.graph).run(network_inputs(q.graph, means)).front());
  const QuantParams out = q.graph.value(q.graph.outputs().front()).quant.value();
  Corrected result{0, q.graph.nodes().size()};
  for (std::size_t i = 0; i < real.size(); ++i)
    result.error = std::max(result.error, std::abs(real[i] / out.scale - codes[i]));
  return result;
}

/// At the means rounded weights cost nothing but roundings; without the correction several steps.
void check_corrected(const FloatNet& net, bool last, bool general_conv = false,
                     const std::map<std::string, std::vector<double>>& means_of = {}) {
  const Corrected plain = at_means(net, last, false, general_conv, means_of),
                  corrected = at_means(net, last, true, general_conv, means_of);
  CHECK(plain.error > 4);
  CHECK(corrected.error < 2);
  CHECK(corrected.nodes == plain.nodes);
}

FloatNet conv_of(Shape weights, std::int64_t group, Ints dilations = {1}, bool bias = true) {
  FloatNet net;
  const std::int64_t outputs = weights[0];
  std::vector<ValueId> inputs{net.input("x", {1, kChannels, 12}),
                              net.random(std::move(weights), -1, 1, 3)};
  if (bias) inputs.push_back(net.random({outputs}, -1, 1, 4));
  net.output(net.op("Conv", inputs, attributes({{"group", group}, {"dilations", dilations}})));
  return net;
}

TEST_CASE("bias correction: at the means of the channels rounded weights shift no output") {
  check_corrected(conv_of({6, 4, 3}, 1), false);
  check_corrected(conv_of({6, 4, 3}, 1, {2}, false), false);
  check_corrected(conv_of({4, 1, 3}, 4), false);
  for (const bool general : {false, true}) {
    check_corrected(conv_of({6, 2, 3}, 2), false, general);
    check_corrected(conv_of({8, 1, 3}, 4), false, general);
  }
  FloatNet gemm;
  gemm.output(gemm.op("Gemm", {gemm.input("x", {1, kChannels}), gemm.random({6, 4}, -1, 1, 5)},
                      attributes({{"transB", std::int64_t{1}}, {"alpha", 2.0}})));
  check_corrected(gemm, true);
}

TEST_CASE("bias correction: a MatMul of rows has one where it has a bias, and gets no Add for it") {
  const auto rows = [](bool bias) {
    FloatNet net;
    ValueId y = net.op("MatMul", {net.input("x", {1, 5, kChannels}), net.random({4, 6}, -1, 1, 6)});
    if (bias) y = net.op("Add", {y, net.random({6}, -1, 1, 7)});
    net.output(y);
    return net;
  };
  check_corrected(rows(true), true);
  CHECK(at_means(rows(false), true, true).error == at_means(rows(false), true, false).error);
}

TEST_CASE("bias correction: operands on scales of their own have means in steps of these") {
  FloatNet net;
  const ValueId x = net.input("x", {1, kChannels, 12});
  const ValueId z = net.op("Mul", {x, net.floats({1}, {3})});
  const ValueId both = net.op("Concat", {x, z}, attributes({{"axis", std::int64_t{1}}}));
  net.output(net.op("Conv", {both, net.random({6, 8, 1}, -1, 1, 9)}));
  std::vector<double> tripled;
  for (const double m : kMeans) tripled.push_back(3 * m);
  check_corrected(net, false, false, {{net.graph.value(z).name, tripled}});
  // Where a part has none, nothing is corrected.
  CHECK(at_means(net, false, true, false).error == at_means(net, false, false, false).error);
}

TEST_CASE("measure_means: along the channels of what reads a tensor, over the first samples") {
  FloatNet net;
  const ValueId x = net.input("x", {1, 2, 2});
  const ValueId rows = net.op("Relu", {x});
  net.output(net.op("Conv", {x, net.random({3, 2, 1}, -1, 1, 1)}));
  net.output(net.op("MatMul", {rows, net.random({2, 3}, -1, 1, 2)}));
  const auto file = scratch_dir() / "means.npz";
  const Tensor data =
      Tensor::from<float>({3, 2, 2}, {1, 2, -3, 4, 3, 4, -1, 6, 100, 100, 100, 100});
  write_npz(file, std::vector<NpzItem>{{"x", &data}});
  Dataset source(file, net.graph);
  CalibrationTable table;
  table.tensors["x"].means = {7};
  table.tensors[net.graph.value(rows).name];
  measure_means(net.graph, source, 2, table);
  CHECK(table.tensors["x"].channel_axis == 1);
  CHECK(table.tensors["x"].means == std::vector{2.5, 1.5});
  CHECK(table.tensors[net.graph.value(rows).name].channel_axis == 2);
  CHECK(table.tensors[net.graph.value(rows).name].means == std::vector{1.0, 4.0});
  CHECK(table.tensors.size() == 2);
}

TEST_CASE("means of another number of channels are refused") {
  const FloatNet net = conv_of({6, 4, 3}, 1);
  IntegerizeOptions options;
  options.means = [](const std::string&, std::size_t) { return std::vector{1.0, 2.0}; };
  CHECK_THROWS_AS(
      integerize(net.graph, lookup(measure_ranges(net.graph, samples_for(net.graph, 4))), options),
      Error);
}

}  // namespace
}  // namespace waveq
