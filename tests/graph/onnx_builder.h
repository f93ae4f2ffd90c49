#pragma once

#include <doctest/doctest.h>
#include <onnx/onnx_pb.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/onnx_reader.h"

/// Models put together field by field, for tests of the reader and the writer.
namespace waveq::test {

inline onnx::ModelProto model(std::int64_t opset = 13, std::int64_t ir_version = 8) {
  onnx::ModelProto m;
  m.set_ir_version(ir_version);
  m.add_opset_import()->set_version(opset);
  m.mutable_graph()->set_name("test");
  return m;
}

/// Dimensions: a number, or text for a symbolic one ("" for one that is plainly unknown).
struct Dim {
  Dim(std::int64_t v) : value(v) {}              // NOLINT: reads as a list of dimensions
  Dim(const char* s) : symbol(s), open(true) {}  // NOLINT
  std::int64_t value = 0;
  std::string symbol;
  bool open = false;
};

inline void describe(onnx::ValueInfoProto& info, std::string_view name,
                     std::initializer_list<Dim> dims, int type = onnx::TensorProto::FLOAT) {
  info.set_name(std::string(name));
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape();
  for (const Dim& d : dims) {
    auto& dim = *tensor.mutable_shape()->add_dim();
    if (!d.open)
      dim.set_dim_value(d.value);
    else if (!d.symbol.empty())
      dim.set_dim_param(d.symbol);
  }
}

inline void input(onnx::ModelProto& m, std::string_view name, std::initializer_list<Dim> dims,
                  int type = onnx::TensorProto::FLOAT) {
  describe(*m.mutable_graph()->add_input(), name, dims, type);
}

inline void output(onnx::ModelProto& m, std::string_view name) {
  m.mutable_graph()->add_output()->set_name(std::string(name));
}

inline onnx::NodeProto& node(onnx::ModelProto& m, std::string_view op,
                             std::initializer_list<const char*> inputs,
                             std::initializer_list<const char*> outputs,
                             std::string_view name = "") {
  onnx::NodeProto& n = *m.mutable_graph()->add_node();
  n.set_op_type(std::string(op));
  if (!name.empty()) n.set_name(std::string(name));
  for (const char* i : inputs) n.add_input(std::string(i));  // a literal trips -Wrestrict of gcc 12
  for (const char* o : outputs) n.add_output(std::string(o));
  return n;
}

inline void attr(onnx::NodeProto& n, std::string_view name, std::int64_t value) {
  auto& a = *n.add_attribute();
  a.set_name(std::string(name));
  a.set_type(onnx::AttributeProto::INT);
  a.set_i(value);
}

inline void attr(onnx::NodeProto& n, std::string_view name,
                 const std::vector<std::int64_t>& values) {
  auto& a = *n.add_attribute();
  a.set_name(std::string(name));
  a.set_type(onnx::AttributeProto::INTS);
  for (const std::int64_t v : values) a.add_ints(v);
}

inline void attr_float(onnx::NodeProto& n, std::string_view name, float value) {
  auto& a = *n.add_attribute();
  a.set_name(std::string(name));
  a.set_type(onnx::AttributeProto::FLOAT);
  a.set_f(value);
}

template <class T>
void fill_raw(onnx::TensorProto& t, int type, std::initializer_list<std::int64_t> dims,
              const std::vector<T>& values) {
  t.set_data_type(type);
  for (const std::int64_t d : dims) t.add_dims(d);
  t.set_raw_data(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

template <class T>
onnx::TensorProto& initializer(onnx::ModelProto& m, std::string_view name, int type,
                               std::initializer_list<std::int64_t> dims,
                               const std::vector<T>& values) {
  onnx::TensorProto& t = *m.mutable_graph()->add_initializer();
  t.set_name(std::string(name));
  fill_raw(t, type, dims, values);
  return t;
}

inline Graph read_bytes(std::string_view bytes, const ReadOptions& options = {}) {
  return read_onnx(std::as_bytes(std::span(bytes)), "test.onnx", {}, options);
}

inline Graph read(const onnx::ModelProto& m, const ReadOptions& options = {}) {
  return read_bytes(m.SerializeAsString(), options);
}

/// A small network with several operators, constants of several types and a shape computation.
inline onnx::ModelProto small_model() {
  using onnx::TensorProto;
  onnx::ModelProto m = model();
  input(m, "x", {1, 2, 8});
  initializer<float>(m, "w", TensorProto::FLOAT, {3, 2, 3}, std::vector<float>(18, 0.25f));
  initializer<float>(m, "b", TensorProto::FLOAT, {3}, {1, 2, 3});
  initializer<std::int64_t>(m, "shape", TensorProto::INT64, {2}, {1, -1});
  initializer<float>(m, "w2", TensorProto::FLOAT, {12, 4}, std::vector<float>(48, -0.5f));
  auto& conv = node(m, "Conv", {"x", "w", "b"}, {"c"}, "conv");
  attr(conv, "kernel_shape", std::vector<std::int64_t>{3});
  attr(conv, "strides", std::vector<std::int64_t>{2});
  attr(conv, "pads", std::vector<std::int64_t>{1, 1});
  node(m, "Relu", {"c"}, {"r"}, "relu");
  node(m, "Reshape", {"r", "shape"}, {"flat"}, "flatten");
  node(m, "MatMul", {"flat", "w2"}, {"y"}, "head");
  attr(node(m, "Softmax", {"y"}, {"p"}, "softmax"), "axis", std::int64_t{-1});
  output(m, "p");
  return m;
}

/// The error that reading `m` ends in.
inline Error error_of(const onnx::ModelProto& m, const ReadOptions& options = {}) {
  try {
    read(m, options);
  } catch (const Error& e) {
    return e;
  }
  FAIL("no error");
  return Error(ErrorCode::internal, "", "");
}

inline bool says(const Error& e, std::string_view text) {
  return std::string_view(e.what()).find(text) != std::string::npos;
}

}  // namespace waveq::test
