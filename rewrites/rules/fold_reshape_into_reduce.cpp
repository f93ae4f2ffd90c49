// Reshape(Reduce(x) keepdims=1, without the ones)  =>  Reduce(x) keepdims=0

#include <algorithm>
#include <numeric>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fold_reshape_into_reduce() {
  const Pat x = any(), shape = constant();
  const Pat reduced =
      op_in({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"}, {x}).attr("keepdims", 1, 1);
  return {.name = "fold_reshape_into_reduce",
          .formula = "Reshape(Reduce(x) keepdims=1, squeezed) = Reduce(x) keepdims=0",
          .effect = Effect::exact,
          .source = "ONNX Reduce*-13: keepdims",
          .stage = Stage::fuse,
          .root = op("Reshape", {reduced, shape}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!m.type(x).known()) return NoMatch{};
            const std::size_t rank = m.shape(x).size();
            std::vector<std::int64_t> every(rank);
            std::iota(every.begin(), every.end(), 0);
            const auto axes =
                sorted_axes(m.node(reduced).attrs.get_ints("axes", every), rank, m.root().name);
            Shape squeezed;
            for (std::size_t d = 0; d < rank; ++d)
              if (!std::ranges::binary_search(axes, static_cast<std::int64_t>(d)))
                squeezed.push_back(m.shape(x)[d]);
            if (shape_of(graph, m.root_value()) != squeezed) return NoMatch{};
            if (const std::size_t uses = graph.use_count(m[reduced]); uses != 1)
              return declined("the output of {} '{}' has {} uses", m.node(reduced).op,
                              m.node(reduced).name, uses);
            Attrs attrs = m.node(reduced).attrs;
            attrs.set("keepdims", std::int64_t{0});
            return patch.like(m.node_id(reduced), {m[x]}, attrs);
          }};
}

}  // namespace waveq::rules
