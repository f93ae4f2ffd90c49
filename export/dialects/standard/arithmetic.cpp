// Standard operators on integers, means and divisions.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "dialects/standard/expansion.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq::standard {

namespace {

/// Axes that a reduction works on, from the attribute or the constant input; all without either.
std::vector<std::int64_t> reduced_axes(const Expansion& e) {
  const std::size_t rank = e.shape(e.input(0)).size();
  std::vector<std::int64_t> axes = e.attrs().get_ints("axes", {});
  if (e.has(1)) axes = to_int64(e.constant_input(1));
  for (std::int64_t& axis : axes) axis = normalize_axis(axis, rank, e.node().name);
  const bool pools = e.node().op.starts_with("Global");
  if (axes.empty() && e.attrs().get_int("noop_with_empty_axes", 0) == 0)
    for (std::size_t i = pools ? 2 : 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  std::ranges::sort(axes);
  return axes;
}

bool keeps_axes(const Expansion& e) { return e.attrs().get_int("keepdims", 1) != 0; }

}  // namespace

/// Elementwise operators whose result on integers is the standard's: all operands in int64.
ValueId expand_arithmetic(Expansion& e) {
  std::vector<ValueId> inputs;
  for (std::size_t i = 0; i < e.input_count(); ++i) inputs.push_back(e.wide(i));
  return e.op(e.node().op, std::move(inputs), e.attrs());
}

ValueId expand_sign(Expansion& e) { return e.sign(e.wide(0)); }

ValueId expand_clip(Expansion& e) {
  const DType dtype = e.result_dtype();
  std::int64_t lo = e.node().op == "Relu" ? 0 : lowest(dtype), hi = highest(dtype);
  // Before operator set 11 the bounds are float attributes; inside the dtype they are exact.
  const auto bound = [&](const char* name, std::int64_t fallback) {
    const double value = e.attrs().get_float(name, static_cast<double>(fallback));
    return static_cast<std::int64_t>(
        std::clamp(value, static_cast<double>(lowest(dtype)), static_cast<double>(highest(dtype))));
  };
  if (e.node().op == "Clip") {
    lo = e.has(1) ? to_int64(e.constant_input(1)).front() : bound("min", lo);
    hi = e.has(2) ? to_int64(e.constant_input(2)).front() : bound("max", hi);
  }
  return e.clip(e.wide(0), lo, hi);
}

namespace {

/// Pooling windows along one axis.
struct Windows {
  std::int64_t in, out, kernel, stride, dilation, pad;  ///< pad: in front
  std::int64_t reach() const { return (out - 1) * stride + (kernel - 1) * dilation + 1; }
};

Windows windows_along(const Expansion& e, std::size_t spatial) {
  const auto of = [&](const char* name, std::int64_t fallback) {
    const std::vector<std::int64_t> all = e.attrs().get_ints(name, {});
    return spatial < all.size() ? all[spatial] : fallback;
  };
  Windows w{e.shape(e.input(0))[spatial + 2],
            e.result_shape()[spatial + 2],
            e.attrs().require_ints("kernel_shape").at(spatial),
            of("strides", 1),
            of("dilations", 1),
            of("pads", 0)};
  const std::string automatic = e.attrs().get_string("auto_pad", "NOTSET");
  const std::int64_t missing = std::max<std::int64_t>(w.reach() - w.in, 0);
  if (automatic == "SAME_UPPER") w.pad = missing / 2;
  if (automatic == "SAME_LOWER") w.pad = missing - missing / 2;
  return w;
}

/// Largest of every window along one axis: the k-th operand of Max holds the k-th element of all
/// windows. x in int32; padding is the least integer, which no element is below.
ValueId max_along(Expansion& e, ValueId x, std::size_t axis, const Windows& w) {
  const std::int64_t behind = std::max<std::int64_t>(w.reach() - w.pad - w.in, 0);
  if (w.pad > 0 || behind > 0) {
    const std::size_t rank = e.shape(x).size();
    std::vector<std::int64_t> pads(2 * rank, 0);
    pads[axis] = w.pad;
    pads[rank + axis] = behind;
    const ValueId amounts = e.constants(pads);
    x = e.op("Pad", {x, amounts, e.constant(Tensor::scalar(INT32_MIN))});
  }
  std::vector<ValueId> elements;
  for (std::int64_t k = 0; k < w.kernel; ++k) {
    const std::int64_t first = k * w.dilation;
    const ValueId from = e.constants({first}),
                  to = e.constants({first + (w.out - 1) * w.stride + 1});
    const ValueId along = e.constants({static_cast<std::int64_t>(axis)});
    elements.push_back(e.op("Slice", {x, from, to, along, e.constants({w.stride})}));
  }
  return elements.size() == 1 ? elements.front() : e.op("Max", elements);
}

}  // namespace

ValueId expand_max_pool(Expansion& e) {
  const DType dtype = e.result_dtype();
  if (dtype == DType::i8 || dtype == DType::u8) return e.op("MaxPool", {e.input(0)}, e.attrs());
  ValueId x = e.cast(e.input(0), DType::i32);
  const std::size_t rank = e.shape(x).size();
  for (std::size_t i = 0; i + 2 < rank; ++i) x = max_along(e, x, i + 2, windows_along(e, i));
  return x;
}

/// In int32, because ONNX Runtime pads no 16-bit elements and the fill has the data's type.
ValueId expand_pad(Expansion& e) {
  std::int64_t fill = static_cast<std::int64_t>(e.attrs().get_float("value", 0));
  if (e.has(2)) fill = to_int64(e.constant_input(2)).front();
  const std::vector<std::int64_t> pads =
      e.has(1) ? to_int64(e.constant_input(1)) : e.attrs().require_ints("pads");
  Attrs attrs;
  attrs.set("mode", e.attrs().get_string("mode", "constant"));
  const auto count = static_cast<std::int64_t>(pads.size());
  return e.op("Pad",
              {e.cast(e.input(0), DType::i32), e.constant(Tensor::from({count}, pads)),
               e.constant(Tensor::scalar(static_cast<std::int32_t>(fill)))},
              std::move(attrs));
}

ValueId expand_reduction(Expansion& e) {
  const std::vector<std::int64_t> axes = reduced_axes(e);
  if (axes.empty()) return e.input(0);
  const std::string op = e.node().op == "GlobalMaxPool" ? "ReduceMax" : e.node().op;
  return e.reduce(op, e.wide(0), axes, keeps_axes(e));
}

/// Over a power of two (sum + N/2) >> log2 N, otherwise (sum + sgn(sum)*(N/2)) / N truncated.
ValueId expand_mean(Expansion& e) {
  const std::vector<std::int64_t> axes = reduced_axes(e);
  if (axes.empty()) return e.input(0);
  std::int64_t count = 1;
  for (std::int64_t axis : axes) count *= e.shape(e.input(0))[static_cast<std::size_t>(axis)];
  const ValueId sum = e.reduce("ReduceSum", e.wide(0), axes, keeps_axes(e));
  if (std::has_single_bit(static_cast<std::uint64_t>(count)))
    return e.floor_div(e.add(sum, count / 2), count);
  return e.div(e.add(sum, e.with_sign_of(sum, e.constant(count / 2))), count);
}

/// d = eta*den + eps, n = Delta*eta*num, (n + sgn(n)*(d >> 1)) / d with sgn(0) = 1.
ValueId expand_integer_div(Expansion& e) {
  const Attrs& attrs = e.attrs();
  const std::int64_t eta = attrs.require_int("eta");
  const ValueId d = e.add(e.mul(e.wide(1), eta), attrs.require_int("eps"));
  const ValueId n = e.mul(e.wide(0), attrs.require_int("Delta") * eta);
  return e.div(e.add(n, e.with_sign_of(n, e.floor_div(d, 2))), d);
}

/// x * floor(Delta*eta / (y*eta + eps)).
ValueId expand_true_integer_div(Expansion& e) {
  const Attrs& attrs = e.attrs();
  const std::int32_t factor =
      true_integer_div_factor(attrs.require_int("Delta"), attrs.require_int("eta"),
                              attrs.require_int("eps"), attrs.require_int("y"));
  return e.mul(e.wide(0), std::int64_t{factor});
}

}  // namespace waveq::standard
