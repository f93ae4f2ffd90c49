#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cli.h"
#include "waveq/export/target.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/graph/op.h"

namespace waveq::cli {

namespace {

struct Facts {
  std::map<std::string, int> ops;
  std::map<std::string, int> refused_ops;  ///< nodes of the model that stay float, by operator
  std::int64_t parameters = 0, parameter_bytes = 0, macs = 0, buffer_bytes = 0;
  std::vector<NotInteger> refused;
  bool integer = false;
};

/// Nodes of the model that stay float, by operator. A node of the canonical network may be made of
/// several: all that its result is computed from in the model, back to tensors that the canonical
/// network still has.
std::map<std::string, int> count_refused(const Graph& original, const Graph& canonical,
                                         const std::vector<NotInteger>& refused) {
  std::set<std::string> kept;
  for (ValueId in : canonical.inputs()) kept.insert(canonical.value(in).name);
  std::set<std::pair<std::string, std::string>> named;
  for (const NotInteger& r : refused) named.emplace(r.op, r.node);
  std::map<std::string, NodeId> by_name;
  for (NodeId id : original.nodes()) by_name.emplace(original.node(id).name, id);
  std::vector<NodeId> open;
  for (NodeId id : canonical.nodes()) {
    const Node& node = canonical.node(id);
    const std::string& from = node.origin.empty() ? node.name : node.origin;
    const bool stays = named.contains({node.op, from});
    if (const auto it = by_name.find(from); stays && it != by_name.end())
      open.push_back(it->second);
    for (ValueId out : node.outputs) {
      if (!out.valid()) continue;
      kept.insert(canonical.value(out).name);
      const auto value = original.find_value(canonical.value(out).name);
      if (stays && value && original.value(*value).producer.valid())
        open.push_back(original.value(*value).producer);
    }
  }
  std::set<NodeId> parts;
  while (!open.empty()) {
    const NodeId id = open.back();
    open.pop_back();
    if (!parts.insert(id).second) continue;
    for (ValueId in : original.node(id).inputs)
      if (in.valid() && original.value(in).producer.valid() &&
          !kept.contains(original.value(in).name))
        open.push_back(original.value(in).producer);
  }
  std::map<std::string, int> counts;
  for (NodeId id : parts) ++counts[original.node(id).op];
  return counts;
}

Facts facts_of(const Graph& original, const Graph& canonical, const Recipe& recipe) {
  Facts f;
  for (NodeId id : original.nodes()) {
    const Node& node = original.node(id);
    ++f.ops[node.op];
    const OpDef* op = find_op(node.op);
    const bool typed = std::ranges::all_of(node.outputs, [&](ValueId out) {
      return !out.valid() || original.value(out).type.known();
    });
    if (op && op->macs && typed) f.macs += op->macs(original, node);
  }
  for (std::size_t i = 0; i < original.value_count(); ++i) {
    const Value& v = original.value({static_cast<std::int32_t>(i)});
    // Scalars and shape vectors are structure, not parameters.
    if (!v.constant || v.constant->dtype() == DType::i64 || v.constant->size() < 2) continue;
    f.parameters += v.constant->size();
    f.parameter_bytes += static_cast<std::int64_t>(v.constant->byte_size());
  }
  f.integer = looks_integer(original);
  IntegerizeOptions options;
  options.target = find_target(recipe.target).abilities();
  options.precision = recipe.precision;
  if (!f.integer) f.refused = explain_refusals(canonical, options);
  f.refused_ops = count_refused(original, canonical, f.refused);
  try {
    f.buffer_bytes = static_cast<std::int64_t>(Plan(canonical).buffer_bytes());
  } catch (const Error&) {
    f.buffer_bytes = 0;  // an unknown operator: the list of refusals says so
  }
  return f;
}

nlohmann::ordered_json to_json(const Graph& g, const Facts& f) {
  nlohmann::ordered_json j;
  j["opset"] = g.opset;
  for (const auto* list : {&g.inputs(), &g.outputs()})
    for (ValueId id : *list)
      j[list == &g.inputs() ? "inputs" : "outputs"].push_back(
          {{"name", g.value(id).name}, {"type", to_string(g.value(id).type)}});
  j["ops"] = f.ops;
  j["parameters"] = f.parameters;
  j["macs"] = f.macs;
  j["buffer_bytes"] = f.buffer_bytes;
  j["float_ops"] = f.refused_ops;
  j["integer_network"] = f.integer;
  j["not_integer"] = nlohmann::ordered_json::array();
  for (const NotInteger& r : f.refused)
    j["not_integer"].push_back({{"node", r.node}, {"op", r.op}, {"reason", r.reason}});
  return j;
}

int run(const CLI::App& app, const Common& common, const std::string& model) {
  const Recipe recipe = common.recipe(app);
  const Graph original = read_onnx(model, {.input_shapes = recipe.input_shapes});
  Graph canonical = original;
  take_out_fake_quantization(canonical);
  rewrite(canonical, {.passes = recipe.passes});
  const Facts f = facts_of(original, canonical, recipe);
  if (common.json) {
    fmt::print("{}\n", to_json(original, f).dump(1));
    return kDone;
  }
  fmt::print("{}  (opset {})\n", model, original.opset);
  for (ValueId id : original.inputs())
    if (!original.is_constant(id))
      fmt::print("  input   {} {}\n", original.value(id).name, to_string(original.value(id).type));
  for (ValueId id : original.outputs())
    fmt::print("  output  {} {}\n", original.value(id).name, to_string(original.value(id).type));
  fmt::print(
      "  {} nodes ({} after rewriting), {} parameters ({}), {:.3f} M MACs, {} of intermediate "
      "tensors at once\n\n",
      original.nodes().size(), canonical.nodes().size(), f.parameters,
      bytes_text(f.parameter_bytes), static_cast<double>(f.macs) / 1e6, bytes_text(f.buffer_bytes));
  std::vector<std::vector<std::string>> rows = {{"operator", "nodes", "integer form"}};
  for (const auto& [op, count] : f.ops) {
    const auto stays = f.refused_ops.find(op);
    rows.push_back(
        {op, fmt::format("{}", count),
         stays == f.refused_ops.end() ? "yes" : fmt::format("not for {}", stays->second)});
  }
  print_table(rows);
  if (f.integer) {
    fmt::print(
        "\nThis is an integer network already; `waveq prove` says whether it can overflow.\n");
  } else if (f.refused.empty()) {
    fmt::print("\nEvery node has an integer form.\n");
  } else {
    fmt::print("\nThese nodes have no integer form:\n");
    for (const NotInteger& r : f.refused) fmt::print("  {} '{}': {}\n", r.op, r.node, r.reason);
  }
  return kDone;
}

}  // namespace

Action add_inspect(CLI::App& app) {
  auto common = std::make_shared<Common>();
  auto model = std::make_shared<std::string>();
  app.add_option("MODEL", *model, "ONNX model")->required();
  common->add(
      app, Common::kRecipe | Common::kTarget | Common::kShapes | Common::kPasses | Common::kJson);
  app.footer("\nExample:\n  waveq inspect model.onnx");
  return [&app, common, model] { return run(app, *common, *model); };
}

}  // namespace waveq::cli
