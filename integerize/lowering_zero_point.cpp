// Which tensors have a zero point, and what it is.
#include <algorithm>

#include "join_sums.h"
#include "lowering.h"

namespace waveq {

/// True where the value may have a zero point: the requant behind its operator adds one on this
/// target, and all that reads it are linear nodes that fold it into a constant term.
bool Lowering::takes_zero_point(ValueId value) const {
  const Quantity& q = quantities_.at(value);
  const NodeId producer = q.id.valid() ? out_.value(q.id).producer : NodeId{};
  return producer.valid() && out_.node(producer).op == "iGELU" && options_.zero_points &&
         options_.target.zero_points && folds_in_all_readers(value);
}

bool Lowering::folds_in_all_readers(ValueId value) const {
  return !source_.is_output(value) &&
         std::ranges::all_of(source_.value(value).uses, [&](NodeId user) {
           const Node& node = source_.node(user);
           return folds_zero_point(source_, node) ||
                  (options_.join_sums && keeps_own_scales(source_, node));
         });
}

Activation Lowering::shifted_activation(ValueId value) {
  const Quantity q = quantity(value);
  if (const Activation* a = find_activation(value, true, 0.0, Width::bits8)) return *a;
  const bool clips = q.relu && q.upper == 0 && folds_in_all_readers(value);
  if (!clips && !takes_zero_point(value)) {
    const Activation a = activation(value);
    return a.quant.is_signed ? a : signed_activation(value);
  }
  const QuantSpec own = spec(q.relu ? Signedness::unsigned_ : Signedness::affine, Width::bits8);
  Range r = range(value, own);
  if (q.relu) r = {0.0, std::max(r.hi, 0.0)};
  QuantParams codes = quantizer_(r, own);
  codes.is_signed = true;
  codes.zero_point -= codes.n_levels / 2;
  const Activation a = requantize(value, q, codes, false);
  // Without its zero point the requant does not clip at 0.
  if (q.relu && a.quant.zero_point != a.quant.lo()) return signed_activation(value);
  activations_[{value, true, 0.0, Width::bits8}] = a;
  carries(value, a);
  return a;
}

/// True where all that reads the value, also in another arrangement, are linear nodes that can take
/// its zero point.
bool Lowering::folded_everywhere(ValueId value) const {
  static const std::set<std::string, std::less<>> moves{"Flatten", "Reshape", "Squeeze",
                                                        "Transpose", "Unsqueeze"};
  return std::ranges::all_of(source_.value(value).uses, [&](NodeId user) {
    const Node& node = source_.node(user);
    return moves.contains(node.op) ? folded_everywhere(node.outputs.front())
                                   : folds_zero_point(source_, node, true);
  });
}

/// The codes of a quantized model's asymmetric tensor, zero point included, where all that reads it
/// takes the zero point: the model's own, or, where that brings the zero point closer to 0 and so
/// makes the constants smaller that readers fold it into, those less half of the levels.
std::optional<QuantParams> Lowering::own_codes(ValueId value) const {
  const auto it = options_.grids.find(source_.value(value).name);
  if (it == options_.grids.end() || !it->second.needs_zero_point() || wide_.contains(value) ||
      !options_.zero_points || !options_.target.zero_points || !folded_everywhere(value))
    return std::nullopt;
  QuantSpec own = spec(Signedness::affine, Width::bits8);
  own.n_levels = std::min(own.n_levels, it->second.hi - it->second.lo + 1);
  QuantParams codes = quantizer_(range(value, own), own);
  const std::int64_t half = own.n_levels / 2;
  if (codes.zero_point <= half - codes.zero_point) return codes;
  codes.is_signed = true;
  codes.zero_point -= half;
  return codes;
}

/// Signed levels that cover what these do.
QuantParams Lowering::without_zero_point(const QuantParams& q) const {
  const auto end = [&](std::int64_t code) {
    return static_cast<double>(code - q.zero_point) * q.scale;
  };
  return quantizer_({end(q.lo()), end(q.hi())}, spec(Signedness::signed_, Width::bits8));
}

}  // namespace waveq
