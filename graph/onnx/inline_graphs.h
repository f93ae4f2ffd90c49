#pragma once

#include <onnx/onnx_pb.h>

#include <functional>
#include <optional>
#include <string>

namespace waveq {

/// Replaces each call of a model-local function by the function's nodes, the names inside prefixed
/// by the call's. A call stays as it is, for the reader to name, where the function imports another
/// operator set than the model, has a namesake, has fewer outputs, or says something that this
/// schema does not know (defaults of attributes). \throws Error{unsupported} for functions that
/// call themselves and for models that grow beyond a million nodes. Source: ONNX IR specification,
/// "Model local functions".
void inline_functions(onnx::ModelProto& model);

/// Whether a value of the model is true; nothing where that depends on the data.
using Condition = std::function<std::optional<bool>(const onnx::ModelProto&, const std::string&)>;

/// Replaces each If whose condition is known by the nodes of the branch taken. Source: ONNX If-1.
void inline_branches(onnx::ModelProto& model, const Condition& condition);

/// The part of a model that computes one value, with all of the model's inputs.
onnx::ModelProto part_that_computes(const onnx::ModelProto& model, const std::string& value);

}  // namespace waveq
