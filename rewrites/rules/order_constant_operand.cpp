// c + x  =>  x + c,   c * x  =>  x * c                            constants stand on the right

#include "rules/rules_list.h"

namespace waveq::rules {

Rule order_constant_operand() {
  return {.name = "order_constant_operand",
          .formula = "c+x = x+c, c*x = x*c",
          .effect = Effect::exact,
          .source = "commutativity of IEEE 754 addition and multiplication",
          .stage = Stage::clean,
          .root = op_in({"Add", "Mul"}),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            const auto& inputs = m.root().inputs;
            if (inputs.size() != 2 || !m.graph().is_constant(inputs[0]) ||
                m.graph().is_constant(inputs[1]))
              return NoMatch{};
            patch.note("the constant stands on the right now");
            return patch.edit(m.root().attrs, {inputs[1], inputs[0]});
          }};
}

}  // namespace waveq::rules
