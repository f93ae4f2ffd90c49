// (a.b) / (c.d + e)  =>  Transpose((bT.aT) / (dT.cT + e))      a.b [..., d, M], c.d [..., 1, M]
// Linear attention with channels first: turned so that a row has one divisor.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule transpose_quotient() {
  const Pat a = any(), b = any(), c = any(), d = any(), guard = scalar();
  const Pat numerator = op("MatMul", {a, b}).one_use(), product = op("MatMul", {c, d}).one_use();
  const Pat sum = op("Add", {product, guard}).one_use();
  return {.name = "transpose_quotient",
          .formula = "(a.b)/(c.d+e) = Transpose((bT.aT)/(dT.cT+e)), one divisor a column",
          .effect = Effect::reassociates,
          .source = "(a.b)T = bT.aT",
          .stage = Stage::fold,
          .root = op("Div", {numerator, either(sum, product)}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Shape num = m.shape(numerator), den = m.shape(product);
            const std::size_t rank = num.size();
            if (rank < 2 || den.size() != rank || den[rank - 2] != 1 || num[rank - 2] == 1 ||
                den[rank - 1] != num[rank - 1] || num[rank - 1] == 1)
              return NoMatch{};
            for (const Pat& x : {a, b, c, d})
              if (!is_f32(graph, m[x]) || m.shape(x).size() != rank)
                return declined("its products are of operands of different rank");
            const ValueId ma = m[a], mb = m[b], mc = m[c], md = m[d];
            const ValueId upper = patch.node(
                "MatMul", {swap_last_axes(patch, mb, rank), swap_last_axes(patch, ma, rank)});
            ValueId lower = patch.node(
                "MatMul", {swap_last_axes(patch, md, rank), swap_last_axes(patch, mc, rank)});
            if (m.has(sum)) lower = patch.node("Add", {lower, m[guard]});
            return swap_last_axes(patch, patch.node("Div", {upper, lower}), rank);
          }};
}

}  // namespace waveq::rules
