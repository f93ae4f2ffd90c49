#include "net.h"

namespace waveq {
namespace {

using namespace test;

IntegerizeOptions pulp_form() {
  IntegerizeOptions options;
  options.target.form.int8_operands = true;
  options.target.form.gemm_bias_in_requant = true;
  return options;
}

TEST_CASE("target form: the bias of a Gemm moves into the requant, its effect stays") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 8});
  n.output(n.op("Gemm", {x, n.random({8, 5}, -1, 1, 3), n.floats({5}, {3, -2, 1, -4, 0.5F})}));
  const Lowered plain = lower_and_compare(n), moved = lower_and_compare(n, -1, 1, pulp_form());
  CHECK(plain.worst_steps < 1.5);
  CHECK(moved.worst_steps < 1.5);
  const Node& gemm = *moved.nodes("Gemm").front();
  CHECK(std::ranges::all_of(to_int64(moved.graph().constant(gemm.inputs[2])),
                            [](std::int64_t b) { return b == 0; }));
  const Node& requant = *moved.nodes("RequantShift").front();
  CHECK(std::ranges::any_of(to_int64(moved.graph().constant(requant.inputs[2])),
                            [](std::int64_t a) { return a != 0; }));
}

TEST_CASE("target form: products, means and sums read int8 only") {
  FloatNet n;
  const ValueId x = n.input("x", {1, 4, 8});
  const ValueId a = n.op("Relu", {n.op("Conv", {x, n.random({4, 4, 1}, -1, 1, 1)})});
  const ValueId b = n.op("Conv", {x, n.random({4, 4, 1}, -1, 1, 2)});
  const ValueId turned = n.op("Transpose", {b}, attributes({{"perm", Ints{0, 2, 1}}}));
  n.output(n.op("MatMul", {a, turned}));
  n.output(n.op("Add", {a, b}));
  n.output(n.op("ReduceMean", {a}, attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{0}}})));
  const Lowered r = lower_and_compare(n, -1, 1, pulp_form());
  CHECK(r.worst_steps < 4);
  for (const char* op : {"MatMul", "Add"})
    for (const Node* node : r.nodes(op))
      for (ValueId in : node->inputs) CHECK(r.graph().value(in).type.dtype == DType::i8);
}

}  // namespace
}  // namespace waveq
