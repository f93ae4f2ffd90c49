#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "waveq/rewrites/patch.h"
#include "waveq/rewrites/pattern.h"

namespace waveq {

/// What a rule promises about the numbers; the test helper holds it to that.
enum class Effect {
  exact,         ///< every element is the same float (a zero may change its sign)
  reassociates,  ///< the same real function, other float roundings
  approximates,  ///< another function, within a stated budget
};
std::string_view to_string(Effect effect);

/// When a rule has its turn: no node sees a later stage while an earlier one still has work
/// anywhere.
enum class Stage {
  clean,  ///< spelling: constants, no-ops, canonical forms of single nodes
  fuse,   ///< several nodes that spell one operator
  fold,   ///< arithmetic into weights, operators to better places
};

/// A rewrite: a pattern, and what to put in its place.
struct Rule {
  std::string name;               ///< verb_object, as on the command line
  std::string formula;            ///< left side = right side
  Effect effect = Effect::exact;  ///< on the numbers, as `waveq passes` prints it
  std::string source;             ///< where the identity or the operator's definition comes from
  Stage stage = Stage::clean;     ///< when it has its turn
  Pat root = any_node();          ///< what the node must look like
  std::function<Outcome(const Match&, Patch&)> apply;
};

}  // namespace waveq
