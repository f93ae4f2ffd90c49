#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "waveq/graph/graph.h"

/// Deeploy's Quant and Dequant, the borders between float32 and integers.
namespace waveq {

/// How a graph names QONNX's operator Quant, which has its parameters as inputs; files say Quant.
inline constexpr std::string_view kQonnxQuant = "QonnxQuant";

/// An attribute of a Quant whose integers are float32, as the file of an integer network has them
/// until to_integer_network.
inline constexpr std::string_view kSpelledAsFloat = "waveq_spelled_as_float";

/// Parameters of a Quant. The target's kernel knows `scale` alone; the spelled-out chain
/// Div-Add-Round-Clip divides, and clips at its own bounds.
struct QuantParameters {
  double scale = 1, zero_point = 0;    ///< x*scale + zero_point is rounded
  std::optional<double> divisor = {};  ///< the chain's; present: as ONNX spells it
  std::int64_t lo = -128, hi = 127;    ///< integers that come out

  /// int8 or uint8, int16 or uint16: the smallest that holds lo..hi.
  DType storage() const;
};

/// Attributes scale, zero_point, bit_width (1..16) and signed (default 1); `divisor` marks what was
/// read from a chain, with min_val and max_val. \throws Error{parse} naming the attribute.
QuantParameters read_quant_parameters(const Attrs& attrs);

/// As Deeploy's kernel: clip(trunc(h(f(f(x * scale) + zero_point)))), where f rounds to float32 and
/// h adds 0.5 with the sign of its argument, in float32 too: ties go away from zero, and so does
/// the largest float32 below 0.5. Source: Deeploy Generic/Templates/QuantTemplate.py.
/// With a divisor: clip(rint(x / divisor + zero_point)), each step in float32, ties to even.
/// Source: ONNX Div-7, Add-7, Round-11, Clip-11.
/// Nothing where the kernel's conversion to int32 is undefined: NaN, and what leaves int32 (with a
/// divisor: NaN alone).
std::optional<std::int32_t> quantize(float x, const QuantParameters& q);

/// f(f(x - zero_point) * scale), where f rounds to float32. Source: Deeploy
/// Generic/Templates/DequantTemplate.py, which equals ONNX Sub-7 and Mul-7 for |x| <= 2^24.
float dequantize(std::int64_t x, double scale, double zero_point);

/// Replaces spelled-out chains, as Deeploy's passes do: Div-Add-Round-Clip with one constant
/// divisor and zero point by Quant, with the chain's numbers in `divisor`, `min_val` and `max_val`;
/// Sub-Mul with one constant each by Dequant, unless both are integral, which integers compute as
/// well. What is read elsewhere too stays. Returns how many chains there were; values in the middle
/// of one are gone. Source: Deeploy Generic/TopologyOptimizationPasses/Passes.py.
std::size_t merge_quantizers(Graph& graph);

}  // namespace waveq
