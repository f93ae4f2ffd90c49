#include "rules/batch_norm.h"

#include <cmath>

#include "rules/support.h"

namespace waveq::rules {

NormOr batch_norm(const Graph& graph, const Node& node) {
  const auto refuse = [](std::string reason) { return NormOr{std::nullopt, std::move(reason)}; };
  if (node.inputs.size() != 5)
    return refuse(fmt::format("it has {} inputs, not 5", node.inputs.size()));
  std::vector<std::vector<double>> params;
  for (std::size_t i = 1; i < 5; ++i) {
    if (!graph.is_constant(node.inputs[i])) return refuse("its parameters are not constant");
    params.push_back(to_double(graph.constant(node.inputs[i])));
    if (params.back().size() != params.front().size())
      return refuse("its parameters differ in length");
  }
  const double epsilon = node.attrs.get_float("epsilon", 1e-5);
  Affine affine;
  for (std::size_t c = 0; c < params[0].size(); ++c) {
    const double gain = params[0][c] / std::sqrt(params[3][c] + epsilon);
    affine.gain.push_back(gain);
    affine.shift.push_back(params[1][c] - params[2][c] * gain);
  }
  if (!all_finite(affine.gain) || !all_finite(affine.shift))
    return refuse("a variance is not positive");
  return {affine, {}};
}

}  // namespace waveq::rules
