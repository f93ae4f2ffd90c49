#include <fmt/format.h>

#include <array>

#include "ops/integer_common.h"
#include "ops/integer_families.h"

namespace waveq {

namespace {

using namespace integer_ops_detail;

/// Elementwise, 8-bit codes to int32: f is called once for each code that occurs.
template <class F>
void eval_elementwise(const EvalContext& ctx, F&& f) {
  at_node(ctx, [&] {
    std::vector<std::int32_t> values = load_8bit(ctx, 0);
    constexpr std::int32_t kLowest = -128;
    std::array<bool, 384> occurs{};
    std::array<std::int32_t, 384> table{};
    for (std::int32_t x : values) occurs[static_cast<std::size_t>(x - kLowest)] = true;
    for (std::size_t i = 0; i < table.size(); ++i)
      if (occurs[i]) table[i] = f(static_cast<std::int32_t>(i) + kLowest);
    for (std::int32_t& x : values) x = table[static_cast<std::size_t>(x - kLowest)];
    store(ctx, values);
  });
}

std::vector<TensorType> infer_igelu(const InferContext& ctx) {
  ctx.attrs().require_int("b");
  ctx.attrs().require_int("one");
  return typed_like_input(ctx, DType::i32, ctx.input(0).shape);
}

void eval_igelu(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const IGelu p =
        igelu_arguments(ctx.attrs().require_int("b"), ctx.attrs().require_int("one"), ctx.overflow);
    eval_elementwise(ctx, [&](std::int32_t x) { return igelu(x, p); });
  });
}

IHardswish read_ihardswish(const Attrs& attrs) {
  return {attr_int32(attrs, "three"), attr_int32(attrs, "six"), attr_int32(attrs, "one_over_six")};
}

std::vector<TensorType> infer_ihardswish(const InferContext& ctx) {
  read_ihardswish(ctx.attrs());
  return typed_like_input(ctx, DType::i32, ctx.input(0).shape);
}

void eval_ihardswish(const EvalContext& ctx) {
  const IHardswish p = read_ihardswish(ctx.attrs());
  eval_elementwise(ctx, [&](std::int32_t x) { return ihardswish(x, p, ctx.overflow); });
}

}  // namespace

std::vector<OpDef> integer_activation_ops() {
  return {{.name = "iGELU",
           .inputs = {"x"},
           .attrs = {"b", "one"},
           .spec = "Deeploy Generic/src/GELU_s8.c",
           .infer = infer_igelu,
           .eval = eval_igelu,
           .dialect = true},
          {.name = "iHardswish",
           .inputs = {"x"},
           .attrs = {"three", "six", "one_over_six"},
           .spec = "Deeploy Generic/src/Hardswish_s8.c",
           .infer = infer_ihardswish,
           .eval = eval_ihardswish,
           .dialect = true}};
}

}  // namespace waveq
