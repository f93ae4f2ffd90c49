#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace waveq {

/// Largest file read_file accepts unless told otherwise (protobuf messages end at 2 GiB).
inline constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 31;

/// A file's bytes. \throws Error{io} naming the file: missing, a folder, unreadable, longer than `limit`.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit = kMaxFileBytes);

/// `length` bytes from `offset` on, written to `out`. \throws Error{io} where the file is shorter.
void read_file_range(const std::filesystem::path& path, std::uint64_t offset, std::span<std::byte> out);

/// The file that writing to `path` by rename has to replace: `path`, or where a symbolic link leads, since
/// renaming over a link would replace the link. \throws Error{io} for folders, devices, dangling links.
std::filesystem::path replaceable_file(const std::filesystem::path& path);

/// Replaces `path` as a whole: writes a sibling `<path>.tmp-<pid>` and renames it, so that a killed
/// program leaves the old file or the new one. A symbolic link is followed.
/// \throws Error{io}, also where `path` is a folder or a device; the sibling is removed then.
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace waveq
