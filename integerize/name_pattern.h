#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "waveq/graph/graph.h"

namespace waveq {

/// Whether the whole text matches; `*` takes any text, `?` any one character.
bool matches_glob(std::string_view pattern, std::string_view text);

/// How closely a rule of a recipe names a tensor; 0: not at all. The closest rule counts.
///   "/layers.0/attn/Div"   the tensor, the node that makes it, or the user's node that came from
///   "/layers.0/*"          every one so named; a longer pattern is closer, a full name closest
///   "op:Div"               every tensor that this operator makes; the least close
std::size_t closeness(std::string_view rule, const Graph& graph, const Value& value);

}  // namespace waveq
