#include <fmt/format.h>

#include "ops/movement.h"
#include "ops/op_util.h"

// DepthToSpace and SpaceToDepth: blocks of pixels as channels.
namespace waveq::ops {

namespace {

/// blocksize b: [N,C,H,W] -> [N,C/b^2,H*b,W*b], or back.
Types infer_blocks(const InferContext& ctx) {
  const TensorType& x = ctx.input(0);
  const std::int64_t b = ctx.attrs().require_int("blocksize");
  const bool to_space = ctx.node.op == "DepthToSpace";
  require_rank(ctx, 0, 4, 4);
  if (b < 1 || b > (1 << 15)) ctx.fail(fmt::format("blocksize {} is not a block", b));
  if (to_space ? x.shape[1] % (b * b) != 0 : x.shape[2] % b != 0 || x.shape[3] % b != 0)
    ctx.fail(fmt::format("{} does not divide into blocks of {}", to_string(x), b));
  Shape out = x.shape;
  out[1] = to_space ? out[1] / (b * b) : checked_product(ctx, out[1], b * b);
  for (std::size_t d : {2u, 3u}) out[d] = to_space ? checked_product(ctx, out[d], b) : out[d] / b;
  return {{x.dtype, out}};
}

/// One pixel of block position (i, j) is a channel: (i*b + j)*C' + c, for mode CRD (c*b + i)*b + j.
/// Source: ONNX DepthToSpace-1, 11, 13; SpaceToDepth-1, 13.
void eval_blocks(const EvalContext& ctx) {
  const std::int64_t b = ctx.attrs().require_int("blocksize");
  const bool to_space = ctx.node.op == "DepthToSpace";
  const Tensor& x = ctx.input(0);
  // The side with the wide map, seen as [N, c, h, i, w, j] within x.
  const Shape &deep = to_space ? x.shape() : ctx.output().shape(),
              &wide = to_space ? ctx.output().shape() : x.shape();
  const std::int64_t c = wide[1], h = deep[2], w = deep[3], map = h * w;
  const bool column_first = to_space && ctx.attrs().get_string("mode", "DCR") == "CRD";
  if (!to_space) {  // out [N, i, j, c, h, w] from x [N, c, h, i, w, j]
    const std::int64_t row = w * b;
    return copy_strided(ctx.output().bytes().data(), {deep[0], b, b, c, h, w}, x.bytes().data(),
                        {c * h * b * row, row, 1, h * b * row, b * row, b}, size_of(x.dtype()));
  }
  const std::int64_t of_c = column_first ? b * b * map : map,
                     of_i = column_first ? b * map : b * c * map,
                     of_j = column_first ? map : c * map;
  copy_strided(ctx.output().bytes().data(), {deep[0], c, h, b, w, b}, x.bytes().data(),
               {deep[1] * map, of_c, w, of_i, 1, of_j}, size_of(x.dtype()));
}

OpDef block_op(std::string name, std::vector<std::string> attrs, std::string spec) {
  return {.name = std::move(name),
          .inputs = {"input"},
          .attrs = std::move(attrs),
          .spec = std::move(spec),
          .infer = infer_blocks,
          .eval = eval_blocks,
          .moves_data = true};
}

}  // namespace

std::vector<OpDef> block_ops() {
  return {block_op("DepthToSpace", {"blocksize", "mode"}, "ONNX DepthToSpace-1, 11, 13"),
          block_op("SpaceToDepth", {"blocksize"}, "ONNX SpaceToDepth-1, 13")};
}

}  // namespace waveq::ops
