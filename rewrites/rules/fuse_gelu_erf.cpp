// 0.5 * x * (1 + Erf(x / sqrt(2)))  =>  Gelu(x)
// In any arrangement: the half in front, behind or divided by two, x times or divided by a
// constant, the sum multiplied out.

#include <numbers>

#include "rules/gelu.h"
#include "rules/rules_list.h"

namespace waveq::rules {

Rule fuse_gelu_erf() {
  return {.name = "fuse_gelu_erf",
          .formula = "0.5*x*(1+Erf(x/sqrt(2))) = Gelu(x)",
          .effect = Effect::reassociates,
          .source = "Hendrycks and Gimpel 2016 (arXiv:1606.08415); ONNX Gelu-20",
          .stage = Stage::fuse,
          .root = op_in({"Mul", "Add", "Div"}),
          .apply = [](const Match& m, Patch& patch) {
            return fuse_gelu(m, patch, "Erf", {{{1, 0}, 1.0 / std::numbers::sqrt2}}, "none");
          }};
}

}  // namespace waveq::rules
