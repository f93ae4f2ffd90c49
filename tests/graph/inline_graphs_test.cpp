#include <doctest/doctest.h>

#include "onnx_builder.h"
#include "waveq/graph/executor.h"

namespace waveq {
namespace {

using namespace test;
using onnx::TensorProto;

std::vector<float> run(const Graph& g, const std::vector<float>& x) {
  const Shape shape = g.value(g.inputs().front()).type.shape;
  const auto y = Executor(g).run(std::vector<Tensor>{Tensor::from<float>(shape, x)});
  return {y.front().as<float>().begin(), y.front().as<float>().end()};
}

std::vector<std::string> operators(const Graph& g) {
  std::vector<std::string> ops;
  for (NodeId id : g.topological_order()) ops.push_back(g.node(id).op);
  return ops;
}

onnx::NodeProto& body_node(onnx::FunctionProto& f, const char* op, std::initializer_list<const char*> inputs,
                           std::initializer_list<const char*> outputs, const char* domain = "") {
  onnx::NodeProto& n = *f.add_node();
  n.set_op_type(op);
  n.set_domain(domain);
  for (const char* i : inputs) n.add_input(std::string(i));
  for (const char* o : outputs) n.add_output(std::string(o));
  return n;
}

onnx::FunctionProto& function(onnx::ModelProto& m, const char* name, std::initializer_list<const char*> inputs,
                              std::initializer_list<const char*> outputs, std::int64_t opset = 13) {
  onnx::FunctionProto& f = *m.add_functions();
  f.set_domain("local");
  f.set_name(name);
  for (const char* i : inputs) f.add_input(std::string(i));
  for (const char* o : outputs) f.add_output(std::string(o));
  f.add_opset_import()->set_version(opset);
  return f;
}

void call(onnx::NodeProto& n) { n.set_domain("local"); }

/// leaky(x) = LeakyRelu(x, alpha = slope), negate(x) = Neg(t), t = Neg(u), u = leaky(x, slope 0.5)
onnx::ModelProto nested() {
  onnx::ModelProto m = model();
  input(m, "x", {2});
  onnx::FunctionProto& leaky = function(m, "leaky", {"x"}, {"y"});
  leaky.add_attribute("slope");
  auto& alpha = *body_node(leaky, "LeakyRelu", {"x"}, {"y"}).add_attribute();
  alpha.set_name("alpha");
  alpha.set_type(onnx::AttributeProto::FLOAT);
  alpha.set_ref_attr_name("slope");
  onnx::FunctionProto& twice = function(m, "twice", {"x"}, {"y"});
  attr_float(body_node(twice, "leaky", {"x"}, {"u"}, "local"), "slope", 0.5F);
  body_node(twice, "Neg", {"u"}, {"t"});
  body_node(twice, "Neg", {"t"}, {"y"});
  call(node(m, "twice", {"x"}, {"t"}, "first"));  // t: also a name inside
  call(node(m, "leaky", {"t"}, {"y"}, "second"));
  output(m, "y");
  return m;
}

TEST_CASE("functions: calls within calls, attributes of the call, names of their own") {
  const Graph g = read(nested());
  CHECK(operators(g) == std::vector<std::string>{"LeakyRelu", "Neg", "Neg", "LeakyRelu"});
  // The second call gives no slope: LeakyRelu's own default, 0.01.
  const std::vector<float> y = run(g, {2.0F, -4.0F});
  CHECK(y[0] == 2.0F);
  CHECK(y[1] == doctest::Approx(-0.02F));
  CHECK(g.find_value("first/u"));
}

TEST_CASE("functions: an output that is an input, or the same as another, is handed through") {
  onnx::ModelProto m = model();
  input(m, "x", {2});
  onnx::FunctionProto& f = function(m, "f", {"x", "unused"}, {"y", "x", "y"});
  body_node(f, "Neg", {"x"}, {"y"});
  call(node(m, "f", {"x"}, {"a", "b", "c"}));
  node(m, "Sub", {"a", "b"}, {"d"});
  node(m, "Add", {"c", "d"}, {"e"});
  output(m, "e");
  CHECK(run(read(m), {1.0F, -2.0F}) == std::vector<float>{-3.0F, 6.0F});
}

TEST_CASE("functions: what cannot be put in stays a call, what never ends is refused") {
  onnx::ModelProto other_set = nested();
  other_set.mutable_functions(0)->mutable_opset_import(0)->set_version(12);
  const Graph g = read(other_set);
  CHECK(operators(g).front() == "local::leaky");
  onnx::ModelProto twin = nested();
  *twin.add_functions() = twin.functions(0);
  CHECK(operators(read(twin)).front() == "local::leaky");
  onnx::ModelProto endless = nested();
  endless.mutable_functions(0)->mutable_node(0)->set_op_type("twice");
  endless.mutable_functions(0)->mutable_node(0)->set_domain("local");
  try {
    read(endless);
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::unsupported);
    CHECK(std::string(e.what()).find("calls itself") != std::string::npos);
  }
}

onnx::GraphProto& branch(onnx::NodeProto& n, const char* name) {
  auto& a = *n.add_attribute();
  a.set_name(name);
  a.set_type(onnx::AttributeProto::GRAPH);
  a.mutable_g()->set_name(name);
  return *a.mutable_g();
}

onnx::NodeProto& branch_node(onnx::GraphProto& g, const char* op, const char* in, const char* out) {
  onnx::NodeProto& n = *g.add_node();
  n.set_op_type(op);
  n.add_input(in);
  n.add_output(out);
  return n;
}

/// y = If(x has `length` elements) then Abs(Neg(x)) else x, named alike inside and outside.
onnx::ModelProto conditional(std::int64_t length) {
  onnx::ModelProto m = model();
  input(m, "x", {3});
  initializer<std::int64_t>(m, "length", TensorProto::INT64, {1}, {length});
  node(m, "Shape", {"x"}, {"n"});
  node(m, "Equal", {"n", "length"}, {"is"});
  auto& choice = node(m, "If", {"is"}, {"y"}, "choice");
  onnx::GraphProto& taken = branch(choice, "then_branch");
  branch_node(taken, "Neg", "x", "n");
  branch_node(taken, "Abs", "n", "z");
  taken.add_output()->set_name("z");
  branch(choice, "else_branch").add_output()->set_name("x");
  output(m, "y");
  return m;
}

TEST_CASE("branches: shapes decide, values of the scope around are seen") {
  CHECK(run(read(conditional(3)), {1, -2, 3}) == std::vector<float>{1, 2, 3});
  CHECK(run(read(conditional(4)), {1, -2, 3}) == std::vector<float>{1, -2, 3});
}

TEST_CASE("branches: one inside of another, with constants and a result given twice") {
  for (const bool first : {true, false})
    for (const bool second : {true, false}) {
      onnx::ModelProto m = model();
      input(m, "x", {1});
      initializer<std::uint8_t>(m, "first", TensorProto::BOOL, {}, {first});
      initializer<std::uint8_t>(m, "second", TensorProto::BOOL, {1}, {second});
      auto& outer = node(m, "If", {"first"}, {"a", "b"}, "outer");
      onnx::GraphProto& taken = branch(outer, "then_branch");
      auto& inner = branch_node(taken, "If", "second", "r");
      for (const auto& [name, value] : {std::pair{"then_branch", 2.0F}, {"else_branch", 3.0F}}) {
        onnx::GraphProto& g = branch(inner, name);
        auto& c = *g.add_initializer();
        c.set_name("factor");
        fill_raw<float>(c, TensorProto::FLOAT, {}, {value});
        branch_node(g, "Mul", "x", "p").add_input("factor");
        g.add_output()->set_name("p");
      }
      onnx::GraphProto& other = branch(outer, "else_branch");
      branch_node(other, "Neg", "x", "r");
      for (onnx::GraphProto* g : {&taken, &other})
        for (int i = 0; i < 2; ++i) g->add_output()->set_name("r");
      node(m, "Add", {"a", "b"}, {"y"});
      output(m, "y");
      CHECK(run(read(m), {5})[0] == (first ? second ? 20.0F : 30.0F : -10.0F));
    }
}

TEST_CASE("branches: a condition that depends on the data stays, by its name") {
  onnx::ModelProto m = conditional(3);
  m.mutable_graph()->mutable_node(1)->set_op_type("Greater");
  m.mutable_graph()->mutable_node(1)->set_input(0, "x");
  m.mutable_graph()->mutable_node(1)->set_input(1, "x");
  const Graph g = read(m);
  CHECK(g.node(g.nodes().back()).op == "If");
  CHECK(g.node(g.nodes().back()).name == "choice");
}

}  // namespace
}  // namespace waveq
