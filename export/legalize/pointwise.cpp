#include "legalize/pointwise.h"

#include <vector>

namespace waveq {

Attrs pointwise() {
  const std::vector<std::int64_t> ones{1, 1};
  Attrs attrs;
  attrs.set("dilations", ones);
  attrs.set("group", std::int64_t{1});
  attrs.set("kernel_shape", ones);
  attrs.set("pads", std::vector<std::int64_t>(4, 0));
  attrs.set("strides", ones);
  return attrs;
}

ValueId unit_requant(Graph& graph, ValueId codes, DType dtype, const std::string& name,
                     const std::string& origin) {
  constexpr std::int32_t kDiv = 1 << 16;
  Attrs attrs;
  attrs.set("div", std::int64_t{kDiv});
  attrs.set("n_levels_out", std::int64_t{256});
  attrs.set("signed", std::int64_t{lowest(dtype) < 0});
  const ValueId mul = graph.add_constant(name + "_mul", Tensor::scalar<std::int32_t>(kDiv - 1)),
                add = graph.add_constant(name + "_add", Tensor::scalar<std::int32_t>(0));
  return graph.emit("RequantShift", name, {codes, mul, add}, std::move(attrs), origin);
}

}  // namespace waveq
