#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "waveq/graph/graph.h"

namespace waveq {

/// An exact rewriting of an integer network into what a target's kernels take: every tensor that
/// keeps its name keeps its integers.
struct Legalization {
  std::string name;     ///< verb_object
  std::string formula;  ///< left side = right side
  std::string reason;   ///< what the target lacks, with the source
  void (*apply)(Graph&) = nullptr;
};

/// What a target's kernels ask of the form of an integer network; part of its profile.
struct TargetForm {
  /// Products and sums of two activations, means and explicit padding take int8 only: a tensor
  /// behind a ReLU is clipped by an unsigned requant, and a second one makes it signed.
  bool int8_operands = false;
  /// Gemm keeps no bias: it is in the requant's add, as for Conv.
  bool gemm_bias_in_requant = false;
  /// Products of rows with constant weights are 1x1 convolutions of the transposed rows: kernels of
  /// Gemm have no scale for each output, or are wrong at some sizes.
  bool rows_as_channels = false;
  /// Rows of iRMSNorm have a multiple of this many elements.
  std::int64_t norm_row_multiple = 1;
  /// In this order, behind the lowering.
  std::vector<Legalization> legalizations;
};

}  // namespace waveq
