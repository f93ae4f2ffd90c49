#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "waveq/graph/error.h"

namespace waveq {

[[noreturn]] inline void io_failure(const std::filesystem::path& path, const std::string& what, const std::error_code& error) {
  throw Error(ErrorCode::io, path.string(), what + ": " + error.message(), "check that the folder exists and may be written");
}

/// A folder that vanishes unless it is put in place.
class Staging {
 public:
  explicit Staging(const std::filesystem::path& target) : target_(target), path_(target.string() + fmt::format(".tmp-{}", getpid())) {
    std::error_code error;
    if (target.has_parent_path()) std::filesystem::create_directories(target.parent_path(), error);
    if (error) io_failure(target.parent_path(), "cannot make the folder", error);
    std::filesystem::remove_all(path_, error);
    if (!std::filesystem::create_directory(path_, error) || error) io_failure(path_, "cannot make the folder", error);
  }
  ~Staging() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Puts the folder in place of the target in one step; an old target ends up here and goes with us.
  void commit() {
    std::error_code error;
    if (!std::filesystem::exists(target_)) {
      std::filesystem::rename(path_, target_, error);
      if (error) io_failure(target_, "cannot put the finished folder in place", error);
      return;
    }
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) return;
    // A file system without exchange: the old folder steps aside first.
    const std::filesystem::path aside = path_.string() + ".old";
    std::filesystem::rename(target_, aside, error);
    if (error) io_failure(target_, "cannot replace the old folder", error);
    std::filesystem::rename(path_, target_, error);
    if (error) {
      std::error_code ignored;
      std::filesystem::rename(aside, target_, ignored);
      io_failure(target_, "cannot put the finished folder in place", error);
    }
    std::filesystem::remove_all(aside, error);
  }

 private:
  std::filesystem::path target_, path_;
};

}  // namespace waveq
