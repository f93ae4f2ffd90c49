#include <fmt/format.h>

#include <algorithm>

#include "ops/integer_common.h"
#include "ops/integer_families.h"

namespace waveq {

namespace {

using namespace integer_ops_detail;

/// Which axes are reduced; all of them where the node names none.
std::vector<bool> read_axes(const Attrs& attrs, std::size_t rank, std::string_view where) {
  std::vector<bool> reduced(rank, !attrs.has("axes"));
  for (std::int64_t axis : attrs.get_ints("axes", {}))
    reduced[static_cast<std::size_t>(normalize_axis(axis, rank, where))] = true;
  return reduced;
}

std::vector<TensorType> infer_mean(const InferContext& ctx) {
  const Shape& shape = ctx.input(0).shape;
  const std::vector<bool> reduced = read_axes(ctx.attrs(), shape.size(), ctx.node.name);
  const bool keep = ctx.attrs().get_int("keepdims", 1) != 0;
  Shape out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (reduced[i] && shape[i] == 0)
      ctx.fail(fmt::format("the mean over {} has no elements", to_string(shape)));
    if (!reduced[i]) out.push_back(shape[i]);
    if (reduced[i] && keep) out.push_back(1);
  }
  return typed_like_input(ctx, ctx.input(0).dtype, std::move(out));
}

void eval_mean(const EvalContext& ctx) {
  at_node(ctx, [&] {
    const Shape& shape = ctx.input(0).shape();
    const std::vector<bool> reduced = read_axes(ctx.attrs(), shape.size(), ctx.node.name);
    Shape kept = shape;  // the output's shape with keepdims, whatever the attribute says
    std::int64_t count = 1;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (!reduced[i]) continue;
      kept[i] = 1;
      count *= shape[i];
    }
    const std::vector<std::int32_t> x = load_int32(ctx, 0);
    std::vector<std::int32_t> out(static_cast<std::size_t>(element_count(kept)), 0);
    BroadcastIndex at(shape, kept);
    for (std::int32_t value : x) {
      std::int32_t& sum = out[at.next()];
      sum = narrow_int32(std::int64_t{sum} + value, ctx.overflow, "integer_mean", "the sum");
    }
    for (std::int32_t& sum : out) {
      // The target adds the rounding half in int32, too.
      const std::int64_t half = sum < 0 && (count & (count - 1)) != 0 ? -(count >> 1) : count >> 1;
      const std::int32_t rounded =
          narrow_int32(sum + half, ctx.overflow, "integer_mean", "the sum + half");
      sum = static_cast<std::int32_t>(integer_mean(rounded - half, count));
    }
    store(ctx, out);
  });
}

}  // namespace

std::vector<OpDef> integer_mean_ops() {
  return {{.name = "IntegerMean",
           .inputs = {"x"},
           .attrs = {"axes", "keepdims"},
           .spec = "Deeploy Generic template IntegerMean",
           .infer = infer_mean,
           .eval = eval_mean,
           .dialect = true}};
}

}  // namespace waveq
