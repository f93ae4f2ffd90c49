#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/calibration/observer.h"
#include "waveq/calibration/statistics.h"

namespace waveq {

/// What calibration knows about one tensor.
struct TensorCalibration {
  TensorStatistics
      statistics;        ///< empty for a tensor that was entered by hand, with a pinned range
  Range range;           ///< chosen by `observer`, or by the user
  std::string observer;  ///< as to_string(ObserverSpec) spells it
  bool pinned = false;   ///< the user set `range`: recomputing and merging leave it alone
  /// Mean for each index of `channel_axis` over some samples, where it was asked for; else empty.
  std::vector<double> means = {};
  std::size_t channel_axis = 0;
  friend bool operator==(const TensorCalibration&, const TensorCalibration&) = default;
};

/// The result of calibration, and all that later passes know about the data: from here on the same
/// model gives the same integers on every host. A text file, meant to be read and edited: to fix a
/// range, change "range" and add "pinned": true to the tensor's line.
///
/// The file is JSON with one line a tensor, in order of names, numbers in shortest round-trip form:
///   {"range": [lo, hi], "observer": "mse", "pinned": true (absent for false),
///    "channel_axis": a, "means": [m0, ...] (where there are some),
///    "min": m, "max": M, "near_zero": n, "positive": "...", "negative": "..."}
/// where positive and negative are the histogram's bins from the smallest magnitude up: base64 of
/// little-endian base-128 numbers, a count each; a 0 is followed by the length of the run of empty
/// bins it stands for. The largest magnitude of min and max fixes the bins' edges
/// (TensorStatistics). "equalization", where there is one, maps tensors to lists of factors.
struct CalibrationTable {
  std::string model;  ///< name of the network
  std::string
      fingerprint;  ///< of the network that was run (fingerprint()); tables merge where it agrees
  std::string version;        ///< of the waveq that calibrated
  std::uint64_t samples = 0;  ///< observed, all shards together
  ObserverSpec observer;      ///< of all ranges that are not pinned
  QuantSpec quant;            ///< the levels those ranges were chosen for
  std::map<std::string, TensorCalibration, std::less<>> tensors;  ///< by the tensor's name
  /// Factors by which channels of tensors were multiplied before anything was measured, positive;
  /// part of what the statistics are about.
  std::map<std::string, std::vector<double>, std::less<>> equalization;

  friend bool operator==(const CalibrationTable&, const CalibrationTable&) = default;

  /// nullptr where there is no such tensor.
  const TensorCalibration* find(std::string_view tensor) const;
  /// Range for a grid of these levels: the pinned one, else the observer's choice.
  /// \throws Error{data} naming a tensor that was not observed.
  Range range(std::string_view tensor, const ObserverSpec& by, const QuantSpec& levels) const;
  Range range(std::string_view tensor) const;  ///< as stored
  /// Chooses all ranges anew, pinned ones apart. The result does not depend on `threads`.
  void choose_ranges(const ObserverSpec& by, const QuantSpec& levels = {}, int threads = 1);

  std::string to_text() const;
  /// \throws Error{parse} naming `where` and the tensor for anything that is not a consistent
  /// table.
  static CalibrationTable from_text(std::string_view text, const std::string& where);
  void save(const std::filesystem::path& path) const;               ///< \throws Error{io}
  static CalibrationTable load(const std::filesystem::path& path);  ///< \throws Error{io, parse}
};

/// Joins two shards: the same bytes as one calibration over both data sets.
/// A range pinned in one of them stays; the others are chosen anew from the joint statistics.
/// \throws Error{data} where they are from different networks, tensors or observers, or pin
/// different ranges for
///   one tensor.
CalibrationTable merge(const CalibrationTable& a, const CalibrationTable& b);

}  // namespace waveq
