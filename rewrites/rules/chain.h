#pragma once

#include <functional>
#include <string>

#include "waveq/rewrites/patch.h"
#include "waveq/rewrites/pattern.h"

namespace waveq::rules {

/// (x op c1) op c2  =>  x op f(c1, c2), both constants on either side.
Outcome fold_chain(const Match& m, Patch& patch, const std::function<double(double, double)>& f);

}  // namespace waveq::rules
