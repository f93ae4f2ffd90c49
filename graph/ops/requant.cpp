#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "ops/families.h"
#include "ops/integer_common.h"
#include "waveq/graph/quant.h"

namespace waveq {

namespace {

using integer_ops_detail::load_int32;

/// Attributes of a RequantShift node.
struct RequantAttrs {
  int shift;
  std::int64_t n_levels;
  bool is_signed;
  Rounding rounding;
  int product_bits;

  std::int64_t lo() const { return is_signed ? -(n_levels / 2) : 0; }
  std::int64_t hi() const { return is_signed ? n_levels / 2 - 1 : n_levels - 1; }
  DType storage() const {
    return QuantParams{.n_levels = n_levels, .is_signed = is_signed}.storage();
  }
};

RequantAttrs read_attrs(const Attrs& attrs) {
  RequantAttrs out{};
  out.shift = exact_log2(attrs.require_int("div"), "div");
  out.n_levels = attrs.require_int(attrs.has("n_levels_out") ? "n_levels_out" : "n_levels");
  if (out.n_levels < 2 || out.n_levels > 65536)
    throw Error(ErrorCode::parse, "attribute 'n_levels'", fmt::format("is {}", out.n_levels),
                "2..65536 are possible");
  const std::int64_t is_signed = attrs.require_int("signed");
  if (is_signed != 0 && is_signed != 1)
    throw Error(ErrorCode::parse, "attribute 'signed'", fmt::format("is {}", is_signed),
                "0 or 1 are possible");
  out.is_signed = is_signed == 1;
  const std::string rounding = attrs.get_string("rounding", "half_up");
  if (rounding != "half_up" && rounding != "floor")
    throw Error(ErrorCode::parse, "attribute 'rounding'", fmt::format("is '{}'", rounding),
                "half_up or floor");
  out.rounding = rounding == "floor" ? Rounding::floor : Rounding::half_up;
  const std::int64_t bits = attrs.get_int("product_bits", 32);
  if (bits != 32 && bits != 64)
    throw Error(ErrorCode::parse, "attribute 'product_bits'", fmt::format("is {}", bits),
                "32 or 64 are possible");
  out.product_bits = static_cast<int>(bits);
  return out;
}

/// Which element of mul or add belongs to a flat element i of x: (i / step) % count.
struct Addressing {
  std::int64_t count = 1, step = 1;
};

/// One parameter for all, or one for each index of axis 1 whatever the parameter's rank ([C],
/// [C,1], [1,C,1,1], ...): the target addresses them flat. A 2-D x also takes [M,1], one for each
/// row.
std::optional<Addressing> address(const Shape& x, const Shape& parameter) {
  const std::int64_t count = element_count(parameter);
  if (count == 1) return Addressing{};
  const auto is_wide = [](std::int64_t d) { return d != 1; };
  if (x.size() < 2 || std::ranges::count_if(parameter, is_wide) != 1) return std::nullopt;
  const auto axis = std::ranges::find_if(parameter, is_wide) - parameter.begin();
  if (x.size() == 2 && parameter.size() == 2 && axis == 0 && count == x[0])
    return Addressing{count, x[1]};
  // [1,1,E] on [1,S,E] says "one for each feature", which the target does not compute.
  if (parameter.size() == x.size() && axis >= 2) return std::nullopt;
  if (count != x[1]) return std::nullopt;
  std::int64_t width = 1;
  for (std::size_t i = 2; i < x.size(); ++i) width *= x[i];
  return Addressing{count, width};
}

std::vector<TensorType> infer_requant(const InferContext& ctx) {
  const RequantAttrs attrs = read_attrs(ctx.attrs());
  const Shape& shape = ctx.input(0).shape;
  for (std::size_t i : {std::size_t{1}, std::size_t{2}})
    if (!address(shape, ctx.input(i).shape))
      ctx.fail(fmt::format("{} is {}, x is {}", i == 1 ? "mul" : "add",
                           to_string(ctx.input(i).shape), to_string(shape)),
               "give one value, or one for each index of axis 1");
  return integer_ops_detail::typed_like_input(ctx, attrs.storage(), shape);
}

/// One stretch of x that shares its parameters. All arithmetic is modulo 2^32; returns whether
/// every element was in `safe`, where that equals the exact result.
template <class In, class Out>
bool requant_run(std::span<const In> x, std::span<Out> y, const Requant& rq, const IntRange& safe) {
  const bool rounds = rq.rounding == Rounding::half_up && rq.shift > 0;
  const auto mul = static_cast<std::uint32_t>(rq.mul);
  const auto add =
      static_cast<std::uint32_t>(rq.add) + (rounds ? std::uint32_t{1} << (rq.shift - 1) : 0U);
  const auto lo = static_cast<std::int32_t>(rq.lo), hi = static_cast<std::int32_t>(rq.hi);
  const auto first = static_cast<std::int32_t>(safe.lo), last = static_cast<std::int32_t>(safe.hi);
  int outside = safe.empty() && !x.empty();
  // Restrict and a local shift let the compiler vectorize: an int8 output could alias anything.
  const In* __restrict from = x.data();
  Out* __restrict to = y.data();
  const int shift = rq.shift;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto acc = static_cast<std::int32_t>(from[i]);
    if constexpr (sizeof(In) > sizeof(std::int32_t)) outside |= acc != from[i];
    outside |= (acc < first) | (acc > last);
    const auto wide = static_cast<std::int32_t>(static_cast<std::uint32_t>(acc) * mul + add);
    const std::int32_t shifted = wide >> shift;
    to[i] = static_cast<Out>(shifted < lo ? lo : shifted > hi ? hi : shifted);
  }
  return outside == 0;
}

/// The same with products of 64 bits, which hold everything that int32 accumulators make of them.
/// False where an element is beyond int32.
template <class In, class Out>
bool requant_wide_run(std::span<const In> x, std::span<Out> y, const Requant& rq) {
  const std::int64_t half =
      rq.rounding == Rounding::half_up && rq.shift > 0 ? std::int64_t{1} << (rq.shift - 1) : 0;
  int outside = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto acc = static_cast<std::int32_t>(x[i]);
    if constexpr (sizeof(In) >= sizeof(std::int32_t)) outside |= acc != x[i];
    const std::int64_t shifted = (std::int64_t{acc} * rq.mul + (rq.add + half)) >> rq.shift;
    y[i] = static_cast<Out>(std::clamp(shifted, rq.lo, rq.hi));
  }
  return outside == 0;
}

/// The first element of a stretch that leaves int32, as an error at the node.
template <class In>
[[noreturn]] void report(const EvalContext& ctx, std::span<const In> x, std::size_t offset,
                         const Requant& rq, const IntRange& safe) {
  std::size_t i = 0;
  while (i + 1 < x.size() && safe.contains(x[i])) ++i;
  ctx.fail(ErrorCode::overflow,
           fmt::format("element {}: {}*{} + {} (shift {}) leaves int32", offset + i, x[i], rq.mul,
                       rq.add, rq.shift),
           "use a smaller mul and div");
}

template <class In, class Out>
void requant_tensor(const EvalContext& ctx, const RequantAttrs& attrs) {
  const auto x = ctx.input(0).as<In>();
  const auto y = ctx.output().as<Out>();
  const bool wide = attrs.product_bits == 64;
  const std::vector<std::int32_t> mul = load_int32(ctx, 1);
  std::vector<std::int64_t> add;
  if (wide)
    add = to_int64(ctx.input(2));
  else
    for (const std::int32_t a : load_int32(ctx, 2)) add.push_back(a);
  const Shape& shape = ctx.input(0).shape();
  const auto by_mul = address(shape, ctx.input(1).shape()),
             by_add = address(shape, ctx.input(2).shape());
  WAVEQ_CHECK(by_mul && by_add);
  // Both sets of parameters are constant over stretches of the shorter step (one is all, or both
  // agree).
  std::int64_t step = static_cast<std::int64_t>(x.size());
  if (by_mul->count > 1) step = std::min(step, by_mul->step);
  if (by_add->count > 1) step = std::min(step, by_add->step);
  const auto pick = [](const auto& values, const Addressing& by, std::size_t i) {
    return values[static_cast<std::size_t>(static_cast<std::int64_t>(i) / by.step % by.count)];
  };
  for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(step)) {
    const Requant rq{
        pick(mul, *by_mul, i), pick(add, *by_add, i), attrs.shift, attrs.lo(), attrs.hi(),
        attrs.rounding,        attrs.product_bits};
    const IntRange safe = requant_safe_range(rq);
    const auto part = x.subspan(i, static_cast<std::size_t>(step));
    const auto to = y.subspan(i, static_cast<std::size_t>(step));
    const bool exact = wide ? requant_wide_run(part, to, rq) : requant_run(part, to, rq, safe);
    if (!exact && ctx.overflow == Overflow::error) report(ctx, part, i, rq, safe);
  }
}

void eval_requant(const EvalContext& ctx) {
  const RequantAttrs attrs = read_attrs(ctx.attrs());
  const DType in = ctx.input(0).dtype();
  if (!is_integer(in))
    ctx.fail(ErrorCode::unsupported, fmt::format("x is {}, not an integer tensor", to_string(in)),
             "convert the network with to_integer_network first");
  visit_integer(in, [&](auto from) {
    using In = decltype(from);
    switch (attrs.storage()) {
      case DType::i8:
        return requant_tensor<In, std::int8_t>(ctx, attrs);
      case DType::u8:
        return requant_tensor<In, std::uint8_t>(ctx, attrs);
      case DType::i16:
        return requant_tensor<In, std::int16_t>(ctx, attrs);
      default:
        return requant_tensor<In, std::uint16_t>(ctx, attrs);
    }
  });
}

}  // namespace

std::vector<OpDef> requant_ops() {
  return {{.name = "RequantShift",
           .inputs = {"x", "mul", "add"},
           .attrs = {"div", "n_levels", "n_levels_out", "signed", "rounding", "product_bits"},
           .spec = "Deeploy Generic/src/RequantShift_s8.c",
           .infer = infer_requant,
           .eval = eval_requant,
           .dialect = true}};
}

}  // namespace waveq
