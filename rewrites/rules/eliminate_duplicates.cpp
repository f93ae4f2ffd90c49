// f(x, c), f(x, c')  =>  one f(x, c)                              c and c' equal in content
// Exporters trace a view once for each reader; what is computed twice would be calibrated twice.

#include "rules/rules_list.h"
#include "waveq/graph/op.h"
#include "waveq/rewrites/node_index.h"

namespace waveq::rules {

namespace {

bool is_random(const std::string& op) {
  return op.starts_with("Random") || op == "Multinomial" || op == "Bernoulli" || op == "Dropout";
}

}  // namespace

Rule eliminate_duplicates() {
  return {.name = "eliminate_duplicates",
          .formula = "f(x), f(x) = one f(x)",
          .effect = Effect::exact,
          .source = "common subexpression elimination",
          .stage = Stage::clean,
          .root = any_node(),
          .apply = [](const Match& m, Patch& patch) -> Outcome {
            // An unknown operator may hold more than its attributes show, or draw random numbers.
            if (!m.index() || !find_op(m.root().op) || is_random(m.root().op)) return NoMatch{};
            const auto twin = m.index()->find_or_insert(m.graph(), m.root_id());
            if (!twin) return NoMatch{};
            patch.note(fmt::format("the same as {} '{}'", m.graph().node(*twin).op,
                                   m.graph().node(*twin).name));
            return m.graph().node(*twin).outputs;
          }};
}

}  // namespace waveq::rules
