#include "onnx/model_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "onnx/attribute_reader.h"
#include "waveq/graph/op.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

constexpr std::int64_t kOldestOpset = 7;

/// Bytes of a name that is no UTF-8, made printable for the message about it.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c >= ' ' && c <= '~' ? std::string(1, c)
                                : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

/// What a Constant node with this attribute holds.
Tensor constant_value(const std::string& name, const Attr& attr, const std::string& where) {
  const auto length = [](const auto& list) {
    return Shape{static_cast<std::int64_t>(list.size())};
  };
  if (const auto* t = std::get_if<Tensor>(&attr); t && name == "value") return *t;
  if (const auto* f = std::get_if<double>(&attr); f && name == "value_float")
    return Tensor::scalar(static_cast<float>(*f));
  if (const auto* i = std::get_if<std::int64_t>(&attr); i && name == "value_int")
    return Tensor::scalar(*i);
  if (const auto* floats = std::get_if<std::vector<double>>(&attr);
      floats && name == "value_floats") {
    Tensor value(DType::f32, length(*floats));
    std::ranges::transform(*floats, value.as<float>().begin(),
                           [](double v) { return static_cast<float>(v); });
    return value;
  }
  if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&attr);
      ints && name == "value_ints")
    return Tensor::from(length(*ints), *ints);
  throw Error(ErrorCode::unsupported, where, fmt::format("is a Constant with '{}'", name),
              "numbers in dense tensors are supported");
}

/// Some exporters write -1 for a dimension that is open.
bool is_fixed(const onnx::TensorShapeProto::Dimension& dim) {
  return dim.has_dim_value() && dim.dim_value() != -1;
}

}  // namespace

void bad_model(std::string where, std::string what, std::string hint) {
  throw Error(ErrorCode::parse, std::move(where), std::move(what), std::move(hint));
}

Graph ModelReader::read() {
  graph_.name = is_utf8(proto_.name()) ? proto_.name() : printable(proto_.name());
  graph_.opset = default_opset();
  for (const auto& f : model_.functions()) functions_.insert({f.domain(), f.name()});
  if (proto_.sparse_initializer_size() > 0)
    throw Error(ErrorCode::unsupported, "the graph", "has sparse initializers",
                "store them densely");
  read_initializers();
  read_inputs();
  read_nodes();
  connect_nodes();
  read_outputs();
  return std::move(graph_);
}

std::int64_t ModelReader::default_opset() const {
  std::optional<std::int64_t> version;
  for (const auto& import : model_.opset_import())
    if (import.domain().empty() || import.domain() == "ai.onnx") version = import.version();
  if (!version) {
    const bool custom_only =
        model_.opset_import_size() > 0 &&
        std::ranges::none_of(proto_.node(), [](const auto& n) { return n.domain().empty(); });
    if (custom_only) return Graph().opset;
    throw Error(ErrorCode::unsupported, "the model", "does not say which ONNX operator set it uses",
                fmt::format("export it with operator set {} or newer", kOldestOpset));
  }
  if (*version < kOldestOpset)
    throw Error(ErrorCode::unsupported, "the model",
                fmt::format("uses ONNX operator set {}", *version),
                fmt::format("export it with operator set {} or newer", kOldestOpset));
  return *version;
}

const std::string& ModelReader::value_name(const std::string& name,
                                           const std::string& where) const {
  if (name.empty()) bad_model(where, "has no name");
  if (!is_utf8(name)) bad_model(where, fmt::format("name '{}' is no UTF-8 text", printable(name)));
  return name;
}

void ModelReader::check_free(const std::string& name, const std::string& where) const {
  if (graph_.find_value(name))
    bad_model(where, fmt::format("defines the value '{}', which exists already", name),
              "each value must have one producer; export the model again");
}

void ModelReader::read_initializers() {
  for (int i = 0; i < proto_.initializer_size(); ++i) {
    onnx::TensorProto& tensor = *proto_.mutable_initializer(i);
    const std::string& name = value_name(tensor.name(), fmt::format("initializer {}", i));
    const std::string where = fmt::format("initializer '{}'", name);
    check_free(name, where);
    graph_.add_constant(name, read_tensor(tensor, where, base_dir_));
    delete tensor.release_raw_data();
  }
}

void ModelReader::close_given_symbols(const onnx::ValueInfoProto& info, const Shape& shape) {
  const std::string where = fmt::format("input '{}'", info.name());
  const auto& type = info.type().tensor_type();
  for (const std::int64_t d : shape)
    if (d < 1)
      throw Error(ErrorCode::invalid_argument, where,
                  fmt::format("cannot have shape {}", to_string(shape)),
                  "give positive dimensions to --input-shape");
  if (!type.has_shape()) return;
  if (static_cast<std::size_t>(type.shape().dim_size()) != shape.size())
    throw Error(ErrorCode::invalid_argument, where,
                fmt::format("has {} dimensions, the given shape {} has {}", type.shape().dim_size(),
                            to_string(shape), shape.size()),
                "correct --input-shape");
  for (int axis = 0; axis < type.shape().dim_size(); ++axis) {
    const auto& dim = type.shape().dim(axis);
    const std::int64_t given = shape[static_cast<std::size_t>(axis)];
    if (is_fixed(dim) && dim.dim_value() != given)
      throw Error(ErrorCode::invalid_argument, where,
                  fmt::format("has dimension {} fixed to {}, the given shape says {}", axis,
                              dim.dim_value(), given),
                  "correct --input-shape");
    if (!dim.dim_param().empty()) symbols_.emplace(dim.dim_param(), given);
  }
}

std::int64_t ModelReader::input_dim(const onnx::ValueInfoProto& info, int axis) {
  const auto& shape = info.type().tensor_type().shape();
  const auto& dim = shape.dim(axis);
  if (is_fixed(dim)) {
    if (dim.dim_value() < 0)
      bad_model(fmt::format("input '{}'", info.name()),
                fmt::format("has dimension {}", dim.dim_value()));
    return dim.dim_value();
  }
  const std::string symbol =
      is_utf8(dim.dim_param()) ? dim.dim_param() : printable(dim.dim_param());
  if (!symbol.empty())
    if (const auto known = symbols_.find(dim.dim_param()); known != symbols_.end())
      return known->second;
  if (axis == 0) {
    if (!symbol.empty()) symbols_.emplace(dim.dim_param(), options_.default_batch);
    return options_.default_batch;
  }
  std::vector<std::string> example;
  for (int i = 0; i < shape.dim_size(); ++i)
    example.push_back(is_fixed(shape.dim(i)) ? std::to_string(shape.dim(i).dim_value())
                      : i == 0               ? "1"
                                             : "N");
  throw Error(
      ErrorCode::shape, fmt::format("input '{}'", info.name()),
      fmt::format("leaves dimension {} open{}", axis,
                  symbol.empty() ? "" : fmt::format(" ('{}')", symbol)),
      fmt::format("close it with --input-shape {}={}", info.name(), fmt::join(example, ",")));
}

Shape ModelReader::input_shape(const onnx::ValueInfoProto& info) {
  if (const auto given = options_.input_shapes.find(info.name());
      given != options_.input_shapes.end())
    return given->second;
  const std::string where = fmt::format("input '{}'", info.name());
  if (!info.type().tensor_type().has_shape())
    throw Error(ErrorCode::shape, where, "states no shape",
                fmt::format("give one with --input-shape {}=1,N", info.name()));
  Shape shape;
  for (int axis = 0; axis < info.type().tensor_type().shape().dim_size(); ++axis)
    shape.push_back(input_dim(info, axis));
  return shape;
}

void ModelReader::read_inputs() {
  if (options_.default_batch < 1)
    throw Error(ErrorCode::invalid_argument, "default_batch",
                fmt::format("is {}", options_.default_batch), "use 1 or more");
  std::vector<const onnx::ValueInfoProto*> inputs;
  std::set<std::string> names;
  for (const auto& info : proto_.input()) {
    value_name(info.name(), "a graph input");
    if (!names.insert(info.name()).second)
      bad_model(fmt::format("input '{}'", info.name()), "is listed twice");
    if (!graph_.find_value(info.name()))
      inputs.push_back(&info);  // else it has an initializer: a constant
  }
  // Given shapes first: they may close symbols that other inputs share.
  for (const auto& [key, shape] : options_.input_shapes) {
    const std::string& name = key;
    const auto it =
        std::ranges::find_if(inputs, [&](const auto* info) { return info->name() == name; });
    if (it == inputs.end()) {
      std::vector<std::string> have;
      for (const auto* info : inputs) have.push_back(info->name());
      throw Error(ErrorCode::invalid_argument, fmt::format("--input-shape {}", name),
                  "names no input of the model",
                  fmt::format("its inputs are: {}", fmt::join(have, ", ")));
    }
    close_given_symbols(**it, shape);
  }
  for (const auto* info : inputs) {
    const std::string where = fmt::format("input '{}'", info->name());
    if (!info->type().has_tensor_type())
      throw Error(ErrorCode::unsupported, where, "is not a dense tensor",
                  "waveq handles dense tensors alone");
    TensorType type{dtype_from_onnx(info->type().tensor_type().elem_type(), where),
                    input_shape(*info)};
    std::int64_t count = 1;
    for (const std::int64_t d : type.shape)
      if (__builtin_mul_overflow(count, d, &count) || count > std::int64_t{1} << 33)
        bad_model(where, fmt::format("has an impossible shape {}", to_string(type.shape)));
    graph_.add_input(info->name(), std::move(type));
  }
}

std::string ModelReader::unique_node_name(const onnx::NodeProto& proto, int index) {
  std::string wanted = proto.name();
  const bool named = !wanted.empty();
  if (!named) wanted = fmt::format("{}_{}", proto.op_type(), index);
  // A name made up here must not take one that a later node brings along.
  const auto taken = [&](const std::string& name, bool own) {
    return node_names_.contains(name) || (!own && explicit_names_.contains(name));
  };
  std::string name = wanted;
  while (taken(name, named && name == wanted))
    name = fmt::format("{}_{}", wanted, ++name_counters_[wanted]);
  node_names_.insert(name);
  return name;
}

/// Constant nodes, and Identity of something constant, become constants. False for other nodes.
bool ModelReader::read_constant_node(const onnx::NodeProto& proto, const std::string& where) {
  if (proto.op_type() == "Identity" && proto.input_size() == 1 && proto.output_size() == 1) {
    const auto source = graph_.find_value(proto.input(0));
    if (!source || !graph_.is_constant(*source)) return false;
    check_free(value_name(proto.output(0), where + " output"), where);
    graph_.add_constant(proto.output(0), graph_.value(*source).constant);
    return true;
  }
  if (proto.op_type() != "Constant") return false;
  if (proto.output_size() != 1 || proto.attribute_size() != 1)
    bad_model(where, "is a Constant without exactly one value and one output");
  check_free(value_name(proto.output(0), where + " output"), where);
  const Attrs attrs = read_attributes(proto, where, base_dir_);
  const auto& [name, attr] = *attrs.all().begin();
  graph_.add_constant(proto.output(0), constant_value(name, attr, where));
  return true;
}

std::string ModelReader::operator_name(const onnx::NodeProto& proto, const std::string& where,
                                       Attrs& attrs) const {
  const std::string& op = proto.op_type();
  const std::string& domain = proto.domain();
  if (op.empty() || !is_utf8(op) || !is_utf8(domain))
    bad_model(where, "has no readable operator type");
  if (functions_.contains({domain, op})) {
    // The function's body decides what this computes, whatever operator shares its name.
    attrs.set("waveq_lost_function", std::string("call of a model-local function"));
    return fmt::format("{}::{}", domain, op);
  }
  const bool qonnx_quant = op == "Quant" && proto.input_size() > 1;
  if (!find_op(op) || qonnx_quant) {
    if (!domain.empty() && domain != "ai.onnx") attrs.set("waveq_domain", domain);
    return qonnx_quant ? std::string(kQonnxQuant) : op;
  }
  for (const auto& [name, kind] : attrs.all())
    if (name.starts_with("waveq_lost_"))
      throw Error(
          ErrorCode::unsupported, where,
          fmt::format("attribute '{}' is a {}", name.substr(11), std::get<std::string>(kind)));
  return op;
}

/// Makes differences between operator sets explicit that change what a node computes.
void ModelReader::canonicalize(const std::string& op, const std::string& where,
                               Attrs& attrs) const {
  if (graph_.opset < 13 && (op == "Softmax" || op == "LogSoftmax" || op == "Hardmax")) {
    if (!attrs.has("axis")) attrs.set("axis", std::int64_t{1});
    attrs.set("waveq_flatten", std::int64_t{1});
  }
  if (op == "Cast" && attrs.has("to")) {
    const std::int64_t to = attrs.get_int("to", 0);
    if (to < 0 || to > std::numeric_limits<std::int32_t>::max())
      bad_model(where, fmt::format("casts to element type {}", to));
    attrs.set("to", std::int64_t{kept_onnx_type(static_cast<std::int32_t>(to), where)});
  }
  if (op == "BatchNormalization" && graph_.opset < 9) {
    if (attrs.get_int("spatial", 1) != 1)
      throw Error(ErrorCode::unsupported, where, "normalizes each position apart (spatial = 0)",
                  "export with operator set 9 or newer");
    attrs.erase("spatial");
  }
}

void ModelReader::read_nodes() {
  for (const auto& proto : proto_.node()) {
    if (!is_utf8(proto.name()))
      bad_model(fmt::format("node '{}'", printable(proto.name())), "its name is no UTF-8 text");
    explicit_names_.insert(proto.name());
  }
  for (int i = 0; i < proto_.node_size(); ++i) {
    const onnx::NodeProto& proto = proto_.node(i);
    if (!is_utf8(proto.op_type()))
      bad_model(fmt::format("node {}", i), "its operator type is no UTF-8 text");
    Node node;
    node.name = unique_node_name(proto, i);
    const std::string where = fmt::format("{} '{}'", proto.op_type(), node.name);
    if (!functions_.contains({proto.domain(), proto.op_type()}) && read_constant_node(proto, where))
      continue;
    node.attrs = read_attributes(proto, where, base_dir_);
    node.op = operator_name(proto, where, node.attrs);
    canonicalize(node.op, where, node.attrs);
    node.origin = node.name;
    for (const std::string& output : proto.output()) {
      if (output.empty()) {
        node.outputs.push_back({});
        continue;
      }
      check_free(value_name(output, where + " output"), where);
      node.outputs.push_back(graph_.add_value(output));
    }
    pending_.push_back({&proto, std::move(node)});
  }
}

/// Nodes may come in any order, so inputs are looked up once all outputs are known.
void ModelReader::connect_nodes() {
  for (Pending& p : pending_) {
    for (const std::string& input : p.proto->input()) {
      const auto id = input.empty() ? std::optional(ValueId{}) : graph_.find_value(input);
      if (!id)
        bad_model(fmt::format("{} '{}'", p.node.op, p.node.name),
                  fmt::format("reads '{}', which nothing produces",
                              is_utf8(input) ? input : printable(input)));
      p.node.inputs.push_back(*id);
    }
    graph_.add_node(std::move(p.node));
  }
}

/// Attaches a type from the file to the output of an operator that waveq cannot infer.
void ModelReader::read_stated_type(const onnx::ValueInfoProto& info) {
  const auto id = graph_.find_value(info.name());
  if (!id || !info.type().has_tensor_type() || !info.type().tensor_type().has_shape()) return;
  const NodeId producer = graph_.value(*id).producer;
  if (!producer.valid() || find_op(graph_.node(producer).op)) return;
  TensorType type;
  std::int64_t count = 1;
  for (const auto& dim : info.type().tensor_type().shape().dim()) {
    const auto symbol = symbols_.find(dim.dim_param());
    if (!is_fixed(dim) && symbol == symbols_.end()) return;
    const std::int64_t d = is_fixed(dim) ? dim.dim_value() : symbol->second;
    if (d < 0 || __builtin_mul_overflow(count, d, &count) || count > std::int64_t{1} << 33)
      bad_model(fmt::format("value '{}'", info.name()), fmt::format("has dimension {}", d));
    type.shape.push_back(d);
  }
  const std::int32_t elem_type = info.type().tensor_type().elem_type();
  if (elem_type == onnx::TensorProto::UNDEFINED) return;
  type.dtype = dtype_from_onnx(elem_type, fmt::format("value '{}'", info.name()));
  graph_.set_type(*id, std::move(type));
}

void ModelReader::read_outputs() {
  if (proto_.output_size() == 0) bad_model("the graph", "has no outputs");
  for (const auto& info : proto_.output()) {
    const auto id = graph_.find_value(value_name(info.name(), "a graph output"));
    if (!id) bad_model(fmt::format("output '{}'", info.name()), "is produced by nothing");
    graph_.add_output(*id);
  }
  for (const auto& info : proto_.value_info()) read_stated_type(info);
  for (const auto& info : proto_.output()) read_stated_type(info);
  mark_spelled_quants();
}

/// Files of the dialect spell the integers that a Quant gives as float32, unless they say
/// otherwise.
void ModelReader::mark_spelled_quants() {
  std::set<std::string_view> integers;
  for (const auto* infos : {&proto_.value_info(), &proto_.output()})
    for (const auto& info : *infos)
      if (info.type().tensor_type().elem_type() > onnx::TensorProto::FLOAT)
        integers.insert(info.name());
  for (const NodeId id : graph_.nodes()) {
    const Node& node = graph_.node(id);
    if (node.op != "Quant" || integers.contains(graph_.value(node.outputs.front()).name)) continue;
    Attrs attrs = node.attrs;
    attrs.set(std::string(kSpelledAsFloat), std::int64_t{1});
    graph_.set_attrs(id, std::move(attrs));
  }
}

}  // namespace waveq
