// Rules around normalizations of rows: what the rows have in common, and what the bias adds.
#include <doctest/doctest.h>

#include <cmath>

#include "net.h"
#include "waveq/rewrites/row_means.h"

using namespace waveq;
using namespace waveq::test;

namespace {

ValueId layer_norm(Net& net, ValueId x, std::vector<ValueId> parameters = {}) {
  const Shape& shape = net.graph.value(x).type.shape;
  std::vector<ValueId> inputs{x};
  inputs.push_back(parameters.empty() ? net.weight("gain", {shape.back()}) : parameters[0]);
  if (parameters.size() > 1) inputs.push_back(parameters[1]);
  return net.op("LayerNormalization", inputs,
                attrs({{"axis", static_cast<std::int64_t>(shape.size()) - 1}}));
}

/// Largest magnitude of the means of a constant along one of its axes.
double largest_mean(const Tensor& t, std::size_t axis) {
  const auto length = static_cast<std::size_t>(t.shape()[axis]);
  std::size_t inner = 1;
  for (std::size_t d = axis + 1; d < t.shape().size(); ++d)
    inner *= static_cast<std::size_t>(t.shape()[d]);
  const auto values = t.as<float>();
  double largest = 0;
  for (std::size_t outer = 0; outer < values.size() / (length * inner); ++outer)
    for (std::size_t i = 0; i < inner; ++i) {
      double sum = 0;
      for (std::size_t c = 0; c < length; ++c) sum += values[(outer * length + c) * inner + i];
      largest = std::max(largest, std::abs(sum) / static_cast<double>(length));
    }
  return largest;
}

const Node& only(const Graph& graph, std::string_view op) {
  for (NodeId id : graph.nodes())
    if (graph.node(id).op == op) return graph.node(id);
  FAIL("no such node");
  std::abort();
}

}  // namespace

TEST_CASE("center_norm_input: weights and biases of all that is summed in front of norms") {
  Net net;
  const ValueId x = net.input("x", {1, 5, 6});
  // A residual stream: an embedding, positions, a branch that reads the norm of the stream.
  const ValueId embedded =
      net.op("Transpose",
             {net.op("Conv",
                     {net.op("Transpose", {x}, attrs({{"perm", ints({0, 2, 1})}})),
                      net.weight("embed", {8, 6, 1}), net.weight("embed_b", {8})},
                     attrs({{"kernel_shape", ints({1})}}))},
             attrs({{"perm", ints({0, 2, 1})}}));
  const ValueId stream = net.op("Add", {embedded, net.weight("positions", {1, 5, 8})});
  const ValueId branch = net.op("MatMul", {layer_norm(net, stream), net.weight("w", {8, 8})});
  const ValueId next =
      net.op("Add", {stream, net.op("Add", {branch, net.weight("branch_b", {8})})});
  net.output(layer_norm(net, next));
  const Rewritten r = rewrite_checked(net, {"center_norm_input"});
  CHECK(r.count("center_norm_input") == 4);
  CHECK(largest_mean(r.graph.constant(only(r.graph, "Conv").inputs[1]), 0) < 1e-6);
  CHECK(largest_mean(r.graph.constant(only(r.graph, "Conv").inputs[2]), 0) < 1e-6);
  CHECK(largest_mean(r.graph.constant(only(r.graph, "MatMul").inputs[1]), 1) < 1e-6);
  CHECK(largest_mean(r.graph.constant(only(r.graph, "Add").inputs[1]), 2) < 1e-6);
  // Rows are what they were: the rule saw to 1e-5 of the outputs in rewrite_checked.
}

TEST_CASE("center_norm_input: slices, gathers and class tokens in between") {
  Net net;
  const ValueId x = net.input("x", {1, 4, 6});
  const ValueId rows = net.op("MatMul", {x, net.weight("w", {6, 8})});
  const ValueId all =
      net.op("Concat", {net.weight("token", {1, 1, 8}), rows}, attrs({{"axis", std::int64_t{1}}}));
  const ValueId first =
      net.op("Gather", {all, net.graph.add_constant("i", Tensor::from<std::int64_t>({}, {0}))},
             attrs({{"axis", std::int64_t{1}}}));
  net.output(layer_norm(net, first));
  net.output(layer_norm(net, all));
  const Rewritten r = rewrite_checked(net, {"center_norm_input"});
  CHECK(r.count("center_norm_input") == 2);
  CHECK(largest_mean(r.graph.constant(only(r.graph, "Concat").inputs[0]), 2) < 1e-6);
}

TEST_CASE("center_norm_input: not where anything else reads the rows") {
  for (const int reader : {0, 1, 2, 3}) {
    CAPTURE(reader);
    Net net;
    const ValueId x = net.input("x", {1, 4, 6});
    const ValueId rows = net.op("MatMul", {x, net.weight("w", {6, 8})});
    if (reader == 0) net.output(rows);
    if (reader == 1) net.output(net.op("Relu", {rows}));
    if (reader == 2) net.output(net.op("Mul", {rows, rows}));
    if (reader < 3)
      net.output(layer_norm(net, rows));
    else  // along another axis
      net.output(layer_norm(net, net.op("Transpose", {rows}, attrs({{"perm", ints({0, 2, 1})}}))));
    CHECK(rewrite_checked(net, {"center_norm_input"}).count("center_norm_input") == 0);
  }
}

TEST_CASE("center_norm_input: not over groups, several axes, or where the mean is used") {
  Net grouped;
  const ValueId g =
      grouped.op("Conv", {grouped.input("x", {1, 4, 8}), grouped.weight("w", {4, 2, 1})},
                 attrs({{"group", std::int64_t{2}}, {"kernel_shape", ints({1})}}));
  grouped.output(
      layer_norm(grouped, grouped.op("Transpose", {g}, attrs({{"perm", ints({0, 2, 1})}}))));
  CHECK(rewrite_checked(grouped, {"center_norm_input"}).count("center_norm_input") == 0);

  Net wide;
  const ValueId rows = wide.op("MatMul", {wide.input("x", {1, 4, 6}), wide.weight("w", {6, 8})});
  wide.output(wide.op("LayerNormalization", {rows, wide.weight("gain", {4, 8})},
                      attrs({{"axis", std::int64_t{1}}})));
  CHECK(rewrite_checked(wide, {"center_norm_input"}).count("center_norm_input") == 0);

  Net mean;
  const ValueId y = mean.op("MatMul", {mean.input("x", {1, 4, 6}), mean.weight("w", {6, 8})});
  const auto out = mean.typed("LayerNormalization", {y, mean.weight("gain", {8})},
                              {{DType::f32, {1, 4, 8}}, {DType::f32, {1, 4, 1}}});
  mean.output(out[0]).output(out[1]);
  CHECK(rewrite_checked(mean, {"center_norm_input"}).count("center_norm_input") == 0);
}

TEST_CASE("fold_norm_bias_into_linear: into every reader, through movements") {
  Net net;
  const ValueId norm =
      layer_norm(net, net.input("x", {1, 5, 8}), {net.weight("g", {8}), net.weight("b", {8})});
  const ValueId turned = net.op("Transpose", {norm}, attrs({{"perm", ints({0, 2, 1})}}));
  net.output(net.op("MatMul", {norm, net.weight("w", {8, 3})}));
  net.output(net.op("Conv", {turned, net.weight("v", {4, 8, 2}), net.weight("c", {4})},
                    attrs({{"kernel_shape", ints({2})}, {"strides", ints({2})}})));
  net.output(net.op("Gemm", {net.op("Reshape", {norm, net.ints({5, 8})}), net.weight("u", {3, 8})},
                    attrs({{"transB", std::int64_t{1}}, {"alpha", 0.5}})));
  const Rewritten r = rewrite_checked(net, {"fold_norm_bias_into_linear", "eliminate_duplicates"});
  CHECK(r.count("fold_norm_bias_into_linear") == 3);
  std::size_t norms = 0;
  for (NodeId id : r.graph.nodes())
    if (r.graph.node(id).op == "LayerNormalization") {
      CHECK(r.graph.node(id).inputs.size() == 2);
      ++norms;
    }
  CHECK(norms == 1);
}

TEST_CASE("fold_norm_bias_into_linear: the constant is W.b") {
  Net net;
  const ValueId norm = layer_norm(net, net.input("x", {1, 2, 2}),
                                  {net.floats("g", {2}, {1, 1}), net.floats("b", {2}, {3, -2})});
  net.output(net.op("MatMul", {norm, net.floats("w", {2, 2}, {1, 10, 100, 1000})}));
  const Rewritten r = rewrite_checked(net, {"fold_norm_bias_into_linear"});
  const auto c = r.graph.constant(only(r.graph, "Add").inputs[1]).as<float>();
  CHECK(c[0] == 3 * 1 - 2 * 100);
  CHECK(c[1] == 3 * 10 - 2 * 1000);
}

TEST_CASE("fold_norm_bias_into_linear: refuses other readers and padding") {
  Net net;
  const ValueId norm =
      layer_norm(net, net.input("x", {1, 5, 8}), {net.weight("g", {8}), net.weight("b", {8})});
  net.output(net.op("MatMul", {norm, net.weight("w", {8, 3})}));
  net.output(net.op("Relu", {norm}));
  CHECK(refusal(rewrite_checked(net, {"fold_norm_bias_into_linear"})) ==
        "the normalized rows are read by more than linear operators");
  Net padded;
  const ValueId y = layer_norm(padded, padded.input("x", {1, 5, 8}),
                               {padded.weight("g", {8}), padded.weight("b", {8})});
  padded.output(padded.op("Conv",
                          {padded.op("Transpose", {y}, attrs({{"perm", ints({0, 2, 1})}})),
                           padded.weight("v", {4, 8, 3})},
                          attrs({{"kernel_shape", ints({3})}, {"pads", ints({1, 1})}})));
  CHECK(refusal(rewrite_checked(padded, {"fold_norm_bias_into_linear"})) ==
        "the normalized rows are read by more than linear operators");
}

TEST_CASE("has_no_mean: of linear operators, sums and movements, by their constants") {
  Net net;
  const ValueId x = net.input("x", {1, 4, 2});
  const auto product = [&](std::vector<float> w) {
    return net.op("MatMul", {x, net.floats("w", {2, 4}, std::move(w))});
  };
  const ValueId none = product({1, -1, 2, -2, 0.5F, 0.5F, -0.5F, -0.5F}),
                some = product({1, -1, 2, -2, 0.5F, 0.5F, -0.5F, -0.25F});
  CHECK(has_no_mean(net.graph, none, 2));
  CHECK_FALSE(has_no_mean(net.graph, none, 1));
  CHECK_FALSE(has_no_mean(net.graph, some, 2));
  CHECK_FALSE(has_no_mean(net.graph, x, 2));
  const auto plus = [&](std::vector<float> c, Shape shape) {
    return net.op("Add", {none, net.floats("c", std::move(shape), std::move(c))});
  };
  CHECK(has_no_mean(net.graph, plus({1, 2, -1, -2}, {4}), 2));
  CHECK_FALSE(has_no_mean(net.graph, plus({1, 2, -1, -1}, {4}), 2));
  CHECK_FALSE(has_no_mean(net.graph, plus({0.5F}, {1}), 2));
  CHECK_FALSE(has_no_mean(net.graph, net.op("Add", {none, some}), 2));
  CHECK(has_no_mean(net.graph, net.op("Sub", {none, none}), 2));
  const ValueId turned = net.op("Transpose", {none}, attrs({{"perm", ints({0, 2, 1})}}));
  CHECK(has_no_mean(net.graph, turned, 1));
  CHECK_FALSE(has_no_mean(net.graph, turned, 2));
  CHECK(has_no_mean(net.graph, net.op("Reshape", {none, net.ints({2, 2, 4})}), 2));
  CHECK_FALSE(has_no_mean(net.graph, net.op("Reshape", {none, net.ints({1, 2, 8})}), 2));
  CHECK(has_no_mean(net.graph,
                    net.op("Concat", {none, net.floats("t", {1, 1, 4}, {1, -1, 0, 0})},
                           attrs({{"axis", std::int64_t{1}}})),
                    2));
  CHECK_FALSE(has_no_mean(net.graph, net.op("Relu", {none}), 2));
  const ValueId conv =
      net.op("Conv", {turned, net.floats("v", {2, 4, 1}, {1, 2, 3, 4, -1, -2, -3, -4}),
                      net.floats("b", {2}, {1, -1})});
  CHECK(has_no_mean(net.graph, conv, 1));
  const ValueId biased =
      net.op("Conv", {turned, net.floats("v", {2, 4, 1}, {1, 2, 3, 4, -1, -2, -3, -4}),
                      net.floats("b", {2}, {1, 1})});
  CHECK_FALSE(has_no_mean(net.graph, biased, 1));
}
