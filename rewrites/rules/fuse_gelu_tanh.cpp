// 0.5 * x * (1 + Tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))  =>  Gelu(x) approximate=tanh
// The cube as Pow or as products, factors and terms in any arrangement.

#include <cmath>
#include <numbers>

#include "rules/gelu.h"
#include "rules/rules_list.h"

namespace waveq::rules {

Rule fuse_gelu_tanh() {
  return {.name = "fuse_gelu_tanh",
          .formula = "0.5*x*(1+Tanh(sqrt(2/pi)*(x+0.044715*x^3))) = Gelu(x) approximate=tanh",
          .effect = Effect::reassociates,
          .source = "Hendrycks and Gimpel 2016 (arXiv:1606.08415), section 2; ONNX Gelu-20",
          .stage = Stage::fuse,
          .root = op_in({"Mul", "Add", "Div"}),
          .apply = [](const Match& m, Patch& patch) {
            const double k = std::sqrt(2.0 * std::numbers::inv_pi);
            return fuse_gelu(m, patch, "Tanh", {{{1, 0}, k}, {{3, 0}, 0.044715 * k}}, "tanh");
          }};
}

}  // namespace waveq::rules
