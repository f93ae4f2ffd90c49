#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "waveq/calibration/calibration_table.h"
#include "waveq/integerize/evaluate.h"
#include "waveq/integerize/integerize.h"
#include "waveq/integerize/proof.h"
#include "waveq/integerize/recipe.h"
#include "waveq/rewrites/driver.h"

namespace waveq {

/// What `quantize` starts from.
struct QuantizeJob {
  std::filesystem::path model;
  std::filesystem::path calibration_data;  ///< .npz; also the source of the golden inputs
  std::optional<std::filesystem::path>
      calibration_table;  ///< ranges from here instead of a calibration run
  std::optional<std::filesystem::path>
      evaluation_data;  ///< .npz; the calibration data where absent
  Recipe recipe;
  TargetAbilities target;  ///< of recipe.target (TargetProfile::abilities)
  unsigned threads = 1;
  Progress progress;
};

/// One evaluation of the integer network, every tensor kept.
struct GoldenVectors {
  std::vector<Tensor> inputs, outputs;        ///< in graph order, device dtypes
  std::map<std::string, Tensor> activations;  ///< every node output, by name
};

/// Everything that `quantize` found out; export writes it to a folder.
struct QuantizeResult {
  Recipe recipe;      ///< resolved
  Graph float_graph;  ///< canonical
  RewriteReport rewrites;
  CalibrationTable calibration;
  IntegerNetwork network;
  ProofReport proof;
  GoldenVectors golden;
  Accuracy accuracy;
  bool evaluated_on_calibration_data = false;
  std::vector<TensorQuality> tensors;
  std::map<std::string, double> seconds;  ///< by stage
};

/// A step of the pipeline as `waveq passes` prints it.
struct PassInfo {
  std::string name, formula, effect, source;
};
/// The steps in the order in which `quantize` runs them.
const std::vector<PassInfo>& pipeline_passes();

/// Reads a model with the recipe's shapes and brings it to canonical form.
/// \throws errors of read_onnx and rewrite.
Graph load_canonical(const std::filesystem::path& model, const Recipe& recipe,
                     RewriteReport* report = nullptr);

/// The whole way from a float model to a proven integer network with golden vectors.
/// \throws Error{not_integer} with all nodes that have no integer form; Error{overflow} with all
/// nodes whose
///   proof fails; errors of reading, calibration and evaluation.
QuantizeResult quantize(const QuantizeJob& job);

}  // namespace waveq
