#include <cmath>
#include <type_traits>

#include "kernels/dense.h"
#include "ops/families.h"
#include "ops/op_util.h"

// Functions of one operand, element by element.
namespace waveq::ops {

namespace {

template <class F>
OpDef unary_f32(std::string name, std::string versions, F f) {
  return {.name = name,
          .inputs = {"X"},
          .attrs = {},
          .spec = "ONNX " + name + versions,
          .infer = [](const InferContext& ctx) -> Types { return {float_input(ctx, 0)}; },
          .eval =
              [f](const EvalContext& ctx) {
                const auto x = ctx.input(0).as<float>();
                const auto y = ctx.output().as<float>();
                for (std::size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
              }};
}

/// As unary_f32 through a vectorized kernel.
OpDef unary_kernel(std::string name, std::string versions,
                   void (*kernels::Dense::*kernel)(std::int64_t, const float*, float*)) {
  OpDef op = unary_f32(name, versions, [](float x) { return x; });
  op.eval = [kernel](const EvalContext& ctx) {
    const auto x = ctx.input(0).as<float>();
    (kernels::dense().*kernel)(static_cast<std::int64_t>(x.size()), x.data(),
                               ctx.output().as<float>().data());
  };
  return op;
}

/// Computed by libm in double and rounded once.
template <class F>
OpDef unary_double(std::string name, std::string versions, F f) {
  return unary_f32(name, versions,
                   [f](float x) { return static_cast<float>(f(static_cast<double>(x))); });
}

/// A unary operator that keeps integer dtypes too: exact, no rounding; -min and |min| do not fit
/// (Overflow::error) or wrap to min (Overflow::wrap).
template <class F>
OpDef unary_numeric(std::string name, F f) {
  OpDef op = unary_f32(name, "-6, 13", f);
  op.infer = [](const InferContext& ctx) -> Types { return {numeric_input(ctx, 0)}; };
  op.eval = [floats = op.eval, f](const EvalContext& ctx) {
    if (ctx.input(0).dtype() == DType::f32) return floats(ctx);
    visit_integer(ctx.input(0).dtype(), [&](auto t) {
      using T = decltype(t);
      const auto x = ctx.input(0).as<T>();
      const auto y = ctx.output().as<T>();
      for (std::size_t i = 0; i < x.size(); ++i) {
        const Wide exact = f(Wide{x[i]});
        y[i] = static_cast<T>(exact);
        if (exact != y[i] && ctx.overflow == Overflow::error)
          fail_overflow(ctx, static_cast<std::int64_t>(i), exact, ctx.output().dtype());
      }
    });
  };
  return op;
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> unary_ops() {
  using namespace ops;
  return {
      unary_numeric("Neg", [](auto x) { return -x; }),
      unary_numeric("Abs",
                    [](auto x) {
                      // fabs for the sign of zero and NaN
                      if constexpr (std::is_same_v<decltype(x), float>)
                        return std::fabs(x);
                      else
                        return x < 0 ? -x : x;
                    }),
      unary_numeric("Sign",
                    [](auto x) {
                      using T = decltype(x);
                      if constexpr (std::is_same_v<T, float>)
                        if (x != x) return x;
                      return static_cast<T>((x > T{0}) - (x < T{0}));
                    }),
      unary_f32("Sqrt", "-6, 13", [](float x) { return std::sqrt(x); }),
      unary_f32("Reciprocal", "-6, 13", [](float x) { return 1.0f / x; }),
      unary_f32("Floor", "-6, 13", [](float x) { return std::floor(x); }),
      unary_f32("Ceil", "-6, 13", [](float x) { return std::ceil(x); }),
      unary_f32("Round", "-11 (half to even)", [](float x) { return std::nearbyint(x); }),
      unary_kernel("Exp", "-6, 13", &kernels::Dense::exp),
      unary_kernel("Erf", "-9, 13", &kernels::Dense::erf),
      unary_double("Log", "-6, 13", [](double x) { return std::log(x); }),
      unary_double("Sin", "-7", [](double x) { return std::sin(x); }),
      unary_double("Cos", "-7", [](double x) { return std::cos(x); }),
  };
}

}  // namespace waveq
