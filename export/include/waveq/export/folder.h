#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/export/target.h"
#include "waveq/integerize/pipeline.h"

namespace waveq {

/// SHA-256 in hexadecimal.
std::string sha256(std::string_view bytes);

struct FolderOptions {
  /// Fill time_s and peak_rss_bytes of report.json. Left out by default: they differ from run to
  /// run, and a folder is to be the same bytes for the same input.
  bool profile = false;
};

/// report.json of a result; the keys are those of product.md 3.
std::string report_json(const QuantizeResult& result, const TargetProfile& target,
                        const std::string& model_name, const FolderOptions& options = {});
/// quantization.json: scale, zero point, levels and dtype of every input and output.
std::string quantization_json(const Graph& integer_graph);

/// Writes the finished folder of product.md 3: network.onnx, inputs.npz, outputs.npz,
/// activations.npz, quantization.json, calibration.json, recipe.toml, report.json, manifest.json.
/// Everything is written into a temporary sibling, read back and verified there, and only then put
/// in place of `dir`, as a whole. \throws Error{not_integer} listing what the target cannot run;
/// Error{invalid_argument} where `dir` exists and is not a folder
///   that waveq wrote (nothing of the user's is replaced); Error{io}; Error{mismatch} where the
///   written folder does not reproduce its golden vectors.
void write_folder(const QuantizeResult& result, const QuantizeJob& job,
                  const std::filesystem::path& dir, const FolderOptions& options = {});

/// Where `dir` cannot become an output folder, says so before any work is done. \throws as
/// write_folder.
void check_output_dir(const std::filesystem::path& dir);

}  // namespace waveq
