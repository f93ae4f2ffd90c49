#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "waveq/integerize/proof.h"

namespace waveq {

/// An unproven node that really leaves its type.
struct Wrap {
  std::string node, op;    ///< name and operator in the network
  std::size_t sample = 0;  ///< index into WitnessSearch::samples
  std::string what;        ///< the evaluator's words: element and value
};

/// Inputs of a network on which unproven nodes wrap.
struct WitnessSearch {
  std::vector<Wrap> wraps;                   ///< in topological order, one for each such node
  std::vector<std::vector<Tensor>> samples;  ///< each the network's inputs, in graph order
  std::size_t trials = 0;                    ///< inputs evaluated

  const Wrap* find(const std::string& node) const;
};

struct SearchOptions {
  std::size_t trials = 0;  ///< inputs to evaluate at most; 0: as many as take some seconds
  std::uint64_t seed = 0;  ///< of the random inputs
};

/// Looks for inputs that make the unproven nodes of `proof` wrap: random ones of several families
/// first (constant, uniform, Gaussian, impulses, square waves, ramps), then changes to those that
/// came closest. What it does not find may exist all the same. Every input is within its range
/// (BoundsAnalysis), every wrap is the evaluator's; the same options give the same result.
/// A node behind another one that wraps is judged on what it then reads, as on the target.
/// \throws Error{internal} where a proven node wraps: the proof would be wrong.
WitnessSearch search_wraps(const Graph& graph, const ProofReport& proof,
                           const SearchOptions& options = {});

}  // namespace waveq
