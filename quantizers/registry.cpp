#include <fmt/format.h>

#include <array>

#include "methods.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

constexpr std::array kQuantizers = {
    QuantizerRow{"symmetric", "zero point 0, smallest scale at which both ends of the range fit",
                 "QuantLib PACT and NEMO (z = 0)", [] { return Quantizer(methods::symmetric); }},
    QuantizerRow{"symmetric_pow2", "symmetric, scale raised to the next power of two",
                 "Jain et al., Trained Quantization Thresholds, 2019 (power-of-2 scaling)",
                 [] { return Quantizer(methods::symmetric_pow2); }},
};

}  // namespace

std::span<const QuantizerRow> quantizers() { return kQuantizers; }

Quantizer make_quantizer(std::string_view name) {
  std::string known;
  for (const QuantizerRow& row : kQuantizers) {
    if (row.name == name) return row.make();
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ErrorCode::invalid_argument, std::string(name), "no quantizer has this name",
              "use one of " + known);
}

std::string_view to_string(Signedness signedness) {
  switch (signedness) {
    case Signedness::automatic:
      return "automatic";
    case Signedness::signed_:
      return "signed";
    case Signedness::unsigned_:
      return "unsigned";
    case Signedness::affine:
      return "affine";
  }
  return "automatic";
}

Signedness signedness_from(std::string_view word) {
  for (Signedness s :
       {Signedness::automatic, Signedness::signed_, Signedness::unsigned_, Signedness::affine})
    if (word == to_string(s)) return s;
  throw Error(ErrorCode::invalid_argument, std::string(word), "not a signedness",
              "use automatic, signed, unsigned or affine");
}

}  // namespace waveq
