#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace waveq {

/// The indices of an Einsum equation: one string of letters an operand, and the result's.
struct EinsumTerms {
  std::vector<std::string> inputs;  ///< "bij" and "bjk" of "bij,bjk->bik"
  std::string output;               ///< "bik"
};

/// Nothing for an equation with an ellipsis, with another number of operands, or with a result
/// whose indices are not each once in it and somewhere in the operands. Source: ONNX Einsum-12.
std::optional<EinsumTerms> parse_einsum(std::string_view equation, std::size_t operands);

}  // namespace waveq
