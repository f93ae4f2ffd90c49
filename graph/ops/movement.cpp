#include "ops/movement.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>

#include "ops/families.h"
#include "ops/op_util.h"

// Operators that rearrange elements of any dtype without computing on them.
namespace waveq::ops {

namespace {

void eval_copy(const EvalContext& ctx) {
  copy_bytes(ctx.output().bytes().data(), ctx.input(0).bytes().data(), ctx.input(0).byte_size());
}

/// One output with the elements of input 0 in their order, under another shape.
OpDef relabel(std::string name, std::vector<std::string> inputs, std::vector<std::string> attrs,
              std::string spec, Shape (*shape)(const InferContext&)) {
  return {.name = std::move(name),
          .inputs = std::move(inputs),
          .attrs = std::move(attrs),
          .spec = std::move(spec),
          .infer = [shape](const InferContext& ctx) -> Types {
            const TensorType& x = ctx.input(0);
            Shape out = shape(ctx);
            if (element_count(out) != element_count(x.shape))
              ctx.fail(fmt::format("{} does not reshape to {}", to_string(x), to_string(out)));
            return {{x.dtype, std::move(out)}};
          },
          .eval = eval_copy,
          .moves_data = true};
}

// ---- Identity, Dropout.

/// Inference mode whatever the inputs say: the output is the input, the mask all true.
OpDef dropout_op() {
  return {.name = "Dropout",
          .inputs = {"data", "ratio?", "training_mode?"},
          .attrs = {"ratio", "seed"},
          .spec = "ONNX Dropout-7, 10, 12, 13",
          .infer =
              [](const InferContext& ctx) {
                return for_outputs(ctx, {ctx.input(0), {DType::boolean, ctx.input(0).shape}});
              },
          .eval =
              [](const EvalContext& ctx) {
                eval_copy(ctx);
                if (ctx.outputs.size() > 1 && ctx.outputs[1])
                  std::ranges::fill(ctx.output(1).as<bool>(), true);
              },
          .moves_data = true};
}

// ---- Reshape, Flatten, Squeeze, Unsqueeze.

Shape reshape_shape(const InferContext& ctx) {
  const Shape& in = ctx.input(0).shape;
  if (!ctx.attrs().has("shape")) ctx.input(1);
  Shape out = ints_param(ctx, "shape", 1, {});
  const bool zero_means_zero = ctx.attrs().get_int("allowzero", 0) != 0;
  std::optional<std::size_t> open;
  std::int64_t known = 1;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] == 0 && !zero_means_zero) {
      if (i >= in.size())
        ctx.fail(
            fmt::format("dimension {} of {} is to be copied but does not exist", i, to_string(in)));
      out[i] = in[i];
    }
    if (out[i] == -1 && !open) {
      open = i;
      continue;
    }
    if (out[i] < 0)
      ctx.fail(fmt::format("target shape {} has a negative dimension or several open ones",
                           to_string(out)));
    known = checked_product(ctx, known, out[i]);
  }
  if (open) {
    const std::int64_t total = element_count(in);
    if (known == 0 || total % known != 0)
      ctx.fail(fmt::format("{} elements do not divide into {}", total, to_string(out)));
    out[*open] = total / known;
  }
  return out;
}

Shape flatten_shape(const InferContext& ctx) {
  const Shape& in = ctx.input(0).shape;
  const auto rank = static_cast<std::int64_t>(in.size());
  std::int64_t axis = ctx.attrs().get_int("axis", 1);
  if (axis < -rank || axis > rank) ctx.fail(fmt::format("axis {} is outside rank {}", axis, rank));
  if (axis < 0) axis += rank;
  return {element_count(Shape(in.begin(), in.begin() + axis)),
          element_count(Shape(in.begin() + axis, in.end()))};
}

Shape squeeze_shape(const InferContext& ctx) {
  const Shape& in = ctx.input(0).shape;
  const std::vector<std::int64_t> axes = ints_param(ctx, "axes", 1, {});
  std::vector<bool> drop(in.size(), false);
  if (axes.empty())
    for (std::size_t i = 0; i < in.size(); ++i) drop[i] = in[i] == 1;
  for (std::int64_t axis : axes) {
    const std::int64_t a = normalize_axis(axis, in.size(), place(ctx.node));
    if (in[a] != 1) ctx.fail(fmt::format("axis {} of {} is not 1", axis, to_string(in)));
    drop[a] = true;
  }
  Shape out;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (!drop[i]) out.push_back(in[i]);
  return out;
}

Shape unsqueeze_shape(const InferContext& ctx) {
  const Shape& in = ctx.input(0).shape;
  if (!ctx.attrs().has("axes")) ctx.input(1);
  const std::vector<std::int64_t> axes = ints_param(ctx, "axes", 1, {});
  const std::size_t rank = in.size() + axes.size();
  std::vector<bool> fresh(rank, false);
  for (std::int64_t axis : axes) {
    const std::int64_t a = normalize_axis(axis, rank, place(ctx.node));
    if (fresh[a]) ctx.fail(fmt::format("axis {} is given twice", axis));
    fresh[a] = true;
  }
  Shape out;
  auto next = in.begin();
  for (std::size_t i = 0; i < rank; ++i) out.push_back(fresh[i] ? 1 : *next++);
  return out;
}

// ---- Transpose.

std::vector<std::int64_t> permutation(const Node& node, std::size_t rank) {
  std::vector<std::int64_t> fallback(rank);
  std::iota(fallback.rbegin(), fallback.rend(), 0);
  std::vector<std::int64_t> perm = node.attrs.get_ints("perm", std::move(fallback));
  std::vector<std::int64_t> sorted = perm;
  std::ranges::sort(sorted);
  bool valid = sorted.size() == rank;
  for (std::size_t i = 0; valid && i < rank; ++i) valid = sorted[i] == static_cast<std::int64_t>(i);
  if (!valid)
    throw Error(ErrorCode::shape, place(node),
                fmt::format("perm {} is not a permutation of {} axes", to_string(perm), rank));
  return perm;
}

OpDef transpose_op() {
  return {.name = "Transpose",
          .inputs = {"data"},
          .attrs = {"perm"},
          .spec = "ONNX Transpose-1, 13",
          .infer = [](const InferContext& ctx) -> Types {
            const TensorType& x = ctx.input(0);
            Shape out;
            for (std::int64_t axis : permutation(ctx.node, x.shape.size()))
              out.push_back(x.shape[axis]);
            return {{x.dtype, out}};
          },
          .eval =
              [](const EvalContext& ctx) {
                const Tensor& x = ctx.input(0);
                const std::vector<std::int64_t> dense = strides_of(x.shape());
                std::vector<std::int64_t> strides;
                for (std::int64_t axis : permutation(ctx.node, x.shape().size()))
                  strides.push_back(dense[axis]);
                copy_strided(ctx.output().bytes().data(), ctx.output().shape(), x.bytes().data(),
                             strides, size_of(x.dtype()));
              },
          .moves_data = true};
}

// ---- Concat.

/// Elements of `shape` behind and in front of an axis.
std::int64_t product_from(const Shape& shape, std::int64_t axis) {
  return std::accumulate(shape.begin() + axis, shape.end(), std::int64_t{1}, std::multiplies<>());
}
std::int64_t product_until(const Shape& shape, std::int64_t axis) {
  return std::accumulate(shape.begin(), shape.begin() + axis, std::int64_t{1}, std::multiplies<>());
}

Types infer_concat(const InferContext& ctx) {
  TensorType out = ctx.input(0);
  const std::int64_t axis =
      normalize_axis(ctx.attrs().get_int("axis", 1), out.shape.size(), place(ctx.node));
  for (std::size_t i = 1; i < ctx.inputs.size(); ++i) {
    const Shape& shape = same_dtype_input(ctx, i).shape;
    bool fits = shape.size() == out.shape.size();
    for (std::size_t d = 0; fits && d < shape.size(); ++d)
      fits = static_cast<std::int64_t>(d) == axis || shape[d] == out.shape[d];
    if (!fits)
      ctx.fail(fmt::format("input {} is {}, which does not join {} on axis {}", i, to_string(shape),
                           to_string(out), axis));
    out.shape[axis] += shape[axis];
  }
  return {out};
}

void eval_concat(const EvalContext& ctx) {
  Tensor& out = ctx.output();
  const std::int64_t axis =
      normalize_axis(ctx.attrs().get_int("axis", 1), out.shape().size(), place(ctx.node));
  const auto width = static_cast<std::int64_t>(size_of(out.dtype()));
  const std::int64_t outer = product_until(out.shape(), axis),
                     pitch = product_from(out.shape(), axis) * width;
  std::int64_t offset = 0;
  for (const Tensor* x : ctx.inputs) {
    const std::int64_t run = product_from(x->shape(), axis) * width;
    for (std::int64_t o = 0; o < outer && run > 0; ++o)
      copy_bytes(out.bytes().data() + o * pitch + offset, x->bytes().data() + o * run,
                 static_cast<std::size_t>(run));
    offset += run;
  }
}

// ---- Split.

/// Lengths of the pieces: attribute, input 1, or equal parts (the last one smaller, opset 18).
template <class Context>
std::vector<std::int64_t> split_lengths(const Context& ctx, std::int64_t total) {
  std::vector<std::int64_t> lengths = ints_param(ctx, "split", 1, {});
  const auto fail = [&](std::string what) {
    throw Error(ErrorCode::shape, place(ctx.node), std::move(what));
  };
  if (lengths.empty()) {
    const auto outputs =
        static_cast<std::int64_t>(std::max<std::size_t>(1, ctx.node.outputs.size()));
    const std::int64_t parts = ctx.attrs().get_int("num_outputs", outputs);
    if (parts != outputs)
      fail(fmt::format("num_outputs is {} but the node has {} outputs", parts, outputs));
    const std::int64_t each = (total + parts - 1) / parts;
    if (total % parts != 0 && !ctx.attrs().has("num_outputs"))
      fail(fmt::format("{} does not divide into {} equal parts", total, parts));
    for (std::int64_t i = 0; i < parts; ++i)
      lengths.push_back(std::clamp<std::int64_t>(total - i * each, 0, each));
  }
  std::int64_t rest = total;
  for (std::int64_t n : lengths) {
    if (n < 0 || n > rest)
      fail(fmt::format("split {} does not partition {}", to_string(lengths), total));
    rest -= n;
  }
  if (rest != 0) fail(fmt::format("split {} does not partition {}", to_string(lengths), total));
  return lengths;
}

Types infer_split(const InferContext& ctx) {
  const TensorType& x = ctx.input(0);
  const std::int64_t axis =
      normalize_axis(ctx.attrs().get_int("axis", 0), x.shape.size(), place(ctx.node));
  Types types;
  for (std::int64_t n : split_lengths(ctx, x.shape[axis])) {
    types.push_back(x);
    types.back().shape[axis] = n;
  }
  if (types.size() != std::max<std::size_t>(1, ctx.node.outputs.size()))
    ctx.fail(fmt::format("is split into {} parts but has {} outputs", types.size(),
                         ctx.node.outputs.size()));
  return types;
}

void eval_split(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::int64_t axis =
      normalize_axis(ctx.attrs().get_int("axis", 0), x.shape().size(), place(ctx.node));
  const auto width = static_cast<std::int64_t>(size_of(x.dtype()));
  const std::int64_t outer = product_until(x.shape(), axis),
                     pitch = product_from(x.shape(), axis) * width;
  std::int64_t offset = 0;
  const std::vector<std::int64_t> lengths = split_lengths(ctx, x.shape()[axis]);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::int64_t run = lengths[i] * product_from(x.shape(), axis + 1) * width;
    if (ctx.outputs[i])
      for (std::int64_t o = 0; o < outer && run > 0; ++o)
        copy_bytes(ctx.output(i).bytes().data() + o * run, x.bytes().data() + o * pitch + offset,
                   static_cast<std::size_t>(run));
    offset += run;
  }
}

// ---- Slice.

/// Start, number of elements and step along one axis.
struct Span {
  std::int64_t start, count, step;
};

/// Source: ONNX Slice-10: positions are counted from the back when negative, then clamped.
Span slice_axis(std::int64_t start, std::int64_t end, std::int64_t step, std::int64_t length) {
  if (length == 0) return {0, 0, step};
  const auto position = [&](std::int64_t p, std::int64_t low, std::int64_t high) {
    // Far outside means "to the border" and must not be added to.
    if (p < 0) p = p < -length ? low : p + length;
    return std::clamp(p, low, high);
  };
  if (step > 0) {
    const std::int64_t a = position(start, 0, length), b = position(end, 0, length);
    return {a, b > a ? (b - a - 1) / step + 1 : 0, step};
  }
  const std::int64_t a = position(start, 0, length - 1), b = position(end, -1, length - 1);
  return {a, a > b ? (a - b - 1) / -step + 1 : 0, step};
}

template <class Context>
std::vector<Span> slice_spans(const Context& ctx, const Shape& shape) {
  const auto starts = ints_param(ctx, "starts", 1, {}), ends = ints_param(ctx, "ends", 2, {});
  std::vector<std::int64_t> counting(starts.size());
  std::iota(counting.begin(), counting.end(), 0);
  const auto axes = ints_param(ctx, "axes", 3, counting);
  const auto steps = ints_param(ctx, "steps", 4, std::vector<std::int64_t>(starts.size(), 1));
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    throw Error(ErrorCode::shape, place(ctx.node), "starts, ends, axes and steps differ in length");
  std::vector<Span> spans;
  for (std::int64_t d : shape) spans.push_back({0, d, 1});
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int64_t axis = normalize_axis(axes[i], shape.size(), place(ctx.node));
    if (steps[i] == 0 || steps[i] == std::numeric_limits<std::int64_t>::min())
      throw Error(ErrorCode::shape, place(ctx.node),
                  fmt::format("the step of axis {} is {}", axis, steps[i]));
    spans[axis] = slice_axis(starts[i], ends[i], steps[i], shape[axis]);
  }
  return spans;
}

Types infer_slice(const InferContext& ctx) {
  TensorType out = ctx.input(0);
  const std::vector<Span> spans = slice_spans(ctx, out.shape);
  for (std::size_t d = 0; d < spans.size(); ++d) out.shape[d] = spans[d].count;
  return {out};
}

void eval_slice(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (ctx.output().size() == 0) return;
  const std::vector<Span> spans = slice_spans(ctx, x.shape());
  std::vector<std::int64_t> strides = strides_of(x.shape());
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < spans.size(); ++d) {
    offset += spans[d].start * strides[d];
    // A single element needs no stride; the step may be as large as int64.
    strides[d] = spans[d].count > 1 ? strides[d] * spans[d].step : 0;
  }
  const std::size_t width = size_of(x.dtype());
  copy_strided(ctx.output().bytes().data(), ctx.output().shape(),
               x.bytes().data() + offset * static_cast<std::int64_t>(width), strides, width);
}

// ---- Gather.

Types infer_gather(const InferContext& ctx) {
  const TensorType &x = ctx.input(0), &index = ctx.input(1);
  if (!is_integer(index.dtype))
    ctx.fail(fmt::format("indices are {}, integers are wanted", to_string(index)));
  const std::int64_t axis =
      normalize_axis(ctx.attrs().get_int("axis", 0), x.shape.size(), place(ctx.node));
  Shape out(x.shape.begin(), x.shape.begin() + axis);
  out.insert(out.end(), index.shape.begin(), index.shape.end());
  out.insert(out.end(), x.shape.begin() + axis + 1, x.shape.end());
  return {{x.dtype, out}};
}

void eval_gather(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::int64_t axis =
      normalize_axis(ctx.attrs().get_int("axis", 0), x.shape().size(), place(ctx.node));
  const std::int64_t length = x.shape()[axis];
  std::vector<std::int64_t> indices = to_int64(ctx.input(1));
  for (std::int64_t& i : indices) {
    if (i < -length || i >= length)
      ctx.fail(ErrorCode::data,
               fmt::format("index {} is outside axis {} of {}", i, axis, to_string(x.shape())));
    if (i < 0) i += length;
  }
  const std::int64_t run =
      product_from(x.shape(), axis + 1) * static_cast<std::int64_t>(size_of(x.dtype()));
  std::byte* to = ctx.output().bytes().data();
  if (ctx.output().size() == 0) return;
  for (std::int64_t o = 0; o < product_until(x.shape(), axis); ++o)
    for (std::int64_t i : indices) {
      copy_bytes(to, x.bytes().data() + (o * length + i) * run, static_cast<std::size_t>(run));
      to += run;
    }
}

// ---- Expand, Tile.

Types infer_expand(const InferContext& ctx) {
  const TensorType& x = ctx.input(0);
  ctx.input(1);
  const Shape wanted = ints_param(ctx, "", 1, {});
  for (std::int64_t d : wanted)
    if (d < 0) ctx.fail(fmt::format("shape {} has a negative dimension", to_string(wanted)));
  return {{x.dtype, broadcast(x.shape, wanted, place(ctx.node))}};
}

void eval_expand(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Shape &in = x.shape(), &out = ctx.output().shape();
  const std::vector<std::int64_t> dense = strides_of(in);
  std::vector<std::int64_t> strides(out.size(), 0);
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[in.size() - 1 - i] != 1) strides[out.size() - 1 - i] = dense[in.size() - 1 - i];
  copy_strided(ctx.output().bytes().data(), out, x.bytes().data(), strides, size_of(x.dtype()));
}

Types infer_tile(const InferContext& ctx) {
  TensorType out = ctx.input(0);
  ctx.input(1);
  const std::vector<std::int64_t> repeats = ints_param(ctx, "", 1, {});
  if (repeats.size() != out.shape.size())
    ctx.fail(fmt::format("repeats {} do not fit {}", to_string(repeats), to_string(out)));
  for (std::size_t d = 0; d < repeats.size(); ++d) {
    if (repeats[d] < 0) ctx.fail(fmt::format("repeats {} are negative", to_string(repeats)));
    out.shape[d] = checked_product(ctx, out.shape[d], repeats[d]);
  }
  return {out};
}

void eval_tile(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::vector<std::int64_t> dense = strides_of(x.shape());
  Shape walk;
  std::vector<std::int64_t> strides;
  for (std::size_t d = 0; d < dense.size(); ++d) {
    const std::int64_t length = x.shape()[d];
    walk.push_back(length == 0 ? 0 : ctx.output().shape()[d] / length);
    strides.push_back(0);
    walk.push_back(length);
    strides.push_back(dense[d]);
  }
  copy_strided(ctx.output().bytes().data(), walk, x.bytes().data(), strides, size_of(x.dtype()));
}

OpDef mover(std::string name, std::vector<std::string> inputs, std::vector<std::string> attrs,
            std::string spec, Types (*infer)(const InferContext&),
            void (*eval)(const EvalContext&)) {
  return {.name = std::move(name),
          .inputs = std::move(inputs),
          .attrs = std::move(attrs),
          .spec = std::move(spec),
          .infer = infer,
          .eval = eval,
          .moves_data = true};
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> movement_ops() {
  using namespace ops;
  std::vector<OpDef> all = {
      relabel("Identity", {"input"}, {}, "ONNX Identity-1, 13, 14, 16",
              [](const InferContext& ctx) { return ctx.input(0).shape; }),
      dropout_op(),
      relabel("Reshape", {"data", "shape"}, {"allowzero", "shape"}, "ONNX Reshape-5, 13, 14",
              reshape_shape),
      relabel("Flatten", {"input"}, {"axis"}, "ONNX Flatten-1, 9, 11, 13", flatten_shape),
      relabel("Squeeze", {"data", "axes?"}, {"axes"}, "ONNX Squeeze-1, 11, 13", squeeze_shape),
      relabel("Unsqueeze", {"data", "axes?"}, {"axes"}, "ONNX Unsqueeze-1, 11, 13",
              unsqueeze_shape),
      transpose_op(),
      mover("Concat", {"inputs..."}, {"axis"}, "ONNX Concat-4, 11, 13", infer_concat, eval_concat),
      mover("Split", {"input", "split?"}, {"axis", "num_outputs", "split"},
            "ONNX Split-2, 11, 13, 18", infer_split, eval_split),
      mover("Slice", {"data", "starts?", "ends?", "axes?", "steps?"}, {"axes", "ends", "starts"},
            "ONNX Slice-1, 10, 11, 13", infer_slice, eval_slice),
      mover("Gather", {"data", "indices"}, {"axis"}, "ONNX Gather-1, 11, 13", infer_gather,
            eval_gather),
      mover("Expand", {"input", "shape"}, {}, "ONNX Expand-8, 13", infer_expand, eval_expand),
      mover("Tile", {"input", "repeats"}, {}, "ONNX Tile-6, 13", infer_tile, eval_tile),
  };
  for (auto* more : {resampling_ops, block_ops})
    for (OpDef& op : more()) all.push_back(std::move(op));
  return all;
}

}  // namespace waveq
