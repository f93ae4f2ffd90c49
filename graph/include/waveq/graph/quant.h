#pragma once

#include <cstdint>

#include "waveq/graph/tensor.h"

namespace waveq {

/// What the integers of a tensor mean: real = scale * (q - zero_point).
/// q lies in [0, n_levels-1] if unsigned, [-n_levels/2, n_levels/2-1] if signed.
struct QuantParams {
  double scale = 1.0;           ///< real value of one step; > 0
  std::int64_t zero_point = 0;  ///< the code of 0.0, within lo()..hi()
  std::int64_t n_levels = 256;  ///< 2..65536
  bool is_signed = true;        ///< see above
  /// Narrowest storage for these levels (4- and 2-bit data live in 8-bit storage).
  DType storage() const {
    if (n_levels <= 256) return is_signed ? DType::i8 : DType::u8;
    return is_signed ? DType::i16 : DType::u16;
  }
  std::int64_t lo() const { return is_signed ? -(n_levels / 2) : 0; }
  std::int64_t hi() const { return is_signed ? (n_levels + 1) / 2 - 1 : n_levels - 1; }
  friend bool operator==(const QuantParams&, const QuantParams&) = default;
};

}  // namespace waveq
