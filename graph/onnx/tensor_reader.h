#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <optional>
#include <string>

#include "waveq/graph/tensor.h"

namespace waveq {

/// Folder of the model, in which external data must lie; nothing for models in memory.
using BaseDir = std::optional<std::filesystem::path>;

/// Storage of an ONNX element type (TensorProto::DataType, numbers newer than the schema included).
/// \throws Error{unsupported} for strings, complex and 8-bit floats, Error{parse} for no type at
/// all.
DType dtype_from_onnx(std::int32_t data_type, const std::string& where);

/// The element type of the values that waveq keeps of type `data_type`, e.g. FLOAT for FLOAT16.
/// \throws as dtype_from_onnx.
std::int32_t kept_onnx_type(std::int32_t data_type, const std::string& where);

/// Contents of a TensorProto in any of its encodings. Sizes are checked before memory is taken.
/// \throws Error{parse|unsupported|io}.
Tensor read_tensor(const onnx::TensorProto& proto, const std::string& where,
                   const BaseDir& base_dir);

}  // namespace waveq
