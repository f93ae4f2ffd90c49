#include <fmt/format.h>

#include "ops/integer_common.h"
#include "ops/integer_families.h"

namespace waveq {

namespace {

using namespace integer_ops_detail;
using Row = std::span<const std::int32_t>;
using RowOut = std::span<std::int32_t>;

std::int32_t read_levels(const Attrs& attrs) {
  const std::int32_t n = attr_int32(attrs, "n_levels");
  if (n < 2 || n > 256)
    throw Error(ErrorCode::parse, "attribute 'n_levels'", fmt::format("is {}", n),
                "the kernel stores 8 bits: 2..256");
  return n;
}

ISoftmax read_isoftmax(const Attrs& attrs) {
  ISoftmax p;
  p.coeff_a = attrs.has("coeffA") ? attr_int32(attrs, "coeffA") : 1;
  p.coeff_b = attr_int32(attrs, "coeffB");
  p.coeff_c = attrs.require_int("coeffC");
  p.log2 = attr_int32(attrs, "log2");
  p.n_levels = read_levels(attrs);
  const std::string octave = attrs.get_string("octave", "int8");
  if (octave != "int8" && octave != "uint8")
    throw Error(ErrorCode::parse, "attribute 'octave'", fmt::format("is '{}'", octave),
                "int8 or uint8");
  p.unsigned_octave = octave == "uint8";
  if (p.log2 == 0)
    throw Error(ErrorCode::parse, "attribute 'log2'", "is 0", "use round(ln 2 / scale)");
  return p;
}

/// Unsigned probabilities of the shape of x, computed along the last axis.
std::vector<TensorType> infer_rows(const InferContext& ctx) {
  last_axis(ctx);
  return typed_like_input(ctx, DType::u8, ctx.input(0).shape);
}

/// Applies f(row, out) to each row of the last axis.
template <class F>
void eval_rows(const EvalContext& ctx, F&& f) {
  at_node(ctx, [&] {
    const std::vector<std::int32_t> x = load_8bit(ctx, 0);
    std::vector<std::int32_t> y(x.size());
    const auto length = static_cast<std::size_t>(last_axis(ctx));
    for (std::size_t i = 0; i < x.size(); i += length)
      f(Row(x).subspan(i, length), RowOut(y).subspan(i, length));
    store(ctx, y);
  });
}

OpDef isoftmax_op() {
  return {.name = "iSoftmax",
          .inputs = {"x"},
          .attrs = {"coeffA", "coeffB", "coeffC", "log2", "n_levels", "octave"},
          .spec = "Deeploy Generic/src/Softmax_s8.c",
          .infer =
              [](const InferContext& ctx) {
                read_isoftmax(ctx.attrs());
                return infer_rows(ctx);
              },
          .eval =
              [](const EvalContext& ctx) {
                const ISoftmax p = read_isoftmax(ctx.attrs());
                eval_rows(ctx, [&](Row x, RowOut y) { isoftmax(x, p, y, ctx.overflow); });
              },
          .dialect = true};
}

OpDef itamax_op() {
  return {.name = "ITAMax",
          .inputs = {"x"},
          .attrs = {"n_levels"},
          .spec = "Deeploy Generic/src/Softmax_s8.c, ITAMax_s8",
          .infer =
              [](const InferContext& ctx) {
                read_levels(ctx.attrs());
                return infer_rows(ctx);
              },
          .eval =
              [](const EvalContext& ctx) {
                const std::int32_t n = read_levels(ctx.attrs());
                eval_rows(ctx, [&](Row x, RowOut y) { itamax(x, n, y, ctx.overflow); });
              },
          .dialect = true};
}

OpDef ita_partial_max_op() {
  return {
      .name = "ITAPartialMax",
      .inputs = {"x"},
      .attrs = {"n_levels", "group_width"},
      .spec = "Deeploy Generic/src/Softmax_s8.c, ITAPartialMax_s8",
      .infer =
          [](const InferContext& ctx) {
            read_levels(ctx.attrs());
            const std::int64_t width = ctx.attrs().require_int("group_width");
            if (width < 1 || last_axis(ctx) % width != 0)
              ctx.fail(
                  fmt::format("group_width {} does not divide rows of {}", width, last_axis(ctx)),
                  "pad the rows with the smallest value");
            return infer_rows(ctx);
          },
      .eval =
          [](const EvalContext& ctx) {
            const std::int32_t n = read_levels(ctx.attrs());
            const std::int64_t width = ctx.attrs().require_int("group_width");
            eval_rows(ctx, [&](Row x, RowOut y) { ita_partial_max(x, n, width, y, ctx.overflow); });
          },
      .dialect = true};
}

}  // namespace

std::vector<OpDef> integer_softmax_ops() {
  return {isoftmax_op(), itamax_op(), ita_partial_max_op()};
}

}  // namespace waveq
