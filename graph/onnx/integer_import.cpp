#include "waveq/graph/integer_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "waveq/graph/infer.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/graph/op.h"
#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

// TensorProto.DataType, as the attribute `to` of Cast counts.
constexpr std::int64_t kOnnxInt32 = 6;
constexpr std::array kOnnxFloats{std::int64_t{1}, std::int64_t{10}, std::int64_t{11},
                                 std::int64_t{16}};

/// Standard operators that mean something on integers; movement and the dialect come on top.
const std::set<std::string_view>& integer_capable_ops() {
  // clang-format off
  static const std::set<std::string_view> names{
      "Abs", "Add", "Cast", "Clip", "Constant", "ConstantOfShape", "Conv", "ConvInteger",
      "Equal", "Gemm", "GlobalMaxPool", "Greater", "GreaterOrEqual", "Identity", "Less",
      "LessOrEqual", "MatMul", "MatMulInteger", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg",
      "Pad", "Range", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Shape",
      "Sign", "Size", "Sub", "Sum", "Where"};
  // clang-format on
  return names;
}

/// Div truncates integers only where the file types them as such; in float32 it makes fractions.
bool divides_integers(const Graph& graph, const Node& node) {
  return node.op == "Div" && is_integer(graph.value(node.outputs.front()).type.dtype);
}

/// First element that is no integer of at most 63 bits, or -1.
std::int64_t first_fractional(const Tensor& tensor) {
  if (tensor.dtype() != DType::f32) return -1;
  const auto values = tensor.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!(std::abs(values[i]) < 9.2e18F) || std::floor(values[i]) != values[i])
      return static_cast<std::int64_t>(i);
  return -1;
}

bool is_integral(const Tensor& tensor) { return first_fractional(tensor) < 0; }

/// The float tensor that a Constant node holds in whichever attribute, or nothing.
std::optional<Tensor> float_content(const Node& node) {
  if (node.op != "Constant") return std::nullopt;
  if (const Attr* value = node.attrs.find("value"))
    if (const auto* tensor = std::get_if<Tensor>(value); tensor && tensor->dtype() == DType::f32)
      return *tensor;
  if (node.attrs.has("value_float"))
    return Tensor::scalar(static_cast<float>(node.attrs.get_float("value_float", 0)));
  if (const Attr* value = node.attrs.find("value_floats"))
    if (const auto* list = std::get_if<std::vector<double>>(value)) {
      const std::vector<float> narrow(list->begin(), list->end());
      return Tensor::from<float>({static_cast<std::int64_t>(narrow.size())}, narrow);
    }
  return std::nullopt;
}

/// As i8, i32 or i64, the smallest from `at_least` on that holds all elements.
/// \throws Error{parse} naming `where`.
Tensor narrowest_integer(const Tensor& tensor, DType at_least, const std::string& where) {
  if (const std::int64_t i = first_fractional(tensor); i >= 0)
    throw Error(ErrorCode::parse, where,
                fmt::format("element {} is {}, not an integer", i,
                            tensor.as<float>()[static_cast<std::size_t>(i)]),
                "an integer network has integral constants; quantize a float network first");
  float low = 0, high = 0;
  for (float x : tensor.as<float>()) {
    low = std::min(low, x);
    high = std::max(high, x);
  }
  // All bounds are exact in float.
  if (at_least == DType::i8 && low >= -128.0F && high < 128.0F) return cast(tensor, DType::i8);
  if (low >= -2147483648.0F && high < 2147483648.0F) return cast(tensor, DType::i32);
  return cast(tensor, DType::i64);
}

/// Whether a constant is the bias of a product, which has the accumulator's type.
bool is_bias(const Graph& graph, ValueId id) {
  return std::ranges::any_of(graph.value(id).uses, [&](NodeId user) {
    const Node& node = graph.node(user);
    return (node.op == "Gemm" || node.op == "Conv") && node.inputs.size() > 2 &&
           node.inputs[2] == id;
  });
}

/// The part of a network that computes in float32: before a Quant and behind a Dequant.
class FloatPart {
 public:
  explicit FloatPart(const Graph& graph) : values_(graph.value_count()) {
    const std::vector<NodeId> order = graph.topological_order();
    for (bool grew = true; grew;) {
      grew = false;
      for (const NodeId id : order) grew |= spread(graph, graph.node(id));
    }
  }

  bool holds(ValueId id) const { return values_[static_cast<std::size_t>(id.index)]; }
  bool computes(const Node& node) const {
    return node.op != "Quant" && node.op != "Dequant" &&
           std::ranges::any_of(node.outputs, [&](ValueId v) { return v.valid() && holds(v); });
  }

 private:
  bool mark(const Graph& graph, const std::vector<ValueId>& values) {
    bool grew = false;
    for (const ValueId v : values) {
      if (!v.valid() || holds(v) || graph.value(v).type.dtype != DType::f32) continue;
      grew = values_[static_cast<std::size_t>(v.index)] = true;
    }
    return grew;
  }
  bool spread(const Graph& graph, const Node& node) {
    if (node.op == "Quant") return mark(graph, node.inputs);
    if (node.op == "Dequant") return mark(graph, node.outputs);
    const auto is_float = [&](ValueId v) { return v.valid() && holds(v); };
    if (!std::ranges::any_of(node.inputs, is_float) && !std::ranges::any_of(node.outputs, is_float))
      return false;
    const bool inputs = mark(graph, node.inputs);
    return mark(graph, node.outputs) || inputs;
  }

  std::vector<bool> values_;
};

void convert_constants(Graph& graph, const FloatPart& floats) {
  for (std::size_t i = 0; i < graph.value_count(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    if (!graph.is_constant(id) || graph.constant(id).dtype() != DType::f32 ||
        graph.use_count(id) == 0 || floats.holds(id))
      continue;
    graph.set_constant(
        id, narrowest_integer(graph.constant(id), is_bias(graph, id) ? DType::i32 : DType::i8,
                              fmt::format("tensor '{}'", graph.value(id).name)));
  }
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (floats.computes(node)) continue;
    Attrs attrs = node.attrs;
    if (const std::optional<Tensor> content = float_content(node)) {
      attrs.erase("value_float");
      attrs.erase("value_floats");
      attrs.set("value",
                narrowest_integer(*content, DType::i8, fmt::format("Constant '{}'", node.name)));
    } else if (node.op == "Cast" && std::ranges::count(kOnnxFloats, attrs.get_int("to", 0)) > 0) {
      attrs.set("to", kOnnxInt32);
    } else {
      continue;
    }
    graph.set_attrs(id, std::move(attrs));
  }
}

/// Input slots whose dtypes must agree; empty where the operator copes with mixtures or has one
/// input.
std::vector<std::size_t> same_type_slots(const Node& node) {
  std::vector<std::size_t> slots;
  if (node.op == "Concat" || node.op == "Max" || node.op == "Min" || node.op == "Clip") {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) slots.push_back(i);
  } else if (node.op == "Where") {
    slots = {1, 2};
  } else if (node.op == "Pad") {
    slots = {0, 2};
  }
  std::erase_if(slots,
                [&](std::size_t i) { return i >= node.inputs.size() || !node.inputs[i].valid(); });
  if (slots.size() < 2) slots.clear();
  return slots;
}

/// The smallest integer dtype that holds both.
DType common_type(DType a, DType b) {
  const std::int64_t low = std::min(lowest(a), lowest(b)), high = std::max(highest(a), highest(b));
  for (DType t : {DType::i8, DType::u8, DType::i16, DType::u16, DType::i32})
    if (lowest(t) <= low && highest(t) >= high) return t;
  return DType::i64;
}

/// A Cast that stands in an input slot until the types are known.
struct Widening {
  NodeId user;
  std::size_t slot;
  NodeId cast;
};

/// Puts a Cast to i32 in front of every input that must match another one, so that inference
/// passes.
std::vector<Widening> insert_casts(Graph& graph, const Graph& float_typed,
                                   const FloatPart& floats) {
  std::vector<Widening> casts;
  for (NodeId id : graph.nodes()) {
    if (floats.computes(graph.node(id))) continue;
    const std::vector<std::size_t> slots = same_type_slots(graph.node(id));
    // Shape arithmetic is not float in the original either; it stays as it is.
    const bool carried = std::ranges::any_of(slots, [&](std::size_t slot) {
      return float_typed.value(graph.node(id).inputs[slot]).type.dtype == DType::f32;
    });
    if (!carried) continue;
    for (std::size_t slot : slots) {
      const ValueId from = graph.node(id).inputs[slot];
      Node node;
      node.op = "Cast";
      node.name = fmt::format("{}_input_{}_cast", graph.node(id).name, slot);
      node.origin = graph.node(id).origin;
      node.inputs = {from};
      node.outputs = {graph.add_value(graph.value(from).name + "_cast")};
      node.attrs.set("to", kOnnxInt32);
      const ValueId to = node.outputs.front();
      const NodeId cast = graph.add_node(std::move(node));
      graph.set_input(id, slot, to);
      casts.push_back({id, slot, cast});
    }
  }
  return casts;
}

/// Drops the types of everything computed. What the file says of an unknown operator's outputs
/// stays, except float32: that is the spelling of "integer", and inference must not build on it.
void forget_types(Graph& graph) {
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    const bool known = find_op(node.op) != nullptr;
    for (ValueId out : node.outputs)
      if (out.valid() && (known || graph.value(out).type.dtype == DType::f32))
        graph.set_type(out, {});
  }
}

/// The Casts of one node, now that the types of their sources are known: keeps those that change
/// something, at the narrowest common type.
void settle(Graph& graph, std::span<const Widening> casts) {
  const auto source_type = [&](const Widening& w) {
    return graph.value(graph.node(w.cast).inputs.front()).type.dtype;
  };
  const bool all_integer =
      std::ranges::all_of(casts, [&](const Widening& w) { return is_integer(source_type(w)); });
  DType common = source_type(casts.front());
  for (const Widening& w : casts)
    if (all_integer) common = common_type(common, source_type(w));
  for (const Widening& w : casts) {
    if (all_integer && source_type(w) != common) {
      Attrs attrs;
      attrs.set("to", std::int64_t{onnx_type_code(common)});
      graph.set_attrs(w.cast, std::move(attrs));
    } else {
      graph.set_input(w.user, w.slot, graph.node(w.cast).inputs.front());
      graph.remove_node(w.cast);
    }
  }
}

/// Settles all Casts. What one node settles on changes types behind it, so nodes go in rounds: a
/// round takes those with equally many such nodes in front of them.
void settle_casts(Graph& graph, const std::vector<Widening>& casts) {
  std::map<NodeId, std::vector<Widening>> by_user;
  for (const Widening& w : casts) by_user[w.user].push_back(w);
  std::vector<std::vector<NodeId>> rounds;
  std::vector<std::size_t> depth(graph.node_count(), 0);
  for (NodeId id : graph.topological_order()) {
    std::size_t& own = depth[static_cast<std::size_t>(id.index)];
    for (ValueId in : graph.node(id).inputs)
      if (in.valid() && graph.value(in).producer.valid())
        own = std::max(own, depth[static_cast<std::size_t>(graph.value(in).producer.index)]);
    if (!by_user.contains(id)) continue;
    if (rounds.size() <= own) rounds.resize(own + 1);
    rounds[own].push_back(id);
    ++own;
  }
  for (const std::vector<NodeId>& round : rounds) {
    for (NodeId user : round) settle(graph, by_user[user]);
    forget_types(graph);
    infer_types(graph);
  }
}

}  // namespace

bool looks_integer(const Graph& file, std::span<const Tensor> sample_inputs) {
  const auto of_dialect = [&](NodeId id) {
    const OpDef* op = find_op(file.node(id).op);
    return op && op->dialect;
  };
  if (std::ranges::any_of(file.nodes(), of_dialect)) return true;
  Graph graph = file;
  merge_quantizers(graph);
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    const OpDef* op = find_op(node.op);
    if (!(op && (op->moves_data || op->dialect)) && !integer_capable_ops().contains(node.op) &&
        !divides_integers(graph, node))
      return false;
    if (const auto content = float_content(node); content && !is_integral(*content)) return false;
  }
  for (std::size_t i = 0; i < graph.value_count(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    if (graph.is_constant(id) && graph.use_count(id) > 0 && !is_integral(graph.constant(id)))
      return false;
  }
  const FloatPart floats(graph);
  for (std::size_t i = 0; i < sample_inputs.size(); ++i)
    if (!(i < graph.inputs().size() && floats.holds(graph.inputs()[i])) &&
        !is_integral(sample_inputs[i]))
      return false;
  return true;
}

Graph to_integer_network(const Graph& float_typed) {
  Graph spelled = float_typed;
  for (NodeId id : spelled.nodes()) {
    if (spelled.node(id).op != "Quant") continue;
    Attrs attrs = spelled.node(id).attrs;
    attrs.erase(kSpelledAsFloat);
    spelled.set_attrs(id, std::move(attrs));
  }
  merge_quantizers(spelled);
  const FloatPart floats(spelled);
  Graph graph = spelled;
  convert_constants(graph, floats);
  for (ValueId id : graph.inputs()) {
    const TensorType& type = graph.value(id).type;
    if (!graph.is_constant(id) && type.dtype == DType::f32 && !floats.holds(id))
      graph.set_type(id, {DType::i32, type.shape});
  }
  const std::vector<Widening> casts = insert_casts(graph, spelled, floats);
  forget_types(graph);
  infer_types(graph);
  if (casts.empty()) return graph;
  settle_casts(graph, casts);
  graph.compact();  // drops the values of the Casts that went away
  return graph;
}

Tensor to_integer_tensor(const Tensor& tensor, DType dtype, std::string_view where) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::data, std::string(where), what,
                fmt::format("the network wants {}", to_string(dtype)));
  };
  if (const std::int64_t i = first_fractional(tensor); i >= 0)
    refuse(fmt::format("element {} is {}, not an integer", i,
                       tensor.as<float>()[static_cast<std::size_t>(i)]));
  const std::vector<std::int64_t> wide =
      to_int64(tensor.dtype() == DType::f32 ? cast(tensor, DType::i64) : tensor);
  const auto outside = [&](std::int64_t x) { return x < lowest(dtype) || x > highest(dtype); };
  if (const auto bad = std::ranges::find_if(wide, outside); bad != wide.end())
    refuse(fmt::format("element {} is {}", bad - wide.begin(), *bad));
  return cast(tensor, dtype);
}

}  // namespace waveq
