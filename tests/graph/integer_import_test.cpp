#include "waveq/graph/integer_import.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "onnx/mixed_spelling.h"
#include "ops/integer_run.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/infer.h"

namespace waveq {

using namespace test;

namespace {

NodeId append(Graph& g, std::string op, std::string name, std::vector<ValueId> inputs,
              ValueId output, Attrs attrs = {}) {
  Node node;
  node.op = std::move(op);
  node.name = std::move(name);
  node.inputs = std::move(inputs);
  node.outputs = {output};
  node.attrs = std::move(attrs);
  return g.add_node(std::move(node));
}

Attr tensor_attr(float value) { return Tensor::from<float>({1}, {value}); }

Attrs requant_attrs(float div, float is_signed) {
  return attrs_of({{"div", Tensor::scalar(div)},
                   {"n_levels_out", tensor_attr(256)},
                   {"signed", tensor_attr(is_signed)}});
}

/// x[1,2] -> MatMul(w) -> Add(bias) -> RequantShift, all float32, the way QuantLib writes it.
Graph exported_linear(float first_weight = 2.0F) {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 2}});
  const ValueId w = g.add_constant("w", Tensor::from<float>({2, 2}, {first_weight, -128, 127, 3}));
  const ValueId bias = g.add_constant("bias", Tensor::from<float>({2}, {1000, -128}));
  const ValueId mul = g.add_constant("mul", Tensor::scalar(3.0F));
  const ValueId add = g.add_constant("add", Tensor::scalar(4294967296.0F));
  const ValueId small = g.add_constant("small", Tensor::scalar(0.0F));
  (void)add;
  const ValueId acc = g.add_value("acc", {DType::f32, {1, 2}}),
                sum = g.add_value("sum", {DType::f32, {1, 2}});
  const ValueId y = g.add_value("y", {DType::f32, {1, 2}});
  append(g, "MatMul", "matmul", {x, w}, acc);
  append(g, "Add", "add_bias", {acc, bias}, sum);
  append(g, "RequantShift", "rq", {sum, mul, small}, y, requant_attrs(4, 0));
  g.add_output(y);
  return g;
}

DType dtype_at(const Graph& g, std::string_view name) {
  return g.value(*g.find_value(name)).type.dtype;
}

}  // namespace

TEST_CASE("to_integer_network: constants take the smallest of i8, i32, i64 and inputs become i32") {
  const Graph g = to_integer_network(exported_linear());
  CHECK(dtype_at(g, "x") == DType::i32);
  CHECK(dtype_at(g, "w") == DType::i8);
  CHECK(dtype_at(g, "bias") == DType::i32);
  CHECK(dtype_at(g, "mul") == DType::i8);
  CHECK(dtype_at(g, "acc") == DType::i32);
  CHECK(dtype_at(g, "sum") == DType::i32);
  CHECK(dtype_at(g, "y") == DType::u8);
  g.verify();
}

TEST_CASE("to_integer_network: a constant that nothing reads is left alone") {
  Graph g = exported_linear();
  g.add_constant("unused", Tensor::scalar(0.5F));
  CHECK(dtype_at(to_integer_network(g), "unused") == DType::f32);
}

TEST_CASE("to_integer_network: the result computes in integers") {
  const Graph g = to_integer_network(exported_linear());
  Executor run(g);
  // [10,-3] x w = [20 - 381, -1280 - 9]; + bias = [639, -1417]; *3/4 = 479.25, -1062.75.
  const Tensor x = Tensor::from<std::int32_t>({1, 2}, {10, -3});
  CHECK(run.run({&x, 1}).front() == Tensor::from<std::uint8_t>({1, 2}, {255, 0}));
  const Tensor z =
      Tensor::from<std::int32_t>({1, 2}, {-1, -6});  // [-764 + 1000, 110 - 128]*3/4 = 177, -13.5
  CHECK(run.run({&z, 1}).front() == Tensor::from<std::uint8_t>({1, 2}, {177, 0}));
}

TEST_CASE("to_integer_network: a constant beyond int32 becomes i64") {
  Graph g = exported_linear();
  g.set_input(*g.nodes().rbegin(), 2, *g.find_value("add"));
  CHECK(dtype_at(to_integer_network(g), "add") == DType::i64);
}

TEST_CASE("to_integer_network: a fractional constant is an error that names it") {
  const auto [code, text] = error_of([] { to_integer_network(exported_linear(2.5F)); });
  CHECK(code == "parse");
  CHECK(contains(text, "'w'"));
  CHECK(contains(text, "2.5"));
}

TEST_CASE("to_integer_network: infinite and undefined constants are errors") {
  CHECK(error_of([] {
          to_integer_network(exported_linear(std::numeric_limits<float>::infinity()));
        }).first == "parse");
  CHECK(error_of([] {
          to_integer_network(exported_linear(std::numeric_limits<float>::quiet_NaN()));
        }).first == "parse");
}

TEST_CASE("to_integer_network: wrong types in the file do not count") {
  Graph g = exported_linear();
  g.set_type(*g.find_value("acc"), {DType::i8, {1, 2}});
  g.set_type(*g.find_value("y"), {DType::i32, {1, 2}});
  const Graph converted = to_integer_network(g);
  CHECK(dtype_at(converted, "acc") == DType::i32);
  CHECK(dtype_at(converted, "y") == DType::u8);
}

TEST_CASE(
    "to_integer_network: Concat of different storage gets Casts to the narrowest common type") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 2}});
  const ValueId cache = g.add_input("cache", {DType::f32, {1, 2}});
  const ValueId one = g.add_constant("one", Tensor::scalar(1.0F)),
                zero = g.add_constant("zero", Tensor::scalar(0.0F));
  const ValueId s = g.add_value("s", {DType::f32, {1, 2}}),
                u = g.add_value("u", {DType::f32, {1, 2}});
  const ValueId su = g.add_value("su", {DType::f32, {1, 4}}),
                all = g.add_value("all", {DType::f32, {1, 6}});
  const ValueId ss = g.add_value("ss", {DType::f32, {1, 4}});
  append(g, "RequantShift", "signed", {x, one, zero}, s, requant_attrs(1, 1));
  append(g, "RequantShift", "unsigned", {x, one, zero}, u, requant_attrs(1, 0));
  append(g, "Concat", "cat_su", {s, u}, su, attrs_of({{"axis", std::int64_t{1}}}));
  append(g, "Concat", "cat_all", {cache, su}, all, attrs_of({{"axis", std::int64_t{1}}}));
  append(g, "Concat", "cat_ss", {s, s}, ss, attrs_of({{"axis", std::int64_t{1}}}));
  g.add_output(all);
  g.add_output(ss);
  const Graph converted = to_integer_network(g);
  converted.verify();
  CHECK(dtype_at(converted, "all") == DType::i32);
  CHECK(dtype_at(converted, "ss") == DType::i8);
  const auto casts = std::ranges::count_if(
      converted.nodes(), [&](NodeId id) { return converted.node(id).op == "Cast"; });
  CHECK(casts == 3);  // s and u to i16 or wider, su to i32, none for cat_ss
  Executor run(converted);
  const std::vector<Tensor> in{Tensor::from<std::int32_t>({1, 2}, {-5, 200}),
                               Tensor::from<std::int32_t>({1, 2}, {1000, -1000})};
  const std::vector<Tensor> out = run.run(in);
  CHECK(out[0] == Tensor::from<std::int32_t>({1, 6}, {1000, -1000, -5, 127, 0, 200}));
  CHECK(out[1] == Tensor::from<std::int8_t>({1, 4}, {-5, 127, -5, 127}));
}

TEST_CASE("to_integer_network: behind an unknown operator types are unknown, not float") {
  Graph g = exported_linear();
  const ValueId y = *g.find_value("y"), z = g.add_value("z", {DType::f32, {1, 2}});
  const ValueId v = g.add_value("v", {DType::f32, {1, 2}});
  append(g, "SomethingForeign", "foreign", {y}, z);
  append(g, "Add", "after", {z, z}, v);
  g.add_output(v);
  const Graph converted = to_integer_network(g);
  CHECK(dtype_at(converted, "y") == DType::u8);
  CHECK(dtype_at(converted, "z") == DType::undefined);
  CHECK(dtype_at(converted, "v") == DType::undefined);
}

TEST_CASE("to_integer_network: a Cast to float becomes one to int32") {
  Graph g = exported_linear();
  const ValueId y = *g.find_value("y"), z = g.add_value("z", {DType::f32, {1, 2}});
  append(g, "Cast", "as_float", {y}, z, attrs_of({{"to", std::int64_t{1}}}));
  g.add_output(z);
  CHECK(dtype_at(to_integer_network(g), "z") == DType::i32);
}

TEST_CASE("looks_integer: a dialect operator decides") {
  CHECK(looks_integer(exported_linear()));
  CHECK(looks_integer(exported_linear(0.5F)));
}

TEST_CASE("looks_integer: otherwise constants, operators and samples must all be integral") {
  const auto network = [](std::string op, float weight) {
    Graph g;
    const ValueId x = g.add_input("x", {DType::f32, {1, 1}});
    const ValueId w = g.add_constant("w", Tensor::from<float>({1, 1}, {weight}));
    const ValueId y = g.add_value("y", {DType::f32, {1, 1}});
    append(g, std::move(op), "node", {x, w}, y);
    g.add_output(y);
    return g;
  };
  CHECK(looks_integer(network("MatMul", 3)));
  CHECK_FALSE(looks_integer(network("MatMul", 3.5F)));
  CHECK_FALSE(looks_integer(network("Div", 3)));
  CHECK_FALSE(looks_integer(network("SomethingForeign", 3)));
  const std::vector<Tensor> whole{Tensor::from<float>({1, 1}, {-7})},
      part{Tensor::from<float>({1, 1}, {-7.25F})};
  const std::vector<Tensor> bytes{Tensor::from<std::int8_t>({1, 1}, {-7})};
  CHECK(looks_integer(network("MatMul", 3), whole));
  CHECK(looks_integer(network("MatMul", 3), bytes));
  CHECK_FALSE(looks_integer(network("MatMul", 3), part));
}

TEST_CASE("to_integer_tensor: converts integral values that fit, and says which does not") {
  const Tensor x = Tensor::from<float>({3}, {-128, 0, 127});
  CHECK(to_integer_tensor(x, DType::i8, "x") == Tensor::from<std::int8_t>({3}, {-128, 0, 127}));
  CHECK(to_integer_tensor(Tensor::from<std::int64_t>({1}, {255}), DType::u8, "x") ==
        Tensor::from<std::uint8_t>({1}, {255}));
  CHECK(contains(error_of([&] { to_integer_tensor(x, DType::u8, "input 'x'"); }).second,
                 "element 0 is -128"));
  CHECK(error_of([] { to_integer_tensor(Tensor::scalar(0.5F), DType::i32, "x"); }).first == "data");
  CHECK(error_of([] { to_integer_tensor(Tensor::scalar(3.0e9F), DType::i32, "x"); }).first ==
        "data");
}

TEST_CASE(
    "agree_on_spelling: integer constants beside float32 data take float32, unless it rounds "
    "them") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 2}});
  const ValueId w = g.add_constant("w", Tensor::from<std::int64_t>({2, 2}, {2, -128, 127, 3})),
                big = g.add_constant("big", Tensor::from<std::int32_t>({2}, {(1 << 24) + 1, 0})),
                wanted = g.add_constant("wanted", Tensor::from<std::int64_t>({2}, {2, 1}));
  const ValueId mul = g.add_constant("mul", Tensor::scalar<std::int32_t>(3));
  const ValueId acc = g.add_value("acc"), sum = g.add_value("sum"), y = g.add_value("y"),
                z = g.add_value("z");
  append(g, "MatMul", "matmul", {x, w}, acc);
  append(g, "Add", "add", {acc, big}, sum);
  append(g, "RequantShift", "rq", {acc, mul, mul}, y, requant_attrs(4, 0));
  append(g, "Reshape", "reshape", {y, wanted}, z);
  g.add_output(sum);
  g.add_output(z);
  agree_on_spelling(g);
  CHECK(g.constant(w) == Tensor::from<float>({2, 2}, {2, -128, 127, 3}));
  CHECK(dtype_at(g, "big") == DType::i32);
  CHECK(dtype_at(g, "mul") == DType::i32);
  CHECK(dtype_at(g, "wanted") == DType::i64);

  Graph plain;  // no operator of the dialect: a wrong model stays wrong
  const ValueId v = plain.add_input("v", {DType::f32, {1, 2}});
  const ValueId u = plain.add_constant("u", Tensor::from<std::int32_t>({2}, {1, 2}));
  append(plain, "Add", "add", {v, u}, plain.add_value("s"));
  agree_on_spelling(plain);
  CHECK(dtype_at(plain, "u") == DType::i32);
}

}  // namespace waveq
