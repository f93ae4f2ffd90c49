// x.W + b  =>  Gemm(x, W, b)                          x[M,K], W[K,N] and b[N] constant
// Only in two dimensions, where Gemm is defined; a batched MatMul keeps its Add.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fuse_matmul_add() {
  const Pat x = any(), w = constant(), b = constant();
  const Pat product = op("MatMul", {x, w});
  return {.name = "fuse_matmul_add",
          .formula = "x.W+b = Gemm(x,W,b)",
          .effect = Effect::reassociates,
          .source = "ONNX Gemm-13",
          .stage = Stage::fuse,
          .root = op("Add", {product, b}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!is_f32(graph, m.root_value()) || m.shape(w).size() != 2 || m.shape(x).size() != 2)
              return NoMatch{};
            if (m.shape(product) != shape_of(graph, m.root_value()))
              return declined("the bias {} enlarges the product {}", to_string(m.shape(b)),
                              to_string(m.shape(product)));
            if (const std::size_t uses = graph.use_count(m[product]); uses != 1)
              return declined("the output of MatMul '{}' has {} uses", m.node(product).name, uses);
            const auto bias = along_axis(m.tensor(b), m.shape(product), 1);
            if (!bias) return declined("{} is not one bias per column", to_string(m.shape(b)));
            Attrs attrs;
            attrs.set("alpha", 1.0);
            attrs.set("beta", 1.0);
            attrs.set("transB", std::int64_t{0});
            ValueId c = m[b];
            if (m.shape(b) != Shape{m.shape(w)[1]})
              c = patch.constant(float_tensor({m.shape(w)[1]}, *bias), c);
            return patch.node("Gemm", {m[x], m[w], c}, attrs);
          }};
}

}  // namespace waveq::rules
