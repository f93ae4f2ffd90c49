#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "ops/linear_dense.h"

// Conv and ConvTranspose in one and two dimensions. A 1-D signal is an image of height 1.
namespace waveq::ops {

namespace {

/// Sizes of one convolution. Layouts: x [batch, group*C, H, W], w [group*M, C, kh, kw],
/// y [batch, group*M, OH, OW].
struct ConvPlan {
  std::int64_t batch, group, C, M;  ///< C, M: channels per group
  Window h, w;
  std::int64_t taps() const { return C * h.kernel * w.kernel; }
  std::int64_t in_plane() const { return h.in * w.in; }
  std::int64_t out_plane() const { return h.out * w.out; }
};

std::vector<std::int64_t> spatial_kernel(const Node& node, const Shape& weight) {
  std::vector<std::int64_t> kernel(weight.begin() + 2, weight.end());
  const std::vector<std::int64_t> stated = node.attrs.get_ints("kernel_shape", kernel);
  if (stated != kernel)
    throw Error(
        ErrorCode::shape, place(node),
        fmt::format("kernel_shape {} contradicts weight {}", to_string(stated), to_string(weight)));
  return kernel;
}

std::int64_t group_of(const Node& node) {
  const std::int64_t group = node.attrs.get_int("group", 1);
  if (group < 1) throw Error(ErrorCode::shape, place(node), fmt::format("group is {}", group));
  return group;
}

ConvPlan plan_conv(const Node& node, const Shape& x, const Shape& w) {
  const std::int64_t group = group_of(node);
  const auto windows = as_2d(conv_windows(node, std::span(x).subspan(2), spatial_kernel(node, w)));
  return {.batch = x[0],
          .group = group,
          .C = w[1],
          .M = w[0] / group,
          .h = windows[0],
          .w = windows[1]};
}

/// Output [batch, channels, spatial...] without the height that a 1-D signal does not have.
Shape output_shape(const ConvPlan& p, std::size_t rank) {
  Shape shape = {p.batch, p.group * p.M};
  if (rank == 4) shape.push_back(p.h.out);
  shape.push_back(p.w.out);
  return shape;
}

/// Checks that x, w and the optional bias (input 2) fit; returns the dtype of the result.
DType check_operands(const InferContext& ctx, std::int64_t in_channels, std::int64_t out_channels) {
  const DType out = linear_dtype(ctx, 0, 1);
  const Shape &x = ctx.inputs[0].shape, &w = ctx.inputs[1].shape;
  if (x[1] != in_channels)
    ctx.fail(fmt::format("input {} has {} channels, weight {} wants {}", to_string(x), x[1],
                         to_string(w), in_channels));
  if (ctx.has(2) && (ctx.input(2).dtype != out || ctx.input(2).shape != Shape{out_channels}))
    ctx.fail(fmt::format("bias is {}, {}[{}] is wanted", to_string(ctx.input(2)), to_string(out),
                         out_channels));
  return out;
}

void check_ranks(const InferContext& ctx) {
  require_rank(ctx, 0, 3, 4);
  require_rank(ctx, 1, ctx.input(0).shape.size(), ctx.input(0).shape.size());
}

std::vector<TensorType> infer_conv(const InferContext& ctx) {
  check_ranks(ctx);
  const Shape &x = ctx.inputs[0].shape, &w = ctx.inputs[1].shape;
  const std::int64_t group = group_of(ctx.node);
  if (w[0] % group != 0)
    ctx.fail(fmt::format("{} filters do not divide into {} groups", w[0], group));
  const DType out = check_operands(ctx, checked_product(ctx, w[1], group), w[0]);
  return {{out, output_shape(plan_conv(ctx.node, x, w), x.size())}};
}

/// Column matrix [taps, OH*OW] of one group of one image; padding is zero.
template <class T>
void im2col(const ConvPlan& p, const T* x, T* columns) {
  for (std::int64_t c = 0; c < p.C; ++c, x += p.in_plane())
    for (std::int64_t i = 0; i < p.h.kernel; ++i)
      for (std::int64_t j = 0; j < p.w.kernel; ++j) {
        // Outputs [first, last) read inside the row: out*stride + offset in [0, in).
        const std::int64_t offset = j * p.w.dilation - p.w.pad_begin;
        const std::int64_t first =
            std::clamp<std::int64_t>((-offset + p.w.stride - 1) / p.w.stride, 0, p.w.out);
        const std::int64_t room = p.w.in - offset + p.w.stride - 1;
        const std::int64_t last =
            std::clamp<std::int64_t>(room < 0 ? 0 : room / p.w.stride, first, p.w.out);
        for (std::int64_t oh = 0; oh < p.h.out; ++oh, columns += p.w.out) {
          const std::int64_t row = oh * p.h.stride + i * p.h.dilation - p.h.pad_begin;
          if (row < 0 || row >= p.h.in) {
            std::fill_n(columns, p.w.out, T{});
            continue;
          }
          std::fill_n(columns, first, T{});
          const T* from = x + row * p.w.in + offset;
          if (p.w.stride == 1) {
            if (last > first) std::copy_n(from + first, last - first, columns + first);
          } else {
            for (std::int64_t o = first; o < last; ++o) columns[o] = from[o * p.w.stride];
          }
          std::fill_n(columns + last, p.w.out - last, T{});
        }
      }
}

/// One input channel, padded and with the columns of each row dealt out by their position modulo
/// the stride, so that every tap of a strided kernel reads neighbouring elements.
template <class T>
class Phases {
 public:
  explicit Phases(const ConvPlan& p)
      : p_(p),
        height_(p.h.in + p.h.pad_begin + p.h.pad_end),
        pitch_((p.w.in + p.w.pad_begin + p.w.pad_end + p.w.stride - 1) / p.w.stride),
        cells_(static_cast<std::size_t>(height_ * p.w.stride * pitch_)) {}

  void load(const T* x) {
    for (std::int64_t r = 0; r < p_.h.in; ++r)
      for (std::int64_t s = 0; s < p_.w.stride; ++s) {
        T* to = row(r + p_.h.pad_begin, s);
        // Padded position i*stride + s holds input position i*stride + s - pad_begin.
        const std::int64_t shift = s - p_.w.pad_begin;
        const std::int64_t first = shift >= 0 ? 0 : (-shift + p_.w.stride - 1) / p_.w.stride;
        const T* from = x + r * p_.w.in;
        for (std::int64_t i = first; i * p_.w.stride + shift < p_.w.in; ++i)
          to[i] = from[i * p_.w.stride + shift];
      }
  }

  /// Row pointers of every tap for output row oh.
  void taps(std::int64_t oh, std::vector<const T*>& rows) {
    rows.clear();
    for (std::int64_t i = 0; i < p_.h.kernel; ++i)
      for (std::int64_t j = 0; j < p_.w.kernel; ++j) {
        const std::int64_t at = j * p_.w.dilation;
        rows.push_back(row(oh * p_.h.stride + i * p_.h.dilation, at % p_.w.stride) +
                       at / p_.w.stride);
      }
  }

 private:
  T* row(std::int64_t r, std::int64_t phase) {
    return cells_.data() + (r * p_.w.stride + phase) * pitch_;
  }

  const ConvPlan& p_;
  std::int64_t height_, pitch_;
  std::vector<T> cells_;
};

/// One group of one image.
template <class Product>
class GroupConv {
 public:
  using T = typename Product::T;
  GroupConv(const ConvPlan& p, const Product& product) : p_(p), product_(product) {
    // Padding far beyond the input is legal; only then is the column matrix the smaller one.
    const auto modest = [](const Window& w) { return w.pad_begin + w.pad_end <= 4 * w.in + 1024; };
    if (p.C == 1 && !pointwise() && modest(p.h) && modest(p.w))
      phases_ = std::make_unique<Phases<T>>(p);
  }

  void run(const T* x, const T* w, const T* bias, T* y) {
    if (pointwise()) {
      point_at_rows(rows_, x, p_.C, p_.in_plane());
    } else if (phases_) {
      phases_->load(x);
      for (std::int64_t oh = 0; oh < p_.h.out; ++oh) {
        phases_->taps(oh, rows_);
        product_.product(p_.M, p_.w.out, p_.taps(), w, p_.taps(), rows_.data(), bias,
                         y + oh * p_.w.out, p_.out_plane());
      }
      return;
    } else {
      columns_.resize(static_cast<std::size_t>(p_.taps() * p_.out_plane()));
      im2col(p_, x, columns_.data());
      point_at_rows<T>(rows_, columns_.data(), p_.taps(), p_.out_plane());
    }
    product_.product(p_.M, p_.out_plane(), p_.taps(), w, p_.taps(), rows_.data(), bias, y,
                     p_.out_plane());
  }

 private:
  bool pointwise() const { return p_.h.trivial() && p_.w.trivial(); }

  const ConvPlan& p_;
  const Product& product_;
  std::unique_ptr<Phases<T>> phases_;
  std::vector<T> columns_;
  std::vector<const T*> rows_;
};

template <class Product>
void conv(const ConvPlan& p, const Product& product, const typename Product::T* x,
          const typename Product::T* w, const typename Product::T* bias, typename Product::T* y) {
  GroupConv<Product> one(p, product);
  for (std::int64_t n = 0; n < p.batch; ++n)
    for (std::int64_t g = 0; g < p.group; ++g) {
      one.run(x, w + g * p.M * p.taps(), bias ? bias + g * p.M : nullptr, y);
      x += p.C * p.in_plane();
      y += p.M * p.out_plane();
    }
}

/// f32: each output element is one fma chain from the bias (or 0) over channel, kernel row, kernel
/// column; padding takes part as zeros.
/// Integers: y = bias + sum x*w, exact, must fit int32 (Overflow::error) or is taken modulo 2^32
/// (Overflow::wrap); no zero points, no rounding.
/// Source: ONNX Conv-11; Deeploy TargetLibraries/Generic/src/Convolution_s8.c.
void eval_conv(const EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &w = ctx.input(1);
  const ConvPlan p = plan_conv(ctx.node, x.shape(), w.shape());
  if (ctx.output().size() == 0) return;
  if (x.dtype() == DType::f32) {
    conv(p, FloatDense{}, x.as<float>().data(), w.as<float>().data(),
         ctx.has(2) ? ctx.input(2).as<float>().data() : nullptr, ctx.output().as<float>().data());
    return;
  }
  const As<std::int32_t> xi(x), wi(w);
  const std::int32_t* bias = ctx.has(2) ? ctx.input(2).as<std::int32_t>().data() : nullptr;
  const Wide bound = max_row_l1(wi.data(), p.group * p.M, p.taps()) * max_abs(xi.data(), x.size()) +
                     (bias ? max_abs(bias, p.group * p.M) : 0);
  std::int32_t* y = ctx.output().as<std::int32_t>().data();
  conv(p, IntDense(ctx, needs_exact(ctx, bound), y), xi.data(), wi.data(), bias, y);
}

// ---- ConvTranspose. Seen as the convolution that it reverses: x [batch, group*C, in],
// w [group*C, M, kernel], y [batch, group*M, out]; input i meets output i*stride + k*dilation -
// pad.

void resolve_transposed(const Node& node, std::vector<Window>& windows) {
  const std::size_t n = windows.size();
  const auto extra = node.attrs.get_ints("output_padding", std::vector<std::int64_t>(n, 0));
  const auto wanted = node.attrs.get_ints("output_shape", {});
  const std::string mode = node.attrs.get_string("auto_pad", "NOTSET");
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (extra.size() != n || (!wanted.empty() && wanted.size() != n && wanted.size() != n + 2))
    throw Error(ErrorCode::shape, place(node),
                "output_padding or output_shape has the wrong length");
  for (std::size_t i = 0; i < n; ++i) {
    Window& w = windows[i];
    if (extra[i] < 0 || extra[i] >= std::max(w.stride, w.dilation))
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("output_padding {} is not below stride {}", extra[i], w.stride));
    const std::int64_t full = (w.in - 1) * w.stride + w.extent() + extra[i];
    if (mode == "VALID") w.pad_begin = w.pad_end = 0;
    if (!wanted.empty() || same) {
      w.out = wanted.empty() ? w.in * w.stride : wanted[wanted.size() - n + i];
      const std::int64_t total = std::max<std::int64_t>(0, full - w.out);
      w.pad_begin = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.pad_end = total - w.pad_begin;
    } else {
      w.out = full - w.pad_begin - w.pad_end;
    }
    if (w.in < 1 || w.out < 1 || w.out > (std::int64_t{1} << 40))
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("input length {} gives output length {}", w.in, w.out));
  }
}

ConvPlan plan_transposed(const Node& node, const Shape& x, const Shape& w) {
  const std::int64_t group = group_of(node);
  std::vector<Window> windows = raw_windows(node, std::span(x).subspan(2), spatial_kernel(node, w));
  resolve_transposed(node, windows);
  const auto pair = as_2d(windows);
  ConvPlan p{
      .batch = x[0], .group = group, .C = w[0] / group, .M = w[1], .h = pair[0], .w = pair[1]};
  return p;
}

std::vector<TensorType> infer_conv_transpose(const InferContext& ctx) {
  check_ranks(ctx);
  const Shape &x = ctx.inputs[0].shape, &w = ctx.inputs[1].shape;
  const std::int64_t group = group_of(ctx.node);
  if (w[0] % group != 0)
    ctx.fail(fmt::format("{} input channels do not divide into {} groups", w[0], group));
  const DType out = check_operands(ctx, w[0], checked_product(ctx, w[1], group));
  return {{out, output_shape(plan_transposed(ctx.node, x, w), x.size())}};
}

/// Calls f(output position, input position) along one axis for kernel position k.
template <class F>
void meet(const Window& w, std::int64_t k, F&& f) {
  for (std::int64_t i = 0; i < w.in; ++i) {
    const std::int64_t o = i * w.stride + k * w.dilation - w.pad_begin;
    if (o >= 0 && o < w.out) f(o, i);
  }
}

/// y = bias, then for each kernel position in order: y += sum over channels of w*x, where that sum
/// is itself computed by `product` (float: one fma chain over channels).
template <class Product, class Add>
void conv_transpose(const ConvPlan& p, const Product& product, const typename Product::T* x,
                    const typename Product::T* w, const typename Product::T* bias,
                    typename Product::T* y, Add add) {
  using T = typename Product::T;
  const std::int64_t taps = p.h.kernel * p.w.kernel, rows = p.M * taps;
  std::vector<T> transposed(static_cast<std::size_t>(rows * p.C));
  std::vector<T> columns(static_cast<std::size_t>(rows * p.in_plane()));
  std::vector<const T*> x_rows;
  for (std::int64_t n = 0; n < p.batch; ++n)
    for (std::int64_t g = 0; g < p.group; ++g) {
      const T* wg = w + g * p.C * rows;
      for (std::int64_t c = 0; c < p.C; ++c)
        for (std::int64_t r = 0; r < rows; ++r) transposed[r * p.C + c] = wg[c * rows + r];
      point_at_rows(x_rows, x, p.C, p.in_plane());
      product.product(rows, p.in_plane(), p.C, transposed.data(), p.C, x_rows.data(), nullptr,
                      columns.data(), p.in_plane());
      const T* column = columns.data();
      for (std::int64_t m = 0; m < p.M; ++m) {
        T* plane = y + m * p.out_plane();
        std::fill_n(plane, p.out_plane(), bias ? bias[g * p.M + m] : T{});
        for (std::int64_t i = 0; i < p.h.kernel; ++i)
          for (std::int64_t j = 0; j < p.w.kernel; ++j, column += p.in_plane())
            meet(p.h, i, [&](std::int64_t oh, std::int64_t ih) {
              meet(p.w, j, [&](std::int64_t ow, std::int64_t iw) {
                T& cell = plane[oh * p.w.out + ow];
                cell = add(cell, column[ih * p.w.in + iw]);
              });
            });
      }
      x += p.C * p.in_plane();
      y += p.M * p.out_plane();
    }
}

/// Exact sums of an integer transposed convolution; ends the evaluation at one beyond int32.
void check_transposed(const EvalContext& ctx, const ConvPlan& p, const std::int32_t* x,
                      const std::int32_t* w, const std::int32_t* bias) {
  const std::int64_t taps = p.h.kernel * p.w.kernel;
  std::vector<Wide> plane(static_cast<std::size_t>(p.out_plane()));
  for (std::int64_t n = 0; n < p.batch; ++n)
    for (std::int64_t gm = 0; gm < p.group * p.M; ++gm) {
      const std::int64_t g = gm / p.M, m = gm % p.M;
      std::fill(plane.begin(), plane.end(), bias ? bias[gm] : 0);
      for (std::int64_t c = g * p.C; c < (g + 1) * p.C; ++c)
        for (std::int64_t i = 0; i < p.h.kernel; ++i)
          for (std::int64_t j = 0; j < p.w.kernel; ++j) {
            const std::int64_t weight = w[(c * p.M + m) * taps + i * p.w.kernel + j];
            const std::int32_t* image = x + (n * p.group * p.C + c) * p.in_plane();
            meet(p.h, i, [&](std::int64_t oh, std::int64_t ih) {
              meet(p.w, j, [&](std::int64_t ow, std::int64_t iw) {
                plane[oh * p.w.out + ow] += weight * image[ih * p.w.in + iw];
              });
            });
          }
      for (std::int64_t o = 0; o < p.out_plane(); ++o)
        if (plane[o] != static_cast<std::int32_t>(plane[o]))
          fail_overflow(ctx, (n * p.group * p.M + gm) * p.out_plane() + o, plane[o], DType::i32);
    }
}

/// Integers: y = bias + sum x*w, exact, must fit int32 (Overflow::error) or is taken modulo 2^32
/// (Overflow::wrap); no rounding. Source: ONNX ConvTranspose-11.
void eval_conv_transpose(const EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &w = ctx.input(1);
  const ConvPlan p = plan_transposed(ctx.node, x.shape(), w.shape());
  if (ctx.output().size() == 0) return;
  if (x.dtype() == DType::f32) {
    conv_transpose(p, FloatDense{}, x.as<float>().data(), w.as<float>().data(),
                   ctx.has(2) ? ctx.input(2).as<float>().data() : nullptr,
                   ctx.output().as<float>().data(), [](float a, float b) { return a + b; });
    return;
  }
  const As<std::int32_t> xi(x), wi(w);
  const std::int32_t* bias = ctx.has(2) ? ctx.input(2).as<std::int32_t>().data() : nullptr;
  std::int32_t* y = ctx.output().as<std::int32_t>().data();
  const Wide bound = Wide{max_abs(wi.data(), w.size())} * max_abs(xi.data(), x.size()) * p.taps() +
                     (bias ? max_abs(bias, p.group * p.M) : 0);
  if (needs_exact(ctx, bound)) check_transposed(ctx, p, xi.data(), wi.data(), bias);
  conv_transpose(p, IntDense(ctx, false, y), xi.data(), wi.data(), bias, y,
                 [](std::int32_t a, std::int32_t b) {
                   return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) +
                                                    static_cast<std::uint32_t>(b));
                 });
}

const Shape& shape_of(const Graph& g, const Node& node, std::size_t input) {
  return g.value(node.inputs.at(input)).type.shape;
}

}  // namespace

OpDef conv_op() {
  return {.name = "Conv",
          .inputs = {"X", "W", "B?"},
          .attrs = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"},
          .spec = "ONNX Conv-1, 11",
          .infer = infer_conv,
          .eval = eval_conv,
          .macs = [](const Graph& g, const Node& node) {
            const ConvPlan p = plan_conv(node, shape_of(g, node, 0), shape_of(g, node, 1));
            return p.batch * p.group * p.M * p.out_plane() * p.taps();
          }};
}

OpDef conv_transpose_op() {
  return {.name = "ConvTranspose",
          .inputs = {"X", "W", "B?"},
          .attrs = {"auto_pad", "dilations", "group", "kernel_shape", "output_padding",
                    "output_shape", "pads", "strides"},
          .spec = "ONNX ConvTranspose-1, 11",
          .infer = infer_conv_transpose,
          .eval = eval_conv_transpose,
          .macs = [](const Graph& g, const Node& node) {
            const ConvPlan p = plan_transposed(node, shape_of(g, node, 0), shape_of(g, node, 1));
            return p.batch * p.group * p.M * p.in_plane() * p.taps();
          }};
}

}  // namespace waveq::ops
