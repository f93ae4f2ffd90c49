#include <fmt/format.h>

#include <algorithm>

#include "ops/integer_common.h"
#include "ops/integer_families.h"
#include "waveq/graph/quant.h"

namespace waveq {

namespace {

using namespace integer_ops_detail;

constexpr std::int64_t kMaxEntries = 65536;

/// Type of the entries, as for RequantShift.
QuantParams output_levels(const Attrs& attrs) {
  QuantParams q;
  q.n_levels = attrs.require_int("n_levels_out");
  const std::int64_t is_signed = attrs.require_int("signed");
  if (q.n_levels < 2 || q.n_levels > 65536)
    throw Error(ErrorCode::parse, "attribute 'n_levels_out'", fmt::format("is {}", q.n_levels),
                "2..65536 are possible");
  if (is_signed != 0 && is_signed != 1)
    throw Error(ErrorCode::parse, "attribute 'signed'", fmt::format("is {}", is_signed),
                "0 or 1 are possible");
  q.is_signed = is_signed == 1;
  return q;
}

std::vector<TensorType> infer_table(const InferContext& ctx) {
  const Shape &x = ctx.input(0).shape, &table = ctx.input(1).shape;
  attr_int32(ctx.attrs(), "first");
  const bool per_channel = table.size() == 2;
  if (table.empty() || table.size() > 2 || table.back() < 1 || table.back() > kMaxEntries)
    ctx.fail(fmt::format("table is {}", to_string(ctx.input(1))),
             "give [N], or [C,N] with one row for each index of axis 1; N = 1..65536");
  if (per_channel && (x.size() < 2 || table[0] != x[1]))
    ctx.fail(
        fmt::format("table {} does not fit x {}", to_string(ctx.input(1)), to_string(ctx.input(0))),
        "it has one row for each index of axis 1 of x");
  return typed_like_input(ctx, output_levels(ctx.attrs()).storage(), x);
}

/// y = table[clamp(x - first, 0, N-1)], for a table [C,N] the row of x's index on axis 1. Every x
/// is defined, nothing is rounded. `first` is the code of the first entry: -128 for int8, 0 for
/// uint8. n_levels_out and signed state the type of the entries, as for RequantShift. Source:
/// integer-approximations.md 8.1; ONNX spells it Sub, Clip, Gather.
void eval_table(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const std::int64_t first = attr_int32(ctx.attrs(), "first");
    const QuantParams levels = output_levels(ctx.attrs());
    const std::vector<std::int32_t> table = load_int32(ctx, 1);
    for (std::int32_t v : table)
      if (v < levels.lo() || v > levels.hi())
        ctx.fail(ErrorCode::data, fmt::format("an entry of the table is {}", v),
                 fmt::format("n_levels_out and signed promise {}..{}", levels.lo(), levels.hi()));
    const Shape& shape = ctx.input(0).shape();
    const std::int64_t entries = ctx.input(1).shape().back();
    const std::int64_t rows = static_cast<std::int64_t>(table.size()) / entries;
    std::int64_t width = 1;
    for (std::size_t d = 2; d < shape.size(); ++d) width *= shape[d];
    std::vector<std::int32_t> values = load_int32(ctx, 0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t row =
          rows == 1 ? 0 : static_cast<std::int64_t>(i) / std::max<std::int64_t>(width, 1) % rows;
      const std::int64_t at =
          std::clamp<std::int64_t>(std::int64_t{values[i]} - first, 0, entries - 1);
      values[i] = table[static_cast<std::size_t>(row * entries + at)];
    }
    store(ctx, values);
  });
}

}  // namespace

std::vector<OpDef> integer_table_ops() {
  return {{.name = "Table",
           .inputs = {"x", "table"},
           .attrs = {"first", "n_levels_out", "signed"},
           .spec = "docs/waveq-operators.md; integer-approximations.md 8.1",
           .infer = infer_table,
           .eval = eval_table,
           .dialect = true}};
}

}  // namespace waveq
