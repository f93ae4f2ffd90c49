#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "waveq/graph/graph.h"

namespace waveq {

/// The values that these rules (IntegerizeOptions::precision) give 16 bits.
///   "/layers.0/attn/Div"   this node, also by the name of the tensor it makes (or of an input)
///   "/layers.0/*"          every node so named: `*` is any text, `?` any one character
///   "op:Div"               every node of this operator
/// \throws Error{invalid_argument} for a rule that matches nothing, naming it.
std::set<ValueId> values_of_16_bits(const Graph& graph,
                                    const std::map<std::string, std::int64_t>& rules);

}  // namespace waveq
