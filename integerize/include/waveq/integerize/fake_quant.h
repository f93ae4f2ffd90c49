#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/quantizers/range.h"

namespace waveq {

/// The grid that a model rounds a float tensor to: real = scale * k for integers k in lo..hi, the
/// zero point already subtracted.
struct TensorGrid {
  double scale = 1.0;                ///< > 0
  std::int64_t lo = -128, hi = 127;  ///< lo <= 0 <= hi

  Range range() const { return {scale * static_cast<double>(lo), scale * static_cast<double>(hi)}; }
  /// Levels of the smallest grid with zero point 0 and this scale that holds all of lo..hi, or,
  /// for an unsigned one, of 0..hi; 256 where that is more.
  std::int64_t n_levels(bool is_signed) const;
  /// Has at most 256 levels, but not such that 8 bits hold them with zero point 0.
  bool needs_zero_point() const;
  friend bool operator==(const TensorGrid&, const TensorGrid&) = default;
};

/// What a model that was quantized by another tool says about its tensors.
struct FakeQuantization {
  std::map<std::string, TensorGrid> tensors;  ///< by the name of the float tensor
  bool weights = false;                       ///< some constants are on integer grids
  std::vector<std::string> notes;             ///< grids that are not kept, and why
  /// The network with its roundings in place, as QuantizeLinear, Clip and DequantizeLinear; not
  /// set where it has none.
  std::optional<Graph> reference;
};

/// Takes the roundings of a quantized model out of it and says which they were: QuantizeLinear
/// (Clip) DequantizeLinear as PyTorch, ONNX Runtime, TensorFlow (tf2onnx) and Brevitas (QCDQ) write
/// them, and QONNX's Quant. Constants become what they are rounded to, in float32. What rounds in
/// any other way (a scale computed at run time, unequal scales) stays in the graph, where lowering
/// names it. \throws Error{unsupported} for QONNX's BipolarQuant and Trunc and for a Quant whose
/// parameters are computed, of more than 16 bits or that does not round to nearest.
/// Source: ONNX QuantizeLinear-10, 13; QONNX operator definition of Quant.
FakeQuantization take_out_fake_quantization(Graph& graph);

}  // namespace waveq
