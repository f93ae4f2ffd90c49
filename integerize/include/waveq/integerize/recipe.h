#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/tensor.h"

namespace waveq {

/// How the range of a tensor differs from what the recipe says for all.
struct RangeChoice {
  std::string observer;  ///< empty: the recipe's
  double scale = 1;      ///< the observed range times this; 1/64..64
  friend bool operator==(const RangeChoice&, const RangeChoice&) = default;
};

/// Every choice that decides what `quantize` writes. A resolved recipe is written back as
/// recipe.toml; model + data + recipe give the same bytes anywhere. Threads and paths are not in
/// it: they change nothing.
struct Recipe {
  std::string target = "deeploy-generic";     ///< a name from `waveq targets`
  std::map<std::string, Shape> input_shapes;  ///< closes open dimensions of the model's inputs
  std::vector<std::string> passes;            ///< rewrite rules to use; empty: all

  std::string observer = "mse";  ///< how ranges follow from statistics: a name from `waveq passes`,
                                 ///< or "percentile:99.9"

  /// For single tensors, by the name of the tensor or of its node in the canonical graph, a pattern
  /// with `*` and `?`, or "op:Div"; the closest one counts: a name before a pattern, a longer
  /// pattern before a shorter one, any before an operator.
  std::map<std::string, RangeChoice> ranges;

  std::string quantizer = "symmetric";   ///< a name from quantizers/registry.cpp
  std::int64_t activation_levels = 256;  ///< 2..256
  std::int64_t weight_levels = 256;      ///< 3..256
  bool per_channel_weights = true;       ///< one weight scale per output channel
  bool equalize = true;                  ///< features of linear attentions, see equalize.h
  std::string softmax = "auto";  ///< "auto", "ibert", "quantlib", "itamax" or "lut"
  /// Bits of the tensors that nodes make: see IntegerizeOptions::precision.
  std::map<std::string, std::int64_t> precision;
  /// Levels of the weights of single nodes: see IntegerizeOptions::weight_levels_of.
  std::map<std::string, std::int64_t> weight_levels_of;
  bool own_mean_scale = true;  ///< this and the next seven: see IntegerizeOptions
  bool join_sums = true;
  bool correct_biases = true;
  bool zero_points = true;
  bool fitted_gelu = true;
  bool effective_scales = true;
  bool exact_multipliers = true;
  bool merge_requants = true;
  std::int64_t requant_bits = 32;  ///< width of the requant's product on the target, 16..32
  std::int64_t max_shift = 24;     ///< largest requant shift, 1..31

  std::uint64_t seed = 1;  ///< of everything drawn at random

  /// How --eval is judged: "top1" (integer labels), or a name of metric.h: "cer", "wer", "si-sdr".
  std::string metric = "top1";

  // Gates: `quantize` ends with exit code 5 where one is missed. 0: not asked for.
  double min_sqnr_db = 0;    ///< of the outputs, pooled
  double min_agreement = 0;  ///< 0..1
  double max_top1_drop = 0;  ///< in points (percent); of si-sdr in dB, of an error rate the rise

  friend bool operator==(const Recipe&, const Recipe&) = default;
};

/// The recipe that a name stands for: "default"; "accurate", which gives 16 bits to all tensors
/// that can have them, for target waveq unless another is named; or "quantlib", which leaves out
/// what waveq does beyond QuantLib's integerization: min-max ranges, D = 2^18 (less where the proof
/// asks for it), multipliers rounded as they come, 8 bits between any two requants, means in the
/// scale of their operand, I-BERT's constants for GELU. Nothing for another name. Source:
/// deeploy-dialect.md 11.
std::optional<Recipe> preset_recipe(std::string_view name);

/// Reads a TOML text. \throws Error{parse} with file and line; Error{invalid_argument} for an
/// unknown key, naming the nearest ones, or a value outside its range.
Recipe parse_recipe(std::string_view toml, const std::string& file_name);
/// A file, or the name of a preset. A file's key `preset` says what its other keys change.
Recipe load_recipe(const std::filesystem::path& path);
/// \throws Error{invalid_argument} for a value outside its range.
void check_recipe(const Recipe& recipe);

/// Every key with its value and a comment, in fixed order; parse_recipe reads it back to an equal
/// recipe.
std::string to_toml(const Recipe& recipe);

}  // namespace waveq
