// The folder of `waveq vectors`.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "staging.h"
#include "waveq/export/folder.h"
#include "waveq/export/vectors.h"
#include "waveq/graph/file.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/version.h"

namespace waveq {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directory(path, error);
  if (error) io_failure(path, "cannot make the folder", error);
}

/// A folder name for a node, distinct also where case does not count.
std::string folder_name(const std::string& node, std::set<std::string>& taken) {
  constexpr std::size_t kLongest = 100;
  std::string name;
  for (const char ch : node.substr(0, kLongest))
    name += std::isalnum(static_cast<unsigned char>(ch)) || ch == '_' || ch == '-' ? ch : '_';
  if (name.empty()) name = "node";
  std::string unique = name;
  const auto folded = [](std::string text) {
    for (char& ch : text) ch = static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
    return text;
  };
  for (int n = 1; !taken.insert(folded(unique)).second; ++n) unique = fmt::format("{}_{}", name, n);
  return unique;
}

/// Integers as int64, which is what the target's test runner reads.
void write_tensors(const fs::path& path, const Graph& graph, const std::vector<ValueId>& ids,
                   const std::vector<Tensor>& tensors) {
  std::vector<Tensor> wide;
  for (const Tensor& t : tensors) wide.push_back(is_integer(t.dtype()) ? cast(t, DType::i64) : t);
  std::vector<NpzItem> items;
  for (std::size_t i = 0; i < ids.size(); ++i)
    items.push_back({graph.value(ids[i]).name, &wide[i]});
  write_npz(path, items);
}

std::string case_name(std::size_t k) { return fmt::format("case_{:03}", k); }

/// What the target says about the node alone; a check may need what stands around it.
Json target_findings(const TargetProfile& target, const Graph& graph) {
  Json out = Json::array();
  try {
    for (const Finding& f : target.check(target, graph))
      out.push_back({{"rule", f.rule}, {"problem", f.problem}});
  } catch (const Error& e) {
    out.push_back({{"rule", "check"}, {"problem", e.found()}});
  }
  return out;
}

/// Arguments for the target's generator: it guesses input types from values, unsigned first, and
/// would take the non-negative inputs of some cases for unsigned ones.
Json generator_arguments(const KernelVectors& v) {
  Json types = Json::array({"--input-type-map"}), offsets = Json::array({"--input-offset-map"});
  for (const VectorInput& in : v.inputs) {
    std::string plain;
    for (const char ch : in.name)
      if (std::isalnum(static_cast<unsigned char>(ch)) || ch == '_') plain += ch;
    const bool is_unsigned = in.type.dtype == DType::u8 || in.type.dtype == DType::u16;
    if (is_unsigned)
      continue;  // stored with an offset that depends on the platform: its own rule is right
    types.push_back(fmt::format("{}={}{}_t", plain, is_integer(in.type.dtype) ? "int" : "float",
                                8 * size_of(in.type.dtype)));
    offsets.push_back(plain + "=0");
  }
  if (types.size() == 1) return Json::array();
  types.insert(types.end(), offsets.begin(), offsets.end());
  return types;
}

/// An end of an input's interval, without a fraction where integers are meant.
Json bound(const VectorInput& in, double end) {
  return is_integer(in.type.dtype) ? Json(static_cast<std::int64_t>(end)) : Json(end);
}

Json describe(const KernelVectors& v, const TargetProfile& target) {
  Json j = {{"node", v.node}, {"operator", v.op}};
  j["inputs"] = Json::array();
  for (const VectorInput& in : v.inputs)
    j["inputs"].push_back({{"name", in.name},
                           {"dtype", to_string(in.type.dtype)},
                           {"shape", in.type.shape},
                           {"lo", bound(in, in.lo)},
                           {"hi", bound(in, in.hi)}});
  j["outputs"] = Json::array();
  for (ValueId id : v.graph.outputs()) {
    const Value& y = v.graph.value(id);
    j["outputs"].push_back(
        {{"name", y.name}, {"dtype", to_string(y.type.dtype)}, {"shape", y.type.shape}});
  }
  j["target"] = {{"name", target.name},
                 {"findings", target_findings(target, v.graph)},
                 {"generator_arguments", generator_arguments(v)}};
  j["cases"] = Json::array();
  for (std::size_t k = 0; k < v.cases.size(); ++k)
    j["cases"].push_back({{"case", case_name(k)}, {"conditions", v.cases[k].conditions}});
  j["unreached"] = Json::array();
  for (const UnreachedCondition& u : v.unreached)
    j["unreached"].push_back({{"condition", u.condition}, {"why", u.why}});
  return j;
}

/// Writes one node's folder; returns its entry in the manifest.
Json write_kernel(const KernelVectors& v, const fs::path& dir, const VectorFolderOptions& options) {
  const TargetProfile& target = find_target(options.target);
  make_folder(dir);
  Json j = describe(v, target);
  Json& files = j["files"] = Json::object();
  if (options.c_header) {
    const std::string header = vectors_header(v, dir.filename().string());
    write_file(dir / "vectors.h", header);
    files["vectors.h"] = sha256(header);
  }
  const std::string network = options.deeploy ? target.to_file(target, v.graph) : "";
  for (std::size_t k = 0; options.deeploy && k < v.cases.size(); ++k) {
    const fs::path to = dir / case_name(k);
    make_folder(to);
    write_file(to / "network.onnx", network);
    write_tensors(to / "inputs.npz", v.graph, v.graph.inputs(), v.cases[k].inputs);
    write_tensors(to / "outputs.npz", v.graph, v.graph.outputs(), v.cases[k].outputs);
    for (const char* file : {"network.onnx", "inputs.npz", "outputs.npz"})
      files[case_name(k) + "/" + file] = sha256(read_file(to / file));
  }
  const std::string text = j.dump(1) + "\n";
  write_file(dir / "cases.json", text);
  return {{"node", v.node},
          {"operator", v.op},
          {"folder", dir.filename().string()},
          {"cases", v.cases.size()},
          {"unreached", v.unreached.size()},
          {"cases.json", sha256(text)}};
}

/// A folder with golden vectors of a whole network is ours too, but not to be replaced by those of
/// kernels; it may hold the very model that is read.
void keep_other_folders(const fs::path& dir) {
  if (!fs::exists(dir / "manifest.json")) return;
  const Json manifest = Json::parse(read_file(dir / "manifest.json"), nullptr, false);
  if (!manifest.is_object() || manifest.value("command", Json()) != "vectors")
    throw Error(ErrorCode::invalid_argument, dir.string(),
                "holds another result of waveq, which would be replaced as a whole",
                "choose another folder with -o");
}

/// The nodes that were asked for. \throws Error{invalid_argument}.
std::vector<NodeId> asked_nodes(const Graph& graph, const std::string& name) {
  std::vector<NodeId> all = kernel_nodes(graph), chosen;
  if (name.empty()) return all;
  for (NodeId id : all)
    if (graph.node(id).name == name) return {id};
  for (NodeId id : all)
    if (graph.node(id).origin == name) chosen.push_back(id);
  if (!chosen.empty()) return chosen;
  constexpr std::size_t kShown = 10;
  std::string names;
  for (std::size_t i = 0; i < std::min(all.size(), kShown); ++i)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", graph.node(all[i]).name);
  if (all.size() > kShown)
    names += fmt::format(" and {} more, as `waveq prove --all` lists them", all.size() - kShown);
  throw Error(ErrorCode::invalid_argument, "--node", fmt::format("'{}' is no computing node", name),
              "there are: " + names);
}

}  // namespace

VectorFolderReport write_vectors(const Graph& integer_graph, const fs::path& model,
                                 const fs::path& raw_dir, const VectorFolderOptions& options) {
  check_output_dir(raw_dir);
  keep_other_folders(raw_dir);
  // A trailing slash would make the sibling a child.
  const fs::path dir = raw_dir.has_filename() ? raw_dir : raw_dir.parent_path();
  const Graph graph = as_computed_on(find_target(options.target), integer_graph);
  const std::vector<NodeId> nodes = asked_nodes(graph, options.node);
  Staging staging(dir);
  BoundsAnalysis bounds(graph);
  for (ValueId in : graph.inputs())
    if (const auto range = options.ranges.find(graph.value(in).name); range != options.ranges.end())
      bounds.assume(in, Bounds::all(range->second));
  VectorFolderReport report;
  std::set<std::string> taken = {"manifest.json"};
  Json entries = Json::array();
  for (NodeId id : nodes) {
    const Node& node = graph.node(id);
    try {
      const KernelVectors v = kernel_vectors(bounds, id, options.vectors);
      entries.push_back(write_kernel(v, staging.path() / folder_name(v.node, taken), options));
      ++report.nodes;
      report.cases += v.cases.size();
    } catch (Error& e) {
      // A single node was asked for by name: then its error is the answer.
      if (e.code() != ErrorCode::unsupported || !options.node.empty())
        throw e.while_doing(fmt::format("making vectors of {} '{}'", node.op, node.name));
      report.skipped.push_back({node.name, e.found()});
    }
  }
  Json j = {{"tool", "waveq"},
            {"version", kVersion},
            {"command", "vectors"},
            {"seed", options.vectors.seed},
            {"random", options.vectors.random},
            {"target", options.target}};
  if (!model.empty())
    j["inputs"]["model"] = {{"file", model.filename().string()},
                            {"sha256", sha256(read_file(model))}};
  j["nodes"] = std::move(entries);
  j["skipped"] = Json::array();
  for (const UnreachedCondition& s : report.skipped)
    j["skipped"].push_back({{"node", s.condition}, {"why", s.why}});
  write_file(staging.path() / "manifest.json", j.dump(1) + "\n");
  staging.commit();
  return report;
}

}  // namespace waveq
