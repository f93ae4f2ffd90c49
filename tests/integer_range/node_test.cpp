// Nodes whose arithmetic is in their operator: sums of products, elementwise arithmetic,
// reductions, pooling, and Slice, whose bounds may be any int64.
#include "steps.h"

namespace waveq {

using namespace test;

namespace {

constexpr int kRounds = 4000;

DType any_dtype(Draw& draw) {
  constexpr DType kTypes[] = {DType::i8, DType::u8, DType::i16, DType::i32};
  return kTypes[draw(0, 3)];
}

Tensor any_tensor(Draw& draw, DType dtype, const Shape& shape) {
  const std::int64_t reach = draw(0, 2) == 0 ? highest(dtype) : anywhere(draw, 1, highest(dtype));
  std::vector<std::int64_t> x(static_cast<std::size_t>(element_count(shape)));
  for (std::int64_t& v : x)
    v = anywhere(draw, std::max(lowest(dtype), reach == highest(dtype) ? lowest(dtype) : -reach),
                 reach);
  return cast(Tensor::from<std::int64_t>(shape, x), dtype);
}

std::vector<std::int64_t> node_result(const std::string& op, const std::vector<Tensor>& inputs,
                                      const Attrs& attrs, Overflow overflow) {
  return to_int64(run_node(op, inputs, attrs, overflow));
}

/// run_node against elements computed by `f(steps)`.
bool node_agrees(const std::string& op, const std::vector<Tensor>& inputs, const Attrs& attrs,
                 const std::function<std::vector<Wide>(Steps&)>& f) {
  return agree([&](Overflow o) { return node_result(op, inputs, attrs, o); }, f);
}

}  // namespace

TEST_CASE("range: Add, Sub and Mul") {
  Draw draw(201);
  int fitting = 0;
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t rows = draw(1, 3), columns = draw(1, 9);
    const Tensor a = any_tensor(draw, any_dtype(draw), {rows, columns}),
                 b = any_tensor(draw, any_dtype(draw), {columns});
    const std::vector<std::int64_t> x = to_int64(a), y = to_int64(b);
    for (const char* op : {"Add", "Sub", "Mul"})
      fitting += node_agrees(op, {a, b}, {}, [&](Steps& s) {
        std::vector<Wide> out;
        for (std::size_t k = 0; k < x.size(); ++k) {
          const Wide p = x[k], q = y[k % y.size()];
          out.push_back(s.to_signed(32, op[0] == 'A' ? p + q : op[0] == 'S' ? p - q : p * q));
        }
        return out;
      });
  }
  CHECK(fitting > kRounds);
}

TEST_CASE("range: Conv") {
  Draw draw(202);
  int fitting = 0;
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t group = draw(1, 3), depth = draw(1, 3), filters = group * draw(1, 2),
                       kernel = draw(1, 4), stride = draw(1, 3), dilation = draw(1, 2),
                       before = draw(0, 2), after = draw(0, 2), reach = dilation * (kernel - 1) + 1,
                       length = std::max<std::int64_t>(draw(1, 9), reach - before - after);
    const std::int64_t out = (length + before + after - reach) / stride + 1;
    const Tensor x = any_tensor(draw, any_dtype(draw), {1, group * depth, length}),
                 w = any_tensor(draw, any_dtype(draw), {filters, depth, kernel}),
                 b = any_tensor(draw, DType::i32, {filters});
    const std::vector<std::int64_t> xs = to_int64(x), ws = to_int64(w), bs = to_int64(b);
    const Attrs attrs = attrs_of({{"group", group},
                                  {"kernel_shape", std::vector<std::int64_t>{kernel}},
                                  {"strides", std::vector<std::int64_t>{stride}},
                                  {"dilations", std::vector<std::int64_t>{dilation}},
                                  {"pads", std::vector<std::int64_t>{before, after}}});
    fitting += node_agrees("Conv", {x, w, b}, attrs, [&](Steps& s) {
      std::vector<Wide> y;
      for (std::int64_t f = 0; f < filters; ++f)
        for (std::int64_t o = 0; o < out; ++o) {
          Wide sum = bs[static_cast<std::size_t>(f)];
          for (std::int64_t c = 0; c < depth; ++c)
            for (std::int64_t k = 0; k < kernel; ++k) {
              const std::int64_t at = o * stride - before + k * dilation,
                                 channel = f / (filters / group) * depth + c;
              if (at >= 0 && at < length)
                sum += Wide{xs[static_cast<std::size_t>(channel * length + at)]} *
                       ws[static_cast<std::size_t>((f * depth + c) * kernel + k)];
            }
          y.push_back(s.to_signed(32, sum));
        }
      return y;
    });
  }
  CHECK(fitting > kRounds / 8);
}

TEST_CASE("range: Gemm and MatMul") {
  Draw draw(203);
  int fitting = 0;
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t M = draw(1, 4), N = draw(1, 4), K = draw(1, 9), ta = draw(0, 1),
                       tb = draw(0, 1);
    const bool is_gemm = draw(0, 1) == 1;
    const std::int64_t alpha = is_gemm ? anywhere(draw, -kHigh32, kHigh32) : 1,
                       beta = is_gemm ? anywhere(draw, -kHigh32, kHigh32) : 0;
    const bool turn_a = is_gemm && ta, turn_b = is_gemm && tb;
    const Tensor a = any_tensor(draw, any_dtype(draw), turn_a ? Shape{K, M} : Shape{M, K}),
                 b = any_tensor(draw, any_dtype(draw), turn_b ? Shape{N, K} : Shape{K, N}),
                 c = any_tensor(draw, DType::i32, {N});
    const std::vector<std::int64_t> as = to_int64(a), bs = to_int64(b), cs = to_int64(c);
    const auto wanted = [&](Steps& s) {
      std::vector<Wide> y;
      for (std::int64_t m = 0; m < M; ++m)
        for (std::int64_t n = 0; n < N; ++n) {
          Wide sum = 0;
          for (std::int64_t k = 0; k < K; ++k)
            sum += Wide{as[static_cast<std::size_t>(turn_a ? k * M + m : m * K + k)]} *
                   bs[static_cast<std::size_t>(turn_b ? n * K + k : k * N + n)];
          y.push_back(s.to_signed(32, alpha * sum + Wide{beta} * cs[static_cast<std::size_t>(n)]));
        }
      return y;
    };
    if (is_gemm)
      fitting += node_agrees("Gemm", {a, b, c},
                             attrs_of({{"transA", ta},
                                       {"transB", tb},
                                       {"alpha", static_cast<double>(alpha)},
                                       {"beta", static_cast<double>(beta)}}),
                             wanted);
    else
      fitting += node_agrees("MatMul", {a, b}, {}, wanted);
  }
  CHECK(fitting > kRounds / 8);
}

TEST_CASE("range: ReduceSum, ReduceMean and IntegerMean") {
  Draw draw(204);
  int fitting = 0;
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t rows = draw(1, 3),
                       columns = draw(0, 1) ? std::int64_t{1} << draw(0, 4) : draw(1, 9);
    const Tensor x = any_tensor(draw, any_dtype(draw), {rows, columns});
    const std::vector<std::int64_t> xs = to_int64(x);
    const Attrs attrs =
        attrs_of({{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
    for (const char* op : {"ReduceSum", "ReduceMean", "IntegerMean"})
      fitting += node_agrees(op, {x}, attrs, [&](Steps& s) {
        std::vector<Wide> y;
        for (std::int64_t r = 0; r < rows; ++r) {
          Wide sum = 0;
          for (std::int64_t c = 0; c < columns; ++c)
            sum += xs[static_cast<std::size_t>(r * columns + c)];
          sum = s.to_signed(32, sum);
          if (op[6] == 'S') {
            y.push_back(sum);
            continue;
          }
          const bool power = (columns & (columns - 1)) == 0;
          const Wide raised =
              s.to_signed(32, sum + (!power && sum < 0 ? -(columns / 2) : columns / 2));
          y.push_back(low_bits(power ? floor_of(raised, columns) : raised / columns,
                               static_cast<int>(8 * size_of(x.dtype()))));
          if (x.dtype() == DType::u8)
            y.back() = floor_of(y.back() + 256, 1) - 256 * ((y.back() + 256) >= 256);
        }
        return y;
      });
  }
  CHECK(fitting > kRounds);
}

TEST_CASE("range: MaxPool") {
  Draw draw(205);
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t channels = draw(1, 3), length = draw(1, 9), kernel = draw(1, 4),
                       stride = draw(1, 3), before = draw(0, kernel - 1),
                       after = draw(0, kernel - 1);
    if (length + before + after < kernel) continue;
    const Tensor x = any_tensor(draw, any_dtype(draw), {1, channels, length});
    const std::vector<std::int64_t> xs = to_int64(x);
    const std::int64_t out = (length + before + after - kernel) / stride + 1;
    const Attrs attrs = attrs_of({{"kernel_shape", std::vector<std::int64_t>{kernel}},
                                  {"strides", std::vector<std::int64_t>{stride}},
                                  {"pads", std::vector<std::int64_t>{before, after}}});
    node_agrees("MaxPool", {x}, attrs, [&](Steps&) {
      std::vector<Wide> y;
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t o = 0; o < out; ++o) {
          Wide best = lowest(x.dtype());
          for (std::int64_t k = 0; k < kernel; ++k)
            if (const std::int64_t at = o * stride - before + k; at >= 0 && at < length)
              best = std::max<Wide>(best, xs[static_cast<std::size_t>(c * length + at)]);
          y.push_back(best);
        }
      return y;
    });
  }
}

TEST_CASE("range: Slice takes any int64 as start, end and step") {
  Draw draw(206);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t length = draw(1, 9);
    const Tensor x = any_tensor(draw, DType::i8, {2, length});
    const std::vector<std::int64_t> xs = to_int64(x);
    const auto bound = [&] {
      return draw(0, 1) ? draw(-length - 2, length + 2) : anywhere(draw, -kMost, kMost);
    };
    const std::int64_t start = bound(), end = bound();
    std::int64_t step = draw(0, 1) ? draw(-3, 3) : anywhere(draw, -kMost, kMost);
    if (step == 0) step = 1;
    const auto scalar = [](std::int64_t v) { return Tensor::from<std::int64_t>({1}, {v}); };
    node_agrees("Slice", {x, scalar(start), scalar(end), scalar(1), scalar(step)}, {}, [&](Steps&) {
      // ONNX: negative bounds count from the end; then a start is held in 0..length (backwards:
      // length - 1), an end in 0..length (backwards: -1..length - 1).
      const auto from_end = [&](Wide b) { return b < 0 ? b + length : b; };
      const Wide last = step > 0 ? length : length - 1;
      const Wide first = std::clamp<Wide>(from_end(start), 0, last),
                 stop = std::clamp<Wide>(from_end(end), step > 0 ? 0 : -1, last);
      std::vector<Wide> y;
      for (std::int64_t r = 0; r < 2; ++r)
        for (Wide at = first; step > 0 ? at < stop : at > stop; at += step)
          y.push_back(xs[static_cast<std::size_t>(r * length + static_cast<std::int64_t>(at))]);
      return y;
    });
  }
}

}  // namespace waveq
