// (x * c1) * c2  =>  x * (c1*c2)

#include "rules/chain.h"
#include "rules/rules_list.h"

namespace waveq::rules {

Rule fold_mul_chain() {
  return {.name = "fold_mul_chain",
          .formula = "(x*c1)*c2 = x*(c1*c2)",
          .effect = Effect::reassociates,
          .source = "associativity of multiplication",
          .stage = Stage::fold,
          .root = op_in({"Mul"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            return fold_chain(m, patch, [](double a, double b) { return a * b; });
          }};
}

}  // namespace waveq::rules
