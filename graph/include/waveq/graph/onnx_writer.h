#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "waveq/graph/graph.h"

namespace waveq {

/// TensorProto.DataType of a dtype, as the attribute `to` of Cast counts.
std::int32_t onnx_type_code(DType dtype);

struct OnnxWriteOptions {
  /// Default operator set of the file, 7 or newer; 0: that of the graph, or the first newer one
  /// that has all of its operators.
  std::int64_t opset = 0;
  std::int64_t ir_version = 0;  ///< 4 or newer; 0: the one that was released with the operator set
  /// Domain of dialect operators (OpDef::dialect), e.g. "PACTOps"; imported as version 1 where one
  /// occurs.
  std::string domain_for_dialect;
  /// Integers travel as float32: integer inputs, outputs, constants and tensor attributes are
  /// written as FLOAT. Shapes, axes, indices and the like (Reshape's second input, ...) stay
  /// integers.
  bool integers_as_float = false;
  bool value_info = true;          ///< types of all intermediate values
  std::string producer = "waveq";  ///< producer_name of the file
};

/// Serializes a graph; the bytes depend on the graph and the options alone. Parameters that moved
/// between attributes and inputs (axes, pads, ...) take the form of the written operator set.
/// \throws Error{unsupported} for what that set cannot express, for integers that float32 does not
/// hold exactly, and for operators of which the reader could not keep everything (waveq_lost_*);
/// Error{invalid_argument} for impossible options.
std::string to_onnx_bytes(const Graph& graph, const OnnxWriteOptions& options = {});

/// As above, into a file that appears as a whole or not at all. \throws Error{io} too.
void write_onnx(const std::filesystem::path& path, const Graph& graph,
                const OnnxWriteOptions& options = {});

}  // namespace waveq
