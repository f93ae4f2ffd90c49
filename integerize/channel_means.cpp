#include "channel_means.h"

#include <fmt/format.h>

#include <map>
#include <optional>

#include "lowering.h"
#include "waveq/graph/executor.h"

namespace waveq {

namespace {

/// The axis along which what reads a value multiplies it by weights, channel by channel.
std::optional<std::size_t> channel_axis(const Graph& graph, ValueId id) {
  const std::size_t rank = graph.value(id).type.shape.size();
  if (rank < 2) return std::nullopt;
  bool is_summand = false;
  for (const NodeId use : graph.value(id).uses) {
    const Node& node = graph.node(use);
    const bool by_weights = node.inputs.size() > 1 && node.inputs[0] == id &&
                            node.inputs[1].valid() && graph.is_constant(node.inputs[1]);
    if (by_weights && node.op == "Conv") return 1;
    if (by_weights && (node.op == "Gemm" || node.op == "MatMul")) return rank - 1;
    is_summand |= node.op == "Add";
  }
  return is_summand ? std::optional<std::size_t>(1) : std::nullopt;
}

/// Adds the mean of each index of the axis.
void add_means(const Tensor& tensor, std::size_t axis, std::vector<double>& sums) {
  const Shape& shape = tensor.shape();
  const auto channels = static_cast<std::size_t>(shape[axis]);
  std::size_t inner = 1;
  for (std::size_t d = axis + 1; d < shape.size(); ++d) inner *= static_cast<std::size_t>(shape[d]);
  const auto values = tensor.as<float>();
  std::vector<double> sample(channels, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) sample[i / inner % channels] += values[i];
  sums.resize(channels, 0.0);
  for (std::size_t c = 0; c < channels; ++c)
    sums[c] += sample[c] * static_cast<double>(channels) / static_cast<double>(values.size());
}

}  // namespace

void measure_means(const Graph& canonical, SampleSource& data, std::size_t samples,
                   CalibrationTable& table) {
  std::map<ValueId, TensorCalibration*> wanted;
  for (std::size_t i = 0; i < canonical.value_count(); ++i) {
    const ValueId id{static_cast<std::int32_t>(i)};
    const Value& value = canonical.value(id);
    const auto found = table.tensors.find(value.name);
    const auto axis = value.constant ? std::nullopt : channel_axis(canonical, id);
    if (!axis || found == table.tensors.end()) continue;
    wanted.emplace(id, &found->second);
    found->second.channel_axis = *axis;
    found->second.means.clear();
  }
  data.rewind();
  Executor executor(canonical);
  Sample sample;
  std::size_t count = 0;
  for (; count < samples && data.next(sample); ++count)
    executor.run(sample.inputs, [&](ValueId id, const Tensor& tensor) {
      if (const auto it = wanted.find(id); it != wanted.end())
        add_means(tensor, it->second->channel_axis, it->second->means);
    });
  for (const auto& [id, tensor] : wanted)
    for (double& mean : tensor->means) mean /= static_cast<double>(count);
}

std::vector<double> Lowering::means(ValueId value, std::size_t axis) const {
  if (!options_.correct_biases || !options_.means) return {};
  const Value& v = source_.value(value);
  std::vector<double> own = options_.means(v.name, axis);
  if (!own.empty() && static_cast<std::int64_t>(own.size()) != v.type.shape.at(axis))
    throw Error(ErrorCode::data, fmt::format("tensor '{}'", v.name),
                fmt::format("{} means of channels for {}", own.size(), to_string(v.type)),
                "calibrate this model again");
  if (!own.empty() || !v.producer.valid()) return own;
  const Node& node = source_.node(v.producer);
  if (node.op != "Concat" || node.attrs.get_int("axis", 0) != static_cast<std::int64_t>(axis))
    return {};
  for (const ValueId in : node.inputs) {
    const std::vector<double> part = means(in, axis);
    if (part.empty()) return {};
    own.insert(own.end(), part.begin(), part.end());
  }
  return own;
}

}  // namespace waveq
