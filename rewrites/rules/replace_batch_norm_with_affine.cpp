// BatchNormalization(x)  =>  x*g + s                  g[C,1,...], s[C,1,...]
// One that no linear operator takes in: an affine per channel, which is what a requantization
// computes.

#include "rules/batch_norm.h"
#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_batch_norm_with_affine() {
  return {
      .name = "replace_batch_norm_with_affine",
      .formula = "BN(x) = x*g + s, g = scale/sqrt(var+eps), s = bias-mean*g",
      .effect = Effect::reassociates,
      .source =
          "Ioffe and Szegedy 2015 (arXiv:1502.03167), inference; ONNX BatchNormalization-9/14/15",
      .stage = Stage::fold,
      .root = op_in({"BatchNormalization"}),
      .apply = [](const Match& m, Patch& patch) -> Outcome {
        const Graph& graph = m.graph();
        const ValueId x = m.root().inputs.at(0);
        if (!is_f32(graph, x) || shape_of(graph, x).size() < 2) return NoMatch{};
        const NormOr norm = batch_norm(graph, m.root());
        if (!norm.affine) return Declined{norm.reason};
        Shape shape(shape_of(graph, x).size() - 1, 1);
        shape[0] = shape_of(graph, x)[1];
        if (static_cast<std::int64_t>(norm.affine->gain.size()) != shape[0])
          return declined("it has {} parameters for {} channels", norm.affine->gain.size(),
                          shape[0]);
        const ValueId gain =
            patch.constant(float_tensor(shape, norm.affine->gain), m.root().inputs[1]);
        const ValueId shift =
            patch.constant(float_tensor(shape, norm.affine->shift), m.root().inputs[2]);
        return patch.node("Add", {patch.node("Mul", {x, gain}), shift});
      }};
}

}  // namespace waveq::rules
