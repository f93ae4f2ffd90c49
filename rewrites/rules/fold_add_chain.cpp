// (x + c1) + c2  =>  x + (c1+c2)

#include "rules/chain.h"
#include "rules/rules_list.h"

namespace waveq::rules {

Rule fold_add_chain() {
  return {.name = "fold_add_chain",
          .formula = "(x+c1)+c2 = x+(c1+c2)",
          .effect = Effect::reassociates,
          .source = "associativity of addition",
          .stage = Stage::fold,
          .root = op_in({"Add"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            return fold_chain(m, patch, [](double a, double b) { return a + b; });
          }};
}

}  // namespace waveq::rules
