#include "op_case.h"
#include "waveq/graph/op.h"

using namespace waveq;
using namespace waveq::test;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Small weights: random_floats reaches 4, which would saturate every gate.
Tensor weights(Shape shape, std::uint64_t seed) {
  Tensor t = random_floats(std::move(shape), seed);
  for (float& v : t.as<float>()) v /= 8.0f;
  return t;
}

struct Problem {
  std::int64_t T = 5, B = 2, I = 3, H = 4, D = 1, gates = 3;
  Tensor x, w, r, b, h0, c0;
  Problem(std::int64_t d, std::int64_t g) : D(d), gates(g) {
    x = random_floats({T, B, I}, 1);
    w = weights({D, g * H, I}, 2);
    r = weights({D, g * H, H}, 3);
    b = weights({D, 2 * g * H}, 4);
    h0 = weights({D, B, H}, 5);
    c0 = weights({D, B, H}, 6);
  }
  double at(const Tensor& t, std::int64_t i) const { return static_cast<double>(t.as<float>()[i]); }
  /// W x + Wb for gate g, unit u.
  double input(std::int64_t d, std::int64_t t, std::int64_t n, std::int64_t g,
               std::int64_t u) const {
    double sum = at(b, d * 2 * gates * H + g * H + u);
    for (std::int64_t i = 0; i < I; ++i)
      sum += at(w, ((d * gates + g) * H + u) * I + i) * at(x, (t * B + n) * I + i);
    return sum;
  }
  double recurrent_bias(std::int64_t d, std::int64_t g, std::int64_t u) const {
    return at(b, d * 2 * gates * H + (gates + g) * H + u);
  }
  /// R h for gate g, unit u.
  double recurrent(std::int64_t d, const std::vector<double>& h, std::int64_t g,
                   std::int64_t u) const {
    double sum = 0;
    for (std::int64_t k = 0; k < H; ++k) sum += at(r, ((d * gates + g) * H + u) * H + k) * h[k];
    return sum;
  }
};

/// Runs cell(direction, time, batch, h, c) over time straight from the ONNX text; fills Y and Y_h.
template <class Cell>
void plain(const Problem& p, bool reverse, Cell cell, std::vector<float>& y,
           std::vector<float>& last_h, std::vector<float>& last_c) {
  y.resize(p.T * p.D * p.B * p.H);
  last_h.resize(p.D * p.B * p.H);
  last_c.resize(p.D * p.B * p.H);
  for (std::int64_t d = 0; d < p.D; ++d)
    for (std::int64_t n = 0; n < p.B; ++n) {
      std::vector<double> h, c;
      for (std::int64_t u = 0; u < p.H; ++u) {
        h.push_back(p.at(p.h0, (d * p.B + n) * p.H + u));
        c.push_back(p.at(p.c0, (d * p.B + n) * p.H + u));
      }
      for (std::int64_t s = 0; s < p.T; ++s) {
        const std::int64_t t = reverse || d == 1 ? p.T - 1 - s : s;
        cell(d, t, n, h, c);
        for (std::int64_t u = 0; u < p.H; ++u)
          y[((t * p.D + d) * p.B + n) * p.H + u] = static_cast<float>(h[u]);
      }
      for (std::int64_t u = 0; u < p.H; ++u) {
        last_h[(d * p.B + n) * p.H + u] = static_cast<float>(h[u]);
        last_c[(d * p.B + n) * p.H + u] = static_cast<float>(c[u]);
      }
    }
}

void check_rnn(const std::string& direction, bool relu) {
  const Problem p(direction == "bidirectional" ? 2 : 1, 1);
  std::vector<float> y, h, c;
  plain(
      p, direction == "reverse",
      [&](std::int64_t d, std::int64_t t, std::int64_t n, std::vector<double>& state, std::vector<double>&) {
        const std::vector<double> old = state;
        for (std::int64_t u = 0; u < p.H; ++u) {
          const double sum = p.input(d, t, n, 0, u) + p.recurrent(d, old, 0, u) + p.recurrent_bias(d, 0, u);
          state[u] = relu ? std::max(sum, 0.0) : std::tanh(sum);
        }
      },
      y, h, c);
  OpCase test = {.op = "RNN", .inputs = {p.x, p.w, p.r, p.b, std::nullopt, p.h0}, .attrs = {{"direction", direction.c_str()}}, .outputs = 2};
  if (relu)
    test.attrs.push_back({"activations", Attr(std::vector<std::string>(static_cast<std::size_t>(p.D), "Relu"))});
  const auto got = run_all(test);
  check_near(got[0], Tensor::from<float>({p.T, p.D, p.B, p.H}, y), 2e-6);
  check_near(got[1], Tensor::from<float>({p.D, p.B, p.H}, h), 2e-6);
}

void check_gru(const std::string& direction, bool reset_last) {
  const Problem p(direction == "bidirectional" ? 2 : 1, 3);
  std::vector<float> y, h, c;
  plain(
      p, direction == "reverse",
      [&](std::int64_t d, std::int64_t t, std::int64_t n, std::vector<double>& s,
          std::vector<double>&) {
        std::vector<double> z, r, rs, next;
        for (std::int64_t u = 0; u < p.H; ++u) {
          z.push_back(sigmoid(p.input(d, t, n, 0, u) + p.recurrent(d, s, 0, u) +
                              p.recurrent_bias(d, 0, u)));
          r.push_back(sigmoid(p.input(d, t, n, 1, u) + p.recurrent(d, s, 1, u) +
                              p.recurrent_bias(d, 1, u)));
          rs.push_back(r[u] * s[u]);
        }
        for (std::int64_t u = 0; u < p.H; ++u) {
          const double inner = reset_last
                                   ? r[u] * (p.recurrent(d, s, 2, u) + p.recurrent_bias(d, 2, u))
                                   : p.recurrent(d, rs, 2, u) + p.recurrent_bias(d, 2, u);
          next.push_back((1 - z[u]) * std::tanh(p.input(d, t, n, 2, u) + inner) + z[u] * s[u]);
        }
        s = next;
      },
      y, h, c);
  const auto out = run_all({.op = "GRU",
                            .inputs = {p.x, p.w, p.r, p.b, std::nullopt, p.h0},
                            .attrs = {{"hidden_size", 4},
                                      {"direction", direction.c_str()},
                                      {"linear_before_reset", reset_last ? 1 : 0}},
                            .outputs = 2});
  INFO(direction << (reset_last ? ", linear_before_reset" : ""));
  check_near(out[0], tensor({p.T, p.D, p.B, p.H}, y), 2e-6);
  check_near(out[1], tensor({p.D, p.B, p.H}, h), 2e-6);
}

void check_lstm(const std::string& direction) {
  const Problem p(direction == "bidirectional" ? 2 : 1, 4);
  std::vector<float> y, h, c;
  plain(
      p, direction == "reverse",
      [&](std::int64_t d, std::int64_t t, std::int64_t n, std::vector<double>& s,
          std::vector<double>& cell) {
        std::vector<double> next(s.size());
        for (std::int64_t u = 0; u < p.H; ++u) {
          const auto gate = [&](std::int64_t g) {
            return p.input(d, t, n, g, u) + p.recurrent(d, s, g, u) + p.recurrent_bias(d, g, u);
          };
          cell[u] = sigmoid(gate(2)) * cell[u] + sigmoid(gate(0)) * std::tanh(gate(3));
          next[u] = sigmoid(gate(1)) * std::tanh(cell[u]);
        }
        s = next;
      },
      y, h, c);
  const auto out = run_all({.op = "LSTM",
                            .inputs = {p.x, p.w, p.r, p.b, std::nullopt, p.h0, p.c0},
                            .attrs = {{"hidden_size", 4}, {"direction", direction.c_str()}},
                            .outputs = 3});
  INFO(direction);
  check_near(out[0], tensor({p.T, p.D, p.B, p.H}, y), 2e-6);
  check_near(out[1], tensor({p.D, p.B, p.H}, h), 2e-6);
  check_near(out[2], tensor({p.D, p.B, p.H}, c), 2e-6);
}

}  // namespace

TEST_CASE("RNN: every direction, tanh and ReLU, against the plain formula") {
  for (const char* direction : {"forward", "reverse", "bidirectional"})
    for (const bool relu : {false, true}) {
      CAPTURE(direction);
      CAPTURE(relu);
      check_rnn(direction, relu);
    }
  const Problem p(1, 1);
  CHECK(error_of({"RNN", {p.x, p.w, p.r}, {{"hidden_size", 5}}}) == ErrorCode::shape);
}

TEST_CASE("GRU: against its equations, every direction, both reset forms") {
  for (const char* direction : {"forward", "reverse", "bidirectional"})
    for (bool reset_last : {false, true}) check_gru(direction, reset_last);
}

TEST_CASE("LSTM: against its equations, every direction") {
  for (const char* direction : {"forward", "reverse", "bidirectional"}) check_lstm(direction);
}

TEST_CASE("GRU, LSTM: no bias and no initial state mean zeros") {
  const Problem p(1, 3);
  const Tensor zero_b(DType::f32, {1, 24}), zero_h(DType::f32, {1, 2, 4});
  CHECK(run({"GRU", {p.x, p.w, p.r}}) ==
        run({"GRU", {p.x, p.w, p.r, zero_b, std::nullopt, zero_h}}));
}

TEST_CASE("GRU, LSTM: full sequence lengths are allowed, shorter ones refused") {
  const Problem p(1, 3);
  CHECK(run({"GRU", {p.x, p.w, p.r, p.b, tensor<std::int32_t>({2}, {5, 5})}}) ==
        run({"GRU", {p.x, p.w, p.r, p.b}}));
  CHECK(error_of({"GRU", {p.x, p.w, p.r, p.b, tensor<std::int32_t>({2}, {5, 4})}}) ==
        ErrorCode::unsupported);
}

TEST_CASE("GRU, LSTM: what is not handled is refused") {
  const Problem p(1, 4);
  const Tensor peepholes(DType::f32, {1, 12});
  CHECK(error_of({"LSTM", {p.x, p.w, p.r, p.b, std::nullopt, p.h0, p.c0, peepholes}}) ==
        ErrorCode::unsupported);
  CHECK(error_of({"LSTM", {p.x, p.w, p.r}, {{"layout", 1}}}) == ErrorCode::unsupported);
  CHECK(error_of({"LSTM", {p.x, p.w, p.r}, {{"clip", 1.0}}}) == ErrorCode::unsupported);
  CHECK(error_of({"LSTM",
                  {p.x, p.w, p.r},
                  {{"activations", Attr(std::vector<std::string>{"Affine", "Tanh", "Tanh"})}}}) ==
        ErrorCode::unsupported);
  CHECK(error_of(
            {"LSTM", {p.x, p.w, p.r}, {{"activations", Attr(std::vector<std::string>{"Tanh"})}}}) ==
        ErrorCode::shape);
  CHECK(error_of({"LSTM", {p.x, p.w, p.r}, {{"direction", "bidirectional"}}}) == ErrorCode::shape);
  CHECK(error_of({"LSTM", {p.x, p.w, p.r}, {{"direction", "sideways"}}}) == ErrorCode::shape);
  CHECK(error_of({"LSTM", {p.x, p.w, p.r}, {{"hidden_size", 5}}}) == ErrorCode::shape);
  CHECK(error_of({"LSTM", {p.x, p.w, p.w}}) == ErrorCode::shape);
}

TEST_CASE("GRU: named activations replace the defaults") {
  const Problem p(1, 3);
  const OpCase relu = {
      "GRU", {p.x, p.w, p.r}, {{"activations", Attr(std::vector<std::string>{"Sigmoid", "Relu"})}}};
  const OpCase tanh = {
      "GRU", {p.x, p.w, p.r}, {{"activations", Attr(std::vector<std::string>{"sigmoid", "tanh"})}}};
  CHECK(run(tanh) == run({"GRU", {p.x, p.w, p.r}}));
  CHECK_FALSE(run(relu) == run(tanh));
  const Tensor y = run(relu);
  for (float v : y.as<float>()) CHECK(v >= 0.0f);
}

TEST_CASE("GRU, LSTM: multiply-accumulates") {
  const Problem p(2, 4);
  const Graph g = graph_of(
      {.op = "LSTM", .inputs = {p.x, p.w, p.r}, .attrs = {{"direction", "bidirectional"}}});
  CHECK(find_op("LSTM")->macs(g, g.node(g.nodes().front())) == 2 * 5 * 2 * 16 * (3 + 4));
}
