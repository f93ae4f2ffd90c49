#pragma once

#include <filesystem>
#include <optional>

namespace waveq::test {

/// Path below the shared folder (models/, vectors/), or nothing, with a message on stdout, where it
/// is absent. Usage: `const auto dir = shared("models/waveformer_kws_fsdd"); if (!dir) return;`
std::optional<std::filesystem::path> shared(const std::filesystem::path& below);

/// A fresh empty folder below the system's temporary folder, removed at process exit.
std::filesystem::path scratch_dir();

}  // namespace waveq::test
