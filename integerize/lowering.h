#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "unary_chains.h"
#include "waveq/integerize/bounds.h"
#include "waveq/integerize/integerize.h"
#include "waveq/quantizers/weights.h"

namespace waveq {

/// Conv, Gemm or MatMul with constant weights, not yet emitted: its weight scales are chosen
/// together with the requant behind it, so that the requant's multipliers are exact integers.
struct DeferredLinear {
  std::string op;  ///< Conv, Gemm (transB = 1, weights [O,K]) or MatMul (weights [K,N])
  std::string name, origin;
  ValueId x;  ///< integer input
  double x_scale = 1.0;
  std::vector<std::int64_t> x_zero_points;  ///< empty for none; one, or one per input channel
  Tensor weights;                           ///< f32
  std::string weights_name;                 ///< their constant in the float graph
  std::int64_t channel_axis = 0;            ///< output channels in `weights`; -1: one scale for all
  std::int64_t weight_levels = 256;
  /// Mean of what the weights multiply, in its units, for each input channel; empty: not known.
  std::vector<double> x_means;
  std::vector<double> bias;  ///< real, per output channel; empty for none
  Attrs attrs;
  bool bias_in_requant = false;  ///< the requant's add carries the bias, not the node

  // Filled once emitted.
  ValueId accumulator;
  std::vector<double> scale;   ///< of the accumulator, per channel or one
  std::vector<double> offset;  ///< bias still to be applied; empty where the node applies it itself
  std::int64_t shift = 0;      ///< of the requant the weights were chosen for; 0: none
  double out_scale = 0;

  std::size_t channels() const;
  /// Whether the bias makes up for rounded weights: where it, or the lack of one, costs no node.
  bool corrects_bias() const { return !x_means.empty() && (op != "MatMul" || !bias.empty()); }
  /// Has a constant term for each channel: a bias, or what x's zero point adds up to.
  bool has_offset() const { return !bias.empty() || !x_zero_points.empty() || corrects_bias(); }
  bool emitted() const { return accumulator.valid(); }
};

/// The integer form of a float tensor: real[c] = scale[c]*q + offset[c], then clipped at 0 if
/// `relu`.
struct Quantity {
  ValueId id;                              ///< invalid while `linear` is deferred
  std::shared_ptr<DeferredLinear> linear;  ///< set for the accumulator of a linear node
  std::vector<double> scale{1.0};          ///< one, or one per index of axis 1
  std::vector<double> offset;              ///< empty, one, or one per index of axis 1
  bool relu = false;
  double upper = 0;  ///< > 0: also clipped there (ReLU6)
};

/// How wide a tensor an operator reads: 8 bits, or 16 where the value is given as many.
enum class Width { bits8, bits16 };

/// An 8- or 16-bit tensor and its scale.
struct Activation {
  ValueId id;
  QuantParams quant;
};

/// Whether two scales are one: a millionth is far less than a code can show, and more than a
/// multiplier can.
inline bool same_scale(double a, double b) { return std::abs(a - b) <= 1e-6 * std::max(a, b); }

/// Thrown by a rule where a node has no integer form; collected, never shown as is.
struct Refused {
  std::string reason;
};

/// State of one lowering; rules read operands from it and append integer nodes to it.
class Lowering {
 public:
  Lowering(const Graph& source, RangeLookup ranges, IntegerizeOptions options);
  IntegerNetwork run();
  /// run() without ranges that mean anything: only the refusals count, numbers that do not work out
  /// are passed over.
  void run_for_refusals();
  const std::vector<NotInteger>& refusals() const { return refusals_; }

  const Graph& source() const { return source_; }
  Graph& out() { return out_; }
  BoundsAnalysis& bounds() { return bounds_; }
  const IntegerizeOptions& options() const { return options_; }
  const UnaryChains& chains() const { return chains_; }
  /// How wide the target's operator reads its operands; RequantShift: how wide it writes.
  Width width(std::string_view op) const;
  bool target_runs(std::string_view op) const { return options_.target.operators.contains(op); }

  // Reading float values.
  const Shape& shape(ValueId value) const { return source_.value(value).type.shape; }
  bool is_constant(ValueId value) const { return source_.is_constant(value); }
  const Quantity& quantity(ValueId value);
  /// int32 (or narrower) tensor with its scale and offset, clip already applied.
  Quantity accumulator(ValueId value);
  /// Tensor of at most this width, signed or unsigned by its range, at the scale its range asks
  /// for; signed, where the target's product or sum that it goes into takes nothing else. A value
  /// that is given 16 bits has an 8-bit copy too, for operators that read no more.
  Activation activation(ValueId value, Width width = Width::bits8);
  /// 8-bit tensor for a reader to which only numbers within `part` make a difference.
  Activation activation_within(ValueId value, const Range& part);
  Activation signed_activation(ValueId value, double least_scale = 0, Width width = Width::bits8);
  /// Signed tensor at exactly this scale. The scale must not be finer than an activation it comes
  /// from.
  Activation signed_activation_at(ValueId value, double scale, Width width = Width::bits8);
  /// The same for an operand of a sum: where the target asks for int8, an unsigned tensor of half
  /// the scale is halved, which cannot clip.
  Activation summand_at(ValueId value, double scale, Width width = Width::bits8);
  /// activation() for an operand of a product or a mean: signed, where the target asks for int8.
  Activation factor(ValueId value, Width width = Width::bits8);
  /// Smallest scale at which a signed tensor holds the value's range without finer detail than is
  /// there.
  double signed_scale(ValueId value, Width width = Width::bits8);
  /// The largest of these, for tensors that go into one sum. One that is 0 throughout, a branch
  /// that starts from zero weights, has no say.
  double common_scale(const std::vector<ValueId>& values, Width width = Width::bits8);
  /// Smallest scale that any tensor of the value can have: a requant cannot multiply by 1 or more.
  double finest_scale(ValueId value) { return least_scale(quantity(value)); }
  /// The width of the tensor that a reader of this width gets.
  Width carried(ValueId value, Width reader) const;
  /// Bound of |code| in the tensor that such a reader gets.
  double largest_code(ValueId value, Width reader) const;
  /// width(op), unless the sum of the tensor's codes times others of these magnitudes (their sum)
  /// could then leave int32.
  Width width_within(std::string_view op, ValueId value, double others) const;
  /// The codes that lower_concat left with a scale for each channel.
  bool has_own_scales(ValueId value) const { return own_scales_.contains(value); }
  /// activation(value), but with signed codes: what is clipped at 0 or would be affine has the
  /// unsigned ones less half of the levels, zero point included, where all that reads it folds it.
  Activation shifted_activation(ValueId value);
  /// define() of such codes.
  void define_with_own_scales(ValueId value, Quantity quantity);
  bool is_wide(ValueId value) const { return wide_.contains(value); }  ///< given 16 bits
  /// Levels of the weights of the node being lowered.
  std::int64_t weight_levels() const;
  /// What a tensor of the value's own precision means that a rule emits by itself.
  QuantParams wanted(ValueId value, Signedness signedness = Signedness::automatic) const;
  Range range(ValueId value, const QuantSpec& levels) const;
  /// IntegerizeOptions::code_counts of a value on 256 levels; zeros where nothing is known.
  std::vector<double> code_counts(ValueId value, QuantParams quant) const;

  /// IntegerizeOptions::means of a value, or of what is concatenated to it; empty where they are
  /// not known, or not to be used.
  std::vector<double> means(ValueId value, std::size_t axis) const;

  // Writing.
  /// Tensor-safe name made from a float value's name plus a suffix.
  std::string name_for(ValueId value, std::string_view suffix = "") const;
  ValueId emit(const std::string& op, const std::string& name, std::vector<ValueId> inputs,
               Attrs attrs = {}, const std::string& origin = {});
  /// Transpose of a tensor; the one that is there already where it was asked for before.
  ValueId transpose(ValueId x, const std::vector<std::int64_t>& perm, const std::string& name);
  ValueId constant_i64(const std::string& name, const std::vector<std::int64_t>& values);
  void define(ValueId value, Quantity quantity);
  void define(ValueId value, const Activation& activation);
  /// RequantShift with scalar multiplier and free output scale: near the wanted one, and returned.
  Activation requant_free(ValueId acc, double acc_scale, const QuantParams& wanted,
                          const std::string& name);
  [[noreturn]] void refuse(std::string reason) const { throw Refused{std::move(reason)}; }
  const Node& node() const { return *node_; }

 private:
  QuantParams levels(double scale, bool is_signed, Width width) const;
  QuantSpec spec(Signedness signedness, Width width) const;
  /// `own` with the levels of the grid that the model gives the tensor (IntegerizeOptions::grids).
  QuantSpec on_grid(ValueId value, const Range& range, QuantSpec own) const;
  void carries(ValueId value, const Activation& a);
  const Activation* find_activation(ValueId value, bool is_signed, double scale, Width width) const;
  void assign_precision();
  bool lower_chain(const Node& node);
  double least_scale(const Quantity& q) const;
  double needed_scale(ValueId value, Width reader);
  bool wants_int8(ValueId value) const;
  bool asks_for_sign(ValueId value) const;
  bool takes_zero_point(ValueId value) const;
  bool folds_in_all_readers(ValueId value) const;
  bool folded_everywhere(ValueId value) const;
  std::optional<QuantParams> own_codes(ValueId value) const;
  Activation halved(ValueId value, const Activation& u, double scale);
  Activation separate_output(ValueId value, const Activation& a);
  void refuse_constant_outputs();
  Activation requantize(ValueId value, const Quantity& q, QuantParams wanted, bool scale_is_fixed);
  void set_levels(Activation& a, std::int64_t levels);
  Activation clipped_at_storage(ValueId value, const Activation& a, double upper,
                                const QuantParams& wanted, bool scale_is_fixed);
  Activation requantize_unclipped(ValueId value, const Quantity& q, QuantParams wanted,
                                  bool scale_is_fixed);
  QuantizedWeights natural_weights(const DeferredLinear& linear) const;
  std::optional<QuantizedWeights> grid_weights(const DeferredLinear& linear) const;
  QuantizedWeights plain_weights(const DeferredLinear& linear) const;
  std::optional<RequantChoice> requant_for(const DeferredLinear& linear,
                                           const QuantizedWeights& weights, const QuantParams& out,
                                           const RequantLimits& limits, std::string* why);
  struct FittedLinear {
    QuantizedWeights weights;
    RequantChoice requant;
  };
  std::optional<FittedLinear> fit_linear(const DeferredLinear& linear,
                                         const QuantizedWeights& natural, const QuantParams& out,
                                         RequantLimits limits, std::string& why);
  Activation requant_linear(DeferredLinear& linear, const QuantParams& wanted,
                            const std::string& name);
  Activation requant_again(const DeferredLinear& linear, const QuantParams& wanted,
                           bool scale_is_fixed, const std::string& name);
  Activation requant_vector(ValueId acc, const std::vector<double>& scale,
                            const std::vector<double>& offset, const QuantParams& wanted,
                            bool scale_is_fixed, const std::string& name);
  Activation requant_affine(ValueId acc, const std::vector<double>& scale,
                            const std::vector<double>& offset, QuantParams wanted,
                            const std::string& name);
  std::optional<Activation> try_requant_vector(ValueId acc, const std::vector<double>& scale,
                                               std::vector<double> offset,
                                               const QuantParams& wanted, const std::string& name,
                                               std::string& why);
  QuantParams without_zero_point(const QuantParams& q) const;
  std::optional<Activation> requant_centred(ValueId acc, const std::vector<double>& scale,
                                            const std::vector<double>& offset,
                                            const QuantParams& wanted, const std::string& name);
  void emit_linear(DeferredLinear& linear, const QuantizedWeights& weights);
  void emit_plain(DeferredLinear& linear);
  Activation emit_requant(ValueId acc, const RequantChoice& choice, const QuantParams& quant,
                          const std::string& name);
  void lower(NodeId id);
  void stand_in_for_outputs(const Node& node);

  const Graph& source_;
  RangeLookup ranges_;
  IntegerizeOptions options_;
  Quantizer quantizer_;
  Graph out_;
  BoundsAnalysis bounds_{out_};
  std::map<ValueId, Quantity> quantities_;
  UnaryChains chains_;
  std::set<ValueId> wide_;  ///< values that are given 16 bits
  std::set<ValueId> own_scales_;
  std::map<ValueId, std::int64_t> weight_levels_of_;
  /// Materialized activations: by value, signedness, fixed scale (0: chosen from the range), width.
  std::map<std::tuple<ValueId, bool, double, Width>, Activation> activations_;
  /// Transposes emitted so far, by operand and axes: two spellings of one matrix stay one value,
  /// which the relational bound of a quotient relies on.
  std::map<std::pair<ValueId, std::vector<std::int64_t>>, ValueId> transposes_;
  std::vector<Correspondence> correspondences_;
  std::vector<WeightOrigin> weight_origins_;
  std::vector<NotInteger> refusals_;
  /// Values whose integer form is made up because a node in front was refused or did not work out.
  std::set<ValueId> guessed_;
  const Node* node_ = nullptr;
  bool only_refusals_ = false;
};

/// How one float operator becomes integer.
struct LoweringRule {
  LoweringInfo info;
  void (*apply)(Lowering&, const Node&);  ///< \throws Refused
};

/// True for a linear node with constant weights that adds nothing to its first operand: a zero
/// point of that operand is a constant term of each output channel. Padding adds zeros; `padded`:
/// it counts as folded all the same, as a Pad with the zero point.
bool folds_zero_point(const Graph& graph, const Node& node, bool padded = false);

/// Rule for an operator, nullptr where there is none. The table is in lowering/registry.cpp.
const LoweringRule* find_lowering(std::string_view op);
const std::vector<LoweringRule>& all_lowerings();

}  // namespace waveq
