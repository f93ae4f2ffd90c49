#pragma once

#include <map>
#include <string>
#include <vector>

#include "waveq/calibration/dataset.h"
#include "waveq/graph/graph.h"

namespace waveq {

/// Tensors [1,C,...] of a float network, by name, and a positive factor for each of their channels.
using ChannelFactors = std::map<std::string, std::vector<double>, std::less<>>;

/// Factors for the features of linear attentions num/den with num = Q.(K^T V), den = Q.mean(K):
/// feature j of K times c_j and feature j of Q divided by it leave both as they are, and K =
/// ReLU(k) and Q = ReLU(q) let the factors go into the weights. One 8-bit scale then serves all
/// rows of K^T V and of mean(K) well, where untouched the largest row leaves the others a few
/// codes.
///
/// c_j = (1/max|row j of K^T V|)^p with the p of {0, 1/4, 1/2, 3/4, 1} for which the rounding of
/// K^T V, Q and mean(K) is estimated to cost num and den least; means of squares and extremes are
/// measured on the first `samples` samples. Attentions for which p = 0 is best, and those written
/// otherwise, get none. Source: equalization as in Nagel et al. 2019 (arXiv:1906.04721), 4.1, here
/// across a product of two activations.
ChannelFactors choose_equalization(const Graph& canonical, SampleSource& data, std::size_t samples);

/// Puts a product with the factors behind each of the tensors.
/// \throws Error{data} for a tensor that the graph does not have, or of another number of channels.
void apply_equalization(Graph& graph, const ChannelFactors& factors);

}  // namespace waveq
