#include "waveq/graph/onnx_writer.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <bit>
#include <cstring>
#include <limits>
#include <set>

#include "onnx/opset_forms.h"
#include "waveq/graph/file.h"
#include "waveq/graph/op.h"

namespace waveq {

std::int32_t onnx_type_code(DType dtype) {
  switch (dtype) {
    case DType::undefined:
      return onnx::TensorProto::UNDEFINED;
    case DType::f32:
      return onnx::TensorProto::FLOAT;
    case DType::i8:
      return onnx::TensorProto::INT8;
    case DType::u8:
      return onnx::TensorProto::UINT8;
    case DType::i16:
      return onnx::TensorProto::INT16;
    case DType::u16:
      return onnx::TensorProto::UINT16;
    case DType::i32:
      return onnx::TensorProto::INT32;
    case DType::i64:
      return onnx::TensorProto::INT64;
    case DType::boolean:
      return onnx::TensorProto::BOOL;
  }
  return onnx::TensorProto::UNDEFINED;
}

namespace {

/// float32 has 24 significant bits: more between the highest and the lowest set bit would be
/// rounded.
bool float_holds(std::int64_t value) {
  if (value == 0) return true;
  const auto bits = static_cast<std::uint64_t>(value);
  const std::uint64_t magnitude = value < 0 ? 0 - bits : bits;
  return magnitude >> std::countr_zero(magnitude) < (std::uint64_t{1} << 24);
}

/// The graph's operator set, or the first newer one that has all of its operators.
std::int64_t fitting_opset(const Graph& graph) {
  std::int64_t opset = graph.opset;
  for (const NodeId id : graph.nodes()) opset = std::max(opset, first_opset(graph.node(id)));
  return opset;
}

class ModelWriter {
 public:
  ModelWriter(const Graph& graph, const OnnxWriteOptions& options)
      : graph_(graph),
        options_(options),
        opset_(options.opset != 0 ? options.opset : fitting_opset(graph)) {
    if (opset_ < 7 || (options.ir_version != 0 && options.ir_version < 4))
      throw Error(
          ErrorCode::invalid_argument, "ONNX writer",
          fmt::format("cannot write operator set {} and IR version {}", opset_, options.ir_version),
          "use operator set 7 and IR version 4 or newer");
    if (options.integers_as_float) find_data_uses();
  }

  onnx::ModelProto write() {
    model_.set_ir_version(options_.ir_version != 0 ? options_.ir_version : ir_version_for(opset_));
    model_.set_producer_name(options_.producer);
    onnx::GraphProto& proto = *model_.mutable_graph();
    proto.set_name(graph_.name.empty() ? "graph" : graph_.name);
    for (const NodeId id : graph_.topological_order()) write_node(graph_.node(id));
    std::set<ValueId> interface;
    for (const ValueId id : graph_.inputs()) {
      interface.insert(id);
      if (!graph_.is_constant(id)) write_info(id, *proto.add_input());
    }
    for (const ValueId id : graph_.outputs()) {
      interface.insert(id);
      if (graph_.is_constant(id)) data_constants_.insert(id);
      write_info(id, *proto.add_output());
    }
    write_initializers();
    if (options_.value_info) write_value_info(interface);
    write_imports();
    return std::move(model_);
  }

 private:
  void find_data_uses();
  void write_node(const Node& node);
  void write_inputs(const Node& node, const NodeForm& form, onnx::NodeProto& proto);
  void write_attribute(const std::string& name, const Attr& attr, const std::string& where,
                       onnx::NodeProto& proto);
  void write_tensor(const Tensor& tensor, bool as_float, const std::string& where,
                    onnx::TensorProto& proto) const;
  void write_info(ValueId id, onnx::ValueInfoProto& info) const;
  void write_initializers();
  void write_value_info(const std::set<ValueId>& interface);
  void write_imports();
  std::string fresh_name(const std::string& wanted);
  bool becomes_float(DType dtype) const { return options_.integers_as_float && is_integer(dtype); }

  const Graph& graph_;
  const OnnxWriteOptions& options_;
  const std::int64_t opset_;
  onnx::ModelProto model_;
  std::set<ValueId>
      data_uses_;  ///< constants that some node takes as data; with integers_as_float alone
  std::set<ValueId> data_constants_;  ///< to be written, as float where integers are
  std::map<ValueId, std::string>
      structural_constants_;  ///< to be written as integers, under this name
  std::set<std::string> made_names_;
  std::set<std::string> domains_;
};

/// A constant that is data in one place and a shape in another has to be written twice.
void ModelWriter::find_data_uses() {
  data_uses_.insert(graph_.outputs().begin(), graph_.outputs().end());
  for (const NodeId id : graph_.nodes()) {
    const Node& node = graph_.node(id);
    for (std::size_t slot = 0; slot < node.inputs.size(); ++slot)
      if (!is_structural_input(node.op, slot)) data_uses_.insert(node.inputs[slot]);
  }
}

std::string ModelWriter::fresh_name(const std::string& wanted) {
  std::string name = wanted;
  for (int i = 1; graph_.find_value(name) || made_names_.contains(name); ++i)
    name = fmt::format("{}_{}", wanted, i);
  made_names_.insert(name);
  return name;
}

void ModelWriter::write_node(const Node& node) {
  const std::string where = fmt::format("{} '{}'", node.op, node.name);
  onnx::NodeProto& proto = *model_.mutable_graph()->add_node();
  const NodeForm form = form_for_opset(graph_, node, opset_);
  proto.set_op_type(form.op);
  proto.set_name(node.name);
  const OpDef* op = find_op(node.op);
  std::string domain = node.attrs.get_string("waveq_domain", "");
  if (op && op->dialect) domain = options_.domain_for_dialect;
  if (!domain.empty()) {
    proto.set_domain(domain);
    domains_.insert(domain);
  }
  write_inputs(node, form, proto);
  for (const ValueId out : node.outputs)
    proto.add_output(out.valid() ? graph_.value(out).name : "");
  for (const auto& [name, attr] : form.attrs.all()) write_attribute(name, attr, where, proto);
}

void ModelWriter::write_inputs(const Node& node, const NodeForm& form, onnx::NodeProto& proto) {
  for (std::size_t slot = 0; slot < form.inputs.size(); ++slot) {
    const FormInput& in = form.inputs[slot];
    const bool structural = is_structural_input(form.op, slot);
    if (!in.name.empty()) {
      onnx::TensorProto& made = *model_.mutable_graph()->add_initializer();
      made.set_name(fresh_name(fmt::format("{}_{}", node.name, in.name)));
      write_tensor(in.made, !structural, made.name(), made);
      proto.add_input(made.name());
    } else if (!in.value.valid()) {
      proto.add_input("");
    } else if (graph_.is_constant(in.value) && structural &&
               becomes_float(graph_.value(in.value).type.dtype)) {
      std::string& name = structural_constants_[in.value];
      const std::string& own = graph_.value(in.value).name;
      if (name.empty()) name = data_uses_.contains(in.value) ? fresh_name(own + "_int") : own;
      proto.add_input(name);
    } else {
      if (graph_.is_constant(in.value)) data_constants_.insert(in.value);
      proto.add_input(graph_.value(in.value).name);
    }
  }
}

void ModelWriter::write_attribute(const std::string& name, const Attr& attr,
                                  const std::string& where, onnx::NodeProto& node) {
  onnx::AttributeProto& proto = *node.add_attribute();
  proto.set_name(name);
  if (const auto* i = std::get_if<std::int64_t>(&attr)) {
    proto.set_type(onnx::AttributeProto::INT);
    proto.set_i(*i);
  } else if (const auto* f = std::get_if<double>(&attr)) {
    proto.set_type(onnx::AttributeProto::FLOAT);
    proto.set_f(static_cast<float>(*f));
  } else if (const auto* s = std::get_if<std::string>(&attr)) {
    proto.set_type(onnx::AttributeProto::STRING);
    proto.set_s(*s);
  } else if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&attr)) {
    proto.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t v : *ints) proto.add_ints(v);
  } else if (const auto* floats = std::get_if<std::vector<double>>(&attr)) {
    proto.set_type(onnx::AttributeProto::FLOATS);
    for (const double v : *floats) proto.add_floats(static_cast<float>(v));
  } else if (const auto* strings = std::get_if<std::vector<std::string>>(&attr)) {
    proto.set_type(onnx::AttributeProto::STRINGS);
    for (const std::string& v : *strings) proto.add_strings(v);
  } else {
    proto.set_type(onnx::AttributeProto::TENSOR);
    write_tensor(std::get<Tensor>(attr), true, fmt::format("{}, attribute '{}'", where, name),
                 *proto.mutable_t());
  }
}

void ModelWriter::write_tensor(const Tensor& tensor, bool may_be_float, const std::string& where,
                               onnx::TensorProto& proto) const {
  for (const std::int64_t d : tensor.shape()) proto.add_dims(d);
  const bool as_float = may_be_float && becomes_float(tensor.dtype());
  proto.set_data_type(as_float ? onnx::TensorProto::FLOAT : onnx_type_code(tensor.dtype()));
  if (as_float)
    for (const std::int64_t v : to_int64(tensor))
      if (!float_holds(v))
        throw Error(ErrorCode::unsupported, where,
                    fmt::format("holds {}, which float32 cannot represent", v),
                    "choose scales that keep constants below 2^24");
  const Tensor converted = as_float ? cast(tensor, DType::f32) : Tensor();
  const auto bytes = as_float ? converted.bytes() : tensor.bytes();
  proto.set_raw_data(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void ModelWriter::write_info(ValueId id, onnx::ValueInfoProto& info) const {
  const Value& value = graph_.value(id);
  info.set_name(value.name);
  if (!value.type.known()) return;
  auto& type = *info.mutable_type()->mutable_tensor_type();
  type.set_elem_type(becomes_float(value.type.dtype) ? onnx::TensorProto::FLOAT
                                                     : onnx_type_code(value.type.dtype));
  type.mutable_shape();  // present even for scalars
  for (const std::int64_t d : value.type.shape) type.mutable_shape()->add_dim()->set_dim_value(d);
}

void ModelWriter::write_initializers() {
  for (const ValueId id : data_constants_) {
    onnx::TensorProto& proto = *model_.mutable_graph()->add_initializer();
    proto.set_name(graph_.value(id).name);
    write_tensor(graph_.constant(id), true, fmt::format("constant '{}'", proto.name()), proto);
  }
  for (const auto& [id, name] : structural_constants_) {
    onnx::TensorProto& proto = *model_.mutable_graph()->add_initializer();
    proto.set_name(name);
    write_tensor(graph_.constant(id), false, name, proto);
  }
}

void ModelWriter::write_value_info(const std::set<ValueId>& interface) {
  for (std::size_t i = 0; i < graph_.value_count(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    const Value& value = graph_.value(id);
    if (value.producer.valid() && value.type.known() && !interface.contains(id))
      write_info(id, *model_.mutable_graph()->add_value_info());
  }
}

void ModelWriter::write_imports() {
  auto& standard = *model_.add_opset_import();
  standard.set_domain("");
  standard.set_version(opset_);
  for (const std::string& domain : domains_) {
    auto& import = *model_.add_opset_import();
    import.set_domain(domain);
    import.set_version(1);
  }
}

}  // namespace

std::string to_onnx_bytes(const Graph& graph, const OnnxWriteOptions& options) {
  const onnx::ModelProto model = ModelWriter(graph, options).write();
  if (model.ByteSizeLong() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error(ErrorCode::unsupported, "ONNX writer", "the model is larger than 2 GiB");
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    WAVEQ_CHECK(model.SerializeToCodedStream(&coded));
  }
  return bytes;
}

void write_onnx(const std::filesystem::path& path, const Graph& graph,
                const OnnxWriteOptions& options) {
  write_file(path, to_onnx_bytes(graph, options));
}

}  // namespace waveq
