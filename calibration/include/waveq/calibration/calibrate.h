#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "waveq/calibration/calibration_table.h"
#include "waveq/calibration/dataset.h"
#include "waveq/graph/graph.h"

namespace waveq {

struct CalibrateOptions {
  int threads = 1;             ///< 0: as many as the machine has
  ObserverSpec observer = {};  ///< picks the stored ranges
  QuantSpec quant = {};        ///< levels the stored ranges are chosen for
  /// Called after each sample, by one thread at a time: samples done, samples in all (0 while a
  /// stream has not told how many it has). May throw: calibration then ends with that exception.
  std::function<void(std::uint64_t, std::uint64_t)> progress = {};
  /// Tensors to observe; all float tensors where empty.
  std::function<bool(const Value&)> filter = {};
};

/// Runs a float network on every sample, from the first on, and records every float32 value of its
/// inputs and node outputs. One executor and one set of statistics a thread: memory does not depend
/// on the number of samples, and the table not on the number of threads. \throws Error{data} for
/// unusable data (SampleSource), and where a tensor becomes NaN or infinite,
///   naming tensor and sample; errors of operators, with the sample named. Among several failing
///   samples the first one is reported.
CalibrationTable calibrate(const Graph& graph, SampleSource& data,
                           const CalibrateOptions& options = {});

/// 16 hex digits over the network's structure, attributes and weights: equal for equal networks.
/// Not cryptographic (FNV-1a, 64 bit).
std::string fingerprint(const Graph& graph);

}  // namespace waveq
