#include "onnx/opset_forms.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "waveq/graph/quantizer.h"

namespace waveq {

namespace {

enum class Kind {
  ints,         ///< list of integers <-> int64 [n]
  one_int,      ///< integer <-> int64 [1]
  floats,       ///< list of floats <-> f32 [n]
  float_value,  ///< float <-> f32 scalar
  data_value,   ///< float <-> scalar of the data input's dtype
};

/// A parameter that is an attribute in operator sets below `since` and input `slot` from there on.
struct Moved {
  std::string_view op, attr;
  std::size_t slot;
  std::int64_t since;
  Kind kind;
};

constexpr Moved kMoved[] = {
    {"Upsample", "scales", 1, 9, Kind::floats},
    {"Slice", "starts", 1, 10, Kind::ints},
    {"Slice", "ends", 2, 10, Kind::ints},
    {"Slice", "axes", 3, 10, Kind::ints},
    {"Slice", "steps", 4, 10, Kind::ints},
    {"TopK", "k", 1, 10, Kind::one_int},
    {"Clip", "min", 1, 11, Kind::data_value},
    {"Clip", "max", 2, 11, Kind::data_value},
    {"Pad", "pads", 1, 11, Kind::ints},
    {"Pad", "value", 2, 11, Kind::data_value},
    {"Dropout", "ratio", 1, 12, Kind::float_value},
    {"Squeeze", "axes", 1, 13, Kind::ints},
    {"Unsqueeze", "axes", 1, 13, Kind::ints},
    {"ReduceSum", "axes", 1, 13, Kind::ints},
    {"Split", "split", 1, 13, Kind::ints},
    {"ReduceMean", "axes", 1, 18, Kind::ints},
    {"ReduceMax", "axes", 1, 18, Kind::ints},
    {"ReduceMin", "axes", 1, 18, Kind::ints},
    {"ReduceProd", "axes", 1, 18, Kind::ints},
    {"ReduceL1", "axes", 1, 18, Kind::ints},
    {"ReduceL2", "axes", 1, 18, Kind::ints},
    {"ReduceLogSum", "axes", 1, 18, Kind::ints},
    {"ReduceLogSumExp", "axes", 1, 18, Kind::ints},
    {"ReduceSumSquare", "axes", 1, 18, Kind::ints},
};

/// An attribute that exists from `since` on; below, it is left out where it says what always held.
struct Added {
  std::string_view op, attr;
  std::int64_t since;
  std::int64_t held;  ///< for lists, every entry
};

constexpr Added kAdded[] = {
    {"Slice", "steps", 10, 1},
    {"MaxPool", "ceil_mode", 10, 0},
    {"MaxPool", "dilations", 10, 1},
    {"AveragePool", "ceil_mode", 10, 0},
    {"AveragePool", "dilations", 19, 1},
    {"ArgMax", "select_last_index", 12, 0},
    {"ArgMin", "select_last_index", 12, 0},
    {"QuantizeLinear", "axis", 13, 1},
    {"DequantizeLinear", "axis", 13, 1},
    {"ReduceSum", "noop_with_empty_axes", 13, 0},
    {"Reshape", "allowzero", 14, 0},
    {"BatchNormalization", "training_mode", 14, 0},
    {"GRU", "layout", 14, 0},
    {"LSTM", "layout", 14, 0},
    {"RNN", "layout", 14, 0},
    {"Shape", "start", 15, 0},
    {"Shape", "end", 15, std::numeric_limits<std::int64_t>::max()},
    {"ReduceMean", "noop_with_empty_axes", 18, 0},
    {"ReduceMax", "noop_with_empty_axes", 18, 0},
    {"ReduceMin", "noop_with_empty_axes", 18, 0},
    {"ReduceProd", "noop_with_empty_axes", 18, 0},
    {"ReduceL1", "noop_with_empty_axes", 18, 0},
    {"ReduceL2", "noop_with_empty_axes", 18, 0},
    {"ReduceLogSum", "noop_with_empty_axes", 18, 0},
    {"ReduceLogSumExp", "noop_with_empty_axes", 18, 0},
    {"ReduceSumSquare", "noop_with_empty_axes", 18, 0},
    {"Resize", "antialias", 18, 0},
    {"Cast", "saturate", 19, 1},
    {"QuantizeLinear", "saturate", 19, 1},
};

/// Operator sets in which an operator exists, where that is not all of 9 to 21 and later.
struct Lifetime {
  std::string_view op;
  std::int64_t first;
  std::int64_t last = std::numeric_limits<std::int64_t>::max();
};

constexpr Lifetime kLifetimes[] = {
    {"Scatter", 9, 10},
    {"Erf", 9},
    {"Where", 9},
    {"Sign", 9},
    {"ConstantOfShape", 9},
    {"Sinh", 9},
    {"Cosh", 9},
    {"Expand", 8},
    {"OneHot", 9},
    {"Shrink", 9},
    {"IsNaN", 9},
    {"QuantizeLinear", 10},
    {"DequantizeLinear", 10},
    {"QLinearConv", 10},
    {"QLinearMatMul", 10},
    {"ConvInteger", 10},
    {"MatMulInteger", 10},
    {"Mod", 10},
    {"Round", 11},
    {"BitShift", 11},
    {"CumSum", 11},
    {"Range", 11},
    {"GatherElements", 11},
    {"ScatterND", 11},
    {"GatherND", 11},
    {"ScatterElements", 11},
    {"DynamicQuantizeLinear", 11},
    {"Einsum", 12},
    {"Celu", 12},
    {"GreaterOrEqual", 12},
    {"LessOrEqual", 12},
    {"HardSwish", 14},
    {"Trilu", 14},
    {"LayerNormalization", 17},
    {"Mish", 18},
    {"GroupNormalization", 18},
    {"Gelu", 20},
};

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

[[noreturn]] void cannot(const Node& node, std::int64_t opset, std::string what,
                         std::string hint = {}) {
  throw Error(ErrorCode::unsupported, place(node),
              fmt::format("{}, which operator set {} cannot express", what, opset),
              std::move(hint));
}

/// Type of input 0, or nothing known.
TensorType data_type(const Graph& graph, const Node& node) {
  return node.inputs.empty() || !node.inputs[0].valid() ? TensorType{}
                                                        : graph.value(node.inputs[0]).type;
}

Tensor int_list(const std::vector<std::int64_t>& values) {
  return Tensor::from({static_cast<std::int64_t>(values.size())}, values);
}

Tensor to_input(const Moved& row, const NodeForm& form, const TensorType& data) {
  switch (row.kind) {
    case Kind::ints:
      return int_list(form.attrs.get_ints(row.attr, {}));
    case Kind::one_int:
      return int_list({form.attrs.get_int(row.attr, 0)});
    case Kind::float_value:
      return Tensor::scalar(static_cast<float>(form.attrs.get_float(row.attr, 0)));
    case Kind::floats: {
      const Attr& attr = *form.attrs.find(row.attr);
      const auto* list = std::get_if<std::vector<double>>(&attr);
      if (!list)
        throw Error(ErrorCode::parse, fmt::format("attribute '{}'", row.attr),
                    "is not a list of floats");
      return Tensor::from({static_cast<std::int64_t>(list->size())},
                          std::vector<float>(list->begin(), list->end()));
    }
    case Kind::data_value:
      break;
  }
  const Tensor value = Tensor::scalar(static_cast<float>(form.attrs.get_float(row.attr, 0)));
  return data.known() ? cast(value, data.dtype) : value;
}

Attr to_attr(const Moved& row, const Tensor& tensor, const Node& node, std::int64_t opset) {
  const bool wants_ints = row.kind == Kind::ints || row.kind == Kind::one_int;
  const bool wants_one = row.kind != Kind::ints && row.kind != Kind::floats;
  if ((wants_one && tensor.size() != 1) || (wants_ints && !is_integer(tensor.dtype())))
    cannot(node, opset, fmt::format("has a {} of type {}", row.attr, to_string(tensor.type())));
  if (row.kind == Kind::ints) return to_int64(tensor);
  if (row.kind == Kind::one_int) return to_int64(tensor).front();
  if (row.kind == Kind::floats) return to_double(tensor);
  return to_double(tensor).front();
}

void drop_absent_tail(NodeForm& form) {
  while (!form.inputs.empty() && !form.inputs.back().value.valid() &&
         form.inputs.back().name.empty())
    form.inputs.pop_back();
}

/// Inputs without an attribute form may go where they say what the older operator does anyway.
bool says_nothing(const Graph& graph, const Node& node, std::size_t slot, ValueId input) {
  if (!graph.is_constant(input)) return false;
  const Tensor& t = graph.constant(input);
  if (node.op == "Slice" && slot == 4 && is_integer(t.dtype()))  // steps
    return std::ranges::all_of(to_int64(t), [](std::int64_t step) { return step == 1; });
  if (node.op == "Dropout" && slot == 2 && t.dtype() == DType::boolean)  // training_mode
    return std::ranges::none_of(t.as<bool>(), [](bool on) { return on; });
  return false;
}

void move_parameters(const Graph& graph, const Node& node, std::int64_t opset, NodeForm& form) {
  bool attribute_form = false;
  for (const Moved& row : kMoved) {
    if (row.op != node.op) continue;
    attribute_form |= opset < row.since;
    const bool is_input = row.slot < form.inputs.size() && form.inputs[row.slot].value.valid();
    if (opset >= row.since && form.attrs.has(row.attr)) {
      if (is_input)
        cannot(node, opset, fmt::format("has {} both as attribute and as input", row.attr));
      if (form.inputs.size() <= row.slot) form.inputs.resize(row.slot + 1);
      form.inputs[row.slot] = {ValueId{}, std::string(row.attr),
                               to_input(row, form, data_type(graph, node))};
      form.attrs.erase(row.attr);
    } else if (opset < row.since && is_input) {
      const ValueId input = form.inputs[row.slot].value;
      if (!graph.is_constant(input))
        cannot(node, opset, fmt::format("computes its {} at run time", row.attr),
               fmt::format("write operator set {} or newer", row.since));
      form.attrs.set(std::string(row.attr), to_attr(row, graph.constant(input), node, opset));
      form.inputs[row.slot] = {};
    }
  }
  if (attribute_form) {
    for (std::size_t slot = 1; slot < form.inputs.size(); ++slot) {
      const ValueId input = form.inputs[slot].value;
      if (!input.valid()) continue;
      if (!says_nothing(graph, node, slot, input))
        cannot(node, opset, fmt::format("has an input {}", slot));
      form.inputs[slot] = {};
    }
  }
  drop_absent_tail(form);
}

void drop_newer_attributes(const Node& node, std::int64_t opset, NodeForm& form) {
  for (const Added& row : kAdded) {
    if (row.op != node.op || opset >= row.since || !form.attrs.has(row.attr)) continue;
    for (const std::int64_t v : form.attrs.get_ints(row.attr, {}))
      if (v != row.held) cannot(node, opset, fmt::format("has {} = {}", row.attr, v));
    form.attrs.erase(row.attr);
  }
}

/// Split says how many parts from operator set 18 on, where it does not give their lengths.
void form_split(const Graph& graph, const Node& node, std::int64_t opset, NodeForm& form) {
  const bool lengths =
      form.attrs.has("split") || (form.inputs.size() > 1 && form.inputs[1].value.valid());
  if (opset >= 18) {
    if (!lengths && !form.attrs.has("num_outputs"))
      form.attrs.set("num_outputs", static_cast<std::int64_t>(node.outputs.size()));
    return;
  }
  if (!form.attrs.has("num_outputs")) return;
  form.attrs.erase("num_outputs");
  if (lengths) return;
  // From 18 on the last part may be shorter; older sets need the lengths spelled out.
  std::vector<std::int64_t> parts;
  for (ValueId out : node.outputs) {
    const TensorType type = out.valid() ? graph.value(out).type : TensorType{};
    if (!type.known()) cannot(node, opset, "has parts of unknown length");
    const auto axis = normalize_axis(form.attrs.get_int("axis", 0), type.shape.size(), place(node));
    parts.push_back(type.shape[static_cast<std::size_t>(axis)]);
  }
  form.attrs.set("split", parts);
}

/// Before 13 these work on the flattened axes [axis, rank) (waveq_flatten = 1), from 13 on along
/// one axis. The two agree where at most one of the axes concerned is longer than 1.
void form_softmax(const Graph& graph, const Node& node, std::int64_t opset, NodeForm& form) {
  const bool flattens = node.attrs.get_int("waveq_flatten", 0) != 0;
  if (flattens == (opset < 13)) return;
  const TensorType data = data_type(graph, node);
  if (!data.known()) cannot(node, opset, "has an input of unknown shape");
  const auto rank = static_cast<std::int64_t>(data.shape.size());
  const std::int64_t given = node.attrs.get_int("axis", flattens ? 1 : -1);
  std::int64_t axis =
      flattens && given == rank ? rank : normalize_axis(given, data.shape.size(), place(node));
  int longer = 0;
  std::int64_t single = std::min(axis, rank - 1);
  for (std::int64_t i = axis; i < rank; ++i) {
    if (data.shape[static_cast<std::size_t>(i)] == 1) continue;
    ++longer;
    single = i;
  }
  if (longer > 1 || rank == 0 || axis == rank || (!flattens && single != axis))
    cannot(node, opset,
           fmt::format("works {} axis {} of {}", flattens ? "on the axes from" : "along", given,
                       to_string(data.shape)),
           opset < 13 ? "write operator set 13 or newer, or transpose so that the axis comes last"
                      : "write operator set 12");
  form.attrs.set("axis", flattens ? single : axis);
}

/// Upsample (to 9) and Resize-10 have (X, scales) and one way to place samples; Resize from 11 on
/// has (X, roi, scales, sizes), the first three mandatory before 13, and attributes that say how.
void form_resize(const Node& node, std::int64_t opset, NodeForm& form) {
  const bool old_form = node.op == "Upsample" || form.inputs.size() == 2;
  if (opset < 9 && node.op == "Resize")
    cannot(node, opset, "is an operator", "write operator set 9 or newer");
  const std::string coordinates =
      form.attrs.get_string("coordinate_transformation_mode", "half_pixel");
  const FormInput nothing{{}, "none", Tensor(DType::f32, {0})};
  if (old_form && opset >= 11) {
    if (form.inputs.size() != 2) cannot(node, opset, "has no scales");
    form.inputs.insert(form.inputs.begin() + 1, nothing);
    form.attrs.set("coordinate_transformation_mode", std::string("asymmetric"));
    form.attrs.set("nearest_mode", std::string("floor"));
  } else if (!old_form && opset < 11) {
    const bool floors = form.attrs.get_string("mode", "nearest") != "nearest" ||
                        form.attrs.get_string("nearest_mode", "round_prefer_floor") == "floor";
    if (form.inputs.size() != 3 || coordinates != "asymmetric" || !floors)
      cannot(node, opset, "places samples its own way or states sizes",
             "write operator set 11 or newer");
    form.inputs.erase(form.inputs.begin() + 1);
    for (const char* attr : {"coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a",
                             "exclude_outside", "extrapolation_value"})
      form.attrs.erase(attr);
  } else if (!old_form && opset < 13) {
    for (std::size_t slot = 1; slot < std::min<std::size_t>(form.inputs.size(), 3); ++slot)
      if (!form.inputs[slot].value.valid()) form.inputs[slot] = nothing;
  } else if (!old_form && coordinates == "tf_half_pixel_for_nn") {
    cannot(node, opset, "has coordinate_transformation_mode tf_half_pixel_for_nn",
           "write operator set 12 or older");
  }
  if (opset < 18) {
    if (form.attrs.has("axes") ||
        form.attrs.get_string("keep_aspect_ratio_policy", "stretch") != "stretch")
      cannot(node, opset, "resizes chosen axes or keeps the aspect ratio",
             "write operator set 18 or newer");
    form.attrs.erase("keep_aspect_ratio_policy");
  }
  form.op = opset <= 9 ? "Upsample" : "Resize";
}

/// Negative axes are allowed from operator set 11 on.
void make_axes_positive(const Graph& graph, const Node& node, NodeForm& form) {
  constexpr std::string_view kOps[] = {"ArgMax",  "ArgMin",  "Concat",     "Flatten",
                                       "Gather",  "Hardmax", "LogSoftmax", "Slice",
                                       "Softmax", "Split",   "Squeeze",    "Unsqueeze"};
  if (std::ranges::find(kOps, node.op) == std::end(kOps) && !node.op.starts_with("Reduce")) return;
  const TensorType data = data_type(graph, node);
  if (!data.known()) return;
  std::size_t rank = data.shape.size();
  if (form.attrs.has("axes")) {
    std::vector<std::int64_t> axes = form.attrs.get_ints("axes", {});
    if (node.op == "Unsqueeze") rank += axes.size();
    for (std::int64_t& a : axes) a = normalize_axis(a, rank, place(node));
    form.attrs.set("axes", axes);
  }
  if (const std::int64_t axis = form.attrs.get_int("axis", 0); axis < 0)
    form.attrs.set("axis", normalize_axis(axis, rank, place(node)));
}

}  // namespace

std::int64_t first_opset(const Node& node) {
  if (node.attrs.has("waveq_domain")) return 1;
  for (const Lifetime& row : kLifetimes)
    if (row.op == node.op) return row.first;
  return 1;
}

NodeForm form_for_opset(const Graph& graph, const Node& node, std::int64_t opset) {
  NodeForm form{node.op == kQonnxQuant ? "Quant" : node.op, {}, {}};
  for (const auto& [name, attr] : node.attrs.all()) {
    if (name.starts_with("waveq_lost_"))
      throw Error(ErrorCode::unsupported, place(node),
                  fmt::format("cannot be written: its {} was not kept", name.substr(11)));
    if (!name.starts_with("waveq_")) form.attrs.set(name, attr);
  }
  for (ValueId in : node.inputs) form.inputs.push_back({in, "", {}});
  drop_absent_tail(form);
  if (node.attrs.has("waveq_domain")) return form;  // not an operator of the default set
  for (const Lifetime& row : kLifetimes)
    if (row.op == node.op && (opset < row.first || opset > row.last))
      cannot(node, opset, "is an operator",
             opset < row.first ? fmt::format("write operator set {} or newer", row.first)
                               : fmt::format("write operator set {} or older", row.last));
  if (node.op == "Split") form_split(graph, node, opset, form);
  if (node.op == "Softmax" || node.op == "LogSoftmax" || node.op == "Hardmax")
    form_softmax(graph, node, opset, form);
  move_parameters(graph, node, opset, form);
  if (node.op == "Resize" || node.op == "Upsample") form_resize(node, opset, form);
  drop_newer_attributes(node, opset, form);
  if (opset < 11) make_axes_positive(graph, node, form);
  return form;
}

bool is_structural_input(const std::string& op, std::size_t slot) {
  struct Row {
    std::string_view op;
    std::size_t first, last;
  };
  constexpr Row kRows[] = {
      {"Reshape", 1, 1},
      {"Expand", 1, 1},
      {"Tile", 1, 1},
      {"Gather", 1, 1},
      {"GatherElements", 1, 1},
      {"GatherND", 1, 1},
      {"Slice", 1, 4},
      {"Pad", 1, 1},
      {"Pad", 3, 3},
      {"Squeeze", 1, 1},
      {"Split", 1, 1},
      {"Unsqueeze", 1, 1},
      {"TopK", 1, 1},
      {"OneHot", 0, 1},
      {"Resize", 3, 3},
      {"ConstantOfShape", 0, 0},
      {"ScatterND", 1, 1},
      {"ScatterElements", 1, 1},
  };
  if (op.starts_with("Reduce")) return slot == 1;
  return std::ranges::any_of(
      kRows, [&](const Row& r) { return r.op == op && slot >= r.first && slot <= r.last; });
}

std::int64_t ir_version_for(std::int64_t opset) {
  if (opset <= 9) return 4;  // IR 3 would want every initializer listed as an input
  if (opset == 10) return 5;
  if (opset == 11) return 6;
  if (opset <= 14) return 7;
  if (opset <= 18) return 8;
  if (opset <= 20) return 9;
  if (opset <= 22) return 10;
  return 11;
}

}  // namespace waveq
