#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "waveq/graph/graph.h"

namespace waveq {

/// The values that these rules (IntegerizeOptions::precision) give 16 bits. Rules name nodes as
/// `closeness` has it. \throws Error{invalid_argument} for a rule that matches nothing, naming it.
std::set<ValueId> values_of_16_bits(const Graph& graph,
                                    const std::map<std::string, std::int64_t>& rules);

/// What these rules (IntegerizeOptions::weight_levels_of) say of nodes with constant weights, by
/// what they make. \throws as above.
std::map<ValueId, std::int64_t> weight_levels_by_rule(
    const Graph& graph, const std::map<std::string, std::int64_t>& rules);

}  // namespace waveq
