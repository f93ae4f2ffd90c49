#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/dense.h"
#include "ops/families.h"
#include "ops/op_util.h"
#include "waveq/graph/kernels.h"

// RNN, GRU and LSTM in float32, layout 0. T: time steps, B: batch, I: input size, H: hidden size,
// D: directions (1 or 2).
namespace waveq::ops {

namespace {

struct Sizes {
  std::int64_t T, B, I, H, D, gates;
  bool backward_first;  ///< direction "reverse"
};

/// The gate nonlinearities that waveq has; all work in place on n elements.
using Gate = void (*)(std::int64_t n, float* x);

Gate gate_named(const Node& node, const std::string& name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (lower == "sigmoid")
    return [](std::int64_t n, float* x) { kernels::dense().sigmoid(n, x, x); };
  if (lower == "tanh") return [](std::int64_t n, float* x) { kernels::dense().tanh(n, x, x); };
  if (lower == "relu")
    return [](std::int64_t n, float* x) {
      for (std::int64_t i = 0; i < n; ++i) x[i] = x[i] < 0.0f ? 0.0f : x[i];
    };
  throw Error(ErrorCode::unsupported, place(node),
              fmt::format("activation '{}' is not handled", name), "Sigmoid, Tanh and Relu are");
}

/// `per_direction` functions for direction d; `defaults` where the node names none.
std::vector<Gate> gates_of(const Node& node, std::int64_t d,
                           const std::vector<std::string>& defaults, std::int64_t directions) {
  std::vector<std::string> names;
  if (const Attr* attr = node.attrs.find("activations"))
    if (const auto* list = std::get_if<std::vector<std::string>>(attr)) names = *list;
  if (names.empty())
    for (std::int64_t i = 0; i < directions; ++i)
      names.insert(names.end(), defaults.begin(), defaults.end());
  if (names.size() != defaults.size() * static_cast<std::size_t>(directions))
    throw Error(ErrorCode::shape, place(node),
                fmt::format("names {} activations for {} directions", names.size(), directions));
  std::vector<Gate> gates;
  for (std::size_t i = 0; i < defaults.size(); ++i)
    gates.push_back(gate_named(node, names[static_cast<std::size_t>(d) * defaults.size() + i]));
  return gates;
}

Sizes sizes_of(const Node& node, const Shape& x, const Shape& r, std::int64_t gates) {
  const std::string direction = node.attrs.get_string("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    throw Error(ErrorCode::shape, place(node),
                fmt::format("direction '{}' is not known", direction));
  return {.T = x[0],
          .B = x[1],
          .I = x[2],
          .H = r[2],
          .D = direction == "bidirectional" ? 2 : 1,
          .gates = gates,
          .backward_first = direction == "reverse"};
}

void refuse_options(const InferContext& ctx) {
  const auto refuse = [&](std::string what) {
    throw Error(ErrorCode::unsupported, place(ctx.node), std::move(what));
  };
  if (ctx.attrs().get_int("layout", 0) != 0) refuse("layout 1 is not handled");
  if (ctx.attrs().has("clip")) refuse("clip is not handled");
  if (ctx.attrs().get_int("input_forget", 0) != 0) refuse("input_forget is not handled");
  if (ctx.has(7)) refuse("peepholes are not handled");
}

/// Checks inputs X, W, R, B?, sequence_lens?, initial states? and returns the outputs Y, Y_h, Y_c.
Types infer_recurrent(const InferContext& ctx, std::int64_t gates, std::size_t states) {
  for (std::size_t i = 0; i < 3; ++i) {
    float_input(ctx, i);
    require_rank(ctx, i, 3, 3);
  }
  refuse_options(ctx);
  const Shape& x = ctx.input(0).shape;
  const Sizes s = sizes_of(ctx.node, x, ctx.input(2).shape, gates);
  if (ctx.attrs().get_int("hidden_size", s.H) != s.H)
    ctx.fail(fmt::format("hidden_size contradicts R {}", to_string(ctx.input(2))));
  const auto expect = [&](std::size_t i, const Shape& shape) {
    if (float_input(ctx, i).shape != shape)
      ctx.fail(fmt::format("input {} is {}, {} is wanted", i, to_string(ctx.input(i)),
                           to_string(shape)));
  };
  const std::int64_t rows = checked_product(ctx, gates, s.H);
  expect(1, {s.D, rows, s.I});
  expect(2, {s.D, rows, s.H});
  if (ctx.has(3)) expect(3, {s.D, 2 * rows});
  if (ctx.has(4) && (ctx.input(4).dtype != DType::i32 || ctx.input(4).shape != Shape{s.B}))
    ctx.fail(fmt::format("sequence_lens is {}, i32[{}] is wanted", to_string(ctx.input(4)), s.B));
  for (std::size_t i = 5; i < 5 + states; ++i)
    if (ctx.has(i)) expect(i, {s.D, s.B, s.H});
  const std::size_t functions = gates == 1 ? 1 : states + 1;
  gates_of(ctx.node, 0, std::vector<std::string>(functions, "Tanh"), s.D);
  Types types = {{DType::f32, {s.T, s.D, s.B, s.H}}};
  for (std::size_t i = 0; i < states; ++i) types.push_back({DType::f32, {s.D, s.B, s.H}});
  return for_outputs(ctx, types);
}

/// [rows, cols] transposed.
std::vector<float> transposed(const float* x, std::int64_t rows, std::int64_t cols) {
  std::vector<float> out(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) out[c * rows + r] = x[r * cols + c];
  return out;
}

/// One direction: weights in the layout of the products, W^T [I, G*H], R^T [H, G*H].
struct Direction {
  std::vector<float> w, r, wb, rb;  ///< wb, rb: biases [G*H], zero when absent
  bool backward;
};

Direction load_direction(const EvalContext& ctx, const Sizes& s, std::int64_t d) {
  const std::int64_t rows = s.gates * s.H;
  Direction out{.w = transposed(ctx.input(1).as<float>().data() + d * rows * s.I, rows, s.I),
                .r = transposed(ctx.input(2).as<float>().data() + d * rows * s.H, rows, s.H),
                .wb = std::vector<float>(static_cast<std::size_t>(rows), 0.0f),
                .rb = std::vector<float>(static_cast<std::size_t>(rows), 0.0f),
                .backward = s.backward_first || d == 1};
  if (ctx.has(3)) {
    const float* b = ctx.input(3).as<float>().data() + d * 2 * rows;
    std::copy_n(b, rows, out.wb.begin());
    std::copy_n(b + rows, rows, out.rb.begin());
  }
  return out;
}

/// y[b][:] += bias for `batch` rows of `n`.
void add_rows(float* y, const std::vector<float>& bias, std::int64_t batch) {
  const auto n = static_cast<std::int64_t>(bias.size());
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < n; ++i) y[b * n + i] += bias[i];
}

std::vector<float> initial_state(const EvalContext& ctx, std::size_t input, const Sizes& s,
                                 std::int64_t d) {
  std::vector<float> state(static_cast<std::size_t>(s.B * s.H), 0.0f);
  if (ctx.has(input))
    std::copy_n(ctx.input(input).as<float>().data() + d * s.B * s.H, s.B * s.H, state.begin());
  return state;
}

void check_lengths(const EvalContext& ctx, const Sizes& s) {
  if (!ctx.has(4)) return;
  for (std::int32_t length : ctx.input(4).as<std::int32_t>())
    if (length != s.T)
      ctx.fail(ErrorCode::unsupported,
               fmt::format("sequence_lens holds {}, shorter than the {} steps of the input", length,
                           s.T),
               "pad outside the network; only full sequences are handled");
}

/// Runs step(projected input [B, G*H], t) over time for each direction; `step` owns the states.
template <class Cell>
void run_recurrent(const EvalContext& ctx, const Sizes& s) {
  check_lengths(ctx, s);
  const std::int64_t rows = s.gates * s.H, state = s.B * s.H;
  std::vector<float> projected(static_cast<std::size_t>(s.T * s.B * rows));
  for (std::int64_t d = 0; d < s.D; ++d) {
    const Direction weights = load_direction(ctx, s, d);
    kernels::gemm_f32(s.T * s.B, rows, s.I, ctx.input(0).as<float>().data(), s.I, weights.w.data(),
                      rows, nullptr, projected.data(), rows);
    add_rows(projected.data(), weights.wb, s.T * s.B);
    Cell cell(ctx, s, weights, d);
    for (std::int64_t step = 0; step < s.T; ++step) {
      const std::int64_t t = weights.backward ? s.T - 1 - step : step;
      cell.step(projected.data() + t * s.B * rows);
      if (ctx.outputs[0])
        std::ranges::copy(cell.hidden(), ctx.output(0).as<float>().begin() + (t * s.D + d) * state);
    }
    cell.finish(d);
  }
}

void write_state(const EvalContext& ctx, std::size_t output, const std::vector<float>& state,
                 std::int64_t d) {
  if (ctx.outputs.size() > output && ctx.outputs[output])
    std::ranges::copy(state, ctx.output(output).as<float>().begin() +
                                 d * static_cast<std::int64_t>(state.size()));
}

const std::vector<std::string> kRnnGates = {"Tanh"};
const std::vector<std::string> kGruGates = {"Sigmoid", "Tanh"};
const std::vector<std::string> kLstmGates = {"Sigmoid", "Tanh", "Tanh"};

/// What the cells share: one direction's weights, nonlinearities and hidden state [B, H].
class CellBase {
 public:
  CellBase(const EvalContext& ctx, const Sizes& s, const Direction& weights,
           const std::vector<std::string>& gates, std::int64_t d)
      : ctx_(ctx),
        s_(s),
        weights_(weights),
        gates_(gates_of(ctx.node, d, gates, s.D)),
        h_(initial_state(ctx, 5, s, d)) {}

  const std::vector<float>& hidden() const { return h_; }
  void finish(std::int64_t d) const { write_state(ctx_, 1, h_, d); }

 protected:
  const EvalContext& ctx_;
  const Sizes& s_;
  const Direction& weights_;
  std::vector<Gate> gates_;
  std::vector<float> h_;
};

/// h' = f(W x + R h + b). Source: ONNX RNN-7, 14.
class RnnCell : public CellBase {
 public:
  RnnCell(const EvalContext& ctx, const Sizes& s, const Direction& weights, std::int64_t d)
      : CellBase(ctx, s, weights, kRnnGates, d), sums_(h_.size()) {}

  void step(const float* x) {
    kernels::gemm_f32(s_.B, s_.H, s_.H, h_.data(), s_.H, weights_.r.data(), s_.H, nullptr,
                      sums_.data(), s_.H);
    add_rows(sums_.data(), weights_.rb, s_.B);
    for (std::size_t i = 0; i < h_.size(); ++i) h_[i] = x[i] + sums_[i];
    gates_[0](std::ssize(h_), h_.data());
  }

 private:
  std::vector<float> sums_;
};

/// Gates in the order z, r, h. z = f(Wz x + Rz h + b), r = f(Wr x + Rr h + b),
/// n = g(Wh x + Rh (r.h) + b), or g(Wh x + b + r.(Rh h + b)) with linear_before_reset;
/// h' = (1-z).n + z.h. Source: ONNX GRU-7, 14.
class GruCell : public CellBase {
 public:
  GruCell(const EvalContext& ctx, const Sizes& s, const Direction& weights, std::int64_t d)
      : CellBase(ctx, s, weights, kGruGates, d),
        reset_last_(ctx.attrs().get_int("linear_before_reset", 0) != 0),
        recurrent_(static_cast<std::size_t>(s.B * 3 * s.H)),
        zr_(static_cast<std::size_t>(2 * s.H)),
        n_(static_cast<std::size_t>(s.H)),
        reset_h_(h_.size()),
        rh_(h_.size()),
        z_(h_.size()) {}

  void step(const float* x) {
    const std::int64_t H = s_.H, rows = 3 * H;
    kernels::gemm_f32(s_.B, rows, H, h_.data(), H, weights_.r.data(), rows, nullptr,
                      recurrent_.data(), rows);
    add_rows(recurrent_.data(), weights_.rb, s_.B);
    for (std::int64_t b = 0; b < s_.B; ++b) {
      for (std::int64_t i = 0; i < 2 * H; ++i) zr_[i] = x[b * rows + i] + recurrent_[b * rows + i];
      gates_[0](2 * H, zr_.data());
      std::copy_n(zr_.begin(), H, z_.begin() + b * H);
      for (std::int64_t i = 0; i < H; ++i) {
        rh_[b * H + i] = zr_[H + i] * recurrent_[b * rows + 2 * H + i];
        reset_h_[b * H + i] = zr_[H + i] * h_[b * H + i];
      }
    }
    if (!reset_last_) {
      kernels::gemm_f32(s_.B, H, H, reset_h_.data(), H, weights_.r.data() + 2 * H, rows, nullptr,
                        rh_.data(), H);
      for (std::int64_t b = 0; b < s_.B; ++b)
        for (std::int64_t i = 0; i < H; ++i) rh_[b * H + i] += weights_.rb[2 * H + i];
    }
    for (std::int64_t b = 0; b < s_.B; ++b) {
      for (std::int64_t i = 0; i < H; ++i) n_[i] = x[b * rows + 2 * H + i] + rh_[b * H + i];
      gates_[1](H, n_.data());
      for (std::int64_t i = 0; i < H; ++i) {
        const float z = z_[b * H + i];
        h_[b * H + i] = (1.0f - z) * n_[i] + z * h_[b * H + i];
      }
    }
  }

 private:
  bool reset_last_;
  std::vector<float> recurrent_, zr_, n_, reset_h_, rh_, z_;
};

/// Gates in the order i, o, f, c. i, o, f = f(W x + R h + b), c~ = g(Wc x + Rc h + b),
/// c' = f.c + i.c~, h' = o.h(c'). Source: ONNX LSTM-7, 14, without peepholes.
class LstmCell : public CellBase {
 public:
  LstmCell(const EvalContext& ctx, const Sizes& s, const Direction& weights, std::int64_t d)
      : CellBase(ctx, s, weights, kLstmGates, d),
        c_(initial_state(ctx, 6, s, d)),
        sums_(static_cast<std::size_t>(s.B * 4 * s.H)),
        squashed_(static_cast<std::size_t>(s.H)) {}

  void step(const float* x) {
    const std::int64_t H = s_.H, rows = 4 * H;
    kernels::gemm_f32(s_.B, rows, H, h_.data(), H, weights_.r.data(), rows, nullptr, sums_.data(),
                      rows);
    add_rows(sums_.data(), weights_.rb, s_.B);
    for (std::int64_t b = 0; b < s_.B; ++b) {
      float* g = sums_.data() + b * rows;
      for (std::int64_t i = 0; i < rows; ++i) g[i] += x[b * rows + i];
      gates_[0](3 * H, g);
      gates_[1](H, g + 3 * H);
      float *c = c_.data() + b * H, *h = h_.data() + b * H;
      for (std::int64_t i = 0; i < H; ++i) c[i] = g[2 * H + i] * c[i] + g[i] * g[3 * H + i];
      std::copy_n(c, H, squashed_.begin());
      gates_[2](H, squashed_.data());
      for (std::int64_t i = 0; i < H; ++i) h[i] = g[H + i] * squashed_[i];
    }
  }
  void finish(std::int64_t d) const {
    CellBase::finish(d);
    write_state(ctx_, 2, c_, d);
  }

 private:
  std::vector<float> c_, sums_, squashed_;
};

template <class Cell>
OpDef recurrent(std::string name, std::vector<std::string> inputs, std::vector<std::string> attrs,
                std::int64_t gates, std::size_t states) {
  const auto sizes = [gates](const Node& node, const Shape& x, const Shape& r) {
    return sizes_of(node, x, r, gates);
  };
  return {
      .name = name,
      .inputs = std::move(inputs),
      .attrs = std::move(attrs),
      .spec = "ONNX " + name + "-7, 14",
      .infer = [gates,
                states](const InferContext& ctx) { return infer_recurrent(ctx, gates, states); },
      .eval =
          [sizes](const EvalContext& ctx) {
            run_recurrent<Cell>(ctx, sizes(ctx.node, ctx.input(0).shape(), ctx.input(2).shape()));
          },
      .macs =
          [sizes](const Graph& g, const Node& node) {
            const Sizes s =
                sizes(node, g.value(node.inputs[0]).type.shape, g.value(node.inputs[2]).type.shape);
            return s.D * s.T * s.B * s.gates * s.H * (s.I + s.H);
          }};
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> recurrent_ops() {
  using namespace ops;
  return {recurrent<RnnCell>("RNN", {"X", "W", "R", "B?", "sequence_lens?", "initial_h?"},
                             {"activations", "direction", "hidden_size", "layout"}, 1, 1),
          recurrent<GruCell>(
              "GRU", {"X", "W", "R", "B?", "sequence_lens?", "initial_h?"},
              {"activations", "direction", "hidden_size", "layout", "linear_before_reset"}, 3, 1),
          recurrent<LstmCell>(
              "LSTM", {"X", "W", "R", "B?", "sequence_lens?", "initial_h?", "initial_c?", "P?"},
              {"activations", "direction", "hidden_size", "layout"}, 4, 2)};
}

}  // namespace waveq
