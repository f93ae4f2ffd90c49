#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "waveq/export/target.h"
#include "waveq/graph/executor.h"

namespace waveq {

/// The first element where two integer tensors differ.
struct Mismatch {
  std::string tensor;
  Shape index;  ///< of the first element that differs, one number an axis
  std::int64_t expected = 0, got = 0;
  std::int64_t differing = 0, elements = 0;  ///< how many of the tensor's elements differ
};

struct VerifyReport {
  std::size_t tensors = 0;  ///< compared
  std::size_t outputs = 0, activations = 0;
  std::vector<std::string>
      unmatched;  ///< arrays of activations.npz that name no tensor of the network
  std::vector<Mismatch> mismatches;  ///< in the network's order; empty: everything equal
};

struct VerifyOptions {
  /// wrap: compute as the target's C does, for folders made by other tools.
  Overflow overflow = Overflow::wrap;
  /// Whose arithmetic; none: as the network's attributes say.
  const TargetProfile* target = nullptr;
};

/// Re-runs `dir`/network.onnx on `dir`/inputs.npz and compares with outputs.npz and, where it is
/// there, activations.npz, element by element. Inputs and outputs correspond by position,
/// activations by name (letters, digits and underscores count). Integer networks are compared
/// exactly; a float network within 1e-4. \throws Error{io|parse} for missing or damaged files,
/// Error{data} where arrays do not fit the network.
VerifyReport verify_folder(const std::filesystem::path& dir, const VerifyOptions& options = {});

/// One tensor of `waveq compare`.
struct Comparison {
  std::string tensor;
  bool integer = false;                      ///< both dumps hold integers: compared exactly
  std::int64_t elements = 0, differing = 0;  ///< counts
  std::optional<Mismatch> first;             ///< integer tensors
  double sqnr_db = 0, cosine = 1;            ///< float tensors; infinity where equal
  std::string problem;                       ///< missing on one side, other shape
  bool extra = false;  ///< only the second dump has it: told, but no difference
};

/// Compares two dumps array by array, in the order of `a`. Integer against integer: exactly.
/// Anything with floats: SQNR of b against a, and cosine. Arrays that only one side has are listed
/// with a problem.
std::vector<Comparison> compare_dumps(const std::filesystem::path& a,
                                      const std::filesystem::path& b);

/// 10 log10(sum ref^2 / sum (ref - got)^2); infinity where equal, 0 where both sums are 0 is
/// infinity too.
double sqnr_db(double signal, double noise);

}  // namespace waveq
