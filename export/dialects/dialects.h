#pragma once

#include "waveq/export/target.h"

namespace waveq {

TargetProfile deeploy_generic();  ///< deeploy_generic.cpp

}  // namespace waveq
