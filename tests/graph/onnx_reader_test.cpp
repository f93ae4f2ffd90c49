#include "waveq/graph/onnx_reader.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <random>

#include "onnx_builder.h"
#include "shared_data.h"
#include "waveq/graph/file.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace fs = std::filesystem;
using namespace test;
using onnx::TensorProto;

TEST_CASE("onnx reader: Constant nodes and Identities of constants are constants") {
  onnx::ModelProto m = model();
  initializer<float>(m, "w", TensorProto::FLOAT, {2}, {1, 2});
  node(m, "Identity", {"w"}, {"shared"});
  fill_raw<float>(
      *[&] {
        auto& a = *node(m, "Constant", {}, {"tensor"}).add_attribute();
        a.set_name("value");
        a.set_type(onnx::AttributeProto::TENSOR);
        return a.mutable_t();
      }(),
      TensorProto::FLOAT, {1}, {4});
  attr(node(m, "Constant", {}, {"int"}), "value_int", std::int64_t{-3});
  attr(node(m, "Constant", {}, {"ints"}), "value_ints", std::vector<std::int64_t>{1, 2});
  attr_float(node(m, "Constant", {}, {"float"}), "value_float", 0.5f);
  for (const char* name : {"shared", "tensor", "int", "ints", "float"}) output(m, name);
  const Graph g = read(m);
  CHECK(g.nodes().empty());
  const auto value = [&](const char* name) { return g.constant(*g.find_value(name)); };
  CHECK(value("shared") == Tensor::from<float>({2}, {1, 2}));
  CHECK(g.value(*g.find_value("shared")).constant == g.value(*g.find_value("w")).constant);
  CHECK(value("tensor") == Tensor::from<float>({1}, {4}));
  CHECK(value("int") == Tensor::scalar<std::int64_t>(-3));
  CHECK(value("ints") == Tensor::from<std::int64_t>({2}, {1, 2}));
  CHECK(value("float") == Tensor::scalar<float>(0.5f));
}

TEST_CASE("onnx reader: an initializer that is listed as an input is a constant") {
  onnx::ModelProto m = model(9, 3);
  input(m, "x", {2});
  input(m, "w", {2});
  initializer<float>(m, "w", TensorProto::FLOAT, {2}, {1, 2});
  node(m, "Add", {"x", "w"}, {"y"});
  output(m, "y");
  const Graph g = read(m);
  REQUIRE(g.inputs().size() == 1);
  CHECK(g.value(g.inputs()[0]).name == "x");
  CHECK(g.is_constant(*g.find_value("w")));
  CHECK(g.opset == 9);
}

TEST_CASE("onnx reader: open dimensions are closed by name, by symbol or by the batch default") {
  onnx::ModelProto m = model();
  input(m, "x", {"batch", 1, "time"});
  input(m, "z", {"batch", "time"});
  node(m, "Relu", {"x"}, {"y"});
  node(m, "Relu", {"z"}, {"v"});
  output(m, "y");
  output(m, "v");
  const Error open = error_of(m);
  CHECK(open.code() == ErrorCode::shape);
  CHECK(says(open,
             "input 'x': leaves dimension 2 open ('time'); close it with --input-shape x=1,1,N"));

  ReadOptions options;
  options.input_shapes = {{"x", {2, 1, 16}}};
  const Graph g = read(m, options);
  CHECK(g.value(*g.find_value("y")).type.shape == Shape{2, 1, 16});
  CHECK(g.value(*g.find_value("v")).type.shape == Shape{2, 16});

  options.input_shapes = {{"z", {1, 8}}};
  options.default_batch = 4;  // the symbol has a value already
  CHECK(read(m, options).value(*g.find_value("y")).type.shape == Shape{1, 1, 8});
}

TEST_CASE("onnx reader: an open first dimension becomes 1") {
  onnx::ModelProto m = model();
  input(m, "x", {"", 3});
  node(m, "Relu", {"x"}, {"y"});
  output(m, "y");
  CHECK(read(m).value(read(m).inputs()[0]).type == TensorType{DType::f32, {1, 3}});
  ReadOptions options;
  options.default_batch = 5;
  CHECK(read(m, options).value(read(m).outputs()[0]).type.shape == Shape{5, 3});
  m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(0)->set_dim_value(-1);
  CHECK(read(m, options).value(read(m).outputs()[0]).type.shape == Shape{5, 3});
  options.input_shapes = {{"x", {2, 3}}};
  CHECK(read(m, options).value(read(m).outputs()[0]).type.shape == Shape{2, 3});
}

TEST_CASE("onnx reader: input shapes that do not fit the model are refused") {
  onnx::ModelProto m = model();
  input(m, "x", {"n", 3});
  node(m, "Relu", {"x"}, {"y"});
  output(m, "y");
  const auto code = [&](std::string name, Shape shape) {
    ReadOptions options;
    options.input_shapes = {{std::move(name), std::move(shape)}};
    return error_of(m, options).code();
  };
  CHECK(code("X", {1, 3}) == ErrorCode::invalid_argument);
  CHECK(code("x", {1, 4}) == ErrorCode::invalid_argument);
  CHECK(code("x", {1, 3, 1}) == ErrorCode::invalid_argument);
  CHECK(code("x", {0, 3}) == ErrorCode::invalid_argument);
  m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape();
  CHECK(says(error_of(m), "--input-shape"));
  ReadOptions options;
  options.input_shapes = {{"x", {2, 2}}};
  CHECK(read(m, options).value(*read(m, options).find_value("y")).type.shape == Shape{2, 2});
}

TEST_CASE("onnx reader: nodes get unique names and keep their own") {
  onnx::ModelProto m = model();
  input(m, "x", {2});
  node(m, "Relu", {"x"}, {"a"});
  node(m, "Relu", {"a"}, {"b"}, "same");
  node(m, "Relu", {"b"}, {"c"}, "same");
  node(m, "Relu", {"c"}, {"d"}, "Relu_0");
  output(m, "d");
  const Graph g = read(m);
  std::vector<std::string> names;
  for (const NodeId id : g.nodes()) names.push_back(g.node(id).name);
  CHECK(names == std::vector<std::string>{"Relu_0_1", "same", "same_1", "Relu_0"});
}

TEST_CASE("onnx reader: nodes may come in any order, cycles are errors") {
  onnx::ModelProto m = model();
  input(m, "x", {2});
  node(m, "Relu", {"h"}, {"y"}, "second");
  node(m, "Relu", {"x"}, {"h"}, "first");
  output(m, "y");
  const Graph g = read(m);
  CHECK(g.value(*g.find_value("y")).type == TensorType{DType::f32, {2}});
  m.mutable_graph()->mutable_node(1)->set_input(0, std::string("y"));
  CHECK(error_of(m).code() == ErrorCode::parse);
}

TEST_CASE("onnx reader: empty names are absent inputs and outputs") {
  onnx::ModelProto m = model();
  input(m, "x", {2});
  initializer<float>(m, "max", TensorProto::FLOAT, {}, {6});
  node(m, "Clip", {"x", "", "max"}, {"y"});
  output(m, "y");
  const Graph g = read(m);
  const Node& clip = g.node(g.nodes()[0]);
  REQUIRE(clip.inputs.size() == 3);
  CHECK_FALSE(clip.inputs[1].valid());
  CHECK(clip.inputs[2].valid());
}

TEST_CASE("onnx reader: broken graphs are parse errors that name the place") {
  const auto with = [](auto change) {
    onnx::ModelProto m = small_model();
    change(m);
    const Error e = error_of(m);
    CHECK(e.code() == ErrorCode::parse);
    CHECK(says(e, "while reading the model test.onnx"));
    return e;
  };
  auto nodes = [](onnx::ModelProto& m, int i) { return m.mutable_graph()->mutable_node(i); };
  CHECK(says(with([&](auto& m) { nodes(m, 1)->set_input(0, std::string("nowhere")); }),
             "Relu 'relu': reads 'nowhere', which nothing produces"));
  CHECK(says(with([&](auto& m) { nodes(m, 1)->set_output(0, std::string("c")); }),
             "Relu 'relu': defines the value 'c', which exists already"));
  CHECK(says(with([&](auto& m) { nodes(m, 1)->set_output(0, std::string("x")); }),
             "'x', which exists already"));
  CHECK(says(with([&](auto& m) { nodes(m, 1)->set_output(0, std::string("w")); }),
             "'w', which exists already"));
  CHECK(says(with([&](auto& m) { m.mutable_graph()->mutable_output(0)->set_name("q"); }),
             "output 'q': is produced by nothing"));
  with([&](auto& m) { m.mutable_graph()->clear_output(); });
  with([&](auto& m) { m.clear_graph(); });
  with([&](auto& m) { nodes(m, 1)->clear_op_type(); });
  with([&](auto& m) { nodes(m, 1)->set_name("\xff\xfe"); });
  with([&](auto& m) { nodes(m, 1)->set_op_type("\xc0\x80"); });
  with([&](auto& m) { m.mutable_graph()->mutable_initializer(0)->clear_name(); });
  with([&](auto& m) { m.mutable_graph()->mutable_initializer(1)->set_name("w"); });
  with([&](auto& m) { *m.mutable_graph()->add_input() = m.graph().input(0); });
  with([&](auto& m) { nodes(m, 0)->mutable_attribute(0)->set_ref_attr_name("p"); });
  with([&](auto& m) { *nodes(m, 0)->add_attribute() = m.graph().node(0).attribute(0); });
  with([&](auto& m) {
    m.mutable_graph()
        ->mutable_input(0)
        ->mutable_type()
        ->mutable_tensor_type()
        ->mutable_shape()
        ->mutable_dim(1)
        ->set_dim_value(-2);
  });
  with([&](auto& m) {
    for (int i = 0; i < 3; ++i)
      m.mutable_graph()
          ->mutable_input(0)
          ->mutable_type()
          ->mutable_tensor_type()
          ->mutable_shape()
          ->mutable_dim(i)
          ->set_dim_value(std::int64_t{1} << 30);
  });
}

TEST_CASE("onnx reader: files that are no models are parse errors") {
  for (const std::string_view bytes :
       {std::string_view(""), std::string_view("hello, this is text"),
        std::string_view("\x08\x07", 2)}) {
    try {
      read_bytes(bytes);
      FAIL("no error");
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::parse);
    }
  }
  CHECK_THROWS_AS(read_onnx(scratch_dir() / "missing.onnx"), Error);
  CHECK_THROWS_AS(read_onnx(scratch_dir()), Error);
}

TEST_CASE("onnx reader: operator sets below 7 are refused, newer ones than 21 are not") {
  onnx::ModelProto m = small_model();
  for (const int version : {7, 13, 21, 26}) {
    m.mutable_opset_import(0)->set_version(version);
    CHECK(read(m).opset == version);
  }
  m.mutable_opset_import(0)->set_domain("ai.onnx");
  CHECK(read(m).opset == 26);
  m.mutable_opset_import(0)->set_version(6);
  CHECK(error_of(m).code() == ErrorCode::unsupported);
  m.clear_opset_import();
  CHECK(error_of(m).code() == ErrorCode::unsupported);
}

TEST_CASE(
    "onnx reader: Softmax before operator set 13 is marked as flattening, with its default axis") {
  for (const char* op : {"Softmax", "LogSoftmax", "Hardmax"}) {
    for (const std::int64_t opset : {12, 13}) {
      onnx::ModelProto m = model(opset);
      input(m, "x", {2, 3, 4});
      node(m, op, {"x"}, {"y"});
      output(m, "y");
      const Graph g = read(m);
      const Attrs& attrs = g.node(g.nodes()[0]).attrs;
      CHECK(attrs.get_int("waveq_flatten", 0) == (opset == 12));
      CHECK(attrs.get_int("axis", -99) == (opset == 12 ? 1 : -99));
    }
  }
}

TEST_CASE("onnx reader: a Cast names the type that is kept") {
  const std::pair<int, int> types[] = {{TensorProto::DOUBLE, 1}, {TensorProto::FLOAT16, 1},
                                       {TensorProto::UINT32, 7}, {TensorProto::INT32, 6},
                                       {TensorProto::BOOL, 9},   {22, 3}};
  for (const auto& [stated, kept] : types) {
    onnx::ModelProto m = model();
    input(m, "x", {2}, TensorProto::INT32);
    attr(node(m, "Cast", {"x"}, {"y"}), "to", std::int64_t{stated});
    output(m, "y");
    const Graph g = read(m);
    CHECK(g.node(g.nodes()[0]).attrs.get_int("to", 0) == kept);
  }
}

TEST_CASE("onnx reader: batch normalization over positions is refused") {
  onnx::ModelProto m = model(7);
  input(m, "x", {1, 2, 4});
  for (const char* name : {"s", "b", "mean", "var"})
    initializer<float>(m, name, TensorProto::FLOAT, {2}, {1, 1});
  auto& n = node(m, "BatchNormalization", {"x", "s", "b", "mean", "var"}, {"y"});
  attr(n, "spatial", std::int64_t{1});
  output(m, "y");
  const Graph g = read(m);
  CHECK_FALSE(g.node(g.nodes()[0]).attrs.has("spatial"));
  m.mutable_graph()->mutable_node(0)->mutable_attribute(0)->set_i(0);
  CHECK(error_of(m).code() == ErrorCode::unsupported);
}

TEST_CASE("onnx reader: unknown operators keep the types the file states, and their domain") {
  onnx::ModelProto m = model();
  input(m, "x", {"n", 3});
  auto& n = node(m, "FancyOp", {"x"}, {"u", "v"}, "fancy");
  n.set_domain("com.example");
  node(m, "Relu", {"u"}, {"y"});
  output(m, "y");
  output(m, "v");
  describe(*m.mutable_graph()->add_value_info(), "u", {"n", 7}, TensorProto::FLOAT);
  const Graph g = read(m);
  CHECK(g.value(*g.find_value("u")).type == TensorType{DType::f32, {1, 7}});
  CHECK(g.value(*g.find_value("y")).type == TensorType{DType::f32, {1, 7}});
  CHECK_FALSE(g.value(*g.find_value("v")).type.known());
  CHECK(g.node(g.nodes()[0]).attrs.get_string("waveq_domain", "") == "com.example");
}

TEST_CASE("onnx reader: subgraphs and function calls stay as unknown operators") {
  onnx::ModelProto m = model();
  input(m, "x", {2});
  input(m, "cond", {}, TensorProto::BOOL);
  auto& n = node(m, "If", {"cond"}, {"a"});
  for (const char* branch : {"then_branch", "else_branch"}) {
    auto& a = *n.add_attribute();
    a.set_name(branch);
    a.set_type(onnx::AttributeProto::GRAPH);
    a.mutable_g()->set_name("inner");
  }
  auto& f = *m.add_functions();
  f.set_domain("local");
  f.set_name("Relu");
  node(m, "Relu", {"x"}, {"b"}).set_domain("local");
  node(m, "Relu", {"x"}, {"c"});
  for (const char* name : {"a", "b", "c"}) output(m, name);
  const Graph g = read(m);
  CHECK(g.node(g.nodes()[0]).attrs.get_string("waveq_lost_then_branch", "") == "subgraph");
  CHECK(g.node(g.nodes()[1]).op == "local::Relu");  // it has no such output
  CHECK_FALSE(g.value(*g.find_value("b")).type.known());
  CHECK(g.value(*g.find_value("c")).type.known());
}

TEST_CASE("onnx reader: what the graph cannot hold is refused") {
  onnx::ModelProto sparse = small_model();
  sparse.mutable_graph()->add_sparse_initializer();
  CHECK(error_of(sparse).code() == ErrorCode::unsupported);
  onnx::ModelProto sequence = small_model();
  sequence.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  CHECK(error_of(sequence).code() == ErrorCode::unsupported);
  onnx::ModelProto text = small_model();
  text.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(
      TensorProto::STRING);
  CHECK(error_of(text).code() == ErrorCode::unsupported);
}

namespace {

/// Whether the bytes load; anything but an Error or a graph fails the test by itself.
bool loads(std::string_view bytes) {
  try {
    read_bytes(bytes).verify();
    return true;
  } catch (const Error& e) {
    CHECK(e.code() != ErrorCode::internal);
    return false;
  }
}

}  // namespace

TEST_CASE("onnx reader: a model cut anywhere is an error") {
  const std::string whole = small_model().SerializeAsString();
  REQUIRE(loads(whole));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK_FALSE(loads(std::string_view(whole).substr(0, n)));
  }
}

TEST_CASE("onnx reader: damaged models are errors or load, and never crash") {
  const std::string whole = small_model().SerializeAsString();
  std::mt19937_64 random(20240817);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int loaded = 0;
  constexpr int kRounds = 4000;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = whole;
    for (std::size_t change = 0, changes = 1 + below(3); change < changes; ++change) {
      const std::size_t at = below(bytes.size());
      switch (below(5)) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
          break;
        case 2:
          bytes.erase(at, 1 + below(4));
          break;
        case 3:
          bytes.insert(at, 1 + below(4), static_cast<char>(random()));
          break;
        default:
          bytes.insert(at, bytes.substr(below(bytes.size()), below(40)));
          break;
      }
    }
    CAPTURE(round);
    loaded += loads(bytes);
  }
  // Both outcomes occur: flips inside weights load, most others do not.
  CHECK(loaded > kRounds / 50);
  CHECK(loaded < kRounds);
}

TEST_CASE("onnx reader: the shared models load with every value typed") {
  const auto folder = shared("models");
  if (!folder) return;
  int models = 0;
  for (const auto& entry : fs::recursive_directory_iterator(*folder)) {
    if (entry.path().extension() != ".onnx") continue;
    CAPTURE(entry.path().string());
    const Graph g = read_onnx(entry.path());
    g.verify();
    for (const NodeId id : g.nodes()) {
      CHECK_MESSAGE(find_op(g.node(id).op) != nullptr, g.node(id).op);
      for (const ValueId out : g.node(id).outputs)
        if (out.valid()) CHECK_MESSAGE(g.value(out).type.known(), g.value(out).name);
    }
    ++models;
  }
  CHECK(models >= 9);
}

}  // namespace waveq
