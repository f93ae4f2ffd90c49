#include "net.h"
#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using namespace test;

struct Case {
  std::string op = "GRU", direction = "forward";
  std::int64_t reset_last = 1, T = 12, B = 1, I = 6, H = 8;
  double weight = 0.8;
};

/// x -> GRU or LSTM -> Y and Y_h.
FloatNet recurrent(const Case& c, bool last = true) {
  FloatNet net;
  const std::int64_t rows = (c.op == "RNN" ? 1 : c.op == "GRU" ? 3 : 4) * c.H, d = c.direction == "bidirectional" ? 2 : 1;
  Node node;
  node.op = node.name = c.op;
  node.inputs = {net.input("x", {c.T, c.B, c.I}), net.random({d, rows, c.I}, -c.weight, c.weight, 3),
                 net.random({d, rows, c.H}, -c.weight, c.weight, 4),
                 net.random({d, 2 * rows}, -0.5, 0.5, 5)};
  node.attrs.set("hidden_size", c.H);
  node.attrs.set("direction", c.direction);
  if (c.op == "GRU") node.attrs.set("linear_before_reset", c.reset_last);
  node.outputs = {net.graph.add_value("Y", {DType::f32, {c.T, d, c.B, c.H}}),
                  net.graph.add_value("Y_h", {DType::f32, {d, c.B, c.H}})};
  const std::vector<ValueId> outputs = node.outputs;
  net.graph.add_node(std::move(node));
  net.output(outputs[0]);
  if (last) net.output(outputs[1]);
  return net;
}

IntegerizeOptions with_cells(std::int64_t bits = 8) {
  IntegerizeOptions options;
  options.target.operators = {"iGRU", "iLSTM"};
  options.target.int16 = {"RequantShift", "Slice", "Reshape", "Concat", "Squeeze", "Unsqueeze"};
  if (bits == 16) options.precision = {{"op:GRU", 16}};
  return options;
}

TEST_CASE("recurrent: a plain RNN is a GRU whose gates let the new state pass") {
  for (const char* direction : {"forward", "reverse", "bidirectional"}) {
    CAPTURE(direction);
    for (const std::int64_t bits : {8, 16}) {
      IntegerizeOptions options = with_cells();
      if (bits == 16) options.precision = {{"op:RNN", 16}};
      const Lowered y = lower_and_compare(recurrent({.op = "RNN", .direction = direction, .weight = 0.3}), -2, 2, options);
      CHECK(y.count("iGRU") == (std::string(direction) == "bidirectional" ? 2 : 1));
      CHECK(y.worst_steps * y.out().scale <= 0.02);
      CHECK(prove(y.graph()).overflow_free());
    }
  }
  FloatNet net = recurrent({.op = "RNN"});
  Attrs attrs = net.graph.node(net.graph.nodes().front()).attrs;
  attrs.set("activations", std::vector<std::string>{"Relu"});
  net.graph.set_attrs(net.graph.nodes().front(), attrs);
  const auto refused = explain_refusals(net.graph, with_cells());
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].reason.find("tanh has an integer form") != std::string::npos);
}

TEST_CASE("recurrent: every direction and form of GRU and LSTM stays near the float network") {
  for (const char* op : {"GRU", "LSTM"})
    for (const char* direction : {"forward", "reverse", "bidirectional"})
      for (const std::int64_t reset_last : {0, 1}) {
        CAPTURE(op);
        CAPTURE(direction);
        CAPTURE(reset_last);
        Case c{.op = op, .direction = direction, .reset_last = reset_last};
        c.B = 2;
        const Lowered y = lower_and_compare(recurrent(c), -2, 2, with_cells());
        CHECK(y.count(std::string("i") + op) == (std::string(direction) == "bidirectional" ? 2 : 1));
        CHECK(y.out().scale == 1.0 / 128);
        CHECK(y.worst_steps <= 3);  // 2.3, rounded weights included
        CHECK(prove(y.graph()).overflow_free());
      }
}

/// An LSTM whose states are inputs and outputs of the network, all of them but x moved.
FloatNet streaming(std::int64_t steps) {
  constexpr std::int64_t I = 6, H = 8;
  FloatNet net;
  const auto state = [&](const char* name) {
    return net.op("Unsqueeze", {net.input(name, {1, H}), net.ints({0})});
  };
  Node node;
  node.op = node.name = "LSTM";
  node.inputs = {net.input("x", {steps, 1, I}),
                 net.random({1, 4 * H, I}, -0.8, 0.8, 3),
                 net.random({1, 4 * H, H}, -0.8, 0.8, 4),
                 net.random({1, 8 * H}, -0.5, 0.5, 5),
                 {},
                 state("h"),
                 state("c")};
  node.attrs.set("hidden_size", H);
  node.outputs = {net.graph.add_value("Y", {DType::f32, {steps, 1, 1, H}}),
                  net.graph.add_value("Y_h", {DType::f32, {1, 1, H}}),
                  net.graph.add_value("Y_c", {DType::f32, {1, 1, H}})};
  const std::vector<ValueId> y = node.outputs;
  net.graph.add_node(std::move(node));
  net.output(y[0]);
  for (const std::size_t i : {1u, 2u}) net.output(net.op("Squeeze", {y[i], net.ints({0})}));
  return net;
}

TEST_CASE("recurrent: states that the network takes and hands out go on where they ended") {
  const Lowered one = lower_and_compare(streaming(3), -1, 1, with_cells());
  CHECK(one.worst_steps <= 3 * 256);  // of hidden states in 16 bits: three steps of 8
  CHECK(prove(one.graph()).overflow_free());
  const std::vector<double> scales{1.0 / 128, 1.0 / 32768, 1.0 / 2048};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(one.out(i).scale == scales[i]);
    if (i > 0) CHECK(one.graph().value(one.graph().inputs()[i]).quant == one.out(i));
  }
  // Two calls of three steps are one of six, bit for bit.
  const RangeLookup range = [](const std::string&, const QuantSpec&) { return Range{-1, 1}; };
  const Graph three = integerize(streaming(3).graph, range, with_cells()).graph,
              six = integerize(streaming(6).graph, range, with_cells()).graph;
  std::vector<std::int8_t> x(36);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int8_t>(static_cast<int>(i * 71 % 251) - 125);
  const auto codes = [&](std::size_t from, std::int64_t steps) {
    return Tensor::from<std::int8_t>({steps, 1, 6}, {x.begin() + static_cast<std::ptrdiff_t>(from),
                                                     x.begin() + static_cast<std::ptrdiff_t>(from) + steps * 6});
  };
  const std::vector<std::int16_t> h{5, -900, 32767, -32768, 0, 77, -1, 12000}, c(8, -3000);
  const Tensor h0 = Tensor::from<std::int16_t>({1, 8}, h), c0 = Tensor::from<std::int16_t>({1, 8}, c);
  const auto run = [](const Graph& g, const std::vector<Tensor>& inputs) { return Executor(g).run(inputs); };
  const std::vector<Tensor> first = run(three, {codes(0, 3), h0, c0}), second = run(three, {codes(18, 3), first[1], first[2]}),
                            whole = run(six, {codes(0, 6), h0, c0});
  CHECK(second[1] == whole[1]);
  CHECK(second[2] == whole[2]);
}

TEST_CASE("recurrent: 16 bits by recipe hand on the state itself, and R multiplies it") {
  const FloatNet net = recurrent({});
  const Lowered wide = lower_and_compare(net, -2, 2, with_cells(16)), narrow = lower_and_compare(net, -2, 2, with_cells());
  CHECK(wide.out().scale == 1.0 / 32768);
  CHECK(wide.nodes("iGRU")[0]->attrs.get_int("state_bits", 0) == 16);
  // The rounded weights, the same in both, make most of the error.
  CHECK(wide.worst_steps * wide.out().scale < 0.95 * narrow.worst_steps * narrow.out().scale);
}

TEST_CASE("recurrent: the gate curves are within a few 16-bit steps of their functions") {
  const Lowered y = lower_and_compare(recurrent({.T = 2}), -2, 2, with_cells());
  const Node& cell = *y.nodes("iGRU")[0];
  for (const auto& [slot, limit] : {std::pair{7, 2.6}, std::pair{8, 6.0}}) {
    const std::vector<std::int64_t> t = to_int64(y.graph().constant(cell.inputs[static_cast<std::size_t>(slot)]));
    REQUIRE(t.size() == 513);
    double worst = 0;
    for (int x = -32768; x < 32768; ++x) {
      const auto i = static_cast<std::size_t>((x >> 7) + 256);
      const std::int64_t got = t[i] + (((t[i + 1] - t[i]) * (x & 127) + 64) >> 7);
      const double v = x / 4096.0, f = slot == 7 ? 1 / (1 + std::exp(-v)) : std::tanh(v);
      worst = std::max(worst, std::abs(static_cast<double>(got) - 32768 * f));
    }
    CHECK(worst <= limit);  // integer-approximations.md 8.2: 2.5 and 5.9
  }
}

TEST_CASE("recurrent: what has no integer cell is refused by name") {
  const auto reason = [](const FloatNet& net, const IntegerizeOptions& options) {
    const auto refused = explain_refusals(net.graph, options);
    return refused.empty() ? std::string() : refused[0].reason;
  };
  IntegerizeOptions none;
  none.target.name = "some-target";
  CHECK(reason(recurrent({}), none).find("some-target has no recurrent cells") != std::string::npos);
  FloatNet relu = recurrent({});
  for (NodeId id : relu.graph.nodes()) {
    Attrs attrs = relu.graph.node(id).attrs;
    attrs.set("activations", std::vector<std::string>{"Relu", "Tanh"});
    relu.graph.set_attrs(id, attrs);
  }
  CHECK(reason(relu, with_cells()).find("gate 0 is Relu") != std::string::npos);
  CHECK(reason(recurrent({}), with_cells()).empty());
}

}  // namespace
}  // namespace waveq
