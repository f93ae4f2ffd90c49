#pragma once

#include <onnx/onnx_pb.h>

#include <string>

#include "onnx/tensor_reader.h"
#include "waveq/graph/graph.h"

namespace waveq {

/// Attributes of a node. One that Attr cannot hold (subgraphs, lists of tensors, sparse tensors,
/// types, binary strings) becomes waveq_lost_<name> = what it was. \throws Error{parse} for
/// attributes without a name, doubled or referring to a function's parameters.
Attrs read_attributes(const onnx::NodeProto& node, const std::string& where,
                      const BaseDir& base_dir);

/// Whether `text` is valid UTF-8; names that are not would break every report later.
bool is_utf8(std::string_view text);

}  // namespace waveq
