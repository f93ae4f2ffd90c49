#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "waveq/graph/graph.h"

namespace waveq {

/// The values that these rules (IntegerizeOptions::precision) give 16 bits. Rules name nodes as
/// `closeness` has it. What no rule matches has 16 bits where it is in `otherwise`.
/// \throws Error{invalid_argument} for a rule that matches nothing, naming it.
std::set<ValueId> values_of_16_bits(const Graph& graph,
                                    const std::map<std::string, std::int64_t>& rules,
                                    std::set<ValueId> otherwise = {});

class UnaryChains;

/// What a target with 16-bit sums and products gives 16 bits by itself: the terms of sums of two
/// activations that nothing else reads, whose requants are there for the common scale alone; and
/// what no nonlinearity has bounded (inputs of the network, such sums and products, means, results
/// of linear nodes and of products of matrices; residual streams, gated ones, linear bottlenecks,
/// the K^T V and mean of K of linear attention), constant factors and terms
/// behind them included, where nothing reads them but sums, products, maxima of windows,
/// normalizations and linear nodes whose accumulators have the bits to spare; and what a
/// LayerNormalization reads, clipped or not. Not what is a table of one value.
std::set<ValueId> values_of_streams(const Graph& graph, const UnaryChains& tables);

/// x and its maximum where the distance between them is all that is read, the argument of an
/// exponential, and what x is the sum of. Source: integer-approximations.md 10.6.
std::set<ValueId> values_of_distances(const Graph& graph);

/// What these rules (IntegerizeOptions::weight_levels_of) say of nodes with constant weights, by
/// what they make. \throws as above.
std::map<ValueId, std::int64_t> weight_levels_by_rule(
    const Graph& graph, const std::map<std::string, std::int64_t>& rules);

}  // namespace waveq
