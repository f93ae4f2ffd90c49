#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "dialects/dialects.h"

namespace waveq {

const std::vector<TargetProfile>& targets() {
  static const std::vector<TargetProfile> all = {deeploy_generic(), deeploy_siracusa(),
                                                 onnx_standard(), qdq(), waveq_domain()};
  return all;
}

TargetAbilities TargetProfile::abilities() const {
  TargetAbilities a = lowering;
  a.name = name;
  for (const TargetOperator& op : operators) a.operators.insert(op.op);
  for (const char* other : integers_of) a.integers_of.push_back(find_target(other).abilities());
  return a;
}

const TargetProfile& find_target(std::string_view name) {
  const auto it = std::ranges::find(
      targets(), name, [](const TargetProfile& t) { return std::string_view(t.name); });
  if (it != targets().end()) return *it;
  std::vector<std::string> names;
  for (const TargetProfile& t : targets()) names.push_back(t.name);
  throw Error(ErrorCode::invalid_argument, fmt::format("target '{}'", name), "does not exist",
              fmt::format("known targets: {}", fmt::join(names, ", ")));
}

TargetFiles integer_files(const TargetProfile& profile, const QuantizeResult& result) {
  const Graph& graph = result.network.graph;
  TargetFiles files;
  files.network = profile.to_file(profile, graph);
  for (std::size_t i = 0; i < graph.inputs().size(); ++i)
    files.inputs.emplace_back(graph.value(graph.inputs()[i]).name, result.golden.inputs[i]);
  for (std::size_t i = 0; i < graph.outputs().size(); ++i)
    files.outputs.emplace_back(graph.value(graph.outputs()[i]).name, result.golden.outputs[i]);
  const auto& activations = result.golden.activations;
  for (NodeId id : graph.topological_order())
    for (ValueId v : graph.node(id).outputs)
      if (const auto it = v.valid() ? activations.find(graph.value(v).name) : activations.end();
          it != activations.end())
        files.activations.emplace_back(it->first, it->second);
  return files;
}

}  // namespace waveq
