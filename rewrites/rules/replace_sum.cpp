// Sum(a, b, c)  =>  (a + b) + c        Mean(a, b, c)  =>  ((a + b) + c) * 1/3

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_sum() {
  return {.name = "replace_sum",
          .formula = "Sum(a,b,c) = (a+b)+c, Mean(a,b,c) = ((a+b)+c)/3",
          .effect = Effect::reassociates,
          .source = "ONNX Sum-8/13, Mean-8/13",
          .stage = Stage::clean,
          .root = op_in({"Sum", "Mean"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            const std::vector<ValueId>& terms = m.root().inputs;
            if (terms.size() == 1) return patch.node("Identity", terms);
            ValueId sum = terms.front();
            for (std::size_t i = 1; i < terms.size(); ++i) sum = patch.node("Add", {sum, terms[i]});
            if (m.root().op == "Sum") return sum;
            const float share = 1.0F / static_cast<float>(terms.size());
            return patch.node("Mul", {sum, patch.constant(Tensor::scalar(share))});
          }};
}

}  // namespace waveq::rules
