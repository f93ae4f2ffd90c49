#pragma once

#include "waveq/calibration/observer.h"

/// Observers by name; each stands in a file of its own and has a row in registry.cpp.
/// All of them are called with at least one value observed.
namespace waveq::observers_detail {

/// [min, max], both times `factor`.
Range min_max(const TensorStatistics& s, double factor);

/// Clips |x| at its `percent`-th percentile, interpolated within the bin. One limit for both signs,
/// as the grid is symmetric. A tensor of which that share is (nearly) zero keeps its full range:
/// clipping it to nothing would delete it.
Range percentile(const TensorStatistics& s, double percent);

/// The clip limit c with the least expected squared error under `spec`, out of
/// c = max|x| * 2^(-k/16), k = 0..128, the largest such c on ties.
Range mse(const TensorStatistics& s, const QuantSpec& spec);

/// Greedy search for the least squared error that moves each end of the range by itself: both ends
/// step inwards by 1e-5 of the values, the step that gives up the longer piece of range is taken,
/// and the search ends where the error grows.
Range histogram(const TensorStatistics& s, const QuantSpec& spec);

/// The observed range cut to [-limit, limit].
Range clipped(const TensorStatistics& s, double limit);

}  // namespace waveq::observers_detail
