#include "waveq/graph/onnx_reader.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include <limits>
#include <new>

#include "onnx/inline_graphs.h"
#include "onnx/mixed_spelling.h"
#include "onnx/model_reader.h"
#include "waveq/graph/file.h"
#include "waveq/graph/infer.h"

namespace waveq {

namespace fs = std::filesystem;

namespace {

constexpr int kMaxNesting = 64;  // messages in messages; subgraphs need three levels each

void parse_protobuf(std::span<const std::byte> bytes, onnx::ModelProto& model) {
  if (bytes.empty()) bad_model("the file", "is empty", "name an .onnx file");
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    bad_model("the file", "is longer than protobuf allows (2 GiB)",
              "keep the weights as external data");
  google::protobuf::LogSilencer quiet;  // what is wrong is in our Error
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetRecursionLimit(kMaxNesting);
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage())
    bad_model("the file", "is no ONNX model, or is truncated", "name a complete .onnx file");
  if (!model.has_graph())
    bad_model("the file", "is no ONNX model: it has no graph", "name an .onnx file");
}

/// A condition that follows from constants and static shapes alone.
std::optional<bool> known_condition(const onnx::ModelProto& model, const std::string& value,
                                    const BaseDir& base_dir, const ReadOptions& options) {
  onnx::ModelProto part = part_that_computes(model, value);
  try {
    Graph graph = ModelReader(part, base_dir, options).read();
    agree_on_spelling(graph);
    const auto content = known_content(graph, graph.outputs().front());
    if (!content || content->dtype() != DType::boolean || content->size() != 1) return std::nullopt;
    return content->as<bool>()[0];
  } catch (const Error&) {
    return std::nullopt;  // whatever is wrong, reading the whole model says it better
  }
}

}  // namespace

Graph read_onnx(std::span<const std::byte> bytes, const std::string& name, const BaseDir& base_dir,
                const ReadOptions& options) {
  try {
    onnx::ModelProto model;
    parse_protobuf(bytes, model);
    inline_functions(model);
    inline_branches(model, [&](const onnx::ModelProto& whole, const std::string& condition) {
      return known_condition(whole, condition, base_dir, options);
    });
    Graph graph = ModelReader(model, base_dir, options).read();
    agree_on_spelling(graph);
    infer_types(graph);
    return graph;
  } catch (Error& e) {
    e.while_doing(fmt::format("reading the model {}", name));
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::io, name, "does not fit into memory");
  }
}

Graph read_onnx(const fs::path& path, const ReadOptions& options) {
  const std::string bytes = read_file(path);
  return read_onnx(std::as_bytes(std::span(bytes)), path.string(), path.parent_path(), options);
}

}  // namespace waveq
