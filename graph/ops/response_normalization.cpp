#include <algorithm>
#include <cmath>

#include "ops/families.h"
#include "ops/op_util.h"

// LRN, LpNormalization, MeanVarianceNormalization in float32, sums in double.
namespace waveq::ops {

namespace {

/// y = x / (bias + alpha/size * sum of x^2 over `size` channels around it)^beta.
/// Source: ONNX LRN-1, 13.
void eval_lrn(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const std::int64_t size = ctx.attrs().require_int("size"), channels = shape[1];
  const double alpha = ctx.attrs().get_float("alpha", 1e-4),
               beta = ctx.attrs().get_float("beta", 0.75),
               bias = ctx.attrs().get_float("bias", 1.0);
  const std::int64_t plane = element_count(Shape(shape.begin() + 2, shape.end()));
  const auto x = ctx.input(0).as<float>();
  const auto y = ctx.output().as<float>();
  for (std::int64_t i = 0; i < ctx.input(0).size(); ++i) {
    const std::int64_t c = i / plane % channels,
                       first = std::max<std::int64_t>(0, c - (size - 1) / 2),
                       last = std::min(channels - 1, c + size / 2);
    double squares = 0;
    for (std::int64_t k = first; k <= last; ++k) {
      const double v = static_cast<double>(x[static_cast<std::size_t>(i + (k - c) * plane)]);
      squares += v * v;
    }
    const double divisor = std::pow(bias + alpha / static_cast<double>(size) * squares, beta);
    y[static_cast<std::size_t>(i)] =
        static_cast<float>(static_cast<double>(x[static_cast<std::size_t>(i)]) / divisor);
  }
}

/// y = x / |x|_p along an axis, p 1 or 2; 0 where the norm is 0. Source: ONNX
/// LpNormalization-1, 22.
void eval_lp_norm(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const auto axis = static_cast<std::size_t>(
      normalize_axis(ctx.attrs().get_int("axis", -1), shape.size(), place(ctx.node)));
  const bool squares = ctx.attrs().get_int("p", 2) == 2;
  const std::int64_t length = shape[axis], step = strides_of(shape)[axis];
  const auto x = ctx.input(0).as<float>();
  const auto y = ctx.output().as<float>();
  for (std::int64_t start = 0; start < ctx.input(0).size(); ++start) {
    if (start / step % length != 0) continue;
    const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(start + i * step); };
    double sum = 0;
    for (std::int64_t i = 0; i < length; ++i) {
      const double v = static_cast<double>(x[at(i)]);
      sum += squares ? v * v : std::abs(v);
    }
    const double norm = squares ? std::sqrt(sum) : sum;
    for (std::int64_t i = 0; i < length; ++i)
      y[at(i)] = norm == 0 ? 0.0F : static_cast<float>(static_cast<double>(x[at(i)]) / norm);
  }
}

/// y = (x - mean) / (deviation + 1e-9), both over `axes`. Source: ONNX
/// MeanVarianceNormalization-9, 13, the function body.
void eval_mean_variance_norm(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  std::vector<bool> reduced(shape.size(), false);
  for (const std::int64_t axis : ctx.attrs().get_ints("axes", {0, 2, 3}))
    reduced[normalize_axis(axis, shape.size(), place(ctx.node))] = true;
  // The row of statistics that each element belongs to.
  std::vector<std::int64_t> step(shape.size(), 0);
  std::int64_t rows = 1;
  for (std::size_t d = shape.size(); d-- > 0;)
    if (!reduced[d]) {
      step[d] = rows;
      rows *= shape[d];
    }
  const std::vector<std::int64_t> strides = strides_of(shape);
  const auto row_of = [&](std::int64_t i) {
    std::int64_t row = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) row += i / strides[d] % shape[d] * step[d];
    return static_cast<std::size_t>(row);
  };
  const auto x = ctx.input(0).as<float>();
  const auto y = ctx.output().as<float>();
  std::vector<double> mean(static_cast<std::size_t>(rows), 0.0), variance = mean;
  const double count = static_cast<double>(ctx.input(0).size() / std::max<std::int64_t>(rows, 1));
  for (std::int64_t i = 0; i < ctx.input(0).size(); ++i)
    mean[row_of(i)] += static_cast<double>(x[static_cast<std::size_t>(i)]) / count;
  for (std::int64_t i = 0; i < ctx.input(0).size(); ++i) {
    const double d = static_cast<double>(x[static_cast<std::size_t>(i)]) - mean[row_of(i)];
    variance[row_of(i)] += d * d / count;
  }
  for (std::int64_t i = 0; i < ctx.input(0).size(); ++i) {
    const std::size_t row = row_of(i), at = static_cast<std::size_t>(i);
    y[at] = static_cast<float>((static_cast<double>(x[at]) - mean[row]) /
                               (std::sqrt(variance[row]) + 1e-9));
  }
}

Types same_as_input(const InferContext& ctx) { return {float_input(ctx, 0)}; }

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> response_normalization_ops() {
  using namespace ops;
  return {{.name = "LRN",
           .inputs = {"X"},
           .attrs = {"alpha", "beta", "bias", "size"},
           .spec = "ONNX LRN-1, 13",
           .infer =
               [](const InferContext& ctx) {
                 require_rank(ctx, 0, 2, 8);
                 if (ctx.attrs().require_int("size") < 1) ctx.fail("its size is not positive");
                 return same_as_input(ctx);
               },
           .eval = eval_lrn},
          {.name = "LpNormalization",
           .inputs = {"input"},
           .attrs = {"axis", "p"},
           .spec = "ONNX LpNormalization-1, 22",
           .infer =
               [](const InferContext& ctx) {
                 const std::int64_t p = ctx.attrs().get_int("p", 2);
                 if (p != 1 && p != 2) ctx.fail("p is 1 or 2 in ONNX");
                 normalize_axis(ctx.attrs().get_int("axis", -1), ctx.input(0).shape.size(),
                                place(ctx.node));
                 return same_as_input(ctx);
               },
           .eval = eval_lp_norm},
          {.name = "MeanVarianceNormalization",
           .inputs = {"X"},
           .attrs = {"axes"},
           .spec = "ONNX MeanVarianceNormalization-9, 13",
           .infer =
               [](const InferContext& ctx) {
                 for (const std::int64_t axis : ctx.attrs().get_ints("axes", {0, 2, 3}))
                   normalize_axis(axis, ctx.input(0).shape.size(), place(ctx.node));
                 return same_as_input(ctx);
               },
           .eval = eval_mean_variance_norm}};
}

}  // namespace waveq
