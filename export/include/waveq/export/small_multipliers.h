#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "waveq/integerize/pipeline.h"

namespace waveq {

/// A requant with a multiplier below this rounds a channel's factor by more than 1/2^8.
inline constexpr std::int64_t kSmallMultiplier = 128;

/// A requant with such a multiplier, and what keeps it from one of twice the size.
struct SmallMultiplier {
  std::string node, origin;  ///< of the requant; the user's node that it came from
  std::int64_t mul = 0;      ///< the smallest magnitude among its channels
  std::string reason;        ///< the limit that twice the multiplier would break, with figures
};

/// All of a network, in topological order. Multipliers that are exact (a weight scale was stretched
/// to them) are listed, too: they leave weights fewer levels.
std::vector<SmallMultiplier> small_multipliers(const QuantizeResult& result);

}  // namespace waveq
