#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/dense.h"
#include "ops/families.h"
#include "ops/op_util.h"

// Activation functions and softmax. exp, erf, tanh and the logistic function come from
// kernels/vector_f32.inc and are the same bits everywhere; log and log1p from libm in double.
namespace waveq::ops {

namespace {

using Kernel = void (*kernels::Dense::*)(std::int64_t, const float*, float*);

/// Elements that an activation works on at once: its intermediate values stay in the cache.
constexpr std::int64_t kChunk = 512;

Types infer_float(const InferContext& ctx) { return {float_input(ctx, 0)}; }

/// y = f(x) element by element; `f(attrs)` makes the function of one node.
template <class Make>
OpDef activation(std::string name, std::vector<std::string> attrs, std::string spec, Make make) {
  return {.name = std::move(name),
          .inputs = {"X"},
          .attrs = std::move(attrs),
          .spec = std::move(spec),
          .infer = infer_float,
          .eval = [make](const EvalContext& ctx) {
            const auto f = make(ctx.attrs());
            const auto x = ctx.input(0).as<float>();
            const auto y = ctx.output().as<float>();
            for (std::size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
          }};
}

/// y = finish(x, kernel(prepare(x))): an activation around one of the vectorized functions.
template <class Make>
OpDef kernel_activation(std::string name, std::vector<std::string> attrs, std::string spec,
                        Kernel kernel, Make make) {
  OpDef op = activation(std::move(name), std::move(attrs), std::move(spec),
                        [](const Attrs&) { return [](float x) { return x; }; });
  op.eval = [kernel, make](const EvalContext& ctx) {
    const auto [prepare, finish] = make(ctx.attrs());
    const float* x = ctx.input(0).as<float>().data();
    float* y = ctx.output().as<float>().data();
    const auto function = kernels::dense().*kernel;
    float inner[kChunk];
    for (std::int64_t at = 0; at < ctx.output().size(); at += kChunk) {
      const std::int64_t n = std::min(kChunk, ctx.output().size() - at);
      for (std::int64_t i = 0; i < n; ++i) inner[i] = prepare(x[at + i]);
      function(n, inner, inner);
      for (std::int64_t i = 0; i < n; ++i) y[at + i] = finish(x[at + i], inner[i]);
    }
  };
  return op;
}

template <class P, class F>
struct Around {
  P prepare;
  F finish;
};
template <class P, class F>
Around(P, F) -> Around<P, F>;

constexpr auto kAsIs = [](float x) { return x; };
constexpr auto kResult = [](float, float f) { return f; };

float attr(const Attrs& attrs, const char* name, double fallback) {
  return static_cast<float>(attrs.get_float(name, fallback));
}

// ---- Relu, Clip: integers too.

/// max(x, 0); integers keep their dtype: exact, no rounding.
void eval_relu(const EvalContext& ctx) {
  const auto apply = [&](auto t) {
    using T = decltype(t);
    const auto x = ctx.input(0).as<T>();
    const auto y = ctx.output().as<T>();
    // Written so that NaN stays NaN.
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] < T{0} ? T{0} : x[i];
  };
  if (ctx.output().dtype() == DType::f32) return apply(0.0f);
  visit_integer(ctx.output().dtype(), apply);
}

std::vector<TensorType> infer_clip(const InferContext& ctx) {
  const TensorType& x = numeric_input(ctx, 0);
  for (std::size_t i = 1; i < 3; ++i)
    if (ctx.has(i) && element_count(same_dtype_input(ctx, i).shape) != 1)
      ctx.fail(fmt::format("bound {} is {}, a scalar is wanted", i, to_string(ctx.input(i))));
  return {x};
}

/// A bound of Clip: input (opset 11), attribute (opset 6), or `fallback`. A bound given as an
/// attribute for an integer tensor is rounded toward the inside and saturated.
template <class T>
T clip_bound(const EvalContext& ctx, std::size_t input, const char* name, T fallback) {
  if (ctx.has(input)) return ctx.input(input).as<T>()[0];
  const double value = ctx.attrs().get_float(name, static_cast<double>(fallback));
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(value);
  } else {
    if (!ctx.attrs().has(name)) return fallback;
    const double whole = input == 1 ? std::ceil(value) : std::floor(value);
    if (!(whole > static_cast<double>(std::numeric_limits<T>::min())))
      return std::numeric_limits<T>::min();
    if (whole >= static_cast<double>(std::numeric_limits<T>::max()))
      return std::numeric_limits<T>::max();
    return static_cast<T>(whole);
  }
}

/// min(max(x, lo), hi); hi wins where lo > hi. Integers keep their dtype: exact, no rounding.
/// Source: ONNX Clip-6, 11, 12, 13.
void eval_clip(const EvalContext& ctx) {
  const auto apply = [&](auto t) {
    using T = decltype(t);
    const T lo = clip_bound<T>(ctx, 1, "min", std::numeric_limits<T>::lowest());
    const T hi = clip_bound<T>(ctx, 2, "max", std::numeric_limits<T>::max());
    // Without a bound, infinity passes: comparing with the largest float would cut it.
    const bool has_lo = ctx.has(1) || ctx.attrs().has("min"),
               has_hi = ctx.has(2) || ctx.attrs().has("max");
    const auto x = ctx.input(0).as<T>();
    const auto y = ctx.output().as<T>();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const T v = has_lo && x[i] < lo ? lo : x[i];
      y[i] = has_hi && v > hi ? hi : v;
    }
  };
  if (ctx.output().dtype() == DType::f32) return apply(0.0f);
  visit_integer(ctx.output().dtype(), apply);
}

// ---- PRelu.

std::vector<TensorType> infer_prelu(const InferContext& ctx) {
  const TensorType& x = float_input(ctx, 0);
  if (broadcast(x.shape, float_input(ctx, 1).shape, place(ctx.node)) != x.shape)
    ctx.fail(
        fmt::format("slope {} does not broadcast to {}", to_string(ctx.input(1)), to_string(x)));
  return {x};
}

void eval_prelu(const EvalContext& ctx) {
  const float *x = ctx.input(0).as<float>().data(), *slope = ctx.input(1).as<float>().data();
  float* y = ctx.output().as<float>().data();
  BroadcastLoop<1>(ctx.output().shape(), {&ctx.input(1).shape()})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        for (std::int64_t i = 0; i < n; ++i) {
          const float v = x[o + i];
          y[o + i] = v < 0.0f ? v * slope[at[0] + i * step[0]] : v;
        }
      });
}

// ---- Gelu.

/// none: x/2 (1 + erf(x/sqrt 2)); tanh: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
/// Source: ONNX Gelu-20.
OpDef gelu_op() {
  const auto exact = kernel_activation(
      "Gelu", {"approximate"}, "ONNX Gelu-20", &kernels::Dense::erf, [](const Attrs&) {
        return Around{[](float x) { return x * 0.70710678118654752f; },
                      [](float x, float e) { return 0.5f * x * (1.0f + e); }};
      });
  const auto approximate =
      kernel_activation("Gelu", {}, "", &kernels::Dense::tanh, [](const Attrs&) {
        return Around{[](float x) { return 0.79788456080286536f * (x + 0.044715f * x * x * x); },
                      [](float x, float t) { return 0.5f * x * (1.0f + t); }};
      });
  const auto by_tanh = [](const Node& node) {
    const std::string mode = node.attrs.get_string("approximate", "none");
    if (mode != "none" && mode != "tanh")
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("approximate '{}' is neither none nor tanh", mode));
    return mode == "tanh";
  };
  OpDef op = exact;
  op.infer = [by_tanh](const InferContext& ctx) {
    by_tanh(ctx.node);
    return infer_float(ctx);
  };
  op.eval = [by_tanh, e = exact.eval, a = approximate.eval](const EvalContext& ctx) {
    by_tanh(ctx.node) ? a(ctx) : e(ctx);
  };
  return op;
}

// ---- Softmax.

struct Rows {
  std::int64_t outer, length, inner;
};

/// Opset 13: along one axis (default -1). Before: over all axes from `axis` (default 1) on, seen as
/// one; the reader marks such nodes with waveq_flatten = 1.
Rows softmax_rows(const Node& node, const Shape& shape, bool flatten) {
  if (shape.empty()) return {1, 1, 1};
  const std::int64_t fallback =
      flatten ? std::min<std::int64_t>(1, static_cast<std::int64_t>(shape.size()) - 1) : -1;
  const auto axis = normalize_axis(node.attrs.get_int("axis", fallback), shape.size(), place(node));
  const auto product = [&](std::int64_t from, std::int64_t to) {
    std::int64_t n = 1;
    for (std::int64_t d = from; d < to; ++d) n *= shape[d];
    return n;
  };
  const auto rank = static_cast<std::int64_t>(shape.size());
  if (flatten) return {product(0, axis), product(axis, rank), 1};
  return {product(0, axis), shape[axis], product(axis + 1, rank)};
}

/// One row, in place: e^(x - max) / sum, or x - max - log(sum). The sum is taken in double, in
/// order.
void softmax_row(float* row, float* exps, std::int64_t n, bool logarithm) {
  const float top = *std::max_element(row, row + n);
  for (std::int64_t i = 0; i < n; ++i) row[i] -= top;
  kernels::dense().exp(n, row, exps);
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(exps[i]);
  if (logarithm) {
    const float log_sum = static_cast<float>(std::log(sum));
    for (std::int64_t i = 0; i < n; ++i) row[i] -= log_sum;
  } else {
    const float total = static_cast<float>(sum);
    for (std::int64_t i = 0; i < n; ++i) row[i] = exps[i] / total;
  }
}

OpDef softmax(std::string name, bool logarithm) {
  return {.name = name,
          .inputs = {"input"},
          .attrs = {"axis", "waveq_flatten"},
          .spec = "ONNX " + name + "-1, 11, 13",
          .infer = [](const InferContext& ctx) -> Types {
            const bool flatten = ctx.attrs().get_int("waveq_flatten", ctx.graph.opset < 13) != 0;
            softmax_rows(ctx.node, float_input(ctx, 0).shape, flatten);
            return {ctx.input(0)};
          },
          .eval =
              [logarithm](const EvalContext& ctx) {
                const bool flatten = ctx.attrs().get_int("waveq_flatten", 0) != 0;
                const Rows rows = softmax_rows(ctx.node, ctx.input(0).shape(), flatten);
                if (ctx.output().size() == 0) return;
                const float* x = ctx.input(0).as<float>().data();
                float* y = ctx.output().as<float>().data();
                std::vector<float> row(static_cast<std::size_t>(rows.length)), exps(row.size());
                for (std::int64_t o = 0; o < rows.outer; ++o)
                  for (std::int64_t i = 0; i < rows.inner; ++i) {
                    const std::int64_t base = o * rows.length * rows.inner + i;
                    for (std::int64_t k = 0; k < rows.length; ++k)
                      row[k] = x[base + k * rows.inner];
                    softmax_row(row.data(), exps.data(), rows.length, logarithm);
                    for (std::int64_t k = 0; k < rows.length; ++k)
                      y[base + k * rows.inner] = row[k];
                  }
              }};
}

float softplus(float x) {
  // log(1 + e^x) without overflow and without losing small results.
  const double v = x;
  return static_cast<float>(v > 0 ? v + std::log1p(std::exp(-v)) : std::log1p(std::exp(v)));
}

/// Functions around exp, tanh and the logistic function.
std::vector<OpDef> smooth_ops() {
  using kernels::Dense;
  return {
      kernel_activation("Sigmoid", {}, "ONNX Sigmoid-6, 13", &Dense::sigmoid,
                        [](const Attrs&) {
                          return Around{kAsIs, kResult};
                        }),
      kernel_activation("Tanh", {}, "ONNX Tanh-6, 13", &Dense::tanh,
                        [](const Attrs&) {
                          return Around{kAsIs, kResult};
                        }),
      kernel_activation("Swish", {"alpha"}, "ONNX Swish-24: x sigmoid(alpha x)", &Dense::sigmoid,
                        [](const Attrs& a) {
                          return Around{
                              [alpha = attr(a, "alpha", 1.0)](float x) { return alpha * x; },
                              [](float x, float s) { return x * s; }};
                        }),
      kernel_activation("Elu", {"alpha"}, "ONNX Elu-6", &Dense::expm1,
                        [](const Attrs& a) {
                          return Around{kAsIs, [alpha = attr(a, "alpha", 1.0)](float x, float e) {
                                          return x < 0.0f ? alpha * e : x;
                                        }};
                        }),
      kernel_activation("Selu", {"alpha", "gamma"}, "ONNX Selu-6", &Dense::expm1,
                        [](const Attrs& a) {
                          return Around{
                              kAsIs,
                              [alpha = attr(a, "alpha", 1.67326319217681884765625),
                               gamma = attr(a, "gamma", 1.05070102214813232421875)](
                                  float x, float e) { return gamma * (x < 0.0f ? alpha * e : x); }};
                        }),
      kernel_activation("Celu", {"alpha"}, "ONNX Celu-12", &Dense::expm1,
                        [](const Attrs& a) {
                          const float alpha = attr(a, "alpha", 1.0);
                          return Around{
                              [alpha](float x) { return x / alpha; },
                              [alpha](float x, float e) { return x < 0.0f ? alpha * e : x; }};
                        }),
      activation("Softplus", {}, "ONNX Softplus-1", [](const Attrs&) { return softplus; }),
      activation("Mish", {}, "ONNX Mish-18",
                 [](const Attrs&) {
                   return [](float x) {
                     return static_cast<float>(x * std::tanh(static_cast<double>(softplus(x))));
                   };
                 }),
  };
}

std::vector<OpDef> piecewise_ops() {
  const auto hard_sigmoid = [](float alpha, float beta) {
    return [alpha, beta](float x) {
      const float v = alpha * x + beta;
      return v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v;
    };
  };
  return {
      {.name = "Relu",
       .inputs = {"X"},
       .attrs = {},
       .spec = "ONNX Relu-6, 13, 14",
       .infer = [](const InferContext& ctx) -> Types { return {numeric_input(ctx, 0)}; },
       .eval = eval_relu},
      {.name = "Clip",
       .inputs = {"input", "min?", "max?"},
       .attrs = {"max", "min"},
       .spec = "ONNX Clip-6, 11, 12, 13",
       .infer = infer_clip,
       .eval = eval_clip},
      {.name = "PRelu",
       .inputs = {"X", "slope"},
       .attrs = {},
       .spec = "ONNX PRelu-7, 9, 16",
       .infer = infer_prelu,
       .eval = eval_prelu},
      activation("LeakyRelu", {"alpha"}, "ONNX LeakyRelu-6, 16",
                 [](const Attrs& a) {
                   return [alpha = attr(a, "alpha", 0.01)](float x) {
                     return x < 0.0f ? alpha * x : x;
                   };
                 }),
      activation("ThresholdedRelu", {"alpha"}, "ONNX ThresholdedRelu-10, 22",
                 [](const Attrs& a) {
                   return [alpha = attr(a, "alpha", 1.0)](float x) { return x > alpha ? x : 0.0f; };
                 }),
      activation("HardSigmoid", {"alpha", "beta"}, "ONNX HardSigmoid-6",
                 [hard_sigmoid](const Attrs& a) {
                   return hard_sigmoid(attr(a, "alpha", 0.2), attr(a, "beta", 0.5));
                 }),
      activation("HardSwish", {}, "ONNX HardSwish-14: x HardSigmoid(x; 1/6, 1/2)",
                 [hard_sigmoid](const Attrs&) {
                   return [h = hard_sigmoid(1.0f / 6.0f, 0.5f)](float x) { return x * h(x); };
                 }),
      activation("Softsign", {}, "ONNX Softsign-1",
                 [](const Attrs&) { return [](float x) { return x / (1.0f + std::fabs(x)); }; }),
  };
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> activation_ops() {
  std::vector<OpDef> all = ops::smooth_ops();
  for (OpDef& op : ops::piecewise_ops()) all.push_back(std::move(op));
  all.push_back(ops::gelu_op());
  all.push_back(ops::softmax("Softmax", false));
  all.push_back(ops::softmax("LogSoftmax", true));
  return all;
}

}  // namespace waveq
