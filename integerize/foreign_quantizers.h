#pragma once

#include "waveq/graph/graph.h"

namespace waveq {

/// Brings what other tools write for quantization to QuantizeLinear, Clip and DequantizeLinear with
/// float operators between them:
/// - Quant and BipolarQuant of QONNX and Brevitas; constants become what they are rounded to;
/// - operators on integers with their scales as operands (QLinearConv, QLinearMatMul of the default
///   set; QGemm, QLinearAdd and their like of ONNX Runtime);
/// - data moved, or pooled by MaxPool, between QuantizeLinear and DequantizeLinear.
/// Returns whether constants were rounded. \throws Error{unsupported} for Trunc, for a Quant of
/// computed data whose parameters are computed, of more than 16 bits or that does not round to
/// nearest, and for a BipolarQuant of computed data.
/// Source: QONNX's definitions of Quant and BipolarQuant; ONNX QLinearConv-10, QLinearMatMul-10;
/// ONNX Runtime's contrib operators.
bool spell_quantizers(Graph& graph);

}  // namespace waveq
