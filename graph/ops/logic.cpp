#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "ops/broadcast_pairs.h"
#include "ops/families.h"

// Comparisons, logic and choice, element by element with NumPy broadcasting.
namespace waveq::ops {

namespace {

template <class Op>
OpDef comparison(std::string name, std::string versions, Op op) {
  const auto infer = [](const InferContext& ctx) -> Types {
    const bool booleans =
        ctx.input(0).dtype == DType::boolean && ctx.input(1).dtype == DType::boolean;
    if (!booleans) both_float(ctx);
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

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> logic_ops() {
  using namespace ops;
  return {
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
  };
}

}  // namespace waveq
