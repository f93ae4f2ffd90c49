// x + c  =>  x + c'        c the same all along an axis, c' once; -, * and / likewise
// A bias that the exporter, or a folded Expand, has spread over all positions is one for each
// channel again.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// `constant` with length 1 along an axis all along which it is the same; nothing where it is not.
std::optional<Tensor> once_along(const Tensor& constant, std::size_t axis) {
  Shape shape = constant.shape();
  const std::int64_t length = shape[axis];
  shape[axis] = 1;
  const auto next = shape.begin() + static_cast<std::ptrdiff_t>(axis);
  const std::int64_t inner = element_count(Shape(next, shape.end()));
  Tensor once(DType::f32, shape);
  const auto all = constant.as<float>();
  auto out = once.as<float>().begin();
  for (std::int64_t at = 0; at < constant.size(); at += length * inner) {
    const auto first = all.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(inner));
    for (std::int64_t i = 1; i < length; ++i)
      if (!std::ranges::equal(first, all.subspan(static_cast<std::size_t>(at + i * inner),
                                                 static_cast<std::size_t>(inner))))
        return std::nullopt;
    out = std::ranges::copy(first, out).out;
  }
  return once;
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  std::vector<ValueId> inputs = m.root().inputs;
  if (inputs.size() != 2 || !is_f32(graph, m.root_value())) return NoMatch{};
  const Shape out = shape_of(graph, m.root_value());
  for (const std::size_t side : {0u, 1u}) {
    if (!graph.is_constant(inputs[side]) || graph.is_constant(inputs[1 - side])) continue;
    const Shape& other = shape_of(graph, inputs[1 - side]);
    Tensor constant = graph.constant(inputs[side]);
    if (constant.size() == 0) return NoMatch{};
    bool shorter = false;
    const std::size_t rank = constant.shape().size();
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const std::size_t behind = rank - axis;  // axes are counted from the last
      const bool needed =
          behind > other.size() || other[other.size() - behind] != out[out.size() - behind];
      if (constant.shape()[axis] == 1 || needed) continue;
      if (auto once = once_along(constant, axis)) {
        constant = std::move(*once);
        shorter = true;
      }
    }
    if (!shorter) continue;
    patch.note("the constant is there once along axes where it repeats");
    inputs[side] = patch.constant(std::move(constant));
    return patch.edit(m.root().attrs, inputs);
  }
  return NoMatch{};
}

}  // namespace

Rule shrink_repeated_constant() {
  return {.name = "shrink_repeated_constant",
          .formula = "x+c = x+c', c(i,j) = c'(j)",
          .effect = Effect::exact,
          .source = "ONNX broadcasting: a length of 1 stands for all positions",
          .stage = Stage::clean,
          .root = op_in({"Add", "Sub", "Mul", "Div"}),
          .apply = apply};
}

}  // namespace waveq::rules
