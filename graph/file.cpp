#include "waveq/graph/file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "waveq/graph/error.h"

namespace waveq {

namespace fs = std::filesystem;

namespace {

struct Closer {
  void operator()(std::FILE* f) const { std::fclose(f); }
};
using File = std::unique_ptr<std::FILE, Closer>;

[[noreturn]] void fail(const fs::path& path, std::string_view doing, int error) {
  throw Error(ErrorCode::io, path.string(),
              fmt::format("cannot {}: {}", doing, std::strerror(error)),
              error == ENOENT || error == ENOTDIR ? "check the path" : "");
}

/// fopen succeeds on a folder and leaves the error to the first read: said at once.
File open_to_read(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    throw Error(ErrorCode::io, path.string(), "is a folder", "name a file");
  File file(std::fopen(path.c_str(), "rb"));
  if (!file) fail(path, "open", errno);
  return file;
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t limit) {
  const File file = open_to_read(path);
  std::string bytes;
  std::error_code no_size;  // a pipe has none; it is read all the same
  const auto size = fs::file_size(path, no_size);
  if (!no_size && size <= limit) bytes.reserve(size);
  char chunk[1 << 16];
  while (const std::size_t n = std::fread(chunk, 1, sizeof chunk, file.get())) {
    if (bytes.size() + n > limit)
      throw Error(ErrorCode::io, path.string(), fmt::format("is larger than {} bytes", limit));
    bytes.append(chunk, n);
  }
  if (std::ferror(file.get())) fail(path, "read", errno);
  return bytes;
}

void read_file_range(const fs::path& path, std::uint64_t offset, std::span<std::byte> out) {
  const File file = open_to_read(path);
  std::error_code no_size;
  const auto size = fs::file_size(path, no_size);
  if (no_size) fail(path, "read", no_size.value());
  if (offset > size || out.size() > size - offset)
    throw Error(
        ErrorCode::io, path.string(),
        fmt::format("has {} bytes, but {} are wanted from offset {}", size, out.size(), offset),
        "the file is truncated or belongs to another model");
  if (out.empty()) return;
  if (fseeko(file.get(), static_cast<off_t>(offset), SEEK_SET) != 0) fail(path, "seek", errno);
  if (std::fread(out.data(), 1, out.size(), file.get()) != out.size()) fail(path, "read", errno);
}

fs::path replaceable_file(const fs::path& wanted) {
  std::error_code ignored;
  const fs::file_status status = fs::status(wanted, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error(ErrorCode::io, wanted.string(), "exists and is not a regular file",
                "choose another name");
  if (!fs::is_symlink(wanted, ignored)) return wanted;
  if (!fs::exists(status))
    throw Error(ErrorCode::io, wanted.string(), "is a link to nowhere", "choose another name");
  return fs::canonical(wanted, ignored);
}

void write_file(const fs::path& wanted, std::string_view bytes) {
  const fs::path path = replaceable_file(wanted);
  fs::path sibling = path;
  sibling += fmt::format(".tmp-{}", getpid());
  File file(std::fopen(sibling.c_str(), "wb"));
  if (!file) fail(path, "write", errno);
  const auto give_up = [&](int error) {
    std::remove(sibling.c_str());
    fail(path, "write", error);
  };
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) give_up(errno);
  if (std::fclose(file.release()) != 0) give_up(errno);
  if (std::rename(sibling.c_str(), path.c_str()) != 0) give_up(errno);
}

}  // namespace waveq
