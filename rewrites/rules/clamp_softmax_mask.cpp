// Softmax(x + c), c constant with entries far below zero  =>  Softmax(x + max(c, -16))
// Softmax(Where(mask, -inf, x)), mask constant            =>  Softmax(x + c), c = -16 where masked
// e^-16 is far below a step of an 8-bit probability; a minus infinity, or the -10^9 of many
// exporters, would take the whole range of x.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

constexpr double kMasked = -16.0, kFarBelow = -64.0;

/// Positions of a Where that give a number far below zero, as what they add; nothing where the
/// masked branch is not such a number.
std::optional<Tensor> mask_of(const Graph& graph, const Node& where, ValueId& x) {
  if (!graph.is_constant(where.inputs[0])) return std::nullopt;
  for (const bool when : {true, false}) {
    const auto number = scalar_of(graph, where.inputs[when ? 1 : 2]);
    if (!number || !(*number < kFarBelow)) continue;
    x = where.inputs[when ? 2 : 1];
    const Tensor& condition = graph.constant(where.inputs[0]);
    Tensor mask(DType::f32, condition.shape());
    for (std::int64_t i = 0; i < condition.size(); ++i)
      mask.as<float>()[static_cast<std::size_t>(i)] =
          condition.as<bool>()[static_cast<std::size_t>(i)] == when ? static_cast<float>(kMasked)
                                                                    : 0.0F;
    return mask;
  }
  return std::nullopt;
}

}  // namespace

Rule clamp_softmax_mask() {
  const Pat logits = op_in({"Add", "Where"}).one_use();
  return {.name = "clamp_softmax_mask",
          .formula = "Softmax(x+c) = Softmax(x+max(c,-16)), Where(mask,-inf,x) = x-16*mask",
          .effect = Effect::approximates,
          .source = "Vaswani et al. 2017 (arXiv:1706.03762), 3.2.3: masked logits count as none",
          .stage = Stage::fuse,
          .root = op("Softmax", {logits}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Node& inner = m.node(logits);
            if (!is_f32(graph, m[logits])) return NoMatch{};
            const Shape shape = m.shape(logits);
            ValueId x;
            std::optional<Tensor> mask;
            if (inner.op == "Where") {
              mask = mask_of(graph, inner, x);
            } else {
              for (std::size_t side : {0u, 1u}) {
                if (!graph.is_constant(inner.inputs[1 - side])) continue;
                x = inner.inputs[side];
                const Tensor& c = graph.constant(inner.inputs[1 - side]);
                std::vector<double> values = to_double(c);
                if (std::ranges::none_of(values, [](double v) { return v < kFarBelow; })) continue;
                for (double& v : values)
                  if (v < kFarBelow) v = kMasked;
                mask = float_tensor(c.shape(), values);
              }
            }
            if (!mask || !is_f32(graph, x)) return NoMatch{};
            if (shape_of(graph, x) != shape) return declined("its mask enlarges the logits");
            const ValueId sum = patch.node("Add", {x, patch.constant(*mask)});
            return patch.like(m.root_id(), {sum});
          }};
}

}  // namespace waveq::rules
