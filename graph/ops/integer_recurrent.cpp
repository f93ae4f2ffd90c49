#include <fmt/format.h>

#include <algorithm>

#include "ops/integer_common.h"
#include "ops/integer_families.h"

// iGRU and iLSTM: recurrent layers with int8 weights, gates in 16 bits and a 16-bit state, one
// direction a node. docs/waveq-operators.md states them in words.
//
// Formats: gate arguments Q3.12 (1.0 = 4096), gates and hidden state Q0.15 (1.0 = 32768), the cell
// of an LSTM 2^(cell_bits - 15). Sums of products are int32 (the overflow proof shows that they
// fit), everything behind them is computed in 64 bits and saturated where this file says so.
// T: steps, B: batch, I: inputs, H: units, G: gates (GRU: z, r, n; LSTM: i, o, f, c), as in ONNX.
namespace waveq {

namespace {

using namespace integer_ops_detail;

constexpr std::int64_t kSegments = 512;
constexpr std::int64_t kMaxPart = std::int64_t{1} << 20;  // +-256 in Q3.12

std::int64_t clip16(std::int64_t v) { return std::clamp<std::int64_t>(v, -32768, 32767); }
/// v / 2^bits, half up.
std::int64_t rounded(std::int64_t v, int bits) {
  return bits == 0 ? v : (v + (std::int64_t{1} << (bits - 1))) >> bits;
}

/// A function of a 16-bit argument by 512 segments and linear interpolation: with i = (x >> 7) +
/// 256 and o = x & 127, T[i] + (((T[i+1] - T[i])*o + 64) >> 7).
/// Source: integer-approximations.md 8.2.
class Curve {
 public:
  explicit Curve(std::vector<std::int32_t> table) : table_(std::move(table)) {}
  std::int64_t operator()(std::int64_t x) const {
    const auto i = static_cast<std::size_t>((x >> 7) + 256);
    const std::int64_t left = table_[i], right = table_[i + 1];
    return left + (((right - left) * (x & 127) + 64) >> 7);
  }

 private:
  std::vector<std::int32_t> table_;
};

struct RecurrentAttrs {
  int w_shift, r_shift, cell_bits;
  bool wide_state, reverse, reset_last, cell_output;
  std::int64_t n_levels;
};

RecurrentAttrs read_attrs(const Attrs& attrs) {
  const auto within = [&](const char* name, std::int64_t fallback, std::int64_t lo,
                          std::int64_t hi) {
    const std::int64_t v = attrs.get_int(name, fallback);
    if (v < lo || v > hi)
      throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name), fmt::format("is {}", v),
                  fmt::format("{}..{} are possible", lo, hi));
    return v;
  };
  RecurrentAttrs a{};
  a.w_shift = static_cast<int>(within("w_shift", -1, 0, 40));
  a.r_shift = static_cast<int>(within("r_shift", -1, 0, 40));
  a.cell_bits = static_cast<int>(within("cell_bits", 4, 0, 12));
  a.reverse = within("reverse", 0, 0, 1) == 1;
  a.reset_last = within("linear_before_reset", 0, 0, 1) == 1;
  const auto either = [&](const char* name, std::int64_t narrow, std::int64_t wide) {
    const std::int64_t v = within(name, narrow, narrow, wide);
    if (v != narrow && v != wide)
      throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name), fmt::format("is {}", v),
                  fmt::format("{} or {}", narrow, wide));
    return v;
  };
  a.wide_state = either("state_bits", 8, 16) == 16;
  a.n_levels = either("n_levels_out", 256, 65536);
  a.cell_output = within("cell_output", 0, 0, 1) == 1;
  if (a.cell_output && a.n_levels != 65536)
    throw Error(ErrorCode::parse, "attribute 'n_levels_out'", fmt::format("is {}", a.n_levels),
                "with cell_output it is 65536: both states have 16 bits");
  return a;
}

struct Sizes {
  std::int64_t T, B, I, H, G;
};

std::vector<TensorType> infer_recurrent(const InferContext& ctx, std::int64_t gates) {
  const RecurrentAttrs attrs = read_attrs(ctx.attrs());
  const Shape &x = ctx.input(0).shape, &r = ctx.input(2).shape;
  if (x.size() != 3 || r.size() != 2)
    ctx.fail(fmt::format("x is {}, R is {}; [T,B,I] and [{}*H,H] are wanted", to_string(x),
                         to_string(r), gates));
  const Sizes s{x[0], x[1], x[2], r[1], gates};
  const std::int64_t rows = s.G * s.H;
  const auto expect = [&](std::size_t i, const Shape& shape) {
    if (ctx.has(i) && ctx.input(i).shape != shape)
      ctx.fail(fmt::format("input {} is {}, {} is wanted", i, to_string(ctx.input(i).shape),
                           to_string(shape)));
  };
  expect(1, {rows, s.I});
  expect(2, {rows, s.H});
  for (std::size_t i : {3u, 4u, 5u, 6u}) expect(i, {rows});
  for (std::size_t i : {7u, 8u}) expect(i, {kSegments + 1});
  for (std::size_t i : {9u, 10u}) expect(i, {s.B, s.H});
  const DType h = attrs.n_levels == 256 ? DType::i8 : DType::i16;
  return typed_like_input(ctx, h, {s.T, attrs.cell_output ? 2 : 1, s.B, s.H});
}

/// One projection: rounded((M.v)*mul, shift) + bias for some rows of M.
class Projection {
 public:
  Projection(const EvalContext& ctx, std::size_t matrix, std::size_t mul, std::size_t bias,
             int shift)
      : ctx_(ctx),
        m_(load_int32(ctx, matrix)),
        mul_(load_int32(ctx, mul)),
        bias_(load_int32(ctx, bias)),
        columns_(ctx.input(matrix).shape()[1]),
        shift_(shift) {}

  std::int64_t row(std::int64_t r, const std::int64_t* v) const {
    const std::int32_t* m = m_.data() + r * columns_;
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < columns_; ++k) sum += m[k] * v[k];
    if (sum != static_cast<std::int32_t>(sum)) {
      if (ctx_.overflow == Overflow::error)
        ctx_.fail(ErrorCode::overflow, fmt::format("row {} sums to {}, beyond int32", r, sum));
      sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum));
    }
    const auto i = static_cast<std::size_t>(r);
    return std::clamp<std::int64_t>(rounded(sum * mul_[i], shift_) + bias_[i], -kMaxPart, kMaxPart);
  }

 private:
  const EvalContext& ctx_;
  std::vector<std::int32_t> m_, mul_, bias_;
  std::int64_t columns_;
  int shift_;
};

/// The state of one sequence of a batch, and one step of it.
class Cell {
 public:
  Cell(const EvalContext& ctx, const RecurrentAttrs& attrs, std::int64_t gates)
      : attrs_(attrs),
        units_(ctx.input(2).shape()[1]),
        gates_(gates),
        w_(ctx, 1, 3, 4, attrs.w_shift),
        r_(ctx, 2, 5, 6, attrs.r_shift),
        sigmoid_(load_int32(ctx, 7)),
        tanh_(load_int32(ctx, 8)) {}

  void start(std::vector<std::int64_t> h, std::vector<std::int64_t> c) {
    h_ = std::move(h);
    c_ = std::move(c);
  }
  void step(const std::int64_t* x) { gates_ == 3 ? gru(x) : lstm(x); }
  /// The hidden state as other nodes read it.
  std::int64_t hidden(std::size_t u) const {
    return attrs_.n_levels == 256 ? narrow(h_[u]) : h_[u];
  }
  std::int64_t cell(std::size_t u) const { return c_[u]; }

 private:
  /// Q0.7 of a Q0.15 number.
  static std::int64_t narrow(std::int64_t h) {
    return std::clamp<std::int64_t>(rounded(h, 8), -128, 127);
  }
  /// What R multiplies: the 16-bit state, or its 8-bit copy.
  std::vector<std::int64_t> operand(std::vector<std::int64_t> h) const {
    if (!attrs_.wide_state)
      for (std::int64_t& v : h) v = narrow(v);
    return h;
  }

  /// z = sigmoid(Wz x + Rz h), r = sigmoid(Wr x + Rr h), h' = (1-z).n + z.h, and n = tanh(Wn x +
  /// r.(Rn h)) with linear_before_reset, tanh(Wn x + Rn (r.h)) without; biases are in the parts.
  void gru(const std::int64_t* x) {
    const std::vector<std::int64_t> h = operand(h_);
    std::vector<std::int64_t> z(h_.size()), r(h_.size()), reset(h_.size());
    for (std::int64_t u = 0; u < units_; ++u) {
      const auto i = static_cast<std::size_t>(u);
      z[i] = sigmoid_(clip16(w_.row(u, x) + r_.row(u, h.data())));
      r[i] = sigmoid_(clip16(w_.row(units_ + u, x) + r_.row(units_ + u, h.data())));
      reset[i] = clip16(rounded(r[i] * h_[i], 15));
    }
    if (!attrs_.reset_last) reset = operand(std::move(reset));
    for (std::int64_t u = 0; u < units_; ++u) {
      const auto i = static_cast<std::size_t>(u);
      const std::int64_t row = 2 * units_ + u;
      const std::int64_t recurrent =
          attrs_.reset_last ? rounded(r[i] * r_.row(row, h.data()), 15) : r_.row(row, reset.data());
      const std::int64_t n = tanh_(clip16(w_.row(row, x) + recurrent));
      h_[i] = clip16(rounded((32768 - z[i]) * n + z[i] * h_[i], 15));
    }
  }

  /// i, o, f = sigmoid, g = tanh of the sums; c' = f.c + i.g, h' = o.tanh(c').
  void lstm(const std::int64_t* x) {
    const std::vector<std::int64_t> h = operand(h_);
    for (std::int64_t u = 0; u < units_; ++u) {
      const auto k = static_cast<std::size_t>(u);
      const auto sum = [&](std::int64_t gate) {
        return clip16(w_.row(gate * units_ + u, x) + r_.row(gate * units_ + u, h.data()));
      };
      const std::int64_t i = sigmoid_(sum(0)), o = sigmoid_(sum(1)), f = sigmoid_(sum(2)),
                         g = tanh_(sum(3));
      c_[k] = clip16(rounded(f * c_[k], 15) + rounded(i * g, 15 + attrs_.cell_bits));
      // Q3.12: the cell's point is 15 - cell_bits.
      const std::int64_t argument = attrs_.cell_bits >= 3
                                        ? c_[k] * (std::int64_t{1} << (attrs_.cell_bits - 3))
                                        : rounded(c_[k], 3 - attrs_.cell_bits);
      h_[k] = clip16(rounded(o * tanh_(clip16(argument)), 15));
    }
  }

  RecurrentAttrs attrs_;
  std::int64_t units_, gates_;
  Projection w_, r_;
  Curve sigmoid_, tanh_;
  std::vector<std::int64_t> h_, c_;
};

void eval_recurrent(const EvalContext& ctx, std::int64_t gates) {
  const RecurrentAttrs attrs = read_attrs(ctx.attrs());
  const Shape& shape = ctx.input(0).shape();
  const std::int64_t T = shape[0], B = shape[1], I = shape[2], H = ctx.input(2).shape()[1];
  const std::vector<std::int32_t> x = load_int32(ctx, 0);
  const std::vector<std::int64_t> wide(x.begin(), x.end());
  const auto initial = [&](std::size_t input, std::int64_t b) {
    std::vector<std::int64_t> state(static_cast<std::size_t>(H), 0);
    if (!ctx.has(input)) return state;
    const std::vector<std::int32_t> all = load_int32(ctx, input);
    std::copy_n(all.begin() + b * H, H, state.begin());
    return state;
  };
  const std::int64_t parts = attrs.cell_output ? 2 : 1;
  std::vector<std::int32_t> y(static_cast<std::size_t>(T * parts * B * H));
  Cell cell(ctx, attrs, gates);
  for (std::int64_t b = 0; b < B; ++b) {
    cell.start(initial(9, b), initial(10, b));
    for (std::int64_t step = 0; step < T; ++step) {
      const std::int64_t t = attrs.reverse ? T - 1 - step : step;
      cell.step(wide.data() + (t * B + b) * I);
      for (std::int64_t u = 0; u < H; ++u) {
        const auto unit = static_cast<std::size_t>(u);
        const auto at = static_cast<std::size_t>((t * parts * B + b) * H + u);
        y[at] = static_cast<std::int32_t>(cell.hidden(unit));
        if (attrs.cell_output)
          y[at + static_cast<std::size_t>(B * H)] = static_cast<std::int32_t>(cell.cell(unit));
      }
    }
  }
  store(ctx, y);
}

OpDef recurrent(std::string name, std::vector<std::string> inputs, std::vector<std::string> attrs,
                std::int64_t gates) {
  return {
      .name = std::move(name),
      .inputs = std::move(inputs),
      .attrs = std::move(attrs),
      .spec = "docs/waveq-operators.md; integer-approximations.md 12",
      .infer = [gates](const InferContext& ctx) { return infer_recurrent(ctx, gates); },
      .eval =
          [gates](const EvalContext& ctx) { at_node(ctx, [&] { eval_recurrent(ctx, gates); }); },
      .dialect = true,
      .macs =
          [gates](const Graph& g, const Node& node) {
            const Shape &x = g.value(node.inputs[0]).type.shape,
                        &r = g.value(node.inputs[2]).type.shape;
            return x[0] * x[1] * gates * r[1] * (x[2] + r[1]);
          }};
}

}  // namespace

std::vector<OpDef> integer_recurrent_ops() {
  return {
      recurrent(
          "iGRU",
          {"x", "W", "R", "w_mul", "w_bias", "r_mul", "r_bias", "sigmoid", "tanh", "initial_h?"},
          {"linear_before_reset", "n_levels_out", "r_shift", "reverse", "state_bits", "w_shift"},
          3),
      recurrent("iLSTM",
                {"x", "W", "R", "w_mul", "w_bias", "r_mul", "r_bias", "sigmoid", "tanh",
                 "initial_h?", "initial_c?"},
                {"cell_bits", "cell_output", "n_levels_out", "r_shift", "reverse", "state_bits",
                 "w_shift"},
                4)};
}

}  // namespace waveq
