#include <fmt/format.h>

#include "ops/integer_common.h"
#include "ops/integer_families.h"

namespace waveq {

namespace {

using namespace integer_ops_detail;

IntegerDiv read_div(const Attrs& attrs) {
  return {attr_int32(attrs, "Delta"), attr_int32(attrs, "eps"), attr_int32(attrs, "eta")};
}

std::vector<TensorType> infer_integer_div(const InferContext& ctx) {
  read_div(ctx.attrs());
  const Shape& num = ctx.input(0).shape;
  if (broadcast(num, ctx.input(1).shape, ctx.node.name) != num)
    ctx.fail(fmt::format("divisor {} does not broadcast to the numerator {}",
                         to_string(ctx.input(1).shape), to_string(num)));
  return typed_like_input(ctx, DType::i32, num);
}

void eval_integer_div(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const IntegerDiv p = read_div(ctx.attrs());
    std::vector<std::int32_t> num = load_int32(ctx, 0);
    const std::vector<std::int32_t> den = load_int32(ctx, 1);
    BroadcastIndex at(ctx.input(0).shape(), ctx.input(1).shape());
    for (std::int32_t& value : num) value = integer_div(value, den[at.next()], p, ctx.overflow);
    store(ctx, num);
  });
}

std::int32_t read_factor(const Attrs& attrs) {
  return true_integer_div_factor(attr_int32(attrs, "Delta"), attr_int32(attrs, "eta"),
                                 attr_int32(attrs, "eps"), attr_int32(attrs, "y"));
}

std::vector<TensorType> infer_true_integer_div(const InferContext& ctx) {
  read_factor(ctx.attrs());
  return typed_like_input(ctx, DType::i32, ctx.input(0).shape);
}

void eval_true_integer_div(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const std::int32_t factor = read_factor(ctx.attrs());
    std::vector<std::int32_t> values = load_int32(ctx, 0);
    for (std::int32_t& x : values) x = int32_product(x, factor, ctx.overflow);
    store(ctx, values);
  });
}

}  // namespace

std::vector<OpDef> integer_division_ops() {
  return {{.name = "IntegerDiv",
           .inputs = {"num", "den"},
           .attrs = {"Delta", "eps", "eta"},
           .spec = "Deeploy Generic/src/Div_s32.c",
           .infer = infer_integer_div,
           .eval = eval_integer_div,
           .dialect = true},
          {.name = "TrueIntegerDiv",
           .inputs = {"x"},
           .attrs = {"Delta", "eps", "eta", "y"},
           .spec = "Deeploy Generic Passes.py, merged with the RequantShift behind it",
           .infer = infer_true_integer_div,
           .eval = eval_true_integer_div,
           .dialect = true}};
}

}  // namespace waveq
