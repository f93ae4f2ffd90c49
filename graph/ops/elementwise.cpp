#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <type_traits>

#include "kernels/dense.h"
#include "ops/families.h"
#include "ops/op_util.h"

// Arithmetic, comparisons and logic, element by element with NumPy broadcasting.
namespace waveq::ops {

namespace {

/// out[i] = f(a[i], b[i]) under broadcasting. Runs of equal or constant operands are told apart so
/// that the compiler can vectorize them.
template <class In, class Out, class F>
void map_pair(const In* a, const Shape& a_shape, const In* b, const Shape& b_shape, Out* out,
              const Shape& out_shape, F f) {
  BroadcastLoop<2>(out_shape, {&a_shape, &b_shape})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        const In *x = a + at[0], *y = b + at[1];
        Out* z = out + o;
        if (step[0] == 1 && step[1] == 1) {
          for (std::int64_t i = 0; i < n; ++i) z[i] = f(x[i], y[i]);
        } else if (step[0] == 1) {
          const In fixed = *y;
          for (std::int64_t i = 0; i < n; ++i) z[i] = f(x[i], fixed);
        } else if (step[1] == 1) {
          const In fixed = *x;
          for (std::int64_t i = 0; i < n; ++i) z[i] = f(fixed, y[i]);
        } else {
          std::fill_n(z, n, f(*x, *y));
        }
      });
}

template <class In, class Out, class F>
void map_tensors(const Tensor& a, const Tensor& b, Tensor& out, F f) {
  map_pair(a.as<In>().data(), a.shape(), b.as<In>().data(), b.shape(), out.as<Out>().data(),
           out.shape(), f);
}

Shape joint_shape(const InferContext& ctx) {
  return broadcast(ctx.input(0).shape, ctx.input(1).shape, place(ctx.node));
}

bool is_float(const InferContext& ctx) {
  const DType a = numeric_input(ctx, 0).dtype, b = numeric_input(ctx, 1).dtype;
  if ((a == DType::f32) != (b == DType::f32))
    ctx.fail(fmt::format("operands are {} and {}; both f32 or both integers are wanted",
                         to_string(a), to_string(b)),
             "insert a Cast");
  return a == DType::f32;
}

std::vector<TensorType> infer_arithmetic(const InferContext& ctx) {
  const DType out =
      is_float(ctx) ? DType::f32 : accumulator_dtype(ctx.input(0).dtype, ctx.input(1).dtype);
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

// ---- Comparisons and logic.

template <class Op>
OpDef comparison(std::string name, std::string versions, Op op) {
  const auto infer = [](const InferContext& ctx) -> Types {
    const bool booleans =
        ctx.input(0).dtype == DType::boolean && ctx.input(1).dtype == DType::boolean;
    if (!booleans) is_float(ctx);
    return {{DType::boolean, joint_shape(ctx)}};
  };
  const auto eval = [op](const EvalContext& ctx) {
    const DType dtype = ctx.input(0).dtype();
    if (dtype == DType::f32)
      return map_tensors<float, bool>(ctx.input(0), ctx.input(1), ctx.output(), op);
    if (dtype == DType::boolean)
      return map_tensors<bool, bool>(ctx.input(0), ctx.input(1), ctx.output(), op);
    const As<std::int64_t> a(ctx.input(0)), b(ctx.input(1));
    map_pair(a.data(), ctx.input(0).shape(), b.data(), ctx.input(1).shape(),
             ctx.output().as<bool>().data(), ctx.output().shape(), op);
  };
  return {.name = name,
          .inputs = {"A", "B"},
          .attrs = {},
          .spec = "ONNX " + name + versions,
          .infer = infer,
          .eval = eval};
}

void require_boolean(const InferContext& ctx, std::size_t i) {
  if (ctx.input(i).dtype != DType::boolean)
    ctx.fail(fmt::format("input {} is {}, bool is wanted", i, to_string(ctx.input(i))));
}

template <class Op>
OpDef logic(std::string name, Op op) {
  return {.name = name,
          .inputs = {"A", "B"},
          .attrs = {},
          .spec = "ONNX " + name + "-7",
          .infer = [](const InferContext& ctx) -> Types {
            require_boolean(ctx, 0);
            require_boolean(ctx, 1);
            return {{DType::boolean, joint_shape(ctx)}};
          },
          .eval =
              [op](const EvalContext& ctx) {
                map_tensors<bool, bool>(ctx.input(0), ctx.input(1), ctx.output(), op);
              }};
}

OpDef not_op() {
  return {.name = "Not",
          .inputs = {"X"},
          .attrs = {},
          .spec = "ONNX Not-1",
          .infer = [](const InferContext& ctx) -> Types {
            require_boolean(ctx, 0);
            return {ctx.input(0)};
          },
          .eval =
              [](const EvalContext& ctx) {
                std::ranges::transform(ctx.input(0).as<bool>(), ctx.output().as<bool>().begin(),
                                       std::logical_not<>());
              }};
}

// ---- Where.

std::vector<TensorType> infer_where(const InferContext& ctx) {
  require_boolean(ctx, 0);
  if (ctx.input(1).dtype != ctx.input(2).dtype)
    ctx.fail(fmt::format("choices are {} and {}", to_string(ctx.input(1)), to_string(ctx.input(2))),
             "insert a Cast");
  const Shape choices = broadcast(ctx.input(1).shape, ctx.input(2).shape, place(ctx.node));
  return {{ctx.input(1).dtype, broadcast(ctx.input(0).shape, choices, place(ctx.node))}};
}

void eval_where(const EvalContext& ctx) {
  const Tensor &a = ctx.input(1), &b = ctx.input(2);
  const auto condition = ctx.input(0).as<bool>();
  std::byte* out = ctx.output().bytes().data();
  const auto width = static_cast<std::int64_t>(size_of(a.dtype()));
  BroadcastLoop<3>(ctx.output().shape(), {&ctx.input(0).shape(), &a.shape(), &b.shape()})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        for (std::int64_t i = 0; i < n; ++i) {
          const bool first = condition[at[0] + i * step[0]];
          const std::byte* from = first ? a.bytes().data() + (at[1] + i * step[1]) * width
                                        : b.bytes().data() + (at[2] + i * step[2]) * width;
          copy_bytes(out + (o + i) * width, from, static_cast<std::size_t>(width));
        }
      });
}

// ---- Unary.

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
      comparison("Equal", "-7, 11, 13, 19", [](auto a, auto b) { return a == b; }),
      comparison("Less", "-7, 9, 13", [](auto a, auto b) { return a < b; }),
      comparison("LessOrEqual", "-12, 16", [](auto a, auto b) { return a <= b; }),
      comparison("Greater", "-7, 9, 13", [](auto a, auto b) { return a > b; }),
      comparison("GreaterOrEqual", "-12, 16", [](auto a, auto b) { return a >= b; }),
      logic("And", [](bool a, bool b) { return a && b; }),
      logic("Or", [](bool a, bool b) { return a || b; }),
      not_op(),
      {.name = "Where",
       .inputs = {"condition", "X", "Y"},
       .attrs = {},
       .spec = "ONNX Where-9, 16",
       .infer = infer_where,
       .eval = eval_where},
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
