// Transpose(Transpose(x, p), q)  =>  Transpose(x, p[q])

#include <numeric>

#include "rules/rules_list.h"

namespace waveq::rules {

Rule merge_transposes() {
  const Pat x = any();
  const Pat inner = op("Transpose", {x});
  return {.name = "merge_transposes",
          .formula = "Transpose(Transpose(x,p),q) = Transpose(x,p[q])",
          .effect = Effect::exact,
          .source = "ONNX Transpose-1: output axis i is input axis perm[i]",
          .stage = Stage::clean,
          .root = op("Transpose", {inner}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            if (!m.type(x).known()) return NoMatch{};
            std::vector<std::int64_t> reversed(m.shape(x).size());
            std::iota(reversed.rbegin(), reversed.rend(), 0);
            const auto p = m.node(inner).attrs.get_ints("perm", reversed);
            const auto q = m.root().attrs.get_ints("perm", reversed);
            std::vector<std::int64_t> both;
            for (std::int64_t axis : q) both.push_back(p.at(static_cast<std::size_t>(axis)));
            Attrs attrs;
            attrs.set("perm", both);
            return patch.node("Transpose", {m[x]}, attrs);
          }};
}

}  // namespace waveq::rules
