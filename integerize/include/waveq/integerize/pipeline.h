#pragma once

#include <concepts>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "waveq/calibration/calibration_table.h"
#include "waveq/calibration/dataset.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/integerize/coarse_operands.h"
#include "waveq/integerize/evaluate.h"
#include "waveq/integerize/integerize.h"
#include "waveq/integerize/proof.h"
#include "waveq/integerize/recipe.h"
#include "waveq/rewrites/driver.h"

namespace waveq {

/// A float model: an ONNX file, its bytes, or a network in memory. `path` names the latter two in
/// messages and reports.
struct ModelData {
  std::filesystem::path path;
  std::string bytes;                   ///< the file's content where not empty
  std::shared_ptr<const Graph> graph;  ///< the network itself where set

  ModelData() = default;
  template <std::convertible_to<std::filesystem::path> File>
  ModelData(File&& file) : path(std::forward<File>(file)) {}  // NOLINT: a path is a model
  /// The bytes of an ONNX file, and what to call it.
  ModelData(std::string onnx, std::filesystem::path name)
      : path(std::move(name)), bytes(std::move(onnx)) {}
  /// A network that was loaded or built, and what to call it.
  ModelData(Graph network, std::filesystem::path name)
      : path(std::move(name)), graph(std::make_shared<const Graph>(std::move(network))) {}
};

/// What `quantize` starts from.
struct QuantizeJob {
  ModelData model;
  SampleData calibration_data;  ///< also the source of the golden inputs
  /// Ranges from here, a file or a table, instead of a calibration run.
  std::optional<std::variant<std::filesystem::path, CalibrationTable>> calibration_table;
  std::optional<SampleData> evaluation_data;  ///< the calibration data where absent
  Recipe recipe;                              ///< every choice
  TargetAbilities target;                     ///< of recipe.target (TargetProfile::abilities)
  unsigned threads = 1;                       ///< 1..256; changes no byte of the result
  Progress progress;                          ///< may be empty
};

/// One evaluation of the integer network, every tensor kept.
struct GoldenVectors {
  std::vector<Tensor> inputs, outputs;        ///< in graph order, device dtypes
  std::map<std::string, Tensor> activations;  ///< every node output, by name
};

/// Everything that `quantize` found out; export writes it to a folder.
struct QuantizeResult {
  Recipe recipe;      ///< resolved
  Graph float_graph;  ///< canonical; without the roundings of a model that was quantized already
  FakeQuantization fake_quantization;  ///< those roundings
  RewriteReport rewrites;
  CalibrationTable calibration;  ///< the ranges that were used
  IntegerNetwork network;
  ProofReport proof;     ///< of `network`
  GoldenVectors golden;  ///< of the first calibration sample that fits the target
  Accuracy accuracy;     ///< of `network` against the float network
  bool evaluated_on_calibration_data = false;  ///< no evaluation data were given
  std::vector<TensorQuality> tensors;          ///< one a float tensor that has an integer one
  std::vector<CoarseOperand> coarse_operands;  ///< on calibration samples
  std::map<std::string, double> seconds;       ///< by stage
};

/// A step of the pipeline as `waveq passes` prints it.
struct PassInfo {
  std::string name, formula, effect, source;
};
/// The steps in the order in which `quantize` runs them.
const std::vector<PassInfo>& pipeline_passes();

/// Reads a model as it is. \throws errors of read_onnx.
Graph read_model(const ModelData& model, const ReadOptions& options = {});

/// Reads a model with the recipe's shapes, takes the roundings of a quantized one out of it and
/// brings it to canonical form. \throws errors of read_onnx, take_out_fake_quantization and
/// rewrite.
Graph load_canonical(const ModelData& model, const Recipe& recipe, RewriteReport* report = nullptr,
                     FakeQuantization* fake = nullptr);

/// Ranges of the tensors of a canonical graph: the job's table, else a run over its calibration
/// data.
CalibrationTable calibrate_for(const QuantizeJob& job, Graph& graph, SampleSource& data,
                               const FakeQuantization& fake);

/// A factor for the range of each tensor, by name.
using RangeFactor = std::function<double(const std::string&)>;
/// The integer network that the job's recipe makes of a canonical graph, not yet proven.
/// \throws Error{not_integer, overflow} as quantize; Error{invalid_argument} for a rule of the
/// recipe that names nothing.
IntegerNetwork lower_to_integers(const Graph& canonical, const CalibrationTable& table,
                                 const QuantizeJob& job, const FakeQuantization& fake,
                                 const RangeFactor& factor = {});

/// The whole way from a float model to a proven integer network with golden vectors.
/// \throws Error{not_integer} with all nodes that have no integer form; Error{overflow} with all
/// nodes whose
///   proof fails; errors of reading, calibration and evaluation.
QuantizeResult quantize(const QuantizeJob& job);

}  // namespace waveq
