#include <fmt/format.h>

#include <cmath>

#include "lowering/rules.h"

namespace waveq {

namespace {

/// The operand as it is, to be clipped at zero by whatever requant reads it. A quantity that
/// already is an 8-bit tensor is clipped by a requant of its own.
Quantity clipped(Lowering& to, ValueId x) {
  Quantity q = to.quantity(x);
  q.relu = true;
  return q;
}

}  // namespace

void lower_relu(Lowering& to, const Node& node) {
  to.define(node.outputs.front(), clipped(to, node.inputs[0]));
}

void lower_clip(Lowering& to, const Node& node) {
  const double lo = node.attrs.get_float("min", -3.4e38), hi = node.attrs.get_float("max", 3.4e38);
  if (lo != 0.0 || hi <= 0)
    to.refuse(
        fmt::format("clips to [{:g}, {:g}]; only a lower end of 0 is a requant's clip", lo, hi));
  Quantity q = clipped(to, node.inputs[0]);
  if (hi < 3.0e38) q.upper = q.upper > 0 ? std::min(q.upper, hi) : hi;
  to.define(node.outputs.front(), std::move(q));
}

/// gelu(x) = x*(1 + erf(x/sqrt 2))/2 with I-BERT's erf(t) ~ sgn(t)*(a*(min(|t|, -b) + b)^2 + 1), a
/// = -0.2888, b = -1.769. With e = scale/sqrt 2: b_int = round(b/e), one = round(1/(0.2888*e^2)),
/// output scale 0.2888*e^2*scale. The kernel holds b in 8 and one in 16 bits, which bounds the
/// scale from below. Source: Kim et al., I-BERT (arXiv 2101.01321), section 3.4; Deeploy
/// Generic/src/GELU_s8.c.
void lower_gelu(Lowering& to, const Node& node) {
  constexpr double kA = 0.2888, kB = 1.769;
  // -b <= 128 needs scale >= 1.769*sqrt(2)/128.5, one <= 32767 needs scale >=
  // sqrt(2/(0.2888*32767)).
  const double least = std::max(kB * std::sqrt(2.0) / 128.4, std::sqrt(2.0 / (kA * 32767.0)));
  const Activation x = to.signed_activation(node.inputs[0], least);
  const double e = x.quant.scale / std::sqrt(2.0);
  Attrs attrs;
  attrs.set("b", static_cast<std::int64_t>(std::floor(-kB / e + 0.5)));
  attrs.set("one", static_cast<std::int64_t>(std::floor(1.0 / (kA * e * e) + 0.5)));
  const ValueId y = node.outputs.front();
  Quantity q;
  q.id = to.emit("iGELU", to.name_for(y, "_acc"), {x.id}, attrs);
  q.scale = {kA * e * e * x.quant.scale};
  to.define(y, std::move(q));
}

}  // namespace waveq
