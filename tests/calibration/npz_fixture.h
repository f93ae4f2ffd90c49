#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "shared_data.h"
#include "waveq/graph/npz.h"

namespace waveq::test {

/// A fresh .npz file with these arrays.
inline std::filesystem::path npz(const std::vector<std::pair<std::string, Tensor>>& arrays) {
  std::vector<NpzItem> items;
  for (const auto& [name, tensor] : arrays) items.push_back({name, &tensor});
  const std::filesystem::path path = scratch_dir() / "data.npz";
  write_npz(path, items);
  return path;
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace waveq::test
