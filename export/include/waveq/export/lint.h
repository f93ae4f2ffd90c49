#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/export/target.h"
#include "waveq/graph/graph.h"
#include "waveq/integerize/proof.h"

namespace waveq {

/// Platforms of the consumer that a check can hold for; a set is the sum of their bits.
/// pulp stands for PULPOpen, Siracusa and GAP9.
enum LintPlatform : unsigned { kGeneric = 1, kCortexM = 2, kMemPool = 4, kPulp = 8, kSnitch = 16 };
using LintPlatforms = unsigned;
inline constexpr LintPlatforms kAllPlatforms = kGeneric | kCortexM | kMemPool | kPulp | kSnitch;

/// "Generic", "CortexM", ... of every bit that is set, in the order of the bits.
std::vector<std::string> platform_names(LintPlatforms platforms);

/// What a platform does to a network that a check finds fault with.
enum class LintEffect {
  rejected,  ///< it does not map, generate, compile or link
  wrong,     ///< it runs, and computes other integers than the network says (or that cannot be
             ///< excluded)
  fragile,   ///< right there today, but on a condition that is easily lost; never an error
  coarse,    ///< what the network says, which is coarser than it need be; never an error
};
std::string_view to_string(LintEffect effect);

/// Where a network runs into a check. `node` is empty for the network as a whole.
struct LintProblem {
  std::string node;
  std::string problem;  ///< what was found
};

/// A network and what else the checks look at.
struct LintInput {
  Graph integer;                      ///< integer dtypes; attributes in the form of the file
  std::vector<LintProblem> inexact;   ///< used float32 constants with integers above 2^24
  std::vector<std::string> unshaped;  ///< computed tensors to which the file gives no static shape
  std::vector<std::string> open_inputs;  ///< graph inputs with open dimensions
  std::string invalid;  ///< why shapes could not be inferred; then `integer` is empty
  std::string path;     ///< of the folder the consumer would read
  std::optional<std::vector<Tensor>> samples;  ///< arrays of inputs.npz in file order
  std::set<std::string> unsigned_inputs;  ///< graph inputs that quantization.json calls unsigned
  std::optional<std::size_t> goldens;     ///< number of arrays in outputs.npz
};

/// Reads a network file, or the network.onnx of a folder, with inputs.npz and outputs.npz beside
/// it. \throws Error of read_onnx, Error{parse} for a network that is not integer. Operands that do
/// not fit together and open dimensions are no errors here but findings.
LintInput read_lint_input(const std::filesystem::path& file_or_folder);

class LintContext;

/// One check. Several rows may share the number of a trap of deeploy-dialect.md 12 where it has
/// several sides; other rows name the section the fact comes from. `name` is unique.
struct LintCheck {
  std::string id;           ///< "T1".."T25", else "S2" (deeploy-dialect.md 2), "A4"
                            ///< (waveformer-accuracy.md 4), "N" (import notes)
  std::string name;         ///< as `waveq lint --checks` lists it
  LintPlatforms platforms;  ///< for which it holds
  LintEffect effect;
  std::string explanation;  ///< what happens there, and why
  std::string remedy;       ///< what the user can do
  void (*run)(LintContext&);
};

/// All checks, ordered as the traps are numbered, then those of other sections.
const std::vector<LintCheck>& lint_checks();

struct LintFinding {
  const LintCheck* check = nullptr;  ///< never null in a report
  std::string node, problem;         ///< as in LintProblem
  bool applies = false;              ///< whether the chosen target is one of the check's platforms
};

struct LintReport {
  std::vector<LintFinding> findings;  ///< in the order of the checks, then of the network
  /// Findings of that effect that apply to the target.
  std::size_t count(LintEffect effect) const;
};

/// Platforms a target profile stands for. \throws Error{invalid_argument} for one without.
LintPlatforms platforms_of(const TargetProfile& target);

LintReport lint(const LintInput& input, const TargetProfile& target);

}  // namespace waveq
