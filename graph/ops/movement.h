#pragma once

#include <vector>

#include "waveq/graph/op.h"

namespace waveq::ops {

/// The members of the movement family that may make values their input does not contain: Pad, Cast,
/// Resize, Upsample (resampling.cpp).
std::vector<OpDef> resampling_ops();
/// DepthToSpace, SpaceToDepth (blocks.cpp).
std::vector<OpDef> block_ops();

}  // namespace waveq::ops
