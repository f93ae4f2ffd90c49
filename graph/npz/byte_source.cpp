#include <fmt/format.h>
#include <zip.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "npz/npy_decoder.h"

namespace waveq::detail {

namespace fs = std::filesystem;

namespace {

class ZipMember : public ByteSource {
 public:
  ZipMember(ZipPtr archive, zip_file_t* file) : archive_(std::move(archive)), file_(file) {}
  ZipMember(const ZipMember&) = delete;
  ZipMember& operator=(const ZipMember&) = delete;
  ~ZipMember() override { zip_fclose(file_); }

  std::size_t read(std::span<std::byte> out) override {
    std::size_t got = 0;
    while (true) {  // a read of nothing at the end lets libzip compare the CRC
      const zip_int64_t n = zip_fread(file_, out.data() + got, out.size() - got);
      if (n < 0) throw fmt::format("cannot be unpacked: {}", zip_file_strerror(file_));
      if (n == 0) return got;
      got += static_cast<std::size_t>(n);
      if (got == out.size()) return got;
    }
  }

 private:
  ZipPtr archive_;  // outlives file_
  zip_file_t* file_;
};

class PlainFile : public ByteSource {
 public:
  explicit PlainFile(std::FILE* file) : file_(file) {}
  PlainFile(const PlainFile&) = delete;
  PlainFile& operator=(const PlainFile&) = delete;
  ~PlainFile() override { std::fclose(file_); }

  std::size_t read(std::span<std::byte> out) override {
    const std::size_t n = std::fread(out.data(), 1, out.size(), file_);
    if (n < out.size() && std::ferror(file_))
      throw fmt::format("cannot be read: {}", std::strerror(errno));
    return n;
  }

 private:
  std::FILE* file_;
};

}  // namespace

ZipPtr open_zip(const fs::path& path) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (archive) return ZipPtr(archive, zip_discard);
  const bool content = code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS || code == ZIP_ER_EOF;
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string what = zip_error_strerror(&error);
  zip_error_fini(&error);
  if (content)
    throw Error(ErrorCode::parse, path.string(), fmt::format("is no .npz or .npy file ({})", what),
                "save arrays with numpy.savez");
  throw Error(ErrorCode::io, path.string(), fmt::format("cannot open: {}", what));
}

std::unique_ptr<ByteSource> open_zip_member(ZipPtr archive, std::uint64_t index,
                                            const std::string& where, std::uint64_t& size) {
  constexpr std::uint64_t kMaxExpansion = 1032;
  const auto damaged = [&](const std::string& what) {
    return Error(ErrorCode::parse, where, what, "the file is damaged; save it again");
  };
  zip_stat_t stat;
  zip_stat_init(&stat);
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  if (zip_stat_index(archive.get(), index, 0, &stat) != 0 || (stat.valid & kNeeded) != kNeeded)
    throw damaged("has no usable directory entry");
  if (stat.encryption_method != ZIP_EM_NONE)
    throw Error(ErrorCode::unsupported, where, "is encrypted", "save it without a password");
  if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE)
    throw Error(ErrorCode::unsupported, where,
                fmt::format("uses zip compression method {}", stat.comp_method),
                "save it with numpy.savez or numpy.savez_compressed");
  if (stat.size / kMaxExpansion > stat.comp_size ||
      (stat.comp_method == ZIP_CM_STORE && stat.size != stat.comp_size))
    throw damaged(fmt::format("claims {} bytes in {}", stat.size, stat.comp_size));
  zip_file_t* file = zip_fopen_index(archive.get(), index, 0);
  if (!file) throw damaged(fmt::format("cannot be opened: {}", zip_strerror(archive.get())));
  size = stat.size;
  return std::make_unique<ZipMember>(std::move(archive), file);
}

std::unique_ptr<ByteSource> open_plain_file(const fs::path& path, std::uint64_t& size) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file)
    throw Error(ErrorCode::io, path.string(), fmt::format("cannot open: {}", std::strerror(errno)),
                errno == ENOENT ? "check the path" : "");
  auto source = std::make_unique<PlainFile>(file);
  std::error_code error;
  size = fs::file_size(path, error);
  if (error)
    throw Error(ErrorCode::io, path.string(), fmt::format("cannot read: {}", error.message()));
  return source;
}

}  // namespace waveq::detail
