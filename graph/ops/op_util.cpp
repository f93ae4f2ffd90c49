#include "ops/op_util.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

namespace waveq {

namespace {

std::vector<std::int64_t> ints_of(const Tensor& tensor, const std::string& where,
                                  std::size_t input) {
  if (!is_integer(tensor.dtype()) || tensor.shape().size() > 1)
    throw Error(ErrorCode::shape, where,
                fmt::format("input {} is {}, a list of integers is wanted", input,
                            to_string(tensor.type())));
  return to_int64(tensor);
}

}  // namespace

std::vector<std::int64_t> ints_param(const InferContext& ctx, std::string_view attr,
                                     std::size_t input, std::vector<std::int64_t> fallback) {
  if (ctx.attrs().has(attr)) return ctx.attrs().get_ints(attr, {});
  if (!ctx.has(input)) return fallback;
  if (const Tensor* known = ctx.constant(input))
    return ints_of(*known, ops::place(ctx.node), input);
  ctx.fail(
      fmt::format("input {} ({}) decides a shape but is computed from data", input, attr),
      "waveq needs static shapes: make it a constant, or close open dimensions with --input-shape");
}

std::vector<std::int64_t> ints_param(const EvalContext& ctx, std::string_view attr,
                                     std::size_t input, std::vector<std::int64_t> fallback) {
  if (ctx.attrs().has(attr)) return ctx.attrs().get_ints(attr, {});
  if (!ctx.has(input)) return fallback;
  return ints_of(ctx.input(input), ops::place(ctx.node), input);
}

}  // namespace waveq

namespace waveq::ops {

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

const TensorType& float_input(const InferContext& ctx, std::size_t i) {
  const TensorType& type = ctx.input(i);
  if (type.dtype != DType::f32)
    ctx.fail(fmt::format("input {} is {}, f32 is wanted", i, to_string(type)));
  return type;
}

const TensorType& numeric_input(const InferContext& ctx, std::size_t i) {
  const TensorType& type = ctx.input(i);
  if (type.dtype == DType::boolean)
    ctx.fail(fmt::format("input {} is {}, numbers are wanted", i, to_string(type)));
  return type;
}

void require_rank(const InferContext& ctx, std::size_t i, std::size_t min, std::size_t max) {
  const Shape& shape = ctx.input(i).shape;
  if (shape.size() < min || shape.size() > max)
    ctx.fail(min == max
                 ? fmt::format("input {} is {}, {} dimensions are wanted", i, to_string(shape), min)
                 : fmt::format("input {} is {}, {} to {} dimensions are handled", i,
                               to_string(shape), min, max));
}

const TensorType& same_dtype_input(const InferContext& ctx, std::size_t i) {
  const TensorType& type = ctx.input(i);
  if (type.dtype != ctx.input(0).dtype)
    ctx.fail(fmt::format("input {} is {} but input 0 is {}", i, to_string(type),
                         to_string(ctx.input(0))),
             "insert a Cast");
  return type;
}

Types for_outputs(const InferContext& ctx, Types types) {
  types.resize(std::max<std::size_t>(1, ctx.node.outputs.size()));
  return types;
}

DType accumulator_dtype(DType a, DType b) {
  return a == DType::i64 || b == DType::i64 ? DType::i64 : DType::i32;
}

std::int64_t checked_product(const InferContext& ctx, std::int64_t n, std::int64_t x) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(n, x, &product)) ctx.fail(fmt::format("{} * {} leaves int64", n, x));
  return product;
}

template <class T>
As<T>::As(const Tensor& tensor) {
  if (tensor.dtype() == dtype_of<T>::value) {
    view_ = tensor.as<T>().data();
    return;
  }
  copy_.resize(static_cast<std::size_t>(tensor.size()));
  visit_integer(tensor.dtype(), [&](auto element) {
    const auto from = tensor.as<decltype(element)>();
    for (std::size_t i = 0; i < from.size(); ++i) copy_[i] = static_cast<T>(from[i]);
  });
  view_ = copy_.data();
}
template class As<std::int32_t>;
template class As<std::int64_t>;

std::int64_t max_abs(const std::int32_t* x, std::int64_t n) {
  std::int32_t low = 0, high = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  return std::max(-std::int64_t{low}, std::int64_t{high});
}

void fail_overflow(const EvalContext& ctx, std::int64_t index, Wide value, DType dtype) {
  const std::string seen = value == static_cast<std::int64_t>(value)
                               ? fmt::format("{}", static_cast<std::int64_t>(value))
                               : std::string("beyond int64");
  ctx.fail(ErrorCode::overflow,
           fmt::format("output element {} is {}, which leaves {}", index, seen, to_string(dtype)),
           "the target would wrap here: use fewer levels or smaller weights, or evaluate with "
           "Overflow::wrap");
}

void copy_bytes(std::byte* to, const std::byte* from, std::size_t n) {
  if (n > 0) std::memcpy(to, from, n);
}

namespace {

/// Dimensions of one strided copy, innermost last, without ones and with joinable neighbours
/// joined.
struct Walk {
  Shape shape;
  std::vector<std::int64_t> strides;
};

Walk simplify(const Shape& shape, const std::vector<std::int64_t>& strides) {
  Walk walk;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    if (!walk.shape.empty() && walk.strides.back() == strides[d] * shape[d]) {
      walk.shape.back() *= shape[d];
      walk.strides.back() = strides[d];
    } else {
      walk.shape.push_back(shape[d]);
      walk.strides.push_back(strides[d]);
    }
  }
  return walk;
}

/// Copies `rows` x `cols`; input strides per row and per column, output rows `out_stride` apart.
template <class E>
void copy_plane(E* out, std::int64_t out_stride, const E* in, std::int64_t rows, std::int64_t cols,
                std::int64_t row_stride, std::int64_t col_stride) {
  if (row_stride != 1) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c)
        out[r * out_stride + c] = in[r * row_stride + c * col_stride];
    return;
  }
  // A transposition: blocks keep both sides in the cache.
  constexpr std::int64_t kBlock = 16;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (std::int64_t c0 = 0; c0 < cols; c0 += kBlock) {
      const std::int64_t r1 = std::min(rows, r0 + kBlock), c1 = std::min(cols, c0 + kBlock);
      for (std::int64_t r = r0; r < r1; ++r)
        for (std::int64_t c = c0; c < c1; ++c) out[r * out_stride + c] = in[r + c * col_stride];
    }
}

template <class E>
void copy_walk(E* out, const E* in, const Walk& walk) {
  const std::size_t rank = walk.shape.size();
  if (rank == 0) {
    *out = *in;
    return;
  }
  const std::vector<std::int64_t> dense = strides_of(walk.shape);
  const std::int64_t cols = walk.shape[rank - 1], col_stride = walk.strides[rank - 1];
  // The dimension whose input elements are neighbours is walked in one plane with the innermost
  // one.
  std::size_t mate = rank;
  if (col_stride != 1)
    for (std::size_t d = 0; d + 1 < rank; ++d)
      if (walk.strides[d] == 1) mate = d;
  std::vector<std::size_t> outer;
  for (std::size_t d = 0; d + 1 < rank; ++d)
    if (d != mate) outer.push_back(d);
  std::vector<std::int64_t> index(outer.size(), 0);
  std::int64_t to = 0, from = 0;
  for (;;) {
    if (mate < rank)
      copy_plane(out + to, dense[mate], in + from, walk.shape[mate], cols, 1, col_stride);
    else if (col_stride == 1)
      std::copy_n(in + from, cols, out + to);
    else
      copy_plane(out + to, 0, in + from, 1, cols, 0, col_stride);
    std::size_t k = outer.size();
    while (k-- > 0) {
      const std::size_t d = outer[k];
      to += dense[d];
      from += walk.strides[d];
      if (++index[k] < walk.shape[d]) break;
      to -= dense[d] * walk.shape[d];
      from -= walk.strides[d] * walk.shape[d];
      index[k] = 0;
    }
    if (k == static_cast<std::size_t>(-1)) return;
  }
}

/// f(E{}) with the unsigned integer of `width` bytes; moving bits needs no more of the type.
template <class F>
void visit_width(std::size_t width, F&& f) {
  switch (width) {
    case 1:
      return f(std::uint8_t{});
    case 2:
      return f(std::uint16_t{});
    case 4:
      return f(std::uint32_t{});
    default:
      WAVEQ_CHECK(width == 8);
      return f(std::uint64_t{});
  }
}

}  // namespace

void copy_strided(std::byte* out, const Shape& shape, const std::byte* in,
                  std::vector<std::int64_t> strides, std::size_t width) {
  if (element_count(shape) == 0) return;
  const Walk walk = simplify(shape, strides);
  visit_width(width, [&](auto e) {
    using E = decltype(e);
    copy_walk(reinterpret_cast<E*>(out), reinterpret_cast<const E*>(in), walk);
  });
}

void gather_axes(Tensor& out, const Tensor& in, const std::vector<std::vector<std::int64_t>>& maps,
                 const std::byte* fill) {
  if (out.size() == 0) return;
  visit_width(size_of(in.dtype()), [&](auto e) {
    using E = decltype(e);
    E* to = reinterpret_cast<E*>(out.bytes().data());
    const E* from = reinterpret_cast<const E*>(in.bytes().data());
    E blank{};
    if (fill) std::memcpy(&blank, fill, sizeof(E));
    if (maps.empty()) {
      *to = *from;
      return;
    }
    const std::vector<std::int64_t> strides = strides_of(in.shape());
    const std::size_t outer = maps.size() - 1;
    std::vector<std::size_t> index(outer, 0);
    for (;;) {
      std::int64_t base = 0;
      bool inside = true;
      for (std::size_t d = 0; d < outer; ++d) {
        const std::int64_t i = maps[d][index[d]];
        inside = inside && i >= 0;
        base += i * strides[d];
      }
      for (std::int64_t i : maps[outer]) *to++ = inside && i >= 0 ? from[base + i] : blank;
      std::size_t d = outer;
      while (d-- > 0) {
        if (++index[d] < maps[d].size()) break;
        index[d] = 0;
      }
      if (d == static_cast<std::size_t>(-1)) return;
    }
  });
}

// ---- Windows.

namespace {

constexpr std::int64_t kMaxWindowValue = std::numeric_limits<std::int32_t>::max();

std::vector<std::int64_t> window_ints(const Node& node, std::string_view name, std::size_t count,
                                      std::int64_t fallback, std::int64_t min) {
  std::vector<std::int64_t> values =
      node.attrs.get_ints(name, std::vector<std::int64_t>(count, fallback));
  // Some exporters write an empty list for "default".
  if (values.empty()) values.assign(count, fallback);
  if (values.size() != count)
    throw Error(ErrorCode::shape, place(node),
                fmt::format("{} has {} values, {} are wanted", name, values.size(), count));
  for (std::int64_t v : values)
    if (v < min || v > kMaxWindowValue)
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("{} contains {}, which is outside {}..2^31-1", name, v, min));
  return values;
}

}  // namespace

std::vector<Window> raw_windows(const Node& node, std::span<const std::int64_t> in,
                                std::span<const std::int64_t> kernel) {
  const std::size_t n = in.size();
  if (kernel.size() != n)
    throw Error(ErrorCode::shape, place(node),
                fmt::format("kernel has {} axes, the input {}", kernel.size(), n));
  const auto strides = window_ints(node, "strides", n, 1, 1);
  const auto dilations = window_ints(node, "dilations", n, 1, 1);
  const auto pads = window_ints(node, "pads", 2 * n, 0, 0);
  std::vector<Window> windows(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (kernel[i] < 1 || kernel[i] > kMaxWindowValue)
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("kernel length {} is outside 1..2^31-1", kernel[i]));
    windows[i] = {.in = in[i],
                  .out = 0,
                  .kernel = kernel[i],
                  .stride = strides[i],
                  .dilation = dilations[i],
                  .pad_begin = pads[i],
                  .pad_end = pads[n + i]};
  }
  return windows;
}

namespace {

void resolve_same(Window& w, bool upper) {
  w.out = (w.in + w.stride - 1) / w.stride;
  const std::int64_t total = std::max<std::int64_t>(0, (w.out - 1) * w.stride + w.extent() - w.in);
  const std::int64_t less = total / 2;
  w.pad_begin = upper ? less : total - less;
  w.pad_end = total - w.pad_begin;
}

}  // namespace

std::vector<Window> conv_windows(const Node& node, std::span<const std::int64_t> in,
                                 std::span<const std::int64_t> kernel, bool ceil_mode) {
  std::vector<Window> windows = raw_windows(node, in, kernel);
  const std::string mode = node.attrs.get_string("auto_pad", "NOTSET");
  const bool upper = mode == "SAME_UPPER", lower = mode == "SAME_LOWER";
  if (!upper && !lower && mode != "NOTSET" && mode != "VALID" && !mode.empty())
    throw Error(ErrorCode::shape, place(node), fmt::format("auto_pad '{}' is not known", mode));
  for (Window& w : windows) {
    if (upper || lower) {
      resolve_same(w, upper);
      continue;
    }
    if (mode == "VALID") w.pad_begin = w.pad_end = 0;
    const std::int64_t room = w.in + w.pad_begin + w.pad_end - w.extent();
    if (room < 0)
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("a window of {} does not fit into {} + {} + {} positions", w.extent(),
                              w.pad_begin, w.in, w.pad_end));
    w.out = (ceil_mode ? (room + w.stride - 1) / w.stride : room / w.stride) + 1;
    if (ceil_mode && (w.out - 1) * w.stride >= w.in + w.pad_begin) --w.out;
  }
  return windows;
}

std::array<Window, 2> as_2d(const std::vector<Window>& windows) {
  WAVEQ_CHECK(windows.size() == 1 || windows.size() == 2);
  return windows.size() == 2 ? std::array<Window, 2>{windows[0], windows[1]}
                             : std::array<Window, 2>{Window{}, windows[0]};
}

}  // namespace waveq::ops
