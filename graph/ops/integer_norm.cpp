#include <fmt/format.h>

#include "ops/integer_common.h"
#include "ops/integer_families.h"
#include "waveq/graph/integer_arithmetic.h"

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

/// output_bits = 32: the form that reads 16 bits and makes int32.
bool is_wide(const Attrs& attrs) { return attrs.get_int("output_bits", 8) == 32; }

std::vector<TensorType> infer_ilayernorm(const InferContext& ctx) {
  const std::int64_t bits = ctx.attrs().get_int("output_bits", 8);
  if (bits != 8 && bits != 32) ctx.fail(fmt::format("output_bits is {}, not 8 or 32", bits));
  const std::int64_t epsilon = ctx.attrs().get_int("epsilon", 1);
  if (epsilon < 1 || epsilon > (bits == 32 ? kLayerNormLargestEpsilon : 1))
    ctx.fail(fmt::format("epsilon is {}", epsilon), "1, up to 2^40 with output_bits = 32");
  std::vector<TensorType> types = infer_rows(ctx, 2);
  if (bits == 32 && is_integer(types.front().dtype)) types.front().dtype = DType::i32;
  return types;
}

std::vector<std::int32_t> load_16bit(const EvalContext& ctx, std::size_t input) {
  std::vector<std::int32_t> values = load_int32(ctx, input);
  for (const std::int32_t v : values)
    if (v < -32768 || v > 65535)
      ctx.fail(ErrorCode::overflow,
               fmt::format("input {} holds {}, the operator takes 16-bit values", input, v),
               "put a RequantShift with at most 65536 levels in front of it");
  return values;
}

void eval_ilayernorm(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const bool wide = is_wide(ctx.attrs());
    const std::vector<std::int32_t> x = wide ? load_16bit(ctx, 0) : load_8bit(ctx, 0),
                                    weight = load_int32(ctx, 1), bias = load_int32(ctx, 2);
    std::vector<std::int32_t> y(x.size());
    const int log2_d = read_log2_d(ctx.attrs());
    const std::int64_t epsilon = ctx.attrs().get_int("epsilon", 1);
    const std::size_t n = weight.size();
    for (std::size_t i = 0; i < x.size(); i += n) {
      const Row row = Row(x).subspan(i, n);
      const auto out = std::span(y).subspan(i, n);
      if (wide)
        ilayernorm_wide(row, weight, bias, log2_d, epsilon, out, ctx.overflow);
      else
        ilayernorm(row, weight, bias, log2_d, out, ctx.overflow);
    }
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
           .attrs = {"D", "epsilon", "n_levels", "output_bits"},
           .spec = "Deeploy Generic/src/Layernorm_s8.c",
           .infer = infer_ilayernorm,
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
