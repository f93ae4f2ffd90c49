// iGRU and iLSTM, their steps one after the other: what each tensor is stays known, where a Loop
// would hide it in a subgraph. graph/ops/integer_recurrent.cpp states what they compute.
#include <optional>

#include "dialects/standard/expansion.h"

namespace waveq::standard {

namespace {

constexpr std::int64_t kMaxPart = std::int64_t{1} << 20;

/// v / 2^bits, half up.
ValueId rounded(Expansion& e, ValueId v, std::int64_t bits) {
  if (bits == 0) return v;
  const std::int64_t divisor = std::int64_t{1} << bits;
  return e.floor_div(e.add(v, divisor / 2), divisor);
}

ValueId clip16(Expansion& e, ValueId v) { return e.clip(v, -32768, 32767); }

/// Elements first..last-1 along an axis.
ValueId slice(Expansion& e, ValueId x, std::int64_t axis, std::int64_t first, std::int64_t last) {
  Attrs attrs;
  attrs.set("starts", std::vector<std::int64_t>{first});
  attrs.set("ends", std::vector<std::int64_t>{last});
  attrs.set("axes", std::vector<std::int64_t>{axis});
  return e.op("Slice", {x}, std::move(attrs));
}

ValueId reshaped(Expansion& e, ValueId x, const Shape& shape) {
  return e.op("Reshape", {x, e.constants(shape)});
}

/// clip(round((M.v) * mul, shift) + bias, +-2^20) for some rows of M: [..,K] becomes [..,rows].
class Projection {
 public:
  Projection(Expansion& e, std::size_t matrix, std::size_t mul, std::size_t bias, const char* shift,
             std::int64_t first, std::int64_t last)
      : e_(e), shift_(e.attrs().require_int(shift)) {
    const std::vector<std::int64_t> all = to_int64(e.constant_input(matrix));
    const std::int64_t columns = e.shape(e.input(matrix))[1];
    Tensor transposed(DType::i32, {columns, last - first});
    std::int32_t* to = transposed.as<std::int32_t>().data();
    for (std::int64_t k = 0; k < columns; ++k)
      for (std::int64_t row = first; row < last; ++row)
        *to++ = static_cast<std::int32_t>(all[static_cast<std::size_t>(row * columns + k)]);
    matrix_ = e.constant(std::move(transposed));
    const auto part = [&](std::size_t input) {
      const std::vector<std::int64_t> v = to_int64(e.constant_input(input));
      return e.constants({v.begin() + first, v.begin() + last});
    };
    mul_ = part(mul);
    bias_ = part(bias);
    least_ = e.constant(-kMaxPart);
    largest_ = e.constant(kMaxPart);
  }

  ValueId operator()(ValueId v) const {
    const ValueId sum = e_.op("MatMul", {e_.cast(v, DType::i32), matrix_});
    const ValueId scaled = rounded(e_, e_.mul(e_.wide(sum), mul_), shift_);
    const ValueId x = e_.add(scaled, bias_);
    // Beyond int32 Clip is not to be trusted (Expansion::clip).
    const ValueId capped = e_.op("Where", {e_.op("Less", {x, largest_}), x, largest_});
    return e_.op("Where", {e_.op("Less", {least_, capped}), capped, least_});
  }

 private:
  Expansion& e_;
  std::int64_t shift_;
  ValueId matrix_, mul_, bias_, least_, largest_;
};

/// 512 segments over 16 bits with linear interpolation.
class Curve {
 public:
  Curve(Expansion& e, std::size_t input) : e_(e) {
    std::vector<std::int64_t> left = to_int64(e.constant_input(input)), rise;
    for (std::size_t i = 0; i + 1 < left.size(); ++i) rise.push_back(left[i + 1] - left[i]);
    left.pop_back();
    left_ = e.constants(left);
    rise_ = e.constants(rise);
  }

  ValueId operator()(ValueId x) const {
    const ValueId offset = e_.op("Mod", {x, e_.constant(128)});
    const ValueId segment = e_.add(e_.div(e_.sub(x, offset), 128), 256);
    const ValueId left = e_.op("Gather", {left_, segment});
    const ValueId risen = e_.mul(e_.op("Gather", {rise_, segment}), offset);
    return e_.add(left, rounded(e_, risen, 7));
  }

 private:
  Expansion& e_;
  ValueId left_, rise_;
};

/// The 8-bit copy of a 16-bit state.
ValueId narrowed(Expansion& e, ValueId h) { return e.clip(rounded(e, h, 8), -128, 127); }

/// What a step reads and leaves: [1,B,H] in int64. A GRU has no c.
struct State {
  ValueId h, c;
};

/// What both kinds of cells need.
struct Cell {
  explicit Cell(Expansion& expansion)
      : e(expansion),
        units(e.shape(e.input(2))[1]),
        wide_state(e.attrs().get_int("state_bits", 8) == 16),
        sigmoid(e, 7),
        tanh(e, 8) {}

  /// Rows of R for gates first..last-1.
  Projection recurrent(std::int64_t first, std::int64_t last) const {
    return Projection(e, 2, 5, 6, "r_shift", first * units, last * units);
  }
  /// Gates first..last-1 of a sum [1,B,G*H].
  ValueId gates(ValueId sum, std::int64_t first, std::int64_t last) const {
    return slice(e, sum, 2, first * units, last * units);
  }
  /// What R multiplies: the 16-bit state, or its 8-bit copy.
  ValueId operand(ValueId h) const { return wide_state ? h : narrowed(e, h); }

  Expansion& e;
  std::int64_t units;
  bool wide_state;
  Curve sigmoid, tanh;
};

class Gru {
 public:
  explicit Gru(Expansion& e)
      : cell_(e),
        reset_last_(e.attrs().get_int("linear_before_reset", 0) == 1),
        recurrent_(cell_.recurrent(0, reset_last_ ? 3 : 2)) {
    if (!reset_last_) candidate_.emplace(cell_.recurrent(2, 3));
  }

  State step(ValueId x, State s) const {
    Expansion& e = cell_.e;
    const ValueId product = recurrent_(cell_.operand(s.h));
    const ValueId sum = e.op("Add", {cell_.gates(x, 0, 2), cell_.gates(product, 0, 2)});
    const ValueId opened = cell_.sigmoid(clip16(e, sum));
    const ValueId z = cell_.gates(opened, 0, 1), r = cell_.gates(opened, 1, 2);
    const ValueId kept =
        candidate_ ? (*candidate_)(cell_.operand(clip16(e, rounded(e, e.mul(r, s.h), 15))))
                   : rounded(e, e.op("Mul", {r, cell_.gates(product, 2, 3)}), 15);
    const ValueId n = cell_.tanh(clip16(e, e.op("Add", {cell_.gates(x, 2, 3), kept})));
    const ValueId renewed = e.mul(e.add(e.mul(z, -1), 32768), n);
    return {clip16(e, rounded(e, e.op("Add", {renewed, e.mul(z, s.h)}), 15)), {}};
  }

 private:
  Cell cell_;
  bool reset_last_;
  Projection recurrent_;
  std::optional<Projection> candidate_;
};

class Lstm {
 public:
  explicit Lstm(Expansion& e)
      : cell_(e),
        cell_bits_(e.attrs().get_int("cell_bits", 4)),
        recurrent_(cell_.recurrent(0, 4)) {}

  State step(ValueId x, State s) const {
    Expansion& e = cell_.e;
    const ValueId sum = clip16(e, e.op("Add", {x, recurrent_(cell_.operand(s.h))}));
    const ValueId opened = cell_.sigmoid(cell_.gates(sum, 0, 3));
    const ValueId proposed = cell_.tanh(cell_.gates(sum, 3, 4));
    const ValueId kept = rounded(e, e.op("Mul", {cell_.gates(opened, 2, 3), s.c}), 15);
    const ValueId entered =
        rounded(e, e.op("Mul", {cell_.gates(opened, 0, 1), proposed}), 15 + cell_bits_);
    const ValueId c = clip16(e, e.add(kept, entered));
    // Q3.12: the cell's point is 15 - cell_bits.
    const ValueId argument = cell_bits_ >= 3 ? e.mul(c, std::int64_t{1} << (cell_bits_ - 3))
                                             : rounded(e, c, 3 - cell_bits_);
    const ValueId shown = cell_.tanh(clip16(e, argument));
    return {clip16(e, rounded(e, e.op("Mul", {cell_.gates(opened, 1, 2), shown}), 15)), c};
  }

 private:
  Cell cell_;
  std::int64_t cell_bits_;
  Projection recurrent_;
};

/// All steps over x [T,B,I]; [T,1,B,H], or [T,2,B,H] with the cells behind the hidden states.
template <class Kind>
ValueId unrolled(Expansion& e) {
  const Shape x = e.shape(e.input(0));
  const std::int64_t steps = x[0], units = e.shape(e.input(2))[1];
  const Shape state_shape{1, x[1], units};
  const auto initial = [&](std::size_t input) {
    return e.has(input) ? reshaped(e, e.wide(input), state_shape)
                        : e.constant(Tensor(DType::i64, state_shape));
  };
  State state{initial(9), e.node().op == "iLSTM" ? initial(10) : ValueId{}};
  const Projection project(e, 1, 3, 4, "w_shift", 0, e.shape(e.input(1))[0]);
  const ValueId parts = project(e.input(0));
  const Kind cell(e);
  const bool reverse = e.attrs().get_int("reverse", 0) == 1;
  const bool narrow = e.attrs().get_int("n_levels_out", 256) == 256;
  const bool with_cell = e.attrs().get_int("cell_output", 0) == 1;
  std::vector<ValueId> states(static_cast<std::size_t>(steps));
  Attrs attrs;
  attrs.set("axis", std::int64_t{0});
  for (std::int64_t i = 0; i < steps; ++i) {
    const std::int64_t t = reverse ? steps - 1 - i : i;
    state = cell.step(slice(e, parts, 0, t, t + 1), state);
    states[static_cast<std::size_t>(t)] =
        with_cell ? e.op("Concat", {state.h, state.c}, attrs) : state.h;
  }
  const ValueId all = e.op("Concat", std::move(states), attrs);
  const ValueId y = narrow ? narrowed(e, all) : all;
  return reshaped(e, y, {steps, with_cell ? 2 : 1, x[1], units});
}

}  // namespace

ValueId expand_igru(Expansion& e) { return unrolled<Gru>(e); }
ValueId expand_ilstm(Expansion& e) { return unrolled<Lstm>(e); }

}  // namespace waveq::standard
