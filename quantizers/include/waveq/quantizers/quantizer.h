#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "waveq/graph/quant.h"
#include "waveq/quantizers/range.h"

namespace waveq {

enum class Signedness {
  automatic,  ///< unsigned where the range has no negative part
  signed_,    ///< always signed
  unsigned_,  ///< always unsigned: the negative part of the range is clipped to 0 (fused ReLU)
  affine,     ///< unsigned, with a zero point where the range has a negative part
};

/// "automatic", "signed", "unsigned", "affine".
std::string_view to_string(Signedness signedness);
/// \throws Error{invalid_argument} for any other word.
Signedness signedness_from(std::string_view word);

/// What is asked of a quantizer, apart from the range.
struct QuantSpec {
  std::int64_t n_levels = 256;                    ///< 2..65536
  Signedness signedness = Signedness::automatic;  ///< of the grid
  friend bool operator==(const QuantSpec&, const QuantSpec&) = default;
};

/// Maps a range to the meaning of integers.
using Quantizer = std::function<QuantParams(Range, const QuantSpec&)>;

/// The default quantizer, "symmetric": zero point 0 and the smallest scale at which both ends of
/// the range are representable without clipping,
///   signed:   scale = max(-lo / (n/2), hi / ((n+1)/2 - 1))
///   unsigned: scale = hi / (n-1)
///   affine:   scale = (hi - lo) / (n-1), zero_point = round(-lo / scale), with 0 inside [lo, hi]
/// in double. Both signed limits count because the grid has one more negative step than positive
/// ones. Unsigned iff the spec allows it and lo >= 0. Where the range holds nothing that float32
/// tells from zero (every magnitude below its smallest normal number, 2^-126) the scale is 1: all
/// codes are then 0, and a scale of some 1e-40 would only make the ratios of later requants absurd.
/// \throws Error{data} for a non-finite end or lo > hi; Error{invalid_argument} for n_levels
/// outside 2..65536 and
///   for positive values on a signed grid of two levels, {-1, 0}.
/// Source: PULP-style z = 0 quantization (QuantLib PACT, NEMO).
QuantParams choose_params(Range range, const QuantSpec& spec = {});

/// A quantizer as listed and chosen by name.
struct QuantizerRow {
  std::string_view name;     ///< as in a recipe
  std::string_view summary;  ///< one line for `waveq passes`
  std::string_view source;   ///< where the method comes from
  Quantizer (*make)();
};

/// All quantizers, default first.
std::span<const QuantizerRow> quantizers();
/// \throws Error{invalid_argument} listing the names that exist.
Quantizer make_quantizer(std::string_view name);

}  // namespace waveq
