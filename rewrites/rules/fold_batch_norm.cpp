// BatchNormalization(L(x) + b)  =>  L'(x) + b'        L Conv, ConvTranspose, Gemm, MatMul, constant
// weights g = scale / sqrt(var + eps):  L' = g*L,  b' = (b - mean)*g + bias, each channel for
// itself.

#include <cmath>

#include "rules/batch_norm.h"
#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fold_batch_norm() {
  return {
      .name = "fold_batch_norm",
      .formula = "BN(W.x+b) = (g*W).x + ((b-mean)*g+bias), g = scale/sqrt(var+eps)",
      .effect = Effect::reassociates,
      .source =
          "Ioffe and Szegedy 2015 (arXiv:1502.03167), inference; ONNX BatchNormalization-9/14/15",
      .stage = Stage::fuse,
      .root = op_in({"BatchNormalization"}),
      .apply = [](const Match& m, Patch& patch) -> Outcome {
        const Graph& graph = m.graph();
        const LinearOr found = linear_behind(graph, m.root().inputs.at(0));
        if (!found.linear) {
          if (found.reason.empty()) return NoMatch{};
          return Declined{found.reason};
        }
        const NormOr norm = batch_norm(graph, m.root());
        if (!norm.affine) return Declined{norm.reason};
        if (found.linear->axis != 1)
          return declined("its channels (axis 1) are not those of the operator in front (axis {})",
                          found.linear->axis);
        if (static_cast<std::int64_t>(norm.affine->gain.size()) != found.linear->channels)
          return declined("it has {} parameters for {} channels", norm.affine->gain.size(),
                          found.linear->channels);
        const auto folded =
            fold_affine(patch, graph, *found.linear, norm.affine->gain, norm.affine->shift);
        if (!folded) return declined("a folded weight would not be finite");
        return *folded;
      }};
}

}  // namespace waveq::rules
