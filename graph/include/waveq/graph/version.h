#pragma once

namespace waveq {

/// Version of this library and tool; CMakeLists.txt checks that it is that of project().
inline constexpr const char* kVersion = "0.1.0";

}  // namespace waveq
