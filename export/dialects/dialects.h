#pragma once

#include "waveq/export/target.h"
#include "waveq/integerize/pipeline.h"

namespace waveq {

TargetProfile deeploy_generic();  ///< deeploy_generic.cpp
TargetProfile onnx_standard();    ///< onnx_standard.cpp

/// Inputs and outputs in graph order, with their integer dtypes, and every node's output by name.
TargetFiles integer_files(const TargetProfile& profile, const QuantizeResult& result);

}  // namespace waveq
