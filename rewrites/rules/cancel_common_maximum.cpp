// (a - s) - ReduceMax(a - s, axes)  =>  a - ReduceMax(a, axes)      s of length 1 along the axes
// What all elements of a row share does not change how far they are from the largest: the squared
// norm of a query in positive random features.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule cancel_common_maximum() {
  const Pat a = any(), s = any(), axes = any();
  const Pat shifted = op_in({"Sub", "Add"}, {a, s});
  const Pat most = op("ReduceMax", {shifted, optional(axes)});
  return {.name = "cancel_common_maximum",
          .formula = "(a-s) - ReduceMax(a-s) = a - ReduceMax(a), s the same along the axes",
          .effect = Effect::reassociates,
          .source =
              "max(a-s) = max(a)-s; Choromanski et al. 2021 (arXiv:2009.14794), the "
              "stabilizer of FAVOR+",
          .stage = Stage::fuse,
          .root = op("Sub", {shifted, most}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            const Node& reduce = m.node(most);
            if (!is_f32(graph, m[a]) || !is_f32(graph, m[s])) return NoMatch{};
            const Shape shape = m.shape(shifted), common = m.shape(s);
            if (m.shape(a) != shape || reduce.attrs.get_int("keepdims", 1) != 1) return NoMatch{};
            const IntsParam given = ints_of(graph, reduce, "axes", 1);
            if (!given.values || given.values->empty()) return NoMatch{};
            const std::size_t skip = shape.size() - common.size();
            for (std::int64_t axis : sorted_axes(*given.values, shape.size(), reduce.name)) {
              const auto d = static_cast<std::size_t>(axis);
              if (d >= skip && common[d - skip] != 1) return NoMatch{};
            }
            std::vector<ValueId> inputs = reduce.inputs;
            inputs[0] = m[a];
            const ValueId x = m[a];
            return patch.node("Sub", {x, patch.like(m.node_id(most), inputs)});
          }};
}

}  // namespace waveq::rules
