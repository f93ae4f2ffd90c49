// The tensors of few bits that readers get: which sign, width and scale, and by which requant.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

// A scale this much coarser than the accumulator's leaves its requant a multiplier below the
// divisor.
constexpr double kAboveOne = 1.0 + 1.0 / 64;
/// Largest factor that takes codes 0..255 to 0..127 by itself. Requants in front of a sum must not
/// clip: the consumer's fused kernel clips where the storage of its operand says
/// (deeploy-dialect.md T8).
const double kHalf = 0.5 - std::ldexp(1.0, -18);

}  // namespace

const Activation* Lowering::find_activation(ValueId value, bool is_signed, double scale,
                                            Width width) const {
  const auto it = activations_.find({value, is_signed, scale, width});
  return it == activations_.end() ? nullptr : &it->second;
}

Activation Lowering::activation(ValueId value, Width reader) {
  const Quantity& q = quantity(value);
  const Width width = carried(value, reader);
  for (bool is_signed : {true, false})
    if (const Activation* a = find_activation(value, is_signed, 0.0, width)) return *a;
  const bool wants_sign = width == Width::bits8 && options_.target.form.int8_operands;
  if (q.relu && wants_sign && wants_int8(value)) {
    const Activation a = signed_activation(value);
    activations_[{value, true, 0.0, Width::bits8}] = a;
    return a;
  }
  const auto own_zero = q.relu || width != Width::bits8 ? std::nullopt : own_codes(value);
  const bool affine = !q.relu && width == Width::bits8 && takes_zero_point(value);
  const QuantSpec own = spec(q.relu                               ? Signedness::unsigned_
                             : affine                             ? Signedness::affine
                             : wants_sign && asks_for_sign(value) ? Signedness::signed_
                                                                  : Signedness::automatic,
                             width);
  Range r = range(value, own);
  if (q.relu) r.lo = std::max(r.lo, 0.0);
  if (q.upper > 0) r.hi = std::min(r.hi, q.upper);
  r.hi = std::max(r.hi, r.lo);
  const QuantParams codes = own_zero ? *own_zero : quantizer_(r, on_grid(value, r, own));
  const Activation a = requantize(value, q, codes, false);
  activations_[{value, a.quant.is_signed, 0.0, width}] = a;
  carries(value, a);
  return a;
}

/// Where a target has int8 operands: a value that something reads as int8 only, or the product of
/// two activations, whose requant is a kernel of its own and has no unsigned form.
bool Lowering::asks_for_sign(ValueId value) const {
  if (wants_int8(value)) return true;
  const Quantity& q = quantities_.at(value);
  const NodeId producer = q.id.valid() ? out_.value(q.id).producer : NodeId{};
  return producer.valid() && out_.node(producer).op == "Mul";
}

Activation Lowering::activation_within(ValueId value, const Range& part) {
  const Quantity& q = quantity(value);
  const bool has_codes = q.id.valid() && size_of(out_.value(q.id).type.dtype) == 1;
  if (has_codes || q.relu) return activation(value);
  const QuantSpec own = spec(Signedness::automatic, Width::bits8);
  const Range all = range(value, own);
  const Range r{std::max(all.lo, part.lo), std::min(all.hi, part.hi)};
  // A requant of its own for less than a tenth of the range is not worth it.
  if (!(r.lo < r.hi) || r.hi - r.lo > 0.9 * (all.hi - all.lo)) return activation(value);
  const Activation a = requantize(value, q, quantizer_(r, own), false);
  carries(value, a);
  return a;
}

double Lowering::signed_scale(ValueId value, Width reader) { return common_scale({value}, reader); }

double Lowering::common_scale(const std::vector<ValueId>& values, Width reader) {
  double scale = 0;
  for (const ValueId value : values) scale = std::max(scale, needed_scale(value, reader));
  return scale > 0 ? scale : 1.0;
}

double Lowering::needed_scale(ValueId value, Width reader) {
  const Quantity& q = quantity(value);
  const QuantSpec own = spec(Signedness::signed_, carried(value, reader));
  const Range r = range(value, own);
  double scale = r.lo == 0 && r.hi == 0 ? 0 : quantizer_(r, on_grid(value, r, own)).scale;
  // An unsigned tensor of half the scale comes first where the target asks for int8.
  const Activation* found = find_activation(value, false, 0.0, Width::bits8);
  if (!options_.target.form.int8_operands || !(q.relu || found))
    return std::max(scale, least_scale(q));
  if (found) scale = std::max(scale, found->quant.scale / kHalf);
  return std::max(scale, 1.001 * least_scale(q) / kHalf);
}

/// A requant cannot multiply by 1 or more: no tensor made from a quantity is finer than its
/// coarsest channel.
double Lowering::least_scale(const Quantity& q) const {
  double least = 0;
  if (!q.linear) {
    // One multiplier close to the divisor is exact; next to other channels it is rounded.
    const double above = q.scale.size() > 1 ? kAboveOne : 1.0;
    for (double s : q.scale) least = std::max(least, std::abs(s) * above);
  } else if (q.linear->emitted()) {
    for (double s : q.linear->scale) least = std::max(least, s * kAboveOne);
  } else {
    const QuantizedWeights w = plain_weights(*q.linear);
    if (std::ranges::any_of(to_int64(w.q), [](std::int64_t v) { return v != 0; }))
      for (double s : w.scale) least = std::max(least, s * q.linear->x_scale * kAboveOne);
  }
  return least;
}

Activation Lowering::signed_activation(ValueId value, double least_scale, Width reader) {
  quantity(value);  // refuses before anything else asks
  const Activation* there = find_activation(value, true, 0.0, carried(value, reader));
  if (there && there->quant.scale >= least_scale) return *there;
  const double scale = std::max(signed_scale(value, reader), least_scale);
  return signed_activation_at(value, scale, reader);
}

Activation Lowering::signed_activation_at(ValueId value, double scale, Width reader) {
  const Quantity q = quantity(value);
  const Width width = carried(value, reader);
  for (const double key : {0.0, scale})
    if (const Activation* a = find_activation(value, true, key, width);
        a && same_scale(a->quant.scale, scale))
      return *a;
  Activation a;
  if (q.relu) {
    // Clip at zero with an unsigned requant of the wanted scale, then reinterpret as signed by a
    // requant that multiplies by one: one rounding in all. Codes above the signed top saturate
    // there.
    const Activation* there = find_activation(value, false, 0.0, width);
    const Activation u = there ? *there : requantize(value, q, levels(scale, false, width), true);
    a = requant_vector(u.id, {u.quant.scale}, {}, levels(scale, true, width), true,
                       name_for(value, "_signed"));
  } else if (!options_.merge_requants && activation(value, reader).quant.scale <= scale) {
    const Activation own = activation(value, reader);
    a = requant_vector(own.id, {own.quant.scale}, {}, levels(scale, true, width), true,
                       name_for(value, "_again"));
  } else {
    a = requantize(value, q, levels(scale, true, width), true);
  }
  activations_[{value, true, scale, width}] = a;
  carries(value, a);
  return a;
}

Activation Lowering::halved(ValueId value, const Activation& u, double scale) {
  // One that was clipped to its scale instead would clip in front of a sum, too.
  if (const Activation* a = find_activation(value, true, scale, Width::bits8);
      a && out_.node(out_.value(a->id).producer).inputs.front() == u.id)
    return *a;
  const Activation a = requant_vector(u.id, {u.quant.scale}, {}, levels(scale, true, Width::bits8),
                                      true, name_for(value, "_halved"));
  activations_[{value, true, scale, Width::bits8}] = a;
  carries(value, a);
  return a;
}

Activation Lowering::summand_at(ValueId value, double scale, Width reader) {
  const Quantity q = quantity(value);
  if (!options_.target.form.int8_operands || carried(value, reader) != Width::bits8)
    return signed_activation_at(value, scale, reader);
  if (const Activation* u = find_activation(value, false, 0.0, Width::bits8);
      u && u->quant.scale <= kHalf * scale)
    return halved(value, Activation(*u), scale);
  if (!q.relu) return signed_activation_at(value, scale, reader);
  return halved(value, requantize(value, q, levels(kHalf * scale, false, Width::bits8), true),
                scale);
}

Activation Lowering::factor(ValueId value, Width reader) {
  const Activation a = activation(value, reader);
  const bool is_wide = size_of(out_.value(a.id).type.dtype) > 1;
  if (!options_.target.form.int8_operands || a.quant.is_signed || is_wide) return a;
  // Codes on a grid of the operator's own (softmax) may have more room than the values take.
  const QuantSpec own = spec(Signedness::signed_, Width::bits8);
  const double needed = quantizer_(range(value, own), own).scale;
  return halved(value, a, std::clamp(needed, a.quant.scale, a.quant.scale / kHalf));
}

namespace {

using Ints = std::vector<std::int64_t>;

/// A convolution in front of which a target with int8_operands puts a Pad: pads that differ, as
/// they do once a 1-D kernel is a 2-D one of height 1, and pads of a strided depthwise kernel.
bool pads_explicitly(const Node& conv, const Shape& x) {
  const Ints pads = conv.attrs.get_ints("pads", {}), strides = conv.attrs.get_ints("strides", {});
  const bool automatic = conv.attrs.get_string("auto_pad", "NOTSET").starts_with("SAME");
  const auto padded = std::ranges::any_of(pads, [](std::int64_t p) { return p != 0; });
  if (!padded) return automatic;
  const bool strided = std::ranges::any_of(strides, [](std::int64_t s) { return s != 1; });
  const bool depthwise = x[1] > 1 && conv.attrs.get_int("group", 1) == x[1];
  const bool equal = std::ranges::all_of(pads, [&](std::int64_t p) { return p == pads.front(); });
  return x.size() == 3 || !equal || (depthwise && strided);
}

/// A pool whose windows reach beyond the map: it is padded first.
bool pads_windows(const Node& node) {
  if (node.op != "MaxPool" && node.op != "AveragePool") return false;
  return node.attrs.get_int("ceil_mode", 0) != 0 ||
         node.attrs.get_string("auto_pad", "NOTSET").starts_with("SAME") ||
         std::ranges::any_of(node.attrs.get_ints("pads", {}),
                             [](std::int64_t p) { return p != 0; });
}

}  // namespace

/// True where something reads the value, directly, as a view or pooled, that has int8 kernels only:
/// a product of two activations or of rows of maps, a mean, padding.
bool Lowering::wants_int8(ValueId value) const {
  for (NodeId id : source_.value(value).uses) {
    const Node& user = source_.node(id);
    const OpDef* op = find_op(user.op);
    const bool product = (user.op == "MatMul" || user.op == "Mul") &&
                         std::ranges::none_of(user.inputs, [&](ValueId in) {
                           return in.valid() && source_.is_constant(in);
                         });
    // By a matrix of more than two dimensions it stays a MatMul, whatever the right operand is.
    const bool rows = user.op == "MatMul" && shape(user.inputs.front()).size() > 2;
    const bool padding =
        user.op == "Pad" || (user.op == "Conv" && pads_explicitly(user, shape(value)));
    if (product || rows || padding || pads_windows(user) || user.op == "ReduceMean" ||
        user.op == "ReduceSum")
      return true;
    const bool passes_on = (op && op->moves_data) || user.op == "MaxPool";
    if (passes_on && wants_int8(user.outputs.front())) return true;
  }
  return false;
}

Activation Lowering::requantize_unclipped(ValueId value, const Quantity& q, QuantParams wanted,
                                          bool scale_is_fixed) {
  const std::string name = name_for(value);
  // A requant belongs to the node whose value it makes, whoever asks for it first.
  struct Restore {
    const Node*& slot;
    const Node* saved;
    ~Restore() { slot = saved; }
  } restore{node_, node_};
  if (const NodeId producer = source_.value(value).producer; producer.valid())
    node_ = &source_.node(producer);
  if (q.linear && !q.linear->emitted()) return requant_linear(*q.linear, wanted, name);
  if (q.linear && q.linear->shift > 0)
    return requant_again(*q.linear, wanted, scale_is_fixed, name);
  const Quantity acc = [&] {
    Quantity plain = q;
    if (q.linear) {
      plain.id = q.linear->accumulator;
      plain.scale = q.linear->scale;
      plain.offset = q.linear->offset;
    }
    return plain;
  }();
  return requant_vector(acc.id, acc.scale, acc.offset, wanted, scale_is_fixed, name);
}

Activation Lowering::emit_requant(ValueId acc, const RequantChoice& choice,
                                  const QuantParams& quant, const std::string& name) {
  // Parameters of channel c sit at index c of axis 1: [C,1,...] against [1,C,...], [C] for a
  // matrix.
  Shape shape;
  if (choice.mul.size() > 1) {
    const std::size_t rank = out_.value(acc).type.shape.size();
    shape.assign(std::max<std::size_t>(rank, 2) - 1, 1);
    shape.front() = static_cast<std::int64_t>(choice.mul.size());
  }
  const ValueId mul =
      out_.add_constant(name + "_mul", Tensor::from<std::int32_t>(shape, choice.mul));
  const bool wide = choice.product_bits == 64;
  const Tensor adds = Tensor::from<std::int64_t>(shape, choice.add);
  const ValueId add = out_.add_constant(name + "_add", wide ? adds : cast(adds, DType::i32));
  Attrs attrs;
  if (wide) attrs.set("product_bits", std::int64_t{64});
  attrs.set("div", std::int64_t{1} << choice.shift);
  attrs.set("n_levels_out", quant.n_levels);
  attrs.set("signed", std::int64_t{quant.is_signed});
  const ValueId y = emit("RequantShift", name, {acc, mul, add}, attrs);
  out_.set_quant(y, quant);
  return {y, quant};
}

}  // namespace waveq
