// What the checks need to know of a network file and of the arrays beside it.
#include <fmt/format.h>
#include <google/protobuf/stubs/logging.h>
#include <onnx/onnx_pb.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "waveq/export/lint.h"
#include "waveq/graph/file.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {

namespace fs = std::filesystem;

namespace {

bool is_static(const onnx::ValueInfoProto& info) {
  if (!info.type().has_tensor_type() || !info.type().tensor_type().has_shape()) return false;
  for (const auto& dim : info.type().tensor_type().shape().dim())
    if (!dim.has_dim_value()) return false;
  return true;
}

/// What read_onnx infers or closes by itself, and the consumer does not.
void read_stated_shapes(const std::string& bytes, LintInput& out) {
  google::protobuf::LogSilencer quiet;
  onnx::ModelProto model;
  if (!model.ParseFromString(bytes)) return;  // read_onnx words the error
  std::set<std::string> stated, constants;
  for (const auto& t : model.graph().initializer()) constants.insert(t.name());
  for (const auto& info : model.graph().input())
    if (!constants.contains(info.name()) && !is_static(info))
      out.open_inputs.push_back(info.name());
  for (const auto& info : model.graph().value_info())
    if (is_static(info)) stated.insert(info.name());
  for (const auto& info : model.graph().output())
    if (is_static(info)) stated.insert(info.name());
  for (const auto& node : model.graph().node())
    if (node.op_type() != "Constant")
      for (const std::string& name : node.output())
        if (!name.empty() && !stated.contains(name)) out.unshaped.push_back(name);
}

void find_inexact(const Graph& file, LintInput& out) {
  constexpr float kExact = 16777216.0F;  // 2^24
  for (std::size_t i = 0; i < file.value_count(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    if (!file.is_constant(id) || file.use_count(id) == 0 || file.constant(id).dtype() != DType::f32)
      continue;
    std::size_t count = 0;
    float worst = 0;
    for (const float v : file.constant(id).as<float>()) {
      if (!(std::abs(v) > kExact)) continue;
      ++count;
      if (std::abs(v) > std::abs(worst)) worst = v;
    }
    if (count > 0)
      out.inexact.push_back(
          {file.value(id).name, fmt::format("{} of {} elements, largest {:.0f}", count,
                                            file.constant(id).size(), worst)});
  }
}

void read_signs(const fs::path& path, LintInput& out) {
  const auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  if (!json.is_object() || !json.contains("inputs") || !json["inputs"].is_array()) return;
  for (const auto& input : json["inputs"])
    if (input.is_object() && input.contains("name") && input["name"].is_string() &&
        input.contains("signed") && input["signed"] == false)
      out.unsigned_inputs.insert(input["name"]);
}

}  // namespace

LintInput read_lint_input(const fs::path& given) {
  LintInput out;
  std::error_code error;
  const fs::path file = fs::is_directory(given, error) ? given / "network.onnx" : given;
  const fs::path folder = fs::absolute(file).lexically_normal().parent_path();
  out.path = folder.string();
  read_stated_shapes(read_file(file), out);
  std::vector<Tensor> arrays;
  if (fs::exists(folder / "inputs.npz", error)) {
    const NpzReader npz(folder / "inputs.npz");
    for (const NpzArray& array : npz.arrays()) arrays.push_back(npz.read(array.name));
    out.samples = std::move(arrays);
  }
  if (fs::exists(folder / "outputs.npz", error))
    out.goldens = NpzReader(folder / "outputs.npz").arrays().size();
  if (fs::exists(folder / "quantization.json", error))
    read_signs(folder / "quantization.json", out);
  try {
    const Graph graph = read_onnx(file);
    find_inexact(graph, out);
    out.integer = to_integer_network(graph);
    // The middle of a spelled-out Quant or Dequant: the consumer merges it before it asks.
    std::erase_if(out.unshaped, [&](const std::string& name) {
      return graph.find_value(name) && !out.integer.find_value(name);
    });
  } catch (Error& e) {
    // Shapes are what the checks are about; anything else is no network to look at.
    if (e.code() != ErrorCode::shape) {
      e.while_doing("reading an integer network to lint");
      throw;
    }
    out.invalid = fmt::format("{} {}", e.where(), e.found());
    out.samples.reset();
    out.goldens.reset();
  }
  return out;
}

}  // namespace waveq
