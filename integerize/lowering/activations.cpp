#include <fmt/format.h>

#include <cmath>

#include "lowering/rules.h"
#include "waveq/integerize/approximation.h"

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

/// iGELU and its scale (approximation.h), its constants fitted to how often each code occurs; the
/// kernel's 8-bit constants bound the input's scale from below.
void lower_gelu(Lowering& to, const Node& node) {
  const Activation x = to.signed_activation(node.inputs[0], kGeluFinest);
  const IGelu p = to.options().fitted_gelu
                      ? fit_igelu(x.quant.scale, to.code_counts(node.inputs[0], x.quant))
                      : choose_igelu(x.quant.scale);
  Attrs attrs;
  attrs.set("b", std::int64_t{p.b});
  attrs.set("one", std::int64_t{p.one});
  const ValueId y = node.outputs.front();
  Quantity q;
  q.id = to.emit("iGELU", to.name_for(y, "_acc"), {x.id}, attrs);
  q.scale = {igelu_scale(x.quant.scale, p)};
  to.define(y, std::move(q));
}

}  // namespace waveq
