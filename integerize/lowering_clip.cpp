// Requants of values that are clipped from above (ReLU6).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering.h"

namespace waveq {

Activation Lowering::requantize(ValueId value, const Quantity& q, QuantParams wanted,
                                bool scale_is_fixed) {
  // An int32 tensor of one positive scale bends the output's scale by itself (requant_free).
  const bool bends = !q.linear && q.scale.size() == 1 && q.scale.front() > 0 &&
                     size_of(out_.value(q.id).type.dtype) > 1 &&
                     std::ranges::all_of(q.offset, [](double o) { return o == 0; });
  if (const double least = scale_is_fixed || bends ? 0.0 : least_scale(q); wanted.scale < least) {
    const double below = static_cast<double>(wanted.lo() - wanted.zero_point);  // stays covered
    if (wanted.zero_point != 0)
      wanted.zero_point =
          wanted.lo() - static_cast<std::int64_t>(std::round(below * (wanted.scale / least)));
    wanted.scale = least;
  }
  const std::int64_t most = wanted.n_levels;
  const auto levels_below = [&](const QuantParams& quant) {
    const double top = std::floor(q.upper / quant.scale + 0.5);
    return top >= static_cast<double>(most - 1)
               ? most
               : std::max<std::int64_t>(static_cast<std::int64_t>(top) + 1, 2);
  };
  const bool is_cut = q.upper > 0 && !wanted.is_signed;
  if (is_cut) wanted.n_levels = levels_below(wanted);
  Activation a = requantize_unclipped(value, q, wanted, scale_is_fixed);
  if (!is_cut || a.quant.is_signed) return a;
  // The scale may have come out coarser than upper / 255: fewer levels then put the clip where it
  // belongs.
  const std::int64_t levels = std::min(wanted.n_levels, levels_below(a.quant));
  const bool by_storage = options_.target.form.int8_operands && levels < 256;
  set_levels(a, by_storage ? 256 : levels);
  return by_storage ? clipped_at_storage(value, a, q.upper, wanted, scale_is_fixed) : a;
}

/// The same requant on another number of levels.
void Lowering::set_levels(Activation& a, std::int64_t levels) {
  if (a.quant.n_levels == levels) return;
  a.quant.n_levels = levels;
  const NodeId requant = out_.value(a.id).producer;
  Attrs attrs = out_.node(requant).attrs;
  attrs.set("n_levels_out", levels);
  out_.set_attrs(requant, attrs);
  out_.set_quant(a.id, a.quant);
}

/// a, unsigned, clipped at `upper` by kernels that clip at 255 alone: a depthwise Conv of length
/// one multiplies by a whole number, so that 255 of the requant's finer steps are `upper`. At a
/// fixed scale a further requant follows.
Activation Lowering::clipped_at_storage(ValueId value, const Activation& a, double upper,
                                        const QuantParams& wanted, bool scale_is_fixed) {
  const std::string name = name_for(value, "_clipped");
  QuantParams full = a.quant;
  full.scale = upper / 255;
  full.n_levels = 256;
  const double factor = std::floor(a.quant.scale / full.scale) + 1;
  if (factor > 127) refuse(fmt::format("its end {:g} is less than two steps of its input", upper));
  const Shape shape = out_.value(a.id).type.shape;
  const bool is_map = shape.size() == 3 || shape.size() == 4;
  const Shape map = is_map ? shape : Shape{1, 1, element_count(shape)};
  ValueId x = a.id;
  if (!is_map) x = emit("Reshape", name + "_row", {x, constant_i64(name + "_row_shape", map)});
  Shape weights{map[1], map[1]};
  weights.resize(map.size(), 1);
  Tensor unit(DType::i8, weights);
  for (std::int64_t c = 0; c < map[1]; ++c)
    unit.as<std::int8_t>()[static_cast<std::size_t>(c * map[1] + c)] =
        static_cast<std::int8_t>(factor);
  const std::vector<std::int64_t> ones(map.size() - 2, 1);
  Attrs attrs;
  attrs.set("dilations", ones);
  attrs.set("group", std::int64_t{1});
  attrs.set("kernel_shape", ones);
  attrs.set("pads", std::vector<std::int64_t>(2 * ones.size(), 0));
  attrs.set("strides", ones);
  const ValueId w = out_.add_constant(name + "_factor", std::move(unit));
  const ValueId acc = emit("Conv", name + "_acc", {x, w}, std::move(attrs));
  Activation y = requant_vector(acc, {a.quant.scale / factor}, {}, full, true, name);
  if (!is_map) {
    y.id = emit("Reshape", name + "_back", {y.id, constant_i64(name + "_back_shape", shape)});
    out_.set_quant(y.id, y.quant);
  }
  if (!scale_is_fixed) return y;
  QuantParams fixed = wanted;
  fixed.n_levels = 256;  // 255 steps of y are within them
  return requant_vector(y.id, {full.scale}, {}, fixed, true, name + "_again");
}

}  // namespace waveq
