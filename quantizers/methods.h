#pragma once

#include "waveq/quantizers/quantizer.h"

/// Quantizers by name; each stands in a file of its own and has a row in registry.cpp.
namespace waveq::methods {

/// choose_params().
QuantParams symmetric(Range range, const QuantSpec& spec);
/// symmetric() with the scale raised to the next power of two, so that rescaling is a shift.
QuantParams symmetric_pow2(Range range, const QuantSpec& spec);

}  // namespace waveq::methods
