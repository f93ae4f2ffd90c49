#include "waveq/export/folder.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "staging.h"
#include "waveq/calibration/calibrate.h"
#include "waveq/export/verify.h"
#include "waveq/graph/file.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/version.h"

namespace waveq {

namespace fs = std::filesystem;

namespace {

constexpr const char* kManifest = "manifest.json";

/// A hash of bytes that come in pieces.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    WAVEQ_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void add(std::span<const std::byte> bytes) {
    WAVEQ_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    WAVEQ_CHECK(EVP_DigestFinal_ex(context_.get(), digest, &length) == 1);
    std::string text;
    for (unsigned int i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

/// True for a folder that write_folder made: its manifest says so.
bool is_ours(const fs::path& dir) {
  if (!fs::is_regular_file(dir / kManifest)) return false;
  const auto manifest = nlohmann::json::parse(read_file(dir / kManifest, 1 << 20), nullptr, false);
  return manifest.is_object() && manifest.value("tool", nlohmann::json()) == "waveq";
}

void write_tensors(const fs::path& path,
                   const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<NpzItem> items;
  for (const auto& [name, tensor] : tensors) items.push_back({name, &tensor});
  write_npz(path, items);
}

void require_target(const TargetProfile& target, const Graph& graph) {
  const std::vector<Finding> findings = target.check(target, graph);
  if (findings.empty()) return;
  std::string list;
  for (const Finding& f : findings)
    list += fmt::format("\n  '{}' ({}): {}", f.node, f.rule, f.problem);
  throw Error(ErrorCode::not_integer, target.name,
              fmt::format("{} places of the integer network do not run on this target:{}",
                          findings.size(), list));
}

nlohmann::ordered_json file_entry(const fs::path& path) {
  return {{"file", path.filename().string()}, {"sha256", sha256(read_file(path))}};
}

/// A file's name and hash; samples that never were a file are hashed as the network saw them.
nlohmann::ordered_json data_entry(const SampleData& data, const Graph& float_graph) {
  if (data.file()) return file_entry(*data.file());
  const std::unique_ptr<SampleSource> source =
      data.open(float_graph, {.labels = true, .classes = {}});
  source->rewind();
  Sha256 hash;
  Sample sample;
  while (source->next(sample)) {
    for (const Tensor& input : sample.inputs) hash.add(input.bytes());
    if (sample.label) hash.add(std::as_bytes(std::span(&*sample.label, 1)));
  }
  return {{"samples", source->size().value_or(0)}, {"sha256", hash.hex()}};
}

nlohmann::ordered_json model_entry(const ModelData& model) {
  if (model.graph)
    return {{"network", model.graph->name}, {"fingerprint", fingerprint(*model.graph)}};
  if (model.bytes.empty()) return file_entry(model.path);
  return {{"file", model.path.filename().string()}, {"sha256", sha256(model.bytes)}};
}

nlohmann::ordered_json table_entry(const std::variant<fs::path, CalibrationTable>& table) {
  if (const auto* file = std::get_if<fs::path>(&table)) return file_entry(*file);
  return {{"sha256", sha256(std::get<CalibrationTable>(table).to_text())}};
}

std::string manifest_json(const fs::path& dir, const QuantizeJob& job, const Graph& float_graph) {
  nlohmann::ordered_json j;
  j["tool"] = "waveq";
  j["version"] = kVersion;
  j["seed"] = job.recipe.seed;
  j["inputs"]["model"] = model_entry(job.model);
  j["inputs"]["calibration"] = data_entry(job.calibration_data, float_graph);
  if (job.calibration_table) j["inputs"]["table"] = table_entry(*job.calibration_table);
  if (job.evaluation_data)
    j["inputs"]["evaluation"] = data_entry(*job.evaluation_data, float_graph);
  std::vector<fs::path> files;
  for (const auto& file : fs::directory_iterator(dir)) files.push_back(file.path());
  std::ranges::sort(files);
  for (const fs::path& file : files)
    j["outputs"][file.filename().string()] = sha256(read_file(file));
  return j.dump(1) + "\n";
}

void verify_written(const fs::path& dir) {
  const VerifyReport report = verify_folder(dir, {.overflow = Overflow::error});
  if (!report.mismatches.empty())
    throw Error(ErrorCode::mismatch, fmt::format("tensor '{}'", report.mismatches.front().tensor),
                "the written network does not reproduce its golden vectors", "please report this");
  if (!report.unmatched.empty())
    throw Error(ErrorCode::internal, report.unmatched.front(),
                "a golden tensor names nothing in the written network", "please report this");
}

}  // namespace

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(std::as_bytes(std::span(bytes)));
  return hash.hex();
}

void check_output_dir(const fs::path& dir) {
  if (dir.empty())
    throw Error(ErrorCode::invalid_argument, "-o", "is empty", "name the folder to write");
  std::error_code error;
  if (fs::exists(dir, error)) {
    if (!fs::is_directory(dir))
      throw Error(ErrorCode::io, dir.string(), "exists and is not a folder",
                  "choose another name with -o");
    if (!fs::is_empty(dir) && !is_ours(dir))
      throw Error(ErrorCode::invalid_argument, dir.string(),
                  "is not empty and was not written by waveq; it would be replaced as a whole",
                  "choose another folder with -o, or empty this one");
  }
  // The nearest existing parent decides whether the folder can be made at all.
  fs::path parent = fs::absolute(dir).parent_path();
  while (!parent.empty() && !fs::exists(parent, error) && parent != parent.parent_path())
    parent = parent.parent_path();
  if (!fs::is_directory(parent, error))
    throw Error(ErrorCode::io, dir.string(), fmt::format("'{}' is not a folder", parent.string()),
                "choose another place with -o");
  // Permission bits say little (root, /proc, read-only mounts): try.
  const fs::path probe = parent / fmt::format(".waveq-probe-{}", getpid());
  if (!fs::create_directory(probe, error))
    throw Error(ErrorCode::io, dir.string(), fmt::format("'{}' cannot be written", parent.string()),
                "choose another place with -o");
  fs::remove(probe, error);
}

void write_folder(const QuantizeResult& result, const QuantizeJob& job, const fs::path& raw_dir,
                  const FolderOptions& options) {
  check_output_dir(raw_dir);
  // A trailing slash would make the sibling a child.
  const fs::path dir = raw_dir.has_filename() ? raw_dir : raw_dir.parent_path();
  const TargetProfile& target = find_target(result.recipe.target);
  const Graph& graph = result.network.graph;
  require_target(target, graph);

  Staging staging(dir);
  const fs::path& to = staging.path();
  const TargetFiles files = target.files(target, result);
  write_file(to / "network.onnx", files.network);
  write_tensors(to / "inputs.npz", files.inputs);
  write_tensors(to / "outputs.npz", files.outputs);
  write_tensors(to / "activations.npz", files.activations);
  write_file(to / "quantization.json", quantization_json(graph));
  write_file(to / "calibration.json", result.calibration.to_text());
  write_file(to / "recipe.toml", to_toml(result.recipe));
  write_file(to / "report.json",
             report_json(result, target, job.model.path.filename().string(), options));
  verify_written(to);
  write_file(to / kManifest, manifest_json(to, job, result.float_graph));
  staging.commit();
}

}  // namespace waveq
