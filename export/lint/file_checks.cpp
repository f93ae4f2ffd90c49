// Rules of the file around the network: forms, names, samples, paths. Facts: deeploy-dialect.md 2,
// 3, 10 and 12, deeploy-import-notes.md.
#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <map>

#include "lint/context.h"

namespace waveq {

namespace {

void float_storage(LintContext& c) {
  for (const LintProblem& p : c.input().inexact) c.report(p.node, p.problem);
}

// ---- samples ----

struct SampleRange {
  ValueId input;
  double lo, hi;
  bool whole;  ///< all within 0.001 of an integer
};

/// Smallest and largest sample of every graph input that has any.
std::vector<SampleRange> sample_ranges(const LintContext& c) {
  std::vector<SampleRange> out;
  if (!c.input().samples) return out;
  const auto& inputs = c.graph().inputs();
  for (std::size_t i = 0; i < std::min(inputs.size(), c.input().samples->size()); ++i) {
    const std::vector<double> values = to_double((*c.input().samples)[i]);
    if (values.empty()) continue;
    SampleRange r{inputs[i], values.front(), values.front(), true};
    for (double v : values) {
      r.lo = std::min(r.lo, v);
      r.hi = std::max(r.hi, v);
      r.whole = r.whole && std::abs(v - std::nearbyint(v)) <= 0.001;
    }
    out.push_back(r);
  }
  return out;
}

const std::string& name_of(const LintContext& c, ValueId id) { return c.graph().value(id).name; }

void input_sign(LintContext& c) {
  for (const SampleRange& r : sample_ranges(c))
    if (r.whole && r.lo >= 0 && r.hi <= 127 &&
        !c.input().unsigned_inputs.contains(name_of(c, r.input)))
      c.report(name_of(c, r.input),
               fmt::format("samples are {}..{}: nothing tells a signed input from an unsigned one",
                           r.lo, r.hi));
}
void fractional_samples(LintContext& c) {
  for (const SampleRange& r : sample_ranges(c))
    if (!r.whole && c.graph().value(r.input).type.dtype != DType::f32)  // a Quant's may
      c.report(name_of(c, r.input), fmt::format("samples are fractional, {}..{}", r.lo, r.hi));
}
void wide_samples(LintContext& c) {
  for (const SampleRange& r : sample_ranges(c)) {
    const bool narrow = (r.lo >= -128 && r.hi <= 127) || (r.lo >= 0 && r.hi <= 255);
    const bool read_as_8_bit = std::ranges::any_of(c.graph().value(r.input).uses, [&](NodeId id) {
      return LintNode(c.graph(), id)
          .is({"Conv", "Gemm", "MatMul", "iGELU", "iHardswish", "iSoftmax", "ITAMax",
               "ITAPartialMax", "iLayerNorm", "iRMSNorm"});
    });
    if (!narrow && read_as_8_bit)
      c.report(name_of(c, r.input),
               fmt::format("samples are {}..{}, more than 8 bits", r.lo, r.hi));
  }
}
void vector_count(LintContext& c) {
  const LintInput& in = c.input();
  if (in.samples && in.samples->size() < c.graph().inputs().size())
    c.report("inputs.npz",
             fmt::format("{} arrays for {} inputs", in.samples->size(), c.graph().inputs().size()));
  if (in.goldens && *in.goldens != c.graph().outputs().size())
    c.report("outputs.npz",
             fmt::format("{} arrays for {} outputs", *in.goldens, c.graph().outputs().size()));
}
void sample_size(LintContext& c) {
  if (!c.input().samples) return;
  const auto& inputs = c.graph().inputs();
  for (std::size_t i = 0; i < std::min(inputs.size(), c.input().samples->size()); ++i) {
    const Tensor& t = (*c.input().samples)[i];
    const Value& value = c.graph().value(inputs[i]);
    if (t.size() != 0 && t.size() != element_count(value.type.shape))
      c.report(value.name,
               fmt::format("array {} for {}", to_string(t.shape()), to_string(value.type.shape)));
  }
}

// ---- attributes ----

struct AttributeRow {
  std::string_view op, name;
};

/// Calls f(node, name) for every node and attribute of a table.
template <class Table, class F>
void for_attributes(LintContext& c, const Table& table, F f) {
  for (const LintNode& node : c.nodes())
    for (const AttributeRow& row : table)
      if (row.op == node->op) f(node, row.name);
}

void tensor_attributes(LintContext& c) {
  static constexpr AttributeRow kTable[] = {{"RequantShift", "div"},
                                            {"RequantShift", "n_levels"},
                                            {"RequantShift", "n_levels_out"},
                                            {"RequantShift", "signed"},
                                            {"iSoftmax", "coeffA"},
                                            {"iSoftmax", "coeffB"},
                                            {"iSoftmax", "coeffC"},
                                            {"iSoftmax", "log2"},
                                            {"iSoftmax", "n_levels"},
                                            {"ITAMax", "n_levels"},
                                            {"ITAPartialMax", "n_levels"},
                                            {"iLayerNorm", "D"},
                                            {"iLayerNorm", "n_levels"},
                                            {"iNoNorm", "D"},
                                            {"iNoNorm", "mul"},
                                            {"iNoNorm", "n_levels"}};
  for_attributes(c, kTable, [&](const LintNode& node, std::string_view name) {
    const Attr* attr = node.attrs().find(name);
    if (attr && !std::holds_alternative<Tensor>(*attr))
      c.report(node, fmt::format("{} is a plain number", name));
  });
}
void plain_attributes(LintContext& c) {
  static constexpr AttributeRow kTable[] = {{"iGELU", "b"},
                                            {"iGELU", "one"},
                                            {"IntegerDiv", "Delta"},
                                            {"IntegerDiv", "eps"},
                                            {"IntegerDiv", "eta"},
                                            {"TrueIntegerDiv", "Delta"},
                                            {"TrueIntegerDiv", "eps"},
                                            {"TrueIntegerDiv", "eta"},
                                            {"TrueIntegerDiv", "y"},
                                            {"iHardswish", "three"},
                                            {"iHardswish", "six"},
                                            {"iHardswish", "one_over_six"},
                                            {"iRMSNorm", "D"},
                                            {"iRMSNorm", "n_levels"},
                                            {"IntegerMean", "axes"},
                                            {"IntegerMean", "keepdims"},
                                            {"ITAPartialMax", "group_width"}};
  for_attributes(c, kTable, [&](const LintNode& node, std::string_view name) {
    const Attr* attr = node.attrs().find(name);
    if (attr && !std::holds_alternative<std::int64_t>(*attr) &&
        !std::holds_alternative<std::vector<std::int64_t>>(*attr))
      c.report(node, fmt::format("{} is no plain integer", name));
  });
}
void missing_attributes(LintContext& c) {
  static constexpr AttributeRow kTable[] = {{"Conv", "dilations"},    {"Conv", "group"},
                                            {"Conv", "pads"},         {"Conv", "strides"},
                                            {"MaxPool", "ceil_mode"}, {"MaxPool", "kernel_shape"},
                                            {"MaxPool", "pads"},      {"MaxPool", "strides"},
                                            {"Transpose", "perm"},    {"Flatten", "axis"}};
  std::map<NodeId, std::string> missing;
  for_attributes(c, kTable, [&](const LintNode& node, std::string_view name) {
    if (!node.attrs().has(name))
      missing[node.id()] += fmt::format("{}{}", missing[node.id()].empty() ? "" : ", ", name);
  });
  for (const auto& [id, names] : missing)
    c.report(LintNode(c.graph(), id), fmt::format("{} lacks {}", c.graph().node(id).op, names));
}
void input_forms(LintContext& c) {
  for (const LintNode& node : c.nodes()) {
    if (node.is({"Pad"}) && !node.attrs().has("pads")) c.report(node, "pads are an input");
    if (node.is({"ReduceSum"}) && !node.attrs().has("axes") && node.has(1))
      c.report(node, "axes are an input");
  }
}

// ---- shapes, names, structure ----

void no_shape(LintContext& c) {
  for (const std::string& name : c.input().open_inputs) c.report(name, "leaves a dimension open");
  const auto& unshaped = c.input().unshaped;
  if (!unshaped.empty())
    c.report(unshaped.front(),
             unshaped.size() == 1
                 ? "has no static shape in the file"
                 : fmt::format("and {} more tensors have no static shape in the file",
                               unshaped.size() - 1));
}
void operand_shapes(LintContext& c) {
  if (!c.input().invalid.empty()) c.report("", c.input().invalid);
}
/// Graph inputs whose first of three or more axes is longer than 1.
void report_batched_inputs(LintContext& c) {
  for (ValueId in : c.graph().inputs()) {
    const Shape& shape = c.graph().value(in).type.shape;
    if (shape.size() >= 3 && shape[0] != 1) c.report(name_of(c, in), to_string(shape));
  }
}
/// Only parameters repeat or overrun; products of two activations are batched correctly.
void batch(LintContext& c) {
  const bool parameters = std::ranges::any_of(c.nodes(), [](const LintNode& n) {
    return (n.is({"MatMul", "Gemm"}) && (n.is_constant(1) || n.is_constant(0))) ||
           (n.is({"RequantShift"}) && LintRequant(n).per_channel());
  });
  if (parameters) report_batched_inputs(c);
}
void batch_conv_1d(LintContext& c) {
  if (std::ranges::any_of(
          c.nodes(), [](const LintNode& n) { return n.is({"Conv"}) && n.shape(0).size() == 3; }))
    report_batched_inputs(c);
}
void names(LintContext& c) {
  std::map<std::string, std::string> seen;
  for (std::size_t i = 0; i < c.graph().value_count(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    const Value& value = c.graph().value(id);
    if (value.uses.empty() && !value.producer.valid()) continue;
    std::string plain;
    for (char ch : value.name)
      if (std::isalnum(static_cast<unsigned char>(ch)) || ch == '_') plain += ch;
    const auto [it, fresh] = seen.emplace(plain, value.name);
    if (plain.empty())
      c.report(value.name, "has no letter, digit or underscore");
    else if (!fresh)
      c.report(value.name, fmt::format("and '{}' both become '{}'", it->second, plain));
  }
}
void constant_subexpressions(LintContext& c) {
  for (const LintNode& node : c.nodes()) {
    const auto constant = [&](ValueId v) { return !v.valid() || c.graph().is_constant(v); };
    if (!node->inputs.empty() && std::ranges::all_of(node->inputs, constant))
      c.report(node, fmt::format("{} of constants alone", node->op));
  }
}
void opset_range(LintContext& c) {
  if (c.graph().opset < 9 || c.graph().opset > 20)
    c.report("", fmt::format("operator set {}", c.graph().opset));
}
void mixed_outputs(LintContext& c) {
  const auto& outputs = c.graph().outputs();
  const auto type = [&](ValueId v) { return c.graph().value(v).type.dtype; };
  for (ValueId out : outputs)
    if (size_of(type(out)) != size_of(type(outputs.front())))
      return c.report(name_of(c, out),
                      fmt::format("is {}, '{}' is {}", to_string(type(out)),
                                  name_of(c, outputs.front()), to_string(type(outputs.front()))));
}

void path_has(LintContext& c, std::initializer_list<std::string_view> words) {
  for (std::string_view word : words)
    if (c.input().path.find(word) != std::string::npos)
      c.report("", fmt::format("'{}' contains '{}'", c.input().path, word));
}
void path_waveformer(LintContext& c) { path_has(c, {"WaveFormer"}); }
void path_emulation(LintContext& c) {
  path_has(c, {"CNN_Linear1", "GEMM/Regular_RQPerRow", "MatMul/Regular_RQ"});
}

constexpr LintPlatforms kOffset = kGeneric | kCortexM | kMemPool, kNative = kPulp | kSnitch;

}  // namespace

std::vector<LintCheck> lint_file_checks() {
  using enum LintEffect;
  return {
      {"T3", "float_storage", kAllPlatforms, wrong,
       "float32 holds integers up to 2^24 exactly; this constant may have been rounded when it was "
       "stored, and golden vectors made before that are wrong",
       "keep |value| <= 2^24, or store the constant as int32", float_storage},
      {"T20", "input_sign_native", kNative, wrong,
       "an input's type is taken from its samples, unsigned where none is negative; other kernels "
       "are bound then, or none",
       "put a negative value into the sample of a signed input", input_sign},
      {"T20", "input_sign_offset", kOffset, fragile,
       "an input's type is taken from its samples, unsigned with an offset of 128 where none is "
       "negative; operators that ignore the offset compute something else",
       "put a negative value into the sample of a signed input", input_sign},
      {"T20", "fractional_samples", kAllPlatforms, rejected,
       "an input whose samples are no integers is typed as float, for which integer operators have "
       "no binding",
       "write logical integers into inputs.npz", fractional_samples},
      {"T20", "wide_samples", kAllPlatforms, rejected,
       "the samples make the input wider than 8 bits, which its operator does not bind with",
       "quantize the samples to 8 bits", wide_samples},
      {"S10", "vector_count", kAllPlatforms, rejected,
       "arrays and graph inputs or outputs correspond by position, one array each",
       "write one array for each, in graph order", vector_count},
      {"S10", "sample_size", kAllPlatforms, wrong,
       "an array shorter than its tensor is repeated, a longer one cut",
       "write arrays of the tensors' shapes", sample_size},
      {"S2", "tensor_attributes", kAllPlatforms, rejected,
       "the parser reads this attribute as a tensor of one element",
       "write it as a float32 tensor of shape [] or [1]", tensor_attributes},
      {"S2", "plain_attributes", kAllPlatforms, rejected,
       "the parser reads this attribute as a plain integer", "write it as int (axes: ints)",
       plain_attributes},
      {"N", "missing_attributes", kAllPlatforms, rejected,
       "attributes that ONNX makes optional must be there", "write the defaults out",
       missing_attributes},
      {"N", "input_forms", kAllPlatforms, rejected, "these parameters are read as attributes only",
       "write operator set 10, or 12 for ReduceSum alone", input_forms},
      {"N", "no_shape", kAllPlatforms, rejected,
       "every tensor needs a static shape in value_info; nothing is inferred",
       "run shape inference and close open dimensions before export", no_shape},
      {"S2", "operand_shapes", kAllPlatforms, rejected,
       "operands of a node do not fit together; other checks could not run", "correct the network",
       operand_shapes},
      {"S2", "batch", kAllPlatforms, wrong,
       "with a batch over 1, products read past their constant operand or bias, and per-channel "
       "parameters repeat",
       "export with batch 1", batch},
      {"N", "batch_conv_1d", kPulp, wrong, "1-D Conv computes wrong values with a batch over 1",
       "export with batch 1", batch_conv_1d},
      {"N", "names", kAllPlatforms, wrong,
       "names keep letters, digits and underscores only: two tensors become one",
       "rename one of them", names},
      // Generic folds them in a first pass; the others were not seen to.
      {"N", "constant_subexpressions", kAllPlatforms, fragile,
       "a node without any computed input is left to the consumer's constant folding",
       "fold it before export (`waveq rewrite`)", constant_subexpressions},
      {"N", "opset_range", kAllPlatforms, fragile, "only operator sets 9 to 20 have been tried",
       "export with operator set 9 to 11", opset_range},
      {"N", "mixed_outputs", kAllPlatforms, wrong,
       "the generated test uses one C type for all outputs", "requantize all outputs to 8 bits",
       mixed_outputs},
      {"N", "path_waveformer", kAllPlatforms, wrong,
       "the test harness keeps only the first input and the last output array but one where the "
       "path has this word",
       "rename the folder", path_waveformer},
      {"N", "path_emulation", kAllPlatforms, fragile,
       "the test harness switches its add emulation (T4) off where the path has this word",
       "rename the folder", path_emulation},
  };
}

}  // namespace waveq
