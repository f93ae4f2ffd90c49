#pragma once

#include <map>
#include <string>

#include "waveq/graph/graph.h"
#include "waveq/integerize/integerize.h"

namespace waveq {

/// A range that is another tensor's, moved: [lo - most, hi - least].
struct DerivedRange {
  std::string tensor;
  double least = 0, most = 0;  ///< of what is subtracted from it
};

/// A network in the forms that a target's kernels take, and what is known of its new tensors.
struct ShapedNetwork {
  Graph graph;
  std::map<std::string, DerivedRange> ranges;  ///< of new tensors, by name
  std::map<std::string, std::string> turned;   ///< columns -> the tensor of rows that they are
};

/// Whether the target asks for any of its float_forms().
bool asks_for_shape(const TargetAbilities& target);

/// The network in other float operators, where the target's kernels ask for them (TargetForm,
/// TargetAbilities::operators):
///   without_row_means: LayerNormalization as RMSNormalization of centred rows;
///   rows_as_channels: products of rows with constant weights as 1x1 convolutions.
/// Tensors that remain keep their names, graph inputs and outputs among them.
ShapedNetwork shape_for_target(const Graph& canonical, const RangeLookup& ranges,
                               const IntegerizeOptions& options);

/// LN(x, g, b) = RMSNormalization(x', g) + b, where the target has iRMSNorm and no iLayerNorm. x'
/// is x where x has no mean by construction (center_norm_input saw to it), else x.(I - 1/N), a
/// linear node more. The kernel rounds down, by half a step s on average: its result counts as
/// g*x'/rms - s/2, and s/2 goes with the bias, into the next linear nodes where they alone read it.
/// The node's attribute waveq_scale holds s. A RMSNormalization that was spelled as
/// LN([x, -x], [g, g]) is one again. Source: LN(x) = RMSNorm(x - mean(x)), Zhang and Sennrich 2019
/// (arXiv:1910.07467), 3; Deeploy PULPOpen iRMSNorm.
void without_row_means(ShapedNetwork& network, const RangeLookup& ranges,
                       const IntegerizeOptions& options);

/// y = x.W + b for R rows x [..., K] = Transpose of the 1x1 Conv of the transposed rows [1,K,R]
/// with W^T: weights get a scale for each output, the bias goes into the requant's add. Functions
/// of single elements and sums behind follow, so that their requants stay right behind. Source:
/// deeploy-dialect.md T9, T15.
void rows_as_channels(ShapedNetwork& network);

}  // namespace waveq
