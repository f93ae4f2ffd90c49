#include "bin_text.h"

#include "waveq/graph/error.h"

namespace waveq {

namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void put_number(std::string& bytes, std::uint64_t n) {
  for (; n >= 128; n >>= 7) bytes += static_cast<char>(static_cast<unsigned char>(n % 128 + 128));
  bytes += static_cast<char>(n);
}

std::string to_base64(std::string_view bytes) {
  std::string text;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : bytes) {
    bits = (bits << 8 | static_cast<unsigned char>(c)) & 0xffff;
    for (held += 8; held >= 6; held -= 6) text += kDigits[(bits >> (held - 6)) & 63];
  }
  if (held > 0) text += kDigits[(bits << (6 - held)) & 63];
  return text;
}

class Reader {
 public:
  Reader(std::string_view text, const std::string& where) : where_(where) {
    std::uint32_t bits = 0;
    int held = 0;
    for (const char c : text) {
      const std::size_t digit = kDigits.find(c);
      if (digit == std::string_view::npos) fail("is not base64");
      bits = (bits << 6 | static_cast<std::uint32_t>(digit)) & 0xffff;
      if ((held += 6) < 8) continue;
      held -= 8;
      bytes_ += static_cast<char>(static_cast<unsigned char>((bits >> held) & 255));
    }
    if (held >= 6 || (bits & ((1u << held) - 1)) != 0) fail("is cut off");
  }
  bool done() const { return next_ == bytes_.size(); }
  std::uint64_t number() {
    std::uint64_t n = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (done()) fail("ends within a number");
      const std::uint64_t byte = static_cast<unsigned char>(bytes_[next_++]);
      const std::uint64_t low = byte & 127;
      if ((low << shift) >> shift != low) break;
      n |= low << shift;
      if (byte < 128) return n;
    }
    fail("has a number beyond 64 bits");
  }
  [[noreturn]] void fail(const char* what) const {
    throw Error(ErrorCode::parse, where_, std::string("histogram ") + what,
                "calibrate again: this file was damaged or edited by hand");
  }

 private:
  const std::string& where_;
  std::string bytes_;
  std::size_t next_ = 0;
};

}  // namespace

std::string bins_to_text(const std::vector<std::uint64_t>& bins) {
  std::string bytes;
  std::uint64_t empty = 0;
  for (const std::uint64_t n : bins) {
    if (n == 0) {
      ++empty;
      continue;
    }
    if (empty > 0) {
      put_number(bytes, 0);
      put_number(bytes, empty);
      empty = 0;
    }
    put_number(bytes, n);
  }
  return to_base64(bytes);
}

std::vector<std::uint64_t> bins_from_text(std::string_view text, std::size_t limit,
                                          const std::string& where) {
  Reader reader(text, where);
  std::vector<std::uint64_t> bins;
  while (!reader.done()) {
    const std::uint64_t n = reader.number();
    const std::uint64_t run = n == 0 ? reader.number() : 1;
    if (run > limit - bins.size()) reader.fail("has too many bins");
    bins.resize(bins.size() + static_cast<std::size_t>(run), n);
  }
  return bins;
}

}  // namespace waveq
