// Sum(a, b, c)  =>  (a + b) + c

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_sum() {
  return {.name = "replace_sum",
          .formula = "Sum(a,b,c) = (a+b)+c",
          .effect = Effect::exact,
          .source = "ONNX Sum-8/13",
          .stage = Stage::clean,
          .root = op_in({"Sum"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            const std::vector<ValueId> terms = m.root().inputs;
            if (terms.size() == 1) return patch.node("Identity", terms);
            ValueId sum = terms.front();
            for (std::size_t i = 1; i < terms.size(); ++i) sum = patch.node("Add", {sum, terms[i]});
            return sum;
          }};
}

}  // namespace waveq::rules
