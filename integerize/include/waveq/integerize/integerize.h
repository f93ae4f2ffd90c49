#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/integerize/fake_quant.h"
#include "waveq/integerize/target_form.h"
#include "waveq/quantizers/quantizer.h"
#include "waveq/quantizers/requant.h"

namespace waveq {

/// What lowering may count on beyond what every target runs; a target profile fills it.
struct TargetAbilities {
  std::string name = "the target";               ///< for messages
  std::set<std::string, std::less<>> operators;  ///< of the integer dialect
  /// Operators that read 16-bit operands. RequantShift: it writes 16-bit tensors.
  std::set<std::string, std::less<>> int16;
  bool general_conv = false;  ///< Conv takes any group and dilation
  /// Tensors may have zero points where linear nodes alone read them: what iGELU gives, and what a
  /// quantized model gives one. The requant behind iGELU may then have an add and be unsigned;
  /// where the consumer merges the two, TargetForm's legalizations part them.
  bool zero_points = false;
  bool requant_per_channel = false;  ///< RequantShift differs by channel behind any operator
  /// Bound of |add / mul| in a requant (RequantLimits): 500 where CMSIS kernels recompute it.
  std::int64_t max_add_per_mul = 500;
  bool wide_requants = false;  ///< RequantShift has the form with products of 64 bits
  bool broadcast = false;      ///< Add, Sub, Mul repeat an operand along axes of length 1
  TargetForm form;             ///< what it asks of the network's form
  /// A target that spells the integers of others anew takes those of the first one here that runs
  /// the network, or of the last; nothing above counts then.
  std::vector<TargetAbilities> integers_of;
};

/// A form of float operators that a target asks for, in front of the lowering.
struct FloatForm {
  std::string name, formula, reason;
};
/// The forms that follow from a target's operators and TargetForm, in the order of their making.
std::vector<FloatForm> float_forms(const TargetAbilities& target);

/// Choices that shape the integer network.
struct IntegerizeOptions {
  TargetAbilities target;  ///< TargetProfile::abilities
  /// Bits of the tensors that nodes make, 8 or 16, by the node's name, a pattern of it, or
  /// "op:NAME"; 8 where nothing matches. The closest match counts: a name before a pattern, a
  /// longer pattern before a shorter one, any before an operator.
  std::map<std::string, std::int64_t> precision;

  std::int64_t activation_levels = 256;  ///< 2..256
  std::int64_t weight_levels = 256;      ///< 3..256
  /// Levels of the weights of single nodes, 3..256, named as in `precision`.
  std::map<std::string, std::int64_t> weight_levels_of;
  bool per_channel_weights = true;  ///< one weight scale per output channel; false: one per node
  /// Measures against rounding, each of which can be left out for comparison (preset "quantlib").
  bool effective_scales = true;   ///< what follows uses the scale that a rounded multiplier applies
  bool exact_multipliers = true;  ///< weight scales are stretched until multipliers are integers
  bool merge_requants = true;  ///< a second requant reads the accumulator, not the first's 8 bits
  bool own_mean_scale = true;  ///< a mean gets the scale of its range, not that of its operand
  bool zero_points = true;     ///< where the target has them (TargetAbilities::zero_points)
  /// Sums of pointwise convolutions become one convolution where the target's sums take 8 bits, no
  /// grids are given and less noise is estimated; channels that convolutions alone read keep the
  /// scales of their own in a Concat.
  bool join_sums = true;
  /// The constant term of a linear node makes up for what its rounded weights take from the mean of
  /// each output, where `means` tells its input's.
  bool correct_biases = true;
  bool fitted_gelu = true;              ///< fit_igelu in place of I-BERT's constants
  std::string quantizer = "symmetric";  ///< one of quantizers()
  /// "ibert": iSoftmax, "itamax": ITAMax, "lut": Table; "auto": Table where the target has it
  std::string softmax = "auto";
  RequantLimits requant;                ///< max_add_per_mul and wide_products are the target's
  /// Grids of single float tensors, by name: their levels, and their scale where the requant in
  /// front is free to take it. The range lookup is to give their range.
  std::map<std::string, TensorGrid> grids;
  /// How often each code of a float tensor (by name) occurs on this grid, lo() first; empty where
  /// that is not known. Approximations are fitted to it.
  std::function<std::vector<double>(const std::string& tensor, const QuantParams& grid)>
      code_counts;
  /// Mean of a float tensor (by name) over the data for each index of an axis; empty where that is
  /// not known.
  std::function<std::vector<double>(const std::string& tensor, std::size_t axis)> means;
  /// Weights that already lie on an integer grid of these levels keep it: the requant's multiplier
  /// is then rounded instead of the weights.
  bool keep_weight_grids = false;
};

/// Range to represent of a float tensor (by name in the float graph) on a grid of these levels;
/// nothing where none was recorded.
using RangeLookup =
    std::function<std::optional<Range>(const std::string& tensor, const QuantSpec& levels)>;

/// Which integer tensor carries a float tensor: float ~ quant.scale * (q - quant.zero_point).
struct Correspondence {
  std::string float_value;
  std::string integer_value;
  double scale = 1.0;
  std::int64_t zero_point = 0;
  bool turned = false;  ///< R rows [..., N] of the float tensor are columns [1,N,...,R] of integers
};

/// Where the integer weights of a linear node come from.
struct WeightOrigin {
  std::string integer_value;    ///< the constant with the codes
  std::string float_value;      ///< the weights in the float graph, perhaps in another layout
  Tensor real;                  ///< f32, in the layout of the codes
  std::vector<double> scale;    ///< real ~ scale[c] * code; one, or one for each output channel
  std::int64_t axis = -1;       ///< of the channels in `real`; -1: one scale
  std::int64_t n_levels = 256;  ///< of the codes, 3..256
};

/// A node of the float graph that has no integer form.
struct NotInteger {
  std::string node;  ///< name in the user's model
  std::string op;
  std::string reason;  ///< what it would take, for the user
};

/// An integer network and what its integers mean.
struct IntegerNetwork {
  Graph graph;  ///< operators of the integer dialect; every tensor integer
  std::vector<Correspondence>
      correspondences;  ///< in the order of creation; one float tensor may occur twice
  std::vector<WeightOrigin> weights;  ///< in the order of creation
};

/// Lowers a canonical float graph (rewrites/registry.cpp states the form) to integer operators.
///
/// Every float tensor is carried by an accumulator (int32, real = scale_c * q + offset_c) or an
/// activation (8 or 16 bits, real = scale * (q - zero_point)). A RequantShift turns one into the
/// other as late as possible: a ReLU becomes the clip of an unsigned requant, a constant factor
/// changes the scale, a constant term becomes the requant's add, and what follows a requant uses
/// the scale that its rounded multiplier really applies. \throws Error{not_integer} listing every
/// node that has no integer form; Error{data} where no range is
///   known for a tensor that needs one; Error{overflow} where no requant parameters are provably
///   safe.
IntegerNetwork integerize(const Graph& canonical, const RangeLookup& ranges,
                          const IntegerizeOptions& options);

/// Why each node that cannot be lowered cannot; empty when all can. Needs no calibration.
/// \throws Error{not_integer} where `options.precision` asks for widths that the target lacks.
std::vector<NotInteger> explain_refusals(const Graph& canonical, const IntegerizeOptions& options);

/// A lowering rule as `waveq passes` lists it.
struct LoweringInfo {
  std::string op, formula, source;
};
std::vector<LoweringInfo> lowering_rules();

}  // namespace waveq
