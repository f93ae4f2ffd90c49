#include <fmt/format.h>

#include "ops/integer_common.h"
#include "ops/integer_families.h"

namespace waveq {

namespace {

using namespace integer_ops_detail;
using Row = std::span<const std::int32_t>;

int read_log2_d(const Attrs& attrs) { return exact_log2(attrs.require_int("D"), "D"); }

/// Inputs 1.. hold one value for each element of a row.
std::vector<TensorType> infer_rows(const InferContext& ctx, std::size_t parameters) {
  read_log2_d(ctx.attrs());
  const std::int64_t axis = ctx.attrs().get_int("axis", -1);
  if (axis != -1 && axis != static_cast<std::int64_t>(ctx.input(0).shape.size()) - 1)
    ctx.fail(fmt::format("axis is {}", axis), "the kernel works along the last axis");
  const std::int64_t length = last_axis(ctx);
  for (std::size_t i = 1; i <= parameters; ++i)
    if (element_count(ctx.input(i).shape) != length)
      ctx.fail(fmt::format("input {} is {}, rows have {} elements", i,
                           to_string(ctx.input(i).shape), length));
  return typed_like_input(ctx, DType::i8, ctx.input(0).shape);
}

void eval_ilayernorm(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const std::vector<std::int32_t> x = load_8bit(ctx, 0), weight = load_int32(ctx, 1),
                                    bias = load_int32(ctx, 2);
    std::vector<std::int32_t> y(x.size());
    const int log2_d = read_log2_d(ctx.attrs());
    const std::size_t n = weight.size();
    for (std::size_t i = 0; i < x.size(); i += n)
      ilayernorm(Row(x).subspan(i, n), weight, bias, log2_d, std::span(y).subspan(i, n),
                 ctx.overflow);
    store(ctx, y);
  });
}

void eval_irmsnorm(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const std::vector<std::int32_t> x = load_8bit(ctx, 0), weight = load_int32(ctx, 1);
    std::vector<std::int32_t> y(x.size());
    const int log2_d = read_log2_d(ctx.attrs());
    const std::size_t n = weight.size();
    for (std::size_t i = 0; i < x.size(); i += n)
      irmsnorm(Row(x).subspan(i, n), weight, log2_d, std::span(y).subspan(i, n), ctx.overflow);
    store(ctx, y);
  });
}

std::vector<TensorType> infer_inonorm(const InferContext& ctx) {
  read_log2_d(ctx.attrs());
  attr_int32(ctx.attrs(), "mul");
  const Shape& shape = ctx.input(0).shape;
  for (std::size_t i : {std::size_t{1}, std::size_t{2}})
    if (broadcast(shape, ctx.input(i).shape, ctx.node.name) != shape)
      ctx.fail(fmt::format("input {} is {}, x is {}", i, to_string(ctx.input(i).shape),
                           to_string(shape)));
  return typed_like_input(ctx, DType::i8, shape);
}

void eval_inonorm(const EvalContext& ctx) {
  at_node(ctx, [&] {
    std::vector<std::int32_t> values = load_8bit(ctx, 0);
    const std::vector<std::int32_t> weight = load_int32(ctx, 1), bias = load_int32(ctx, 2);
    BroadcastIndex at_weight(ctx.input(0).shape(), ctx.input(1).shape());
    BroadcastIndex at_bias(ctx.input(0).shape(), ctx.input(2).shape());
    const std::int32_t mul = attr_int32(ctx.attrs(), "mul");
    const int log2_d = read_log2_d(ctx.attrs());
    for (std::int32_t& x : values)
      x = inonorm(x, weight[at_weight.next()], bias[at_bias.next()], mul, log2_d, ctx.overflow);
    store(ctx, values);
  });
}

}  // namespace

std::vector<OpDef> integer_norm_ops() {
  return {{.name = "iLayerNorm",
           .inputs = {"x", "weight", "bias"},
           .attrs = {"D", "n_levels"},
           .spec = "Deeploy Generic/src/Layernorm_s8.c",
           .infer = [](const InferContext& ctx) { return infer_rows(ctx, 2); },
           .eval = eval_ilayernorm,
           .dialect = true},
          {.name = "iRMSNorm",
           .inputs = {"x", "weight"},
           .attrs = {"D", "n_levels", "axis"},
           .spec = "Deeploy Generic/src/iRMSNorm_s8.c",
           .infer = [](const InferContext& ctx) { return infer_rows(ctx, 1); },
           .eval = eval_irmsnorm,
           .dialect = true},
          {.name = "iNoNorm",
           .inputs = {"x", "weight", "bias"},
           .attrs = {"D", "mul", "n_levels"},
           .spec = "Deeploy Snitch/src/iNoNorm.c",
           .infer = infer_inonorm,
           .eval = eval_inonorm,
           .dialect = true}};
}

}  // namespace waveq
