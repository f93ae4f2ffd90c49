#pragma once

#include <vector>

#include "waveq/rewrites/rule.h"

namespace waveq {

/// Every float-to-float rule, in order of priority; registry.cpp describes the form they lead to.
const std::vector<Rule>& all_rules();

/// A rule by name. \throws Error{invalid_argument} listing the valid names.
const Rule& find_rule(std::string_view name);

}  // namespace waveq
