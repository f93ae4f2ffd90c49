#include "shared_data.h"

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <vector>

namespace waveq::test {

namespace fs = std::filesystem;

std::optional<fs::path> shared(const fs::path& below) {
  const fs::path path = fs::path(WAVEQ_SHARED_DIR) / below;
  if (fs::exists(path)) return path;
  std::cout << "skipped: " << path.string() << " is not here\n";
  return std::nullopt;
}

namespace {
struct Cleaner {
  std::vector<fs::path> dirs;
  ~Cleaner() {
    std::error_code ignored;
    for (const fs::path& d : dirs) fs::remove_all(d, ignored);
  }
};
}  // namespace

fs::path scratch_dir() {
  static Cleaner cleaner;
  std::string pattern = (fs::temp_directory_path() / "waveq-test-XXXXXX").string();
  if (!mkdtemp(pattern.data())) throw std::runtime_error("cannot make a temporary folder");
  cleaner.dirs.emplace_back(pattern);
  return pattern;
}

}  // namespace waveq::test
