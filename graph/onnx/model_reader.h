#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "onnx/tensor_reader.h"
#include "waveq/graph/graph.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {

/// \throws Error{parse}.
[[noreturn]] void bad_model(std::string where, std::string what,
                            std::string hint = "the model is damaged; export it again");

/// Builds a Graph from one ModelProto, which it takes apart on the way to save memory.
class ModelReader {
 public:
  ModelReader(onnx::ModelProto& model, const BaseDir& base_dir, const ReadOptions& options)
      : model_(model), proto_(*model.mutable_graph()), base_dir_(base_dir), options_(options) {}

  Graph read();

 private:
  struct Pending {
    const onnx::NodeProto* proto;
    Node node;  ///< inputs still missing
  };

  std::int64_t default_opset() const;
  const std::string& value_name(const std::string& name, const std::string& where) const;
  void check_free(const std::string& name, const std::string& where) const;
  void read_initializers();
  void read_inputs();
  void close_given_symbols(const onnx::ValueInfoProto& info, const Shape& shape);
  Shape input_shape(const onnx::ValueInfoProto& info);
  std::int64_t input_dim(const onnx::ValueInfoProto& info, int axis);
  void read_nodes();
  std::string unique_node_name(const onnx::NodeProto& proto, int index);
  bool read_constant_node(const onnx::NodeProto& proto, const std::string& where);
  std::string operator_name(const onnx::NodeProto& proto, const std::string& where,
                            Attrs& attrs) const;
  void mark_spelled_quants();
  void canonicalize(const std::string& op, const std::string& where, Attrs& attrs) const;
  void connect_nodes();
  void read_outputs();
  void read_stated_type(const onnx::ValueInfoProto& info);

  onnx::ModelProto& model_;
  onnx::GraphProto& proto_;
  const BaseDir& base_dir_;
  const ReadOptions& options_;
  Graph graph_;
  std::set<std::pair<std::string, std::string>> functions_;
  std::map<std::string, std::int64_t> symbols_;  ///< values of symbolic dimensions
  std::set<std::string> explicit_names_, node_names_;
  std::map<std::string, int> name_counters_;
  std::vector<Pending> pending_;
};

}  // namespace waveq
