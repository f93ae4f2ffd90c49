// x.W (+ b), x [..., M, K] of several matrices or Gemm of several rows, W [K,N] constant
//   =>  Reshape(x, [1, rows, K]).W (+ b), reshaped back
// One matrix of all rows: the products are the same, and the consumers' kernels take a batch of
// matrices only where the weights have one, too.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// W of a Gemm in the form of a MatMul, factor included.
Tensor plain_weights(const Graph& graph, const Node& gemm) {
  const Tensor& w = graph.constant(gemm.inputs[1]);
  const bool transposed = gemm.attrs.get_int("transB", 0) != 0;
  const double alpha = gemm.attrs.get_float("alpha", 1.0);
  const std::int64_t rows = w.shape()[transposed ? 1 : 0], columns = w.shape()[transposed ? 0 : 1];
  std::vector<double> values;
  const std::vector<double> from = to_double(w);
  for (std::int64_t k = 0; k < rows; ++k)
    for (std::int64_t n = 0; n < columns; ++n)
      values.push_back(alpha *
                       from[static_cast<std::size_t>(transposed ? n * rows + k : k * columns + n)]);
  return float_tensor({rows, columns}, values);
}

ValueId one_matrix(Patch& patch, ValueId x, std::int64_t rows, ValueId w, ValueId bias,
                   std::int64_t inner, const Shape& out) {
  const ValueId flat = patch.node("Reshape", {x, patch.constant(ints_tensor({1, rows, inner}))});
  ValueId y = patch.node("MatMul", {flat, w});
  if (bias.valid()) y = patch.node("Add", {y, bias});
  return patch.node("Reshape", {y, patch.constant(ints_tensor(out))});
}

Outcome from_gemm(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const ValueId x = root.inputs[0];
  if (!is_f32(graph, x) || graph.is_constant(x) || !graph.is_constant(root.inputs[1]))
    return NoMatch{};
  const Shape shape = shape_of(graph, x), out = shape_of(graph, m.root_value());
  if (shape.size() != 2 || shape[0] < 2) return NoMatch{};
  if (root.attrs.get_int("transA", 0) != 0) return declined("its left operand is transposed");
  ValueId bias;
  if (root.inputs.size() > 2 && root.inputs[2].valid()) {
    if (!graph.is_constant(root.inputs[2])) return declined("its bias is not constant");
    auto values = along_axis(graph.constant(root.inputs[2]), out, 1);
    if (!values) return declined("its bias is not one value a column");
    for (double& v : *values) v *= root.attrs.get_float("beta", 1.0);
    bias = patch.constant(float_tensor({out[1]}, *values), root.inputs[2]);
  }
  const ValueId w = patch.constant(plain_weights(graph, root), root.inputs[1]);
  return one_matrix(patch, x, shape[0], w, bias, shape[1], out);
}

/// MatMul with constant weights of more rows than [1,M,K] has.
bool has_many(const Graph& graph, const Node& node) {
  if (node.op != "MatMul" || node.inputs.size() != 2 || !graph.is_constant(node.inputs[1]) ||
      graph.is_constant(node.inputs[0]) || !is_f32(graph, node.inputs[0]))
    return false;
  const Shape &x = shape_of(graph, node.inputs[0]), &w = shape_of(graph, node.inputs[1]);
  if (w.size() != 2 || x.size() < 2) return false;
  return x.size() == 2 ? x[0] > 1 : element_count(Shape(x.begin(), x.end() - 2)) > 1;
}

/// The constant that Add adds to `sum`, as one value a column; nothing for any other node.
std::optional<std::vector<double>> column_bias(const Graph& graph, const Node& add, ValueId sum) {
  if (add.op != "Add" || shape_of(graph, add.outputs[0]) != shape_of(graph, sum))
    return std::nullopt;
  const ValueId other = add.inputs[add.inputs[0] == sum ? 1 : 0];
  if (!graph.is_constant(other)) return std::nullopt;
  const Shape& shape = shape_of(graph, sum);
  return along_axis(graph.constant(other), shape, shape.size() - 1);
}

Outcome from_matmul(const Match& m, Patch& patch, const Node& product, ValueId bias) {
  const Graph& graph = m.graph();
  const Shape x = shape_of(graph, product.inputs[0]), out = shape_of(graph, m.root_value());
  return one_matrix(patch, product.inputs[0],
                    element_count(x) / std::max<std::int64_t>(x.back(), 1), product.inputs[1], bias,
                    x.back(), out);
}

/// True where a factor behind the node goes into its weights first.
bool is_scaled_next(const Graph& graph, ValueId y) {
  if (graph.use_count(y) != 1 || graph.is_output(y)) return false;
  const Node& next = graph.node(graph.value(y).uses.front());
  const Shape& shape = shape_of(graph, y);
  return next.op == "Mul" && shape.size() > 1 && std::ranges::any_of(next.inputs, [&](ValueId c) {
           return graph.is_constant(c) && along_axis(graph.constant(c), shape, shape.size() - 1);
         });
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (is_f32(graph, m.root_value()) && is_scaled_next(graph, m.root_value())) return NoMatch{};
  if (root.op == "Gemm") return from_gemm(m, patch);
  if (root.op == "MatMul") {
    if (!has_many(graph, root)) return NoMatch{};
    // The bias comes along, at its Add.
    const std::vector<NodeId>& uses = graph.value(m.root_value()).uses;
    if (graph.use_count(m.root_value()) == 1 && uses.size() == 1 &&
        column_bias(graph, graph.node(uses.front()), m.root_value()))
      return NoMatch{};
    return from_matmul(m, patch, root, {});
  }
  for (std::size_t side : {0u, 1u}) {
    const ValueId sum = root.inputs[side];
    const Node* producer = producer_of(graph, sum);
    if (!producer || !has_many(graph, *producer) || graph.use_count(sum) != 1) continue;
    const Node& product = *producer;
    const auto bias = column_bias(graph, root, sum);
    if (!bias) continue;
    return from_matmul(
        m, patch, product,
        patch.constant(float_tensor({shape_of(graph, sum).back()}, *bias), root.inputs[1 - side]));
  }
  return NoMatch{};
}

}  // namespace

Rule merge_matmul_rows() {
  return {.name = "merge_matmul_rows",
          .formula = "x.W+b = Reshape(Reshape(x,[1,rows,K]).W+b), Gemm(x,W,b) of rows likewise",
          .effect = Effect::reassociates,
          .source = "definition of the batched product; ONNX MatMul-13, Gemm-13",
          .stage = Stage::fold,
          .root = op_in({"Gemm", "MatMul", "Add"}),
          .apply = apply};
}

}  // namespace waveq::rules
