#pragma once

#include "rules/polynomial.h"
#include "waveq/rewrites/patch.h"
#include "waveq/rewrites/pattern.h"

namespace waveq::rules {

/// Finds 0.5*x*(1 + f(argument(x))) at the root, in any arrangement of factors and terms, and puts
/// Gelu(x) with the given `approximate` in its place. f is the operator of one operand named.
Outcome fuse_gelu(const Match& m, Patch& patch, const std::string& f, const Polynomial& argument,
                  const std::string& approximate);

}  // namespace waveq::rules
