// Einsum: products of tensors summed over the indices that the result does not name.
#include "waveq/graph/einsum.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ops/families.h"
#include "ops/op_util.h"

namespace waveq {

std::optional<EinsumTerms> parse_einsum(std::string_view equation, std::size_t operands) {
  EinsumTerms terms;
  std::string text;
  for (char c : equation)
    if (c != ' ') text += c;
  const std::size_t arrow = text.find("->");
  const std::string left = text.substr(0, arrow);
  const auto letters = [](const std::string& s) {
    return std::ranges::all_of(
        s, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
  };
  for (std::size_t from = 0; from <= left.size();) {
    const std::size_t comma = std::min(left.find(',', from), left.size());
    terms.inputs.push_back(left.substr(from, comma - from));
    from = comma + 1;
  }
  if (terms.inputs.size() != operands) return std::nullopt;
  std::map<char, int> count;
  for (const std::string& term : terms.inputs) {
    if (!letters(term)) return std::nullopt;
    for (char c : term) ++count[c];
  }
  if (arrow == std::string::npos) {
    // Without a result: the indices that occur once, in alphabetical order.
    for (const auto& [c, n] : count)
      if (n == 1) terms.output += c;
    return terms;
  }
  terms.output = text.substr(arrow + 2);
  if (!letters(terms.output)) return std::nullopt;
  for (char c : terms.output)
    if (!count.contains(c) || std::ranges::count(terms.output, c) != 1) return std::nullopt;
  return terms;
}

namespace {

using ops::float_input;
using ops::place;

/// Length of each index. \throws Error{shape} where operands disagree; a length of 1 repeats.
std::map<char, std::int64_t> index_lengths(const Node& node, const EinsumTerms& terms,
                                           const std::vector<Shape>& shapes) {
  std::map<char, std::int64_t> lengths;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (shapes[i].size() != terms.inputs[i].size())
      throw Error(ErrorCode::shape, place(node),
                  fmt::format("operand {} is {}, '{}' names {} axes", i, to_string(shapes[i]),
                              terms.inputs[i], terms.inputs[i].size()));
    for (std::size_t d = 0; d < shapes[i].size(); ++d) {
      std::int64_t& length = lengths.emplace(terms.inputs[i][d], shapes[i][d]).first->second;
      if (length == 1) length = shapes[i][d];
      if (shapes[i][d] != length && shapes[i][d] != 1)
        throw Error(
            ErrorCode::shape, place(node),
            fmt::format("index '{}' is {} and {}", terms.inputs[i][d], length, shapes[i][d]));
    }
  }
  return lengths;
}

EinsumTerms terms_of(const Node& node) {
  const std::string equation = node.attrs.get_string("equation", "");
  auto terms = parse_einsum(equation, node.inputs.size());
  if (!terms)
    throw Error(ErrorCode::unsupported, place(node),
                fmt::format("equation '{}' is not one of letters for {} operands", equation,
                            node.inputs.size()),
                "spell out the axes an ellipsis stands for");
  return *terms;
}

std::vector<TensorType> infer_einsum(const InferContext& ctx) {
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < ctx.inputs.size(); ++i) shapes.push_back(float_input(ctx, i).shape);
  const EinsumTerms terms = terms_of(ctx.node);
  const auto lengths = index_lengths(ctx.node, terms, shapes);
  Shape out;
  for (char c : terms.output) out.push_back(lengths.at(c));
  return {{DType::f32, out}};
}

/// Each element is the sum, in double and in row-major order of the summed indices (alphabetical),
/// of the products of one element an operand; rounded once. Source: ONNX Einsum-12.
void eval_einsum(const EvalContext& ctx) {
  const EinsumTerms terms = terms_of(ctx.node);
  const std::size_t operands = ctx.inputs.size();
  std::vector<Shape> shapes;
  std::vector<std::span<const float>> data;
  for (std::size_t i = 0; i < operands; ++i) {
    shapes.push_back(ctx.input(i).shape());
    data.push_back(ctx.input(i).as<float>());
  }
  const auto lengths = index_lengths(ctx.node, terms, shapes);
  std::string indices = terms.output;  // results outside, sums inside
  for (const auto& [c, n] : lengths)
    if (indices.find(c) == std::string::npos) indices += c;
  // Element stride of each operand along each index; 0 where it repeats.
  std::vector<std::vector<std::int64_t>> stride(operands,
                                                std::vector<std::int64_t>(indices.size(), 0));
  Shape extent;
  for (char c : indices) extent.push_back(lengths.at(c));
  for (std::size_t i = 0; i < operands; ++i) {
    const std::vector<std::int64_t> own = strides_of(shapes[i]);
    for (std::size_t d = 0; d < own.size(); ++d)
      if (shapes[i][d] != 1) stride[i][indices.find(terms.inputs[i][d])] += own[d];
  }
  const auto y = ctx.output().as<float>();
  const std::int64_t sums = element_count(
      Shape(extent.begin() + static_cast<std::ptrdiff_t>(terms.output.size()), extent.end()));
  std::vector<std::int64_t> index(indices.size(), 0), at(operands, 0);
  for (float& out : y) {
    double sum = 0;
    for (std::int64_t k = 0; k < sums; ++k) {
      double product = 1;
      for (std::size_t i = 0; i < operands; ++i)
        product *= static_cast<double>(data[i][static_cast<std::size_t>(at[i])]);
      sum += product;
      for (std::size_t d = indices.size(); d-- > 0;) {
        for (std::size_t i = 0; i < operands; ++i) at[i] += stride[i][d];
        if (++index[d] < extent[d]) break;
        for (std::size_t i = 0; i < operands; ++i) at[i] -= stride[i][d] * extent[d];
        index[d] = 0;
      }
    }
    out = static_cast<float>(sum);
  }
}

}  // namespace

std::vector<OpDef> einsum_ops() {
  return {{.name = "Einsum",
           .inputs = {"Inputs..."},
           .attrs = {"equation"},
           .spec = "ONNX Einsum-12",
           .infer = infer_einsum,
           .eval = eval_einsum,
           .macs = [](const Graph& graph, const Node& node) -> std::int64_t {
             const auto terms =
                 parse_einsum(node.attrs.get_string("equation", ""), node.inputs.size());
             if (!terms) return 0;
             std::vector<Shape> shapes;
             for (ValueId in : node.inputs) shapes.push_back(graph.value(in).type.shape);
             std::int64_t count = 1;
             for (const auto& [c, n] : index_lengths(node, *terms, shapes)) count *= n;
             return count;
           }}};
}

}  // namespace waveq
