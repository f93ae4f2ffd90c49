#include "dialects/deeploy_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <set>

#include "dialects/dialects.h"
#include "legalize/legalize.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/graph/quantizer.h"

namespace waveq::deeploy {

const Node* Check::only_user() const {
  const Value& result = graph.value(node.outputs.front());
  return result.uses.size() == 1 && graph.use_count(node.outputs.front()) == 1
             ? &graph.node(result.uses.front())
             : nullptr;
}

void check_nothing(const Check&) {}

bool is_eight_bit(DType d) { return d == DType::i8 || d == DType::u8; }

void check_conv(const Check& c) {
  const Shape& w = c.shape(1);
  const std::int64_t group = c.node.attrs.get_int("group", 1);
  c.require(c.node.inputs.size() == 2, "conv_bias",
            "an integer Conv carries no bias; it belongs into the requant's add");
  c.require(w.size() == 3 || w.size() == 4, "conv_rank",
            fmt::format("weights {} are neither 1-D nor 2-D", to_string(w)));
  c.require(group == 1 || (group == c.shape(0)[1] && w[0] == group), "conv_group",
            fmt::format("group {} is neither 1 nor depthwise with multiplier 1", group));
  for (std::int64_t d : c.node.attrs.get_ints("dilations", {}))
    c.require(d == 1, "conv_dilation", fmt::format("dilation {}", d));
  const auto pads = c.node.attrs.get_ints("pads", {});
  std::int64_t sum = 0;
  for (std::int64_t p : pads) sum += p;
  c.require(sum != 1, "conv_pads", "a total padding of exactly 1 is not supported");
  if (pads.size() == 4)
    c.require(pads[0] == pads[2] && pads[1] == pads[3], "conv_pads",
              "2-D pads must be equal at begin and end");
  c.require(is_eight_bit(c.dtype(0)) && c.dtype(1) == DType::i8, "conv_types",
            "wants 8-bit data and int8 weights");
}

void check_matmul(const Check& c) {
  const Shape &a = c.shape(0), &b = c.shape(1);
  if (a.size() < 2 || b.size() < 2)
    return c.report("matmul_rank", fmt::format("operands {} and {} are not both matrices",
                                               to_string(a), to_string(b)));
  // The kernel advances both operands together: equal leading axes, or nothing but ones.
  const std::int64_t batch_a = element_count(Shape(a.begin(), a.end() - 2)),
                     batch_b = element_count(Shape(b.begin(), b.end() - 2));
  const bool equal = a.size() == b.size() && std::equal(a.begin(), a.end() - 2, b.begin());
  c.require(equal || (batch_a == 1 && batch_b == 1), "matmul_batch",
            fmt::format("leading axes of {} and {} differ", to_string(a), to_string(b)));
}

void check_matmul_eight_bit(const Check& c) {
  check_matmul(c);
  if (c.shape(0).size() < 2 || c.shape(1).size() < 2) return;
  c.require(is_eight_bit(c.dtype(0)) && is_eight_bit(c.dtype(1)), "matmul_types",
            "wants two 8-bit operands");
}

void check_gemm(const Check& c) {
  c.require(c.node.attrs.get_float("alpha", 1) == 1 && c.node.attrs.get_float("beta", 1) == 1,
            "gemm_factors", "alpha and beta must be 1");
  c.require(c.shape(0)[0] == 1, "gemm_batch", fmt::format("batch of {}", c.shape(0)[0]));
  c.require(is_eight_bit(c.dtype(0)) && c.dtype(1) == DType::i8, "gemm_types",
            "wants 8-bit data and int8 weights");
}

void check_quant(const Check& c) {
  const QuantParameters q = read_quant_parameters(c.node.attrs);
  if (q.storage() != DType::i8)
    return c.report("quant_types",
                    fmt::format("gives {}..{}; the kernel stores int8, without the offset that "
                                "readers of unsigned data expect",
                                q.lo, q.hi));
  c.require(q.lo == -q.hi - 1 && std::has_single_bit(static_cast<std::uint64_t>(q.hi + 1)),
            "quant_bounds",
            fmt::format("{}..{} are not the bounds of a bit width: the kernel clips further in",
                        q.lo, q.hi));
}

void check_dequant(const Check& c) {
  c.require(c.dtype(0) == DType::i8 || c.dtype(0) == DType::i32, "dequant_types",
            fmt::format("x is {}; the kernel reads int8 or int32", to_string(c.dtype(0))));
}

void check_requant(const Check& c) {
  const std::vector<std::int64_t> mul = to_int64(c.graph.constant(c.node.inputs[1])),
                                  add = to_int64(c.graph.constant(c.node.inputs[2]));
  const std::int64_t div = c.node.attrs.require_int("div");
  c.require(c.node.attrs.get_int("product_bits", 32) == 32, "requant_product",
            "products of 64 bits: the kernels have 32");
  for (std::size_t i = 0; i < mul.size(); ++i) {
    const std::int64_t m = mul[i], a = add[add.size() > 1 ? i : 0];
    c.require(m != 0 && std::abs(m) < div, "requant_mul",
              fmt::format("mul {} is not within (0, div = {})", m, div));
    if (m == 0) continue;
    c.require(
        a % m == 0 && std::abs(a / m) < 500 * std::abs(m) && std::abs(a) <= (1 << 24),
        "requant_add",
        fmt::format("add {} is not a multiple q*mul with |q| < 500*|mul| and |add| <= 2^24", a));
  }
  const Node* before = c.producer(0);
  const bool behind_linear = before && (before->op == "Conv" || before->op == "Gemm");
  c.require(mul.size() == 1 || behind_linear, "requant_per_channel",
            "per-channel parameters anywhere but right behind Conv or Gemm");
  const bool scalar_only = before && (before->op == "iGELU" || before->op == "IntegerDiv");
  c.require(
      !scalar_only || (mul.size() == 1 && add[0] == 0 && c.node.attrs.get_int("signed", 1) == 1),
      "requant_fused",
      "behind iGELU and IntegerDiv the requant must be scalar and signed, with add = 0");
}

void check_add(const Check& c) {
  if (c.graph.is_constant(c.node.inputs[1]))
    return c.require(c.shape(1).size() < c.shape(0).size() || c.shape(1) == c.shape(0),
                     "add_shapes", "a constant operand needs a lower rank or the same shape");
  c.require(c.shape(0) == c.shape(1), "add_shapes",
            fmt::format("operands {} and {}", to_string(c.shape(0)), to_string(c.shape(1))));
  c.require(c.dtype(0) == DType::i8 && c.dtype(1) == DType::i8, "add_types",
            "both operands must be signed 8-bit");
}

void check_division(const Check& c) {
  const Shape &n = c.shape(0), &d = c.shape(1);
  bool fits = n.size() == d.size() && n != d;
  if (fits) {
    std::size_t axis = 0;
    while (n[axis] == d[axis]) ++axis;
    fits = std::all_of(d.begin() + static_cast<std::ptrdiff_t>(axis), d.end(),
                       [](std::int64_t v) { return v == 1; });
  }
  c.require(fits, "division_shapes",
            fmt::format("numerator {} and denominator {}", to_string(n), to_string(d)));
  c.require(c.dtype(0) == DType::i32 && c.dtype(1) == DType::i32, "division_types",
            "wants int32 operands");
}

void check_gelu(const Check& c) {
  const std::int64_t b = c.node.attrs.require_int("b"), one = c.node.attrs.require_int("one");
  c.require(b >= -128 && b < 0 && one > 0 && one <= 32767, "gelu_constants",
            fmt::format("b {} needs int8, one {} int16", b, one));
  c.require(c.dtype(0) == DType::i8, "gelu_types", "wants signed 8-bit data");
}

void check_isoftmax(const Check& c) {
  const Attrs& a = c.node.attrs;
  const std::int64_t b = a.require_int("coeffB"), log2 = a.require_int("log2");
  c.require(log2 >= 2, "softmax_log2", fmt::format("log2 {}: an octave wraps in int8", log2));
  c.require(a.get_int("coeffA", 1) * b * b + a.require_int("coeffC") < (1 << 24),
            "softmax_constants", "the exponential of 0 is 2^24 or more");
  c.require(c.dtype(0) == DType::i8, "softmax_types", "wants signed 8-bit data");
}

void check_itamax(const Check& c) {
  c.require(c.dtype(0) == DType::i8, "softmax_types", "wants signed 8-bit data");
}

void check_layer_norm(const Check& c) {
  c.require(c.node.attrs.get_int("output_bits", 8) == 8, "layer_norm_types",
            "makes int32, not int8");
  for (std::size_t i : {std::size_t{1}, std::size_t{2}})
    for (std::int64_t v : to_int64(c.graph.constant(c.node.inputs[i])))
      c.require(std::abs(v) <= (1 << 24), "layer_norm_constants",
                fmt::format("{} is not exact in float32", v));
}

void check_max_pool(const Check& c) {
  for (std::int64_t p : c.node.attrs.get_ints("pads", {}))
    c.require(p == 0, "max_pool_pads", "padded with 0 instead of the smallest value");
  c.require(c.node.attrs.get_int("ceil_mode", 0) == 0, "max_pool_ceil", "ceil_mode");
}

void check_concat(const Check& c) {
  c.require(c.node.inputs.size() == 2, "concat_inputs",
            fmt::format("{} inputs, two are accepted", c.node.inputs.size()));
  c.require(std::ranges::adjacent_find(c.node.inputs) == c.node.inputs.end(), "concat_twice",
            "the same tensor twice, for which the generated C does not compile");
}

void check_gather(const Check& c) {
  c.require(c.graph.is_constant(c.node.inputs[1]) && element_count(c.shape(1)) == 1,
            "gather_indices", "takes one constant index");
}

void check_slice(const Check& c) {
  for (const char* name : {"starts", "ends", "axes", "steps"})
    for (std::int64_t v : c.node.attrs.get_ints(name, {}))
      c.require(v >= 0 && v <= 255, "slice_bounds",
                fmt::format("{} = {} is outside 0..255", name, v));
}

std::vector<Finding> check_network(const TargetProfile& profile, const Graph& graph,
                                   const Rows& rows) {
  std::vector<Finding> findings;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const auto row = rows.find(node.op);
    if (row == rows.end())
      findings.push_back(
          {node.name, "operator", fmt::format("{} does not run on {}", node.op, profile.name)});
    else
      row->second.check({graph, node, findings});
  }
  // The consumer deletes everything but letters, digits and underscores from names.
  std::set<std::string> plain;
  for (std::size_t i = 0; i < graph.value_count(); ++i) {
    std::string name;
    for (char ch : graph.value({static_cast<std::int32_t>(i)}).name)
      if (std::isalnum(static_cast<unsigned char>(ch)) || ch == '_') name += ch;
    if (!plain.insert(name).second)
      findings.push_back(
          {name, "names", "two tensors have this name once special characters are dropped"});
  }
  for (const auto* list : {&graph.inputs(), &graph.outputs()})
    for (ValueId v : *list) {
      const Value& value = graph.value(v);
      if (value.type.shape.empty() || value.type.shape[0] != 1)
        findings.push_back(
            {value.name, "batch", fmt::format("{} does not have batch 1", to_string(value.type))});
    }
  return findings;
}

namespace {

Attr float_scalar(std::int64_t value) { return Tensor::scalar<float>(static_cast<float>(value)); }

/// Attributes that the parser reads as float32 tensors and refuses as plain integers
/// (deeploy-dialect.md 2).
const std::map<std::string, std::vector<const char*>, std::less<>>& tensor_attributes() {
  static const std::map<std::string, std::vector<const char*>, std::less<>> table = {
      {"RequantShift", {"div", "n_levels_out", "signed"}},
      {"ITAMax", {"n_levels"}},
      {"iLayerNorm", {"D", "n_levels"}},
      {"iSoftmax", {"coeffA", "coeffB", "coeffC", "log2", "n_levels"}},
  };
  return table;
}

}  // namespace

std::string to_file(const TargetProfile& profile, const Graph& source) {
  Graph graph = source;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    const auto names = tensor_attributes().find(node.op);
    if (names == tensor_attributes().end()) continue;
    Attrs attrs = node.attrs;
    for (const char* name : names->second) attrs.set(name, float_scalar(attrs.require_int(name)));
    graph.set_attrs(id, attrs);
  }
  OnnxWriteOptions options;
  options.opset = profile.opset;
  options.domain_for_dialect = profile.dialect_domain;
  options.integers_as_float = true;
  return to_onnx_bytes(graph, options);
}

namespace {

/// The consumer reads inputs and outputs as int64 (deeploy-dialect.md 13.11).
TargetFiles files(const TargetProfile& profile, const QuantizeResult& result) {
  TargetFiles out = integer_files(profile, result);
  for (auto* arrays : {&out.inputs, &out.outputs})
    for (auto& [name, tensor] : *arrays) tensor = cast(tensor, DType::i64);
  return out;
}

}  // namespace

Legalization distinct_concat_legalization() {
  return {"distinct_concat_operands", "Concat(x, x) = Concat(x, Reshape(x))",
          "the generated C declares a variable for each operand, named after its tensor: twice the "
          "same does not compile (Deeploy bf64cfa, Generic)",
          distinct_concat_operands};
}

TargetProfile profile(std::string name, std::string summary, const Rows& rows) {
  TargetProfile p;
  p.name = std::move(name);
  p.summary = std::move(summary);
  p.opset = 10;  // the last in which Pad carries its pads as attributes, as the consumer reads them
  p.dialect_domain = "PACTOps";
  for (const auto& [op, row] : rows) p.operators.push_back({op, row.accepts});
  p.limits = {
      "batch 1, static shapes, every tensor float32 in the file, int8/uint8/int32 on the device",
      "requant: (x*mul + add + div/2) >> log2(div) in int32, half up, clip; the half is added by "
      "the target",
      "tensor names distinct in letters, digits and underscores"};
  p.to_file = to_file;
  p.files = files;
  return p;
}

}  // namespace waveq::deeploy
