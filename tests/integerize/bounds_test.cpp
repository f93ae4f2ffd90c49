#include "waveq/integerize/bounds.h"

#include <doctest/doctest.h>

#include <random>

#include "waveq/graph/executor.h"
#include "waveq/integerize/proof.h"

namespace waveq {
namespace {

using Ints = std::vector<std::int64_t>;

template <class T>
Tensor random_codes(Shape shape, std::int64_t lo, std::int64_t hi, std::mt19937_64& engine) {
  Tensor t(dtype_of<T>::value, std::move(shape));
  for (T& v : t.as<T>()) v = static_cast<T>(lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1)));
  return t;
}

Attrs attributes(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (const auto& [name, value] : pairs) attrs.set(name, value);
  return attrs;
}

Attrs requant_attrs(std::int64_t div, std::int64_t is_signed) {
  return attributes({{"div", div}, {"n_levels_out", std::int64_t{256}}, {"signed", is_signed}});
}

/// Runs the graph on random inputs, extreme ones among them, and holds every tensor to its interval.
void check_sound(const Graph& g, std::mt19937_64& engine, int runs) {
  BoundsAnalysis bounds(g);
  Executor executor(g, Overflow::error);
  for (int run = 0; run < runs; ++run) {
    std::vector<Tensor> inputs;
    for (ValueId in : g.inputs()) {
      Tensor t(g.value(in).type.dtype, g.value(in).type.shape);
      const std::int64_t lo = lowest(t.dtype()), hi = highest(t.dtype());
      visit_integer(t.dtype(), [&](auto e) {
        for (auto& v : t.as<decltype(e)>()) {
          const auto width = static_cast<std::uint64_t>(hi - lo + 1);
          const std::int64_t any = lo + static_cast<std::int64_t>(engine() % width);
          v = static_cast<decltype(e)>(run % 4 == 0 ? any : run % 4 == 1 ? lo : run % 4 == 2 ? hi : (engine() & 1 ? lo : hi));
        }
      });
      inputs.push_back(std::move(t));
    }
    executor.run(inputs, [&](ValueId id, const Tensor& t) {
      const Bounds& b = bounds.of(id);
      const auto values = to_int64(t);
      std::int64_t inner = 1;
      for (std::size_t i = 2; i < t.shape().size(); ++i) inner *= t.shape()[i];
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t channel = b.per_channel() ? static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % t.shape()[1]) : 0;
        if (b.per_channel()) REQUIRE(static_cast<std::int64_t>(b.channels.size()) == t.shape()[1]);
        if (values[i] < b.of(channel).lo || values[i] > b.of(channel).hi) {
          INFO(g.value(id).name, " ", values[i], " outside [", b.of(channel).lo, ", ", b.of(channel).hi, "]");
          FAIL("unsound");
        }
      }
    });
  }
}

TEST_CASE("bounds: no value of a random convolutional network leaves its interval") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 engine(seed);
    Graph g;
    const bool is_signed = seed % 2;
    const ValueId x = g.add_input("x", {is_signed ? DType::i8 : DType::u8, {static_cast<std::int64_t>(1 + seed % 2), 3, 5}});
    const bool padded = seed % 3 == 0;
    const ValueId c = g.emit("Conv", "c", {x, g.add_constant("w", random_codes<std::int8_t>({4, 3, 3}, -127, 127, engine))},
                             attributes({{"pads", padded ? Ints{1, 1} : Ints{0, 0}}}));
    const ValueId mul = g.add_constant("m", random_codes<std::int32_t>({4, 1}, -60, 60, engine));
    const ValueId add = g.add_constant("a", random_codes<std::int32_t>({4, 1}, -20000, 20000, engine));
    const ValueId r = g.emit("RequantShift", "r", {c, mul, add}, requant_attrs(4096, 1));
    const ValueId i = g.emit("iGELU", "i", {r}, attributes({{"b", std::int64_t{-40}}, {"one", std::int64_t{900}}}));
    const ValueId s = g.emit("RequantShift", "s", {i, g.add_constant("m", Tensor::scalar<std::int32_t>(77)), g.add_constant("a", Tensor::scalar<std::int32_t>(-300))}, requant_attrs(65536, 1));
    const ValueId sum = g.emit("Add", "sum", {r, s});
    const ValueId p = g.emit("Mul", "p", {r, s});
    const ValueId d = g.emit("Sub", "d", {s, r});
    const std::int64_t width = g.value(d).type.shape[2];
    g.add_output(sum);
    g.add_output(g.emit("Conv", "dw", {r, g.add_constant("w", random_codes<std::int8_t>({4, 1, 2}, -127, 127, engine))}, attributes({{"group", std::int64_t{4}}})));
    g.add_output(p);
    g.add_output(g.emit("Reshape", "shaped", {d, g.add_constant("t", Tensor::from<std::int64_t>({4}, {static_cast<std::int64_t>(1 + seed % 2), 4, width, 1}))}));
    g.add_output(g.emit("Transpose", "turned", {c}, attributes({{"perm", Ints{0, 2, 1}}})));
    const ValueId joined = g.emit("Concat", "joined", {r, s}, attributes({{"axis", std::int64_t{1}}}));
    g.add_output(joined);
    g.add_output(g.emit("Pad", "rim", {joined}, attributes({{"pads", Ints{0, 0, 1, 0, 0, 2}}, {"value", 3.0}})));
    g.add_output(g.emit("Pad", "channels", {r}, attributes({{"pads", Ints{0, 1, 0, 0, 0, 0}}})));
    g.add_output(g.emit("Pad", "shifted", {joined}, attributes({{"pads", Ints{0, -1, 0, 0, 1, 0}}})));
    const std::int64_t batch = static_cast<std::int64_t>(1 + seed % 2);
    for (const Ints& target : {Ints{batch, 2, 4 * width}, Ints{batch, 8 * width, 1}, Ints{batch, 4 * width, 2}, Ints{1, 8, batch * width}})
      g.add_output(g.emit("Reshape", "regrouped", {joined, g.add_constant("t", Tensor::from<std::int64_t>({3}, target))}));
    check_sound(g, engine, 40);
  }
}

TEST_CASE("bounds: no value of a random dense network leaves its interval") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 engine(seed);
    Graph g;
    const std::int64_t rows = seed % 2 ? 1 : 3;
    const ValueId x = g.add_input("x", {DType::i8, {rows, 4}});
    // C in every shape that a Gemm takes, one value for each row of a square product among them.
    const std::vector<Shape> shapes{{3}, {1, 3}, {rows, 1}, {rows, 3}, {1}};
    const Shape& c_shape = shapes[seed % shapes.size()];
    const ValueId y = g.emit("Gemm", "y", {x, g.add_constant("w", random_codes<std::int8_t>({3, 4}, -127, 127, engine)), g.add_constant("c", random_codes<std::int32_t>(c_shape, -90000, 90000, engine))},
                             attributes({{"transB", std::int64_t{1}}, {"alpha", seed % 4 == 0 ? -2.0 : 1.0}, {"beta", 3.0}}));
    // One multiplier for each row, or for each column.
    const Shape by = seed % 3 == 0 ? Shape{rows, 1} : seed % 3 == 1 ? Shape{3} : Shape{};
    const ValueId m = g.add_constant("m", random_codes<std::int32_t>(by, -50, 50, engine));
    const ValueId a = g.add_constant("a", random_codes<std::int32_t>(seed % 5 == 0 ? Shape{3} : Shape{}, -5000, 5000, engine));
    const ValueId r = g.emit("RequantShift", "r", {y, m, a}, requant_attrs(8192, 1));
    const ValueId z = g.emit("MatMul", "z", {r, g.add_constant("w", random_codes<std::int8_t>({3, 5}, -127, 127, engine))});
    g.add_output(z);
    const ValueId square = g.emit("MatMul", "gram", {r, g.emit("Transpose", "t", {r}, attributes({{"perm", Ints{1, 0}}}))});
    g.add_output(square);
    const ValueId u = g.emit("RequantShift", "u", {y, g.add_constant("m", Tensor::scalar<std::int32_t>(50)), g.add_constant("a", Tensor::scalar<std::int32_t>(0))}, requant_attrs(8192, 0));
    const ValueId den = g.emit("MatMul", "den", {u, g.add_constant("ones", Tensor::from<std::int8_t>({3, 1}, {1, 1, 1}))});
    g.add_output(g.emit("IntegerDiv", "q", {z, den}, attributes({{"Delta", std::int64_t{64}}, {"eta", std::int64_t{3}}, {"eps", std::int64_t{2}}})));
    check_sound(g, engine, 30);
  }
}

TEST_CASE("bounds: an input built from the signs of the weights attains the interval of its accumulator") {
  std::mt19937_64 engine(7);
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 12}});
  const Tensor w = random_codes<std::int8_t>({12, 5}, -127, 127, engine);
  const ValueId y = g.emit("Gemm", "y", {x, g.add_constant("w", w)});
  Graph conv;
  const ValueId cx = conv.add_input("x", {DType::i8, {1, 12, 1}});
  Tensor cw(DType::i8, {5, 12, 1});
  for (std::size_t k = 0; k < 12; ++k)
    for (std::size_t n = 0; n < 5; ++n) cw.as<std::int8_t>()[n * 12 + k] = w.as<std::int8_t>()[k * 5 + n];
  const ValueId cy = conv.emit("Conv", "y", {cx, conv.add_constant("w", cw)});
  g.add_output(y);
  conv.add_output(cy);
  BoundsAnalysis bounds(g), conv_bounds(conv);
  for (std::size_t n = 0; n < 5; ++n)
    for (const bool top : {true, false}) {
      Tensor worst(DType::i8, {1, 12});
      for (std::size_t k = 0; k < 12; ++k) worst.as<std::int8_t>()[k] = (w.as<std::int8_t>()[k * 5 + n] > 0) == top ? 127 : -128;
      const std::int64_t got = to_int64(Executor(g).run(std::vector{worst})[0])[n];
      const Interval& want = bounds.of(y).of(n);
      CHECK(got == (top ? want.hi : want.lo));
      CHECK(to_int64(Executor(conv).run(std::vector{worst.reshaped({1, 12, 1})})[0])[n] == got);
      CHECK(conv_bounds.of(cy).of(n) == want);
    }
}

TEST_CASE("bounds: literal intervals") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::u8, {1, 2, 4}});
  const ValueId w = g.add_constant("w", Tensor::from<std::int8_t>({2, 2, 1}, {3, -2, -1, -1}));
  const ValueId plain = g.emit("Conv", "plain", {x, w});
  CHECK(BoundsAnalysis(g).of(plain).channels == std::vector<Interval>{{-510, 765}, {-510, 0}});
  const ValueId biased = g.emit("Conv", "biased", {x, w, g.add_constant("b", Tensor::from<std::int32_t>({2}, {1000, -5}))});
  CHECK(BoundsAnalysis(g).of(biased).channels == std::vector<Interval>{{490, 1765}, {-515, -5}});
  // Zero padding brings the zero in, where the input cannot be zero.
  BoundsAnalysis bounds(g);
  bounds.assume(x, Bounds::all({5, 10}));
  CHECK(bounds.of(plain).channels == std::vector<Interval>{{-5, 20}, {-20, -10}});
  const ValueId padded = g.emit("Conv", "padded", {x, w}, attributes({{"pads", Ints{1, 1}}}));
  CHECK(bounds.of(padded).channels == std::vector<Interval>{{-20, 30}, {-20, 0}});
  const ValueId rq = g.emit("RequantShift", "rq", {plain, g.add_constant("m", Tensor::from<std::int32_t>({2, 1}, {1, -3})), g.add_constant("a", Tensor::from<std::int32_t>({2, 1}, {0, 2}))}, requant_attrs(4, 1));
  const auto reshaped = [&](Ints shape) {
    const ValueId target = g.add_constant("t", Tensor::from<std::int64_t>({std::ssize(shape)}, shape));
    return bounds.of(g.emit("Reshape", "r", {plain, target})).channels;
  };
  CHECK(reshaped({1, 4, 2}) == std::vector<Interval>{{-5, 20}, {-5, 20}, {-20, -10}, {-20, -10}});
  CHECK(reshaped({1, 1, 8}) == std::vector<Interval>{{-20, 20}});
  CHECK(reshaped({2, 2, 2}) == std::vector<Interval>{{-20, 20}});
  const ValueId rim = g.emit("Pad", "rim", {plain}, attributes({{"pads", Ints{0, 0, 1, 0, 0, 0}}, {"value", 0.0}}));
  CHECK(bounds.of(rim).channels == std::vector<Interval>{{-5, 20}, {-20, 0}});
  const ValueId both = g.emit("Concat", "both", {rim, rim}, attributes({{"axis", std::int64_t{1}}}));
  CHECK(bounds.of(both).channels == std::vector<Interval>{{-5, 20}, {-20, 0}, {-5, 20}, {-20, 0}});
  // (x + 2) >> 2 and (-3x + 2 + 2) >> 2 at the ends, then the clip: -5 -> -1, 20 -> 5; -10 -> 8, -20 -> 16.
  CHECK(bounds.of(rq).channels == std::vector<Interval>{{-1, 5}, {8, 16}});
}

TEST_CASE("bounds: empty tensors and a requant by rows are not read past their end") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {2, 0}});
  const ValueId y = g.emit("MatMul", "y", {x, g.add_constant("w", Tensor(DType::i8, {0, 3}))});
  CHECK(BoundsAnalysis(g).of(y).hull() == Interval{0, 0});
  const ValueId rq = g.emit("RequantShift", "rq", {y, g.add_constant("m", Tensor::from<std::int32_t>({2, 1}, {1, 2})), g.add_constant("a", Tensor::from<std::int32_t>({3}, {4, 8, 400}))}, requant_attrs(4, 1));
  CHECK(BoundsAnalysis(g).of(rq).hull() == Interval{1, 100});  // (4 + 2) >> 2 and (400 + 2) >> 2
}

}  // namespace
}  // namespace waveq
