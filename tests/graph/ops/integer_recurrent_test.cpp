#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "op_case.h"

namespace waveq {
namespace {

using test::OpCase;
using Wide = __int128;
using Ints = std::vector<std::int64_t>;

/// Integer parameters of a recurrent layer, drawn or set by hand.
struct Layer {
  std::int64_t T = 1, B = 1, I = 1, H = 1, gates = 3;
  Ints x, w, r, w_mul, w_bias, r_mul, r_bias, sigmoid, tanh, h0, c0;
  std::int64_t w_shift = 0, r_shift = 0, state_bits = 8, reverse = 0, reset_last = 0, levels = 65536,
               cell_bits = 4, cell_output = 0;
};

template <class T>
Tensor tensor(const Shape& shape, const Ints& values) {
  return Tensor::from<T>(shape, std::vector<T>(values.begin(), values.end()));
}

Tensor run(const Layer& l) {
  const std::int64_t rows = l.gates * l.H;
  std::vector<std::optional<Tensor>> inputs{
      tensor<std::int8_t>({l.T, l.B, l.I}, l.x), tensor<std::int8_t>({rows, l.I}, l.w),
      tensor<std::int8_t>({rows, l.H}, l.r),     tensor<std::int32_t>({rows}, l.w_mul),
      tensor<std::int32_t>({rows}, l.w_bias),    tensor<std::int32_t>({rows}, l.r_mul),
      tensor<std::int32_t>({rows}, l.r_bias),    tensor<std::int16_t>({513}, l.sigmoid),
      tensor<std::int16_t>({513}, l.tanh)};
  if (!l.h0.empty() || !l.c0.empty())
    inputs.push_back(l.h0.empty() ? std::optional<Tensor>{} : tensor<std::int16_t>({l.B, l.H}, l.h0));
  if (!l.c0.empty()) inputs.push_back(tensor<std::int16_t>({l.B, l.H}, l.c0));
  std::vector<test::NamedAttr> attrs{{"w_shift", Attr(l.w_shift)},       {"r_shift", Attr(l.r_shift)},
                                     {"state_bits", Attr(l.state_bits)}, {"reverse", Attr(l.reverse)},
                                     {"n_levels_out", Attr(l.levels)}};
  if (l.gates == 3)
    attrs.emplace_back("linear_before_reset", Attr(l.reset_last));
  else
    attrs.insert(attrs.end(), {{"cell_bits", Attr(l.cell_bits)}, {"cell_output", Attr(l.cell_output)}});
  return test::run({.op = l.gates == 3 ? "iGRU" : "iLSTM", .inputs = inputs, .attrs = attrs});
}

/// Straight lines: 0.5 + v/16 and v/8 of the argument v in [-8, 8).
Ints line(std::int64_t at_lowest, std::int64_t at_highest) {
  Ints t;
  for (std::int64_t i = 0; i <= 512; ++i)
    t.push_back(std::clamp<std::int64_t>(at_lowest + (at_highest - at_lowest) * i / 512, -32768, 32767));
  return t;
}

TEST_CASE("iGRU: one step by hand") {
  Layer l;
  l.x = {64};
  l.w = {8, -8, 16};
  l.r = {0, 0, 0};
  l.w_mul = {4, 4, 4};
  l.r_mul = {1, 1, 1};
  l.w_bias = {0, 0, 1024};
  l.r_bias = {0, 0, 0};
  l.sigmoid = line(0, 32768);
  l.tanh = line(-32768, 32768);
  l.h0 = {16384};
  // Parts: z 64*8*4 = 2048, n 64*16*4 + 1024 = 5120. z = 16384 + 2048/2 = 17408 (0.53125), n = 5120.
  // h = round(((32768 - 17408)*5120 + 17408*16384) / 2^15) = round(2400 + 8704) = 11104
  CHECK(run(l) == Tensor::from<std::int16_t>({1, 1, 1, 1}, {11104}));
  l.levels = 256;  // 11104/256 = 43.375
  CHECK(run(l) == Tensor::from<std::int8_t>({1, 1, 1, 1}, {43}));
}

TEST_CASE("iLSTM: one step by hand") {
  Layer l;
  l.gates = 4;
  l.x = {100};
  l.w = {10, 0, -10, 20};
  l.r = {0, 0, 0, 0};
  l.w_mul = {2, 2, 2, 2};
  l.r_mul = {1, 1, 1, 1};
  l.w_bias = l.r_bias = {0, 0, 0, 0};
  l.sigmoid = line(0, 32768);
  l.tanh = line(-32768, 32768);
  l.c0 = {2048};  // 1.0 at 4 bits
  // i: 2000 -> 16384 + 1000, o: 16384, f: -2000 -> 15384, g: 4000 -> 4000
  // c = round(15384*2048/2^15) + round(17384*4000/2^19) = round(961.5) + round(132.63) = 962 + 133
  // tanh's argument: 1095*2 = 2190 -> 2190; h = round(16384*2190/2^15) = 1095
  CHECK(run(l) == Tensor::from<std::int16_t>({1, 1, 1, 1}, {1095}));
  l.cell_output = 1;
  CHECK(run(l) == Tensor::from<std::int16_t>({1, 2, 1, 1}, {1095, 1095}));
  l.c0 = {-30000};
  // c = round(15384*-30000/2^15) + 133 = -14084 + 133; tanh's argument -27902
  // h = round(16384*-27902/2^15)
  CHECK(run(l) == Tensor::from<std::int16_t>({1, 2, 1, 1}, {-13951, -13951}));
}

TEST_CASE("iLSTM: hidden states and cells of all steps and sequences, side by side") {
  Layer l;
  l.gates = 4;
  l.T = l.B = 2;
  l.x = {100, 50, -70, 3};
  l.w = {10, 0, -10, 20};
  l.r = {1, 2, 3, 4};
  l.w_mul = l.r_mul = {2, 2, 2, 2};
  l.w_bias = l.r_bias = {0, 0, 0, 0};
  l.sigmoid = line(0, 32768);
  l.tanh = line(-32768, 32768);
  const Tensor hidden = run(l);
  const auto alone = hidden.as<std::int16_t>();
  l.cell_output = 1;
  const Tensor both = run(l);
  REQUIRE(both.shape() == Shape{2, 2, 2, 1});
  const auto all = both.as<std::int16_t>();
  for (std::size_t t = 0; t < 2; ++t)
    for (std::size_t b = 0; b < 2; ++b) {
      CHECK(all[4 * t + b] == alone[2 * t + b]);
      // tanh and o = sigmoid are lines here: h = o*c, o of at least a quarter.
      CHECK(std::abs(all[4 * t + 2 + b]) <= 4 * std::abs(alone[2 * t + b]) + 4);
      CHECK((all[4 * t + 2 + b] < 0) == (alone[2 * t + b] < 0));
    }
  l.levels = 256;
  CHECK_THROWS_AS(run(l), Error);
}

// ---- An independent version in 128 bits, from the formulas of docs/waveq-operators.md.

Wide floor_shift(Wide v, std::int64_t s) {
  const Wide d = Wide{1} << s;
  return v >= 0 ? v / d : -((-v + d - 1) / d);
}
Wide round_shift(Wide v, std::int64_t s) { return s == 0 ? v : floor_shift(v + (Wide{1} << (s - 1)), s); }
Wide limit(Wide v, Wide lo, Wide hi) { return v < lo ? lo : v > hi ? hi : v; }
Wide sat16(Wide v) { return limit(v, -32768, 32767); }
Wide curve(const Ints& t, Wide v) {
  const auto i = static_cast<std::size_t>(floor_shift(v, 7) + 256);
  const Wide o = v - floor_shift(v, 7) * 128;
  return t[i] + floor_shift((Wide{t[i + 1]} - t[i]) * o + 64, 7);
}

Ints reference(const Layer& l) {
  Ints y(static_cast<std::size_t>(l.T * l.B * l.H));
  for (std::int64_t b = 0; b < l.B; ++b) {
    std::vector<Wide> h(static_cast<std::size_t>(l.H), 0), c(h);
    for (std::size_t u = 0; u < h.size(); ++u) {
      if (!l.h0.empty()) h[u] = l.h0[static_cast<std::size_t>(b * l.H) + u];
      if (!l.c0.empty()) c[u] = l.c0[static_cast<std::size_t>(b * l.H) + u];
    }
    const auto narrow = [](Wide v) { return limit(round_shift(v, 8), -128, 127); };
    for (std::int64_t s = 0; s < l.T; ++s) {
      const std::int64_t t = l.reverse ? l.T - 1 - s : s;
      const auto part = [&](const Ints& m, std::int64_t columns, const Ints& mul, const Ints& bias,
                            std::int64_t shift, std::int64_t row, const std::vector<Wide>& v) {
        Wide sum = 0;
        for (std::int64_t k = 0; k < columns; ++k)
          sum += m[static_cast<std::size_t>(row * columns + k)] * v[static_cast<std::size_t>(k)];
        const auto r = static_cast<std::size_t>(row);
        return limit(round_shift(sum * mul[r], shift) + bias[r], -1048576, 1048576);
      };
      std::vector<Wide> x, k;
      for (std::int64_t i = 0; i < l.I; ++i) x.push_back(l.x[static_cast<std::size_t>((t * l.B + b) * l.I + i)]);
      const auto operand = [&](const std::vector<Wide>& state) {
        std::vector<Wide> out;
        for (Wide v : state) out.push_back(l.state_bits == 16 ? v : narrow(v));
        return out;
      };
      k = operand(h);
      const auto w = [&](std::int64_t gate, std::int64_t u) {
        return part(l.w, l.I, l.w_mul, l.w_bias, l.w_shift, gate * l.H + u, x);
      };
      const auto r = [&](std::int64_t gate, std::int64_t u, const std::vector<Wide>& v) {
        return part(l.r, l.H, l.r_mul, l.r_bias, l.r_shift, gate * l.H + u, v);
      };
      std::vector<Wide> next = h, reset = h;
      for (std::int64_t u = 0; u < l.H && l.gates == 3; ++u) {
        const auto i = static_cast<std::size_t>(u);
        reset[i] = sat16(round_shift(curve(l.sigmoid, sat16(w(1, u) + r(1, u, k))) * h[i], 15));
      }
      for (std::int64_t u = 0; u < l.H; ++u) {
        const auto i = static_cast<std::size_t>(u);
        if (l.gates == 3) {
          const Wide z = curve(l.sigmoid, sat16(w(0, u) + r(0, u, k)));
          const Wide gate = curve(l.sigmoid, sat16(w(1, u) + r(1, u, k)));
          const Wide recurrent =
              l.reset_last ? round_shift(gate * r(2, u, k), 15) : r(2, u, operand(reset));
          const Wide n = curve(l.tanh, sat16(w(2, u) + recurrent));
          next[i] = sat16(round_shift((32768 - z) * n + z * h[i], 15));
        } else {
          const auto sum = [&](std::int64_t g) { return sat16(w(g, u) + r(g, u, k)); };
          const Wide in = curve(l.sigmoid, sum(0)), out = curve(l.sigmoid, sum(1)),
                     keep = curve(l.sigmoid, sum(2)), g = curve(l.tanh, sum(3));
          c[i] = sat16(round_shift(keep * c[i], 15) + round_shift(in * g, 15 + l.cell_bits));
          const Wide argument = l.cell_bits >= 3 ? c[i] * (Wide{1} << (l.cell_bits - 3))
                                                 : round_shift(c[i], 3 - l.cell_bits);
          next[i] = sat16(round_shift(out * curve(l.tanh, sat16(argument)), 15));
        }
      }
      h = next;
      for (std::size_t u = 0; u < h.size(); ++u)
        y[static_cast<std::size_t>((t * l.B + b) * l.H) + u] =
            static_cast<std::int64_t>(l.levels == 256 ? narrow(h[u]) : h[u]);
    }
  }
  return y;
}

Layer draw_layer(std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  const auto draw = [&](std::int64_t lo, std::int64_t hi) {
    return lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1));
  };
  const auto many = [&](std::int64_t n, std::int64_t lo, std::int64_t hi) {
    Ints v;
    for (std::int64_t i = 0; i < n; ++i) v.push_back(draw(lo, hi));
    return v;
  };
  Layer l;
  l.gates = draw(3, 4);
  l.T = draw(1, 6);
  l.B = draw(1, 2);
  l.I = draw(1, 5);
  l.H = draw(1, 4);
  const std::int64_t rows = l.gates * l.H;
  l.x = many(l.T * l.B * l.I, -128, 127);
  l.w = many(rows * l.I, -127, 127);
  l.r = many(rows * l.H, -127, 127);
  l.w_mul = many(rows, -3000, 1 << 20);
  l.r_mul = many(rows, 1, 1 << 18);
  l.w_bias = many(rows, -9000, 9000);
  l.r_bias = many(rows, -9000, 9000);
  l.w_shift = draw(0, 24);
  l.r_shift = draw(0, 24);
  l.state_bits = draw(0, 1) ? 8 : 16;
  l.levels = draw(0, 1) ? 256 : 65536;
  l.reverse = draw(0, 1);
  l.reset_last = draw(0, 1);
  l.cell_bits = draw(0, 6);
  for (int i = 0; i <= 512; ++i) {
    l.sigmoid.push_back(static_cast<std::int64_t>(32767 / (1 + std::exp(8 - i / 32.0))));
    l.tanh.push_back(draw(-32768, 32767));  // any table has a meaning
  }
  if (draw(0, 1)) l.h0 = many(l.B * l.H, -32768, 32767);
  if (l.gates == 4 && draw(0, 1)) l.c0 = many(l.B * l.H, -32768, 32767);
  return l;
}

TEST_CASE("iGRU, iLSTM: equal the formulas in 128 bits") {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    const Layer l = draw_layer(seed);
    REQUIRE(to_int64(run(l)) == reference(l));
  }
}

TEST_CASE("iGRU, iLSTM: T steps are T times one step") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Layer l = draw_layer(seed);
    l.gates = 3;
    l.w.resize(static_cast<std::size_t>(3 * l.H * l.I));
    l.r.resize(static_cast<std::size_t>(3 * l.H * l.H));
    for (Ints* v : {&l.w_mul, &l.r_mul, &l.w_bias, &l.r_bias}) v->resize(static_cast<std::size_t>(3 * l.H));
    l.c0.clear();
    l.levels = 65536;
    l.reverse = 0;
    const Ints all = to_int64(run(l));
    Layer one = l;
    one.T = 1;
    const auto size = static_cast<std::ptrdiff_t>(l.B * l.H), in = static_cast<std::ptrdiff_t>(l.B * l.I);
    for (std::ptrdiff_t t = 0; t < l.T; ++t) {
      one.x.assign(l.x.begin() + t * in, l.x.begin() + (t + 1) * in);
      one.h0 = to_int64(run(one));
      CHECK(one.h0 == Ints(all.begin() + t * size, all.begin() + (t + 1) * size));
    }
  }
}

TEST_CASE("iGRU, iLSTM: what they refuse") {
  const auto fails = [](auto&& change) {
    Layer l = draw_layer(3);
    change(l);
    try {
      run(l);
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  CHECK_FALSE(fails([](Layer&) {}));
  CHECK(fails([](Layer& l) { l.w_shift = 41; }));
  CHECK(fails([](Layer& l) { l.state_bits = 12; }));
  CHECK(fails([](Layer& l) { l.levels = 128; }));
  CHECK(fails([](Layer& l) { l.gates = 7 - l.gates; }));
}

}  // namespace
}  // namespace waveq
