#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <type_traits>

#include "ops/broadcast_pairs.h"
#include "ops/families.h"

// Arithmetic of several operands, element by element with NumPy broadcasting.
namespace waveq::ops {

Shape joint_shape(const InferContext& ctx) {
  return broadcast(ctx.input(0).shape, ctx.input(1).shape, place(ctx.node));
}

bool both_float(const InferContext& ctx) {
  const DType a = numeric_input(ctx, 0).dtype, b = numeric_input(ctx, 1).dtype;
  if ((a == DType::f32) != (b == DType::f32))
    ctx.fail(fmt::format("operands are {} and {}; both f32 or both integers are wanted",
                         to_string(a), to_string(b)),
             "insert a Cast");
  return a == DType::f32;
}

namespace {

std::vector<TensorType> infer_arithmetic(const InferContext& ctx) {
  const DType out =
      both_float(ctx) ? DType::f32 : accumulator_dtype(ctx.input(0).dtype, ctx.input(1).dtype);
  return {{out, joint_shape(ctx)}};
}

// ---- Add, Sub, Mul, Div.

/// A binary integer operator: `overflows(a, b, &r)` leaves the wrapped result in r and says whether
/// the exact one does not fit.
template <class T, class Op>
void integer_pair(const EvalContext& ctx, Op overflows) {
  const As<T> a(ctx.input(0)), b(ctx.input(1));
  Tensor& out = ctx.output();
  bool left = false;
  map_pair(a.data(), ctx.input(0).shape(), b.data(), ctx.input(1).shape(), out.as<T>().data(),
           out.shape(), [&](T x, T y) {
             T r;
             left |= overflows(x, y, &r);
             return r;
           });
  if (left && ctx.overflow == Overflow::error)
    ctx.fail(ErrorCode::overflow, fmt::format("a result leaves {}", to_string(out.dtype())),
             "the target would wrap here: use fewer levels, or evaluate with Overflow::wrap");
}

/// Integer Add, Sub, Mul: exact; the result must fit int32 (int64 if an operand is int64) or is
/// taken modulo 2^32 (2^64) with Overflow::wrap. No zero points, no rounding. Source: Deeploy
/// TargetLibraries/Generic templates Add, Sub, Mul (s32 output).
template <class Op>
OpDef arithmetic(std::string name, Op op) {
  const auto eval = [op](const EvalContext& ctx) {
    const auto whole = [op](auto a, auto b, auto* r) { return op.overflows(a, b, r); };
    switch (ctx.output().dtype()) {
      case DType::f32:
        return map_tensors<float, float>(ctx.input(0), ctx.input(1), ctx.output(),
                                         [op](float a, float b) { return op(a, b); });
      case DType::i64:
        return integer_pair<std::int64_t>(ctx, whole);
      default:
        return integer_pair<std::int32_t>(ctx, whole);
    }
  };
  return {.name = name,
          .inputs = {"A", "B"},
          .attrs = {},
          .spec = "ONNX " + name + "-7, 13, 14",
          .infer = infer_arithmetic,
          .eval = eval};
}

struct AddOp {
  float operator()(float a, float b) const { return a + b; }
  template <class T>
  bool overflows(T a, T b, T* r) const {
    return __builtin_add_overflow(a, b, r);
  }
};
struct SubOp {
  float operator()(float a, float b) const { return a - b; }
  template <class T>
  bool overflows(T a, T b, T* r) const {
    return __builtin_sub_overflow(a, b, r);
  }
};
struct MulOp {
  float operator()(float a, float b) const { return a * b; }
  template <class T>
  bool overflows(T a, T b, T* r) const {
    return __builtin_mul_overflow(a, b, r);
  }
};
/// Integers: quotient truncated toward zero, for shape arithmetic; the divisors were checked.
struct DivOp {
  float operator()(float a, float b) const { return a / b; }
  template <class T>
  bool overflows(T a, T b, T* r) const {
    if (b == -1) return __builtin_sub_overflow(T{0}, a, r);  // the smallest integer has no negative
    *r = a / b;
    return false;
  }
};

OpDef div_op() {
  OpDef op = arithmetic("Div", DivOp{});
  op.eval = [checked = op.eval](const EvalContext& ctx) {
    const Tensor& divisor = ctx.input(1);
    if (divisor.dtype() != DType::f32 && ctx.output().size() > 0)
      for (std::int64_t d : to_int64(divisor))
        if (d == 0) ctx.fail(ErrorCode::data, "integer division by zero");
    checked(ctx);
  };
  return op;
}

// ---- Mod.

/// Remainder with the sign of the divisor (fmod = 0, integers alone) or of the dividend (fmod = 1).
/// Exact. \throws Error{data} for an integer divisor of 0. Source: ONNX Mod-10, 13.
std::vector<TensorType> infer_mod(const InferContext& ctx) {
  const TensorType& a = numeric_input(ctx, 0);
  same_dtype_input(ctx, 1);
  if (a.dtype == DType::f32 && ctx.attrs().get_int("fmod", 0) == 0)
    ctx.fail("floats need fmod = 1");
  return {{a.dtype, joint_shape(ctx)}};
}

void eval_mod(const EvalContext& ctx) {
  const Tensor &a = ctx.input(0), &b = ctx.input(1);
  if (a.dtype() == DType::f32)
    return map_tensors<float, float>(a, b, ctx.output(),
                                     [](float x, float y) { return std::fmod(x, y); });
  const bool floors = ctx.attrs().get_int("fmod", 0) == 0;
  visit_integer(a.dtype(), [&](auto t) {
    using T = decltype(t);
    if (ctx.output().size() > 0)
      for (T d : b.as<T>())
        if (d == 0) ctx.fail(ErrorCode::data, "integer remainder by zero");
    map_tensors<T, T>(a, b, ctx.output(), [floors](T x, T y) {
      if constexpr (std::is_signed_v<T>)
        if (y == -1) return T{0};  // the smallest integer has no quotient by -1
      const T r = static_cast<T>(x % y);
      return floors && r != 0 && (r < 0) != (y < 0) ? static_cast<T>(r + y) : r;
    });
  });
}

// ---- Pow.

std::vector<TensorType> infer_pow(const InferContext& ctx) {
  float_input(ctx, 0);
  numeric_input(ctx, 1);
  return {{DType::f32, joint_shape(ctx)}};
}

/// In double and rounded once; x^2 is x*x, which is the same value.
void eval_pow(const EvalContext& ctx) {
  const Tensor exponent = cast(ctx.input(1), DType::f32);
  if (exponent.size() == 1 && exponent.as<float>()[0] == 2.0f) {
    map_tensors<float, float>(ctx.input(0), exponent, ctx.output(),
                              [](float x, float) { return x * x; });
    return;
  }
  map_tensors<float, float>(ctx.input(0), exponent, ctx.output(), [](float x, float y) {
    return static_cast<float>(std::pow(static_cast<double>(x), static_cast<double>(y)));
  });
}

// ---- Min, Max: variadic; NaN wins, as in NumPy. Integers keep their dtype: exact, no rounding.

std::vector<TensorType> infer_extremum(const InferContext& ctx) {
  TensorType out = numeric_input(ctx, 0);
  for (std::size_t i = 1; i < ctx.inputs.size(); ++i)
    out.shape = broadcast(out.shape, same_dtype_input(ctx, i).shape, place(ctx.node));
  return {out};
}

struct MinOp {
  template <class T>
  T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};
struct MaxOp {
  template <class T>
  T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

template <class T, class Op>
void fold_inputs(const EvalContext& ctx, Op op) {
  Tensor& out = ctx.output();
  const auto y = out.as<T>();
  BroadcastLoop<1>(out.shape(), {&ctx.input(0).shape()})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        const T* x = ctx.input(0).as<T>().data() + at[0];
        for (std::int64_t i = 0; i < n; ++i) y[o + i] = x[i * step[0]];
      });
  for (std::size_t k = 1; k < ctx.inputs.size(); ++k) map_tensors<T, T>(out, ctx.input(k), out, op);
}

template <class Op>
OpDef extremum(std::string name, Op op) {
  return {.name = name,
          .inputs = {"data_0", "data..."},
          .attrs = {},
          .spec = "ONNX " + name + "-8, 12, 13",
          .infer = infer_extremum,
          .eval = [op](const EvalContext& ctx) {
            if (ctx.output().dtype() == DType::f32) return fold_inputs<float>(ctx, op);
            visit_integer(ctx.output().dtype(), [&](auto t) { fold_inputs<decltype(t)>(ctx, op); });
          }};
}

/// The sum of all inputs in float32, first to last; `divides`: over how many they are.
OpDef float_sum(std::string name, bool divides) {
  return {.name = name,
          .inputs = {"data_0", "data..."},
          .attrs = {},
          .spec = "ONNX " + name + "-8, 13",
          .infer =
              [](const InferContext& ctx) {
                for (std::size_t i = 0; i < ctx.inputs.size(); ++i) float_input(ctx, i);
                return infer_extremum(ctx);
              },
          .eval =
              [divides](const EvalContext& ctx) {
                fold_inputs<float>(ctx, std::plus<float>{});
                if (!divides) return;
                const auto count = static_cast<float>(ctx.inputs.size());
                for (float& v : ctx.output().as<float>()) v /= count;
              }};
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> elementwise_ops() {
  using namespace ops;
  return {
      arithmetic("Add", AddOp{}),
      arithmetic("Sub", SubOp{}),
      arithmetic("Mul", MulOp{}),
      div_op(),
      {.name = "Mod",
       .inputs = {"A", "B"},
       .attrs = {"fmod"},
       .spec = "ONNX Mod-10, 13",
       .infer = infer_mod,
       .eval = eval_mod},
      {.name = "Pow",
       .inputs = {"X", "Y"},
       .attrs = {},
       .spec = "ONNX Pow-7, 12, 13, 15",
       .infer = infer_pow,
       .eval = eval_pow},
      float_sum("Sum", false),
      float_sum("Mean", true),
      extremum("Min", MinOp{}),
      extremum("Max", MaxOp{}),
  };
}

}  // namespace waveq
