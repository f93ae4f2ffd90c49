#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "waveq/integerize/pipeline.h"

namespace waveq::cli {

/// Exit codes of product.md 2.
enum ExitCode : int { kDone = 0, kError = 1, kUsage = 2, kNotInteger = 3, kOverflow = 4, kGateMissed = 5 };
int exit_code(ErrorCode code);

/// A verb registers its flags on `app` and, when chosen, runs and returns an exit code.
using Action = std::function<int()>;
Action add_quantize(CLI::App& app);
Action add_inspect(CLI::App& app);
Action add_rewrite(CLI::App& app);
Action add_calibrate(CLI::App& app);
Action add_run(CLI::App& app);
Action add_verify(CLI::App& app);
Action add_compare(CLI::App& app);
Action add_prove(CLI::App& app);
Action add_lint(CLI::App& app);
Action add_passes(CLI::App& app);
Action add_ops(CLI::App& app);
Action add_targets(CLI::App& app);
Action add_vectors(CLI::App& app);
Action add_sweep(CLI::App& app);

/// Flags that several verbs share. A flag given on the command line overrides the recipe file.
struct Common {
  std::string recipe_file, target, observer;
  unsigned threads = 0;  ///< 0: as many as the machine has
  std::vector<std::string> input_shapes, passes;
  std::uint64_t seed = 0;
  bool json = false;

  enum Flags : unsigned { kRecipe = 1, kTarget = 2, kThreads = 4, kShapes = 8, kPasses = 16, kSeed = 32, kJson = 64, kObserver = 128 };
  void add(CLI::App& app, unsigned flags);
  /// The recipe file, if any, with the flags laid over it.
  Recipe recipe(const CLI::App& app) const;
  unsigned thread_count() const;
};

/// \throws Error{invalid_argument} where `output` is one of the files that are read: inputs are never modified.
void keep_inputs(const std::string& output, const std::vector<std::string>& inputs);

/// A progress line on stderr: rewritten in place on a terminal, else a line every quarter of a stage.
Progress progress_line();
/// Ends the line before other output.
void end_progress();

/// "1.5 kB", "130 kB".
std::string bytes_text(std::int64_t bytes);
/// Rows as aligned columns.
void print_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace waveq::cli
