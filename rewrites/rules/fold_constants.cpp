// f(c1, c2, ...)  =>  its value                                   all inputs constant
// Shape arithmetic, weights that pass through a Transpose or Identity, masks built from
// ConstantOfShape.

#include <algorithm>
#include <array>

#include "rules/rules_list.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/op.h"

namespace waveq::rules {

namespace {

/// A result may be as large as this, or four times its inputs; beyond, a small constant that is
/// expanded stays a computation. Weights that a model fills by ConstantOfShape may be larger: a
/// linear node needs them as a constant.
constexpr std::size_t kMaxBytes = std::size_t{1} << 20, kMaxFilledBytes = std::size_t{1} << 26;

bool is_random(const std::string& op) {
  constexpr std::array<std::string_view, 6> kRandom = {"RandomNormal",  "RandomNormalLike",
                                                       "RandomUniform", "RandomUniformLike",
                                                       "Multinomial",   "Bernoulli"};
  return std::ranges::find(kRandom, op) != kRandom.end();
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& node = m.root();
  const OpDef* op = find_op(node.op);
  if (!op || !op->eval || node.inputs.empty() || is_random(node.op)) return NoMatch{};
  std::vector<const Tensor*> inputs;
  std::size_t bytes_in = 0;
  for (ValueId in : node.inputs) {
    if (in.valid() && !graph.is_constant(in)) return NoMatch{};
    inputs.push_back(in.valid() ? &graph.constant(in) : nullptr);
    if (in.valid()) bytes_in += graph.constant(in).byte_size();
  }
  if (node.op == "Dropout" && node.attrs.get_int("is_test", 1) == 0) return NoMatch{};
  std::size_t bytes_out = 0;
  for (ValueId out : node.outputs) {
    if (!out.valid()) continue;
    const TensorType& type = graph.value(out).type;
    if (!type.known()) return NoMatch{};
    bytes_out += static_cast<std::size_t>(element_count(type.shape)) * size_of(type.dtype);
  }
  const std::size_t most = node.op == "ConstantOfShape" ? kMaxFilledBytes : kMaxBytes;
  if (bytes_out > std::max(most, 4 * bytes_in))
    return declined("the result would take {} bytes, its inputs take {}", bytes_out, bytes_in);
  std::vector<Tensor> results;
  try {
    results = evaluate_node(graph, node, inputs);
  } catch (const Error& e) {
    return declined("cannot be evaluated: {}", e.found());
  }
  std::vector<ValueId> values;
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    values.push_back(node.outputs[i].valid() ? patch.constant(std::move(results[i])) : ValueId{});
  return values;
}

}  // namespace

Rule fold_constants() {
  return {.name = "fold_constants",
          .formula = "f(constants) = constant",
          .effect = Effect::exact,
          .source = "the operator itself, evaluated once",
          .stage = Stage::clean,
          .root = any_node(),
          .apply = apply};
}

}  // namespace waveq::rules
