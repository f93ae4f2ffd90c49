#pragma once

#include <cstddef>

#include "waveq/calibration/calibration_table.h"
#include "waveq/calibration/dataset.h"
#include "waveq/graph/graph.h"

namespace waveq {

/// Writes into the table the mean of each channel, over the first `samples` samples, of every
/// tensor that constant weights multiply: along axis 1 for Conv, the last one for Gemm and MatMul.
/// Operands of sums are measured too, as of a Conv: join_sums may hand them to one. Tensors that
/// the table does not have are left out. \throws Error of the data and of evaluation.
void measure_means(const Graph& canonical, SampleSource& data, std::size_t samples,
                   CalibrationTable& table);

}  // namespace waveq
