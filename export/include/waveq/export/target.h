#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "waveq/graph/graph.h"
#include "waveq/integerize/integerize.h"

namespace waveq {

struct QuantizeResult;

/// An operator a target runs, with what it asks of it in words.
struct TargetOperator {
  std::string op;
  std::string accepts;  ///< signature and limits
};

/// Where a network breaks a rule of the target.
struct Finding {
  std::string node;     ///< name in the integer network
  std::string rule;     ///< short name of the broken rule
  std::string problem;  ///< what was found
};

/// What the files of a finished folder hold that depends on the target.
struct TargetFiles {
  std::string network;                                                       ///< network.onnx
  std::vector<std::pair<std::string, Tensor>> inputs, outputs, activations;  ///< the golden vectors
};

/// What rounds, wraps and saturates in an operator on a target.
struct ArithmeticRule {
  std::string op;       ///< one name, or several with commas where they are alike
  std::string meaning;  ///< which rounding, what wraps, what saturates
  std::string source;   ///< the target's kernel
  /// What the target does whatever a node says: attributes that it fixes, and those that it does
  /// not know, which leaves the evaluator's default.
  std::vector<std::pair<std::string, Attr>> fixed = {};
  std::vector<std::string> unknown = {};
};

/// A target as data: what it accepts and how its files look.
struct TargetProfile {
  std::string name;                        ///< as --target takes it
  std::string summary;                     ///< one line for `waveq targets`
  std::string source;                      ///< where the facts come from
  std::int64_t opset = 10;                 ///< of the written file
  std::string dialect_domain;              ///< of the integer dialect's operators
  std::vector<TargetOperator> operators;   ///< all that it runs
  std::vector<ArithmeticRule> arithmetic;  ///< of operators whose arithmetic is the target's own
  /// What the lowering may use and must observe; abilities() adds the names.
  TargetAbilities lowering;
  /// Instead: targets whose integers this one spells anew, of the first that runs the network.
  std::vector<const char*> integers_of;
  std::vector<std::string> limits;  ///< rules that hold for the whole network, in words
  /// All broken rules, in topological order.
  std::vector<Finding> (*check)(const TargetProfile&, const Graph&);
  /// The integer network's file in the target's dialect. \throws Error of the ONNX writer.
  std::string (*to_file)(const TargetProfile&, const Graph&);
  /// Network and golden vectors of one sample, in the form the target's users read.
  /// \throws Error of the ONNX writer.
  TargetFiles (*files)(const TargetProfile&, const QuantizeResult&);

  /// What lowering may use, for QuantizeJob::target.
  TargetAbilities abilities() const;
};

/// All targets, the default first.
const std::vector<TargetProfile>& targets();
/// \throws Error{invalid_argument} listing the names that exist.
const TargetProfile& find_target(std::string_view name);

/// The network with the target's arithmetic written into the attributes of its nodes: evaluated, it
/// gives what the target computes.
Graph as_computed_on(const TargetProfile& target, Graph graph);

}  // namespace waveq
