#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace waveq {

/// Histogram bins as text and back (calibration_table.h states the form). Trailing empty bins are
/// left out.
std::string bins_to_text(const std::vector<std::uint64_t>& bins);
/// At most `limit` bins. \throws Error{parse} at `where`.
std::vector<std::uint64_t> bins_from_text(std::string_view text, std::size_t limit,
                                          const std::string& where);

}  // namespace waveq
