#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "dialects/dialects.h"
#include "vectors_net.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/op.h"

namespace waveq {

using namespace test;

namespace {

TargetProfile pulp() {
  TargetProfile p = find_target("deeploy-generic");
  p.name = "pulp";
  p.arithmetic = pulp_arithmetic();
  return p;
}

Graph one_node(const std::string& op, const Shape& shape, const Attrs& attrs,
               const std::vector<Tensor>& constants = {}) {
  Graph g;
  std::vector<ValueId> in = {g.add_input("x", {DType::i8, shape})};
  for (const Tensor& t : constants) in.push_back(g.add_constant("c", t));
  g.add_output(g.emit(op, "node", in, attrs));
  return g;
}

Ints computed_on(const TargetProfile& target, const Graph& g, const Ints& x,
                 Overflow overflow = Overflow::wrap) {
  const Graph there = as_computed_on(target, g);
  const TensorType& type = there.value(there.inputs()[0]).type;
  const std::vector<Tensor> in = {cast(Tensor::from<std::int64_t>(type.shape, x), type.dtype)};
  return to_int64(Executor(there, overflow).run(in)[0]);
}

Attrs softmax_attrs(std::int64_t a, std::int64_t log2, std::int64_t levels) {
  return attributes({{"coeffA", a},
                     {"coeffB", std::int64_t{3}},
                     {"coeffC", std::int64_t{7}},
                     {"log2", log2},
                     {"n_levels", levels}});
}

}  // namespace

TEST_CASE("arithmetic: PULP's softmax takes no coeffA and no n_levels, Generic's does") {
  const Graph g = one_node("iSoftmax", {1, 2}, softmax_attrs(2, 4, 128));
  // Generic: e = 2*(0+3)^2 + 7 = 25 and, at t = -1, 2*(-1+3)^2 + 7 = 15: 25*127/40, 15*127/40.
  CHECK(computed_on(find_target("deeploy-generic"), g, {5, 4}) == Ints{79, 47});
  // PULP: 16 and 11 of 255: 16*255/27, 11*255/27.
  CHECK(computed_on(pulp(), g, {5, 4}) == Ints{151, 103});
}

TEST_CASE("arithmetic: with log2 = 1 the octave wraps in Generic's int8 and not in PULP's uint8") {
  const Graph g = one_node("iSoftmax", {1, 2}, softmax_attrs(1, 1, 256));
  // t = -200. Generic: octave 200 becomes -56, z = 0, p = -200: e = 197^2 + 7 = 38816 beside 16.
  CHECK(computed_on(find_target("deeploy-generic"), g, {100, -100}) == Ints{0, 254});
  CHECK_THROWS_AS(computed_on(find_target("deeploy-generic"), g, {100, -100}, Overflow::error),
                  Error);
  // PULP: z = 31, p = -169: e = (166^2 + 7) >> 31 = 0.
  CHECK(computed_on(pulp(), g, {100, -100}) == Ints{255, 0});
  CHECK(computed_on(pulp(), g, {100, -100}, Overflow::error) == Ints{255, 0});
}

TEST_CASE(
    "arithmetic: both targets add the half themselves, whatever rounding a requant asks for") {
  Attrs attrs = requant_attrs(4);
  attrs.set("rounding", std::string("floor"));
  const Graph g = one_node("RequantShift", {1, 3}, attrs,
                           {Tensor::scalar<std::int32_t>(1), Tensor::scalar<std::int32_t>(0)});
  const std::vector<Tensor> x = {Tensor::from<std::int8_t>({1, 3}, I8{2, -2, 7})};
  CHECK(to_int64(Executor(g).run(x)[0]) == Ints{0, -1, 1});
  for (const TargetProfile& target : {find_target("deeploy-generic"), pulp()})
    CHECK(computed_on(target, g, {2, -2, 7}) == Ints{1, 0, 2});
}

TEST_CASE("arithmetic: Deeploy's Quant takes a chain's ties away from zero, ONNX to even") {
  Graph g;
  const auto c = [&](float v) { return g.add_constant("c", Tensor::scalar(v)); };
  ValueId y = g.emit("Div", "div", {g.add_input("x", {DType::f32, {1, 4}}), c(2)});
  y = g.emit("Round", "round", {g.emit("Add", "add", {y, c(0)})});
  g.add_output(g.emit("Clip", "clip", {y, c(-128), c(127)}));
  const Graph integer = to_integer_network(g);
  const std::vector<Tensor> x = {Tensor::from<float>({1, 4}, std::vector<float>{1, 5, -1, 200})};
  const auto computed = [&](const char* target) {
    const Graph there = as_computed_on(find_target(target), integer);
    return to_int64(Executor(there, Overflow::error).run(x)[0]);
  };
  CHECK(computed("onnx") == Ints{0, 2, 0, 100});
  CHECK(computed("deeploy-generic") == Ints{1, 3, -1, 100});
  CHECK(computed("deeploy-siracusa") == Ints{1, 3, -1, 100});
}

TEST_CASE("arithmetic: every operator of the dialect has its line, with a source") {
  for (const TargetProfile& target : {find_target("deeploy-generic"), pulp()}) {
    std::string all = ", ";
    for (const ArithmeticRule& r : target.arithmetic) {
      all += r.op + ", ";
      CHECK_FALSE(r.meaning.empty());
      CHECK_FALSE(r.source.empty());
    }
    for (const OpDef* op : all_ops())
      if (op->dialect)
        CHECK_MESSAGE(all.find(", " + op->name + ", ") != std::string::npos, op->name);
  }
}

}  // namespace waveq
