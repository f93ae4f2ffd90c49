#include "waveq/graph/onnx_writer.h"

#include <doctest/doctest.h>

#include <limits>

#include "onnx_builder.h"
#include "shared_data.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/file.h"

namespace waveq {
namespace {

namespace fs = std::filesystem;
using namespace test;
using onnx::TensorProto;

onnx::ModelProto written(const Graph& graph, const OnnxWriteOptions& options = {}) {
  const std::string bytes = to_onnx_bytes(graph, options);
  onnx::ModelProto m;
  REQUIRE(m.ParseFromString(bytes));
  return m;
}

OnnxWriteOptions for_opset(std::int64_t opset) {
  OnnxWriteOptions options;
  options.opset = opset;
  return options;
}

const onnx::AttributeProto* find_attr(const onnx::NodeProto& n, std::string_view name) {
  for (const auto& a : n.attribute())
    if (a.name() == name) return &a;
  return nullptr;
}

const TensorProto* find_initializer(const onnx::ModelProto& m, std::string_view name) {
  for (const auto& t : m.graph().initializer())
    if (t.name() == name) return &t;
  return nullptr;
}

/// x of the given shape into one node, whose outputs are the graph's.
Graph single(std::string op, Shape shape, Attrs attrs, std::vector<Tensor> constants,
             std::int64_t opset, std::vector<Shape> outputs = {{}}) {
  Graph g;
  g.opset = opset;
  Node n;
  n.op = std::move(op);
  n.name = "n";
  n.attrs = std::move(attrs);
  n.inputs.push_back(g.add_input("x", {DType::f32, std::move(shape)}));
  for (Tensor& t : constants)
    n.inputs.push_back(t.dtype() == DType::undefined ? ValueId{}
                                                     : g.add_constant("k", std::move(t)));
  for (Shape& s : outputs) {
    n.outputs.push_back(g.add_value("y", {DType::f32, std::move(s)}));
    g.add_output(n.outputs.back());
  }
  g.add_node(std::move(n));
  return g;
}

Attrs attrs_of(std::initializer_list<std::pair<const char*, Attr>> list) {
  Attrs attrs;
  for (const auto& [name, value] : list) attrs.set(name, value);
  return attrs;
}

Tensor ints(std::vector<std::int64_t> values) {
  return Tensor::from({static_cast<std::int64_t>(values.size())}, values);
}
using Ints = std::vector<std::int64_t>;

ErrorCode code_of(const Graph& g, const OnnxWriteOptions& options) {
  try {
    to_onnx_bytes(g, options);
  } catch (const Error& e) {
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

}  // namespace

TEST_CASE("onnx writer: a graph that is written and read is the same graph") {
  const Graph g = read(small_model());
  const std::string bytes = to_onnx_bytes(g);
  const Graph again = read_bytes(bytes);
  CHECK(dump(again) == dump(g));
  CHECK(to_onnx_bytes(again) == bytes);
  CHECK(again.name == "test");
  for (const char* name : {"w", "b", "shape", "w2"})
    CHECK(again.constant(*again.find_value(name)) == g.constant(*g.find_value(name)));
}

TEST_CASE("onnx writer: every attribute kind survives") {
  const Attrs attrs = attrs_of({{"i", std::int64_t{-5}},
                                {"f", 0.25},
                                {"s", std::string("text")},
                                {"is", Ints{1, -2}},
                                {"none", Ints{}},
                                {"fs", std::vector<double>{0.5, -1}},
                                {"ss", std::vector<std::string>{"a", ""}},
                                {"t", Tensor::from<std::int8_t>({2}, {-1, 7})}});
  const Graph g = single("Mystery", {2}, attrs, {}, 13, {{2}});
  const Graph again = read_bytes(to_onnx_bytes(g));
  CHECK(again.node(again.nodes()[0]).attrs == attrs);
  CHECK(again.value(again.outputs()[0]).type == TensorType{DType::f32, {2}});
}

TEST_CASE("onnx writer: every dtype of constants and values survives") {
  Graph g;
  const Tensor tensors[] = {Tensor::from<float>({2}, {1, -0.0f}),
                            Tensor::scalar<std::int8_t>(-3),
                            Tensor::from<std::uint8_t>({1, 1}, {200}),
                            Tensor::from<std::int16_t>({1}, {-300}),
                            Tensor::from<std::uint16_t>({1}, {60000}),
                            Tensor::from<std::int32_t>({1}, {1 << 30}),
                            Tensor(DType::i64, {0}),
                            Tensor::from<bool>({2}, {true, false})};
  for (const Tensor& t : tensors) {
    g.add_output(g.add_constant("c", t));
    g.add_input("x", t.type());
  }
  const Graph again = read_bytes(to_onnx_bytes(g));
  for (std::size_t i = 0; i < std::size(tensors); ++i) {
    CHECK(again.constant(again.outputs()[i]) == tensors[i]);
    CHECK(again.value(again.inputs()[i]).type == tensors[i].type());
  }
}

TEST_CASE("onnx writer: header fields follow the options") {
  const Graph g = read(small_model());
  onnx::ModelProto m = written(g);
  CHECK(m.producer_name() == "waveq");
  CHECK(m.opset_import_size() == 1);
  CHECK(m.opset_import(0).version() == 13);
  CHECK(m.ir_version() == 7);
  CHECK(m.graph().value_info_size() == 4);
  OnnxWriteOptions options = for_opset(17);
  options.producer = "test";
  options.ir_version = 5;
  options.value_info = false;
  m = written(g, options);
  CHECK(m.producer_name() == "test");
  CHECK(m.opset_import(0).version() == 17);
  CHECK(m.ir_version() == 5);
  CHECK(m.graph().value_info_size() == 0);
  CHECK(code_of(g, for_opset(6)) == ErrorCode::invalid_argument);
}

TEST_CASE("onnx writer: constants that nothing uses are left out, absent inputs keep their place") {
  Graph g = single("Clip", {2}, {}, {Tensor(), Tensor::scalar<float>(6)}, 13, {{2}});
  g.add_constant("unused", Tensor::scalar<float>(1));
  const onnx::ModelProto m = written(g);
  CHECK(m.graph().initializer_size() == 1);
  REQUIRE(m.graph().node(0).input_size() == 3);
  CHECK(m.graph().node(0).input(1).empty());
}

TEST_CASE("onnx writer: axes and their like are inputs or attributes as the operator set wants") {
  struct Case {
    const char *op, *attr;
    std::int64_t since;
    Shape shape, out;
    Ints value;
  };
  const Case cases[] = {
      {"Squeeze", "axes", 13, {1, 4}, {4}, {0}},
      {"Unsqueeze", "axes", 13, {4}, {4, 1}, {1}},
      {"ReduceSum", "axes", 13, {2, 4}, {2, 1}, {1}},
      {"ReduceMean", "axes", 18, {2, 4}, {2, 1}, {1}},
      {"ReduceMax", "axes", 18, {2, 4}, {2, 1}, {1}},
      {"ReduceL2", "axes", 18, {2, 4}, {2, 1}, {1}},
      {"Pad", "pads", 11, {2, 4}, {3, 5}, {0, 0, 1, 1}},
      {"Split", "split", 13, {3, 4}, {3, 4}, {3}},
      {"Slice", "starts", 10, {4}, {3}, {1}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.op);
    Attrs as_attr = attrs_of({{c.attr, c.value}});
    std::vector<Tensor> as_input = {ints(c.value)};
    if (std::string_view(c.op) == "Slice") {
      as_attr.set("ends", Ints{4});
      as_input.push_back(ints({4}));
    }
    for (const Graph& g : {single(c.op, c.shape, as_attr, {}, 9, {c.out}),
                           single(c.op, c.shape, {}, as_input, 21, {c.out})}) {
      const onnx::ModelProto older = written(g, for_opset(c.since - 1));
      const auto* attribute = find_attr(older.graph().node(0), c.attr);
      REQUIRE(attribute != nullptr);
      CHECK(Ints(attribute->ints().begin(), attribute->ints().end()) == c.value);
      CHECK(older.graph().node(0).input_size() == 1);
      CHECK(older.graph().initializer_size() == 0);

      const onnx::ModelProto newer = written(g, for_opset(c.since));
      CHECK(find_attr(newer.graph().node(0), c.attr) == nullptr);
      REQUIRE(newer.graph().node(0).input_size() >= 2);
      const TensorProto* constant = find_initializer(newer, newer.graph().node(0).input(1));
      REQUIRE(constant != nullptr);
      CHECK(constant->data_type() == TensorProto::INT64);
      CHECK(constant->raw_data().size() == 8 * c.value.size());
    }
  }
}

TEST_CASE("onnx writer: Clip bounds become scalars of the data's type, and attributes again") {
  const Graph g = single("Clip", {2}, attrs_of({{"max", 6.0}}), {}, 9, {{2}});
  const onnx::ModelProto newer = written(g, for_opset(11));
  REQUIRE(newer.graph().node(0).input_size() == 3);
  CHECK(newer.graph().node(0).input(1).empty());
  CHECK(newer.graph().node(0).input(2) == "n_max");
  CHECK(find_initializer(newer, "n_max")->dims_size() == 0);
  const onnx::ModelProto older = written(read(newer), for_opset(10));
  CHECK(find_attr(older.graph().node(0), "max")->f() == 6.0f);
  CHECK(find_attr(older.graph().node(0), "min") == nullptr);
  CHECK(older.graph().node(0).input_size() == 1);
}

TEST_CASE("onnx writer: parameters computed at run time cannot become attributes") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 4}}),
                axes = g.add_input("axes", {DType::i64, {1}});
  const ValueId y = g.add_value("y", {DType::f32, {4}});
  Node n;
  n.op = "Squeeze";
  n.name = "n";
  n.inputs = {x, axes};
  n.outputs = {y};
  g.add_node(n);
  g.add_output(y);
  CHECK(code_of(g, for_opset(12)) == ErrorCode::unsupported);
  CHECK_NOTHROW(to_onnx_bytes(g, for_opset(13)));
}

TEST_CASE("onnx writer: Slice steps go where they are 1, and are an error elsewhere") {
  const auto slice = [](std::int64_t step) {
    return single("Slice", {4}, {}, {ints({0}), ints({4}), ints({0}), ints({step})}, 13, {{4}});
  };
  CHECK(written(slice(1), for_opset(9)).graph().node(0).input_size() == 1);
  CHECK(written(slice(2), for_opset(10)).graph().node(0).input_size() == 5);
  CHECK(code_of(slice(2), for_opset(9)) == ErrorCode::unsupported);
}

TEST_CASE("onnx writer: Split says its parts as the operator set wants") {
  const Graph even = single("Split", {4, 2}, {}, {}, 13, {{2, 2}, {2, 2}});
  CHECK(find_attr(written(even, for_opset(18)).graph().node(0), "num_outputs")->i() == 2);
  CHECK(written(even, for_opset(13)).graph().node(0).attribute_size() == 0);
  const Graph uneven = single("Split", {3, 2}, attrs_of({{"num_outputs", std::int64_t{2}}}), {}, 18,
                              {{2, 2}, {1, 2}});
  const onnx::ModelProto older = written(uneven, for_opset(11));
  const auto* split = find_attr(older.graph().node(0), "split");
  REQUIRE(split != nullptr);
  CHECK(Ints(split->ints().begin(), split->ints().end()) == Ints{2, 1});
  CHECK(written(uneven, for_opset(13)).graph().node(0).input_size() == 2);
}

TEST_CASE("onnx writer: flattening Softmax is written where one axis says the same") {
  const auto softmax = [](Shape shape, std::int64_t axis, bool flatten, std::int64_t opset) {
    Attrs attrs = attrs_of({{"axis", axis}});
    if (flatten) attrs.set("waveq_flatten", std::int64_t{1});
    const Graph g = single("Softmax", shape, attrs, {}, flatten ? 11 : 13, {shape});
    const auto m = written(g, for_opset(opset));
    CHECK(m.graph().node(0).attribute_size() == 1);
    return find_attr(m.graph().node(0), "axis")->i();
  };
  CHECK(softmax({2, 3, 4}, 1, true, 11) == 1);  // nothing to change
  CHECK(softmax({2, 4}, 1, true, 13) == 1);
  CHECK(softmax({2, 1, 4}, 1, true, 13) == 2);  // the only axis longer than 1
  CHECK(softmax({2, 4, 1}, 1, true, 13) == 1);
  CHECK(softmax({2, 3, 4}, -1, false, 11) == 2);
  CHECK(softmax({2, 4, 1}, 1, false, 11) == 1);
  CHECK_THROWS_AS(softmax({2, 3, 4}, 1, true, 13), Error);
  CHECK_THROWS_AS(softmax({2, 3, 4}, 1, false, 12), Error);
  CHECK_THROWS_AS(softmax({2, 1, 4}, 1, false, 12), Error);
}

TEST_CASE(
    "onnx writer: operators and attributes newer than the operator set are errors unless they say "
    "nothing") {
  CHECK(code_of(single("HardSwish", {2}, {}, {}, 14, {{2}}), for_opset(13)) ==
        ErrorCode::unsupported);
  const Graph kept =
      single("Reshape", {2}, attrs_of({{"allowzero", std::int64_t{0}}}), {ints({2})}, 14, {{2}});
  CHECK(written(kept, for_opset(13)).graph().node(0).attribute_size() == 0);
  CHECK(written(kept, for_opset(14)).graph().node(0).attribute_size() == 1);
  const Graph meant =
      single("Reshape", {0}, attrs_of({{"allowzero", std::int64_t{1}}}), {ints({0})}, 14, {{0}});
  CHECK(code_of(meant, for_opset(13)) == ErrorCode::unsupported);
}

TEST_CASE("onnx writer: negative axes are made positive for old operator sets") {
  const Graph g =
      single("ReduceMean", {2, 3, 4}, attrs_of({{"axes", Ints{-1}}}), {}, 13, {{2, 3, 1}});
  CHECK(find_attr(written(g, for_opset(9)).graph().node(0), "axes")->ints(0) == 2);
  CHECK(find_attr(written(g, for_opset(13)).graph().node(0), "axes")->ints(0) == -1);
  const Graph u = single("Unsqueeze", {2, 3}, attrs_of({{"axes", Ints{-1}}}), {}, 11, {{2, 3, 1}});
  CHECK(find_attr(written(u, for_opset(9)).graph().node(0), "axes")->ints(0) == 2);
}

TEST_CASE("onnx writer: integers travel as floats except for shapes and indices") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  const ValueId w =
      g.add_constant("w", Tensor::from<std::int32_t>({4}, {1 << 24, -3, 0, (1 << 24) + 2}));
  const ValueId shape = g.add_constant("shape", ints({4, 1}));
  const ValueId h = g.add_value("h", {DType::i32, {1, 4}}),
                y = g.add_value("y", {DType::i32, {4, 1}});
  Node add;
  add.op = "Add";
  add.name = "add";
  add.inputs = {x, w};
  add.outputs = {h};
  add.attrs.set("div", Tensor::scalar<std::int32_t>(256));
  g.add_node(add);
  Node reshape;
  reshape.op = "Reshape";
  reshape.name = "reshape";
  reshape.inputs = {h, shape};
  reshape.outputs = {y};
  g.add_node(reshape);
  g.add_output(y);
  OnnxWriteOptions options = for_opset(10);
  options.integers_as_float = true;
  onnx::ModelProto m = written(g, options);
  CHECK(m.graph().input(0).type().tensor_type().elem_type() == TensorProto::FLOAT);
  CHECK(m.graph().output(0).type().tensor_type().elem_type() == TensorProto::FLOAT);
  CHECK(m.graph().value_info(0).type().tensor_type().elem_type() == TensorProto::FLOAT);
  CHECK(find_initializer(m, "w")->data_type() == TensorProto::FLOAT);
  CHECK(find_initializer(m, "shape")->data_type() == TensorProto::INT64);
  CHECK(m.graph().node(0).attribute(0).t().data_type() == TensorProto::FLOAT);
  const float expected[] = {16777216, -3, 0, 16777218};
  CHECK(find_initializer(m, "w")->raw_data() ==
        std::string(reinterpret_cast<const char*>(expected), sizeof expected));

  // The same constant as data and as a shape is written twice.
  g.add_output(shape);
  m = written(g, options);
  CHECK(find_initializer(m, "shape")->data_type() == TensorProto::FLOAT);
  CHECK(m.graph().node(1).input(1) == "shape_int");
  CHECK(find_initializer(m, "shape_int")->data_type() == TensorProto::INT64);
}

TEST_CASE("onnx writer: integers that float32 does not hold are errors") {
  OnnxWriteOptions options;
  options.integers_as_float = true;
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  for (const std::int64_t value :
       {std::int64_t{(1 << 24) + 1}, std::int64_t{-(1 << 24) - 1}, kMin + 1, -(kMin + 1)}) {
    CHECK(code_of(single("Add", {1}, {}, {ints({value})}, 13, {{1}}), options) ==
          ErrorCode::unsupported);
    CHECK(code_of(single("Odd", {1}, attrs_of({{"t", ints({value})}}), {}, 13, {{1}}), options) ==
          ErrorCode::unsupported);
  }
  for (const std::int64_t value : {std::int64_t{1} << 24, kMin, (std::int64_t{1} << 40) * 3})
    CHECK_NOTHROW(to_onnx_bytes(single("Add", {1}, {}, {ints({value})}, 13, {{1}}), options));
}

TEST_CASE("onnx writer: dialect operators get their domain, and it is imported where one occurs") {
  Graph g = single("RequantShift", {1, 4}, attrs_of({{"div", Tensor::scalar<float>(256)}}),
                   {Tensor::scalar<float>(1), Tensor::scalar<float>(0)}, 10, {{1, 4}});
  OnnxWriteOptions options;
  options.domain_for_dialect = "PACTOps";
  const onnx::ModelProto m = written(g, options);
  CHECK(m.graph().node(0).domain() == "PACTOps");
  REQUIRE(m.opset_import_size() == 2);
  CHECK(m.opset_import(0).domain().empty());
  CHECK(m.opset_import(1).domain() == "PACTOps");
  CHECK(m.opset_import(1).version() == 1);
  CHECK(written(read(small_model()), options).opset_import_size() == 1);
}

TEST_CASE("onnx writer: internal attributes are not written, lost ones are errors") {
  Attrs attrs = attrs_of({{"waveq_domain", std::string("com.example")}, {"a", std::int64_t{1}}});
  Graph g = single("Fancy", {1}, attrs, {}, 13, {{1}});
  const onnx::ModelProto m = written(g);
  CHECK(m.graph().node(0).domain() == "com.example");
  CHECK(m.graph().node(0).attribute_size() == 1);
  CHECK(m.opset_import(1).domain() == "com.example");
  attrs.set("waveq_lost_body", std::string("subgraph"));
  CHECK(code_of(single("Loop", {1}, attrs, {}, 13, {{1}}), {}) == ErrorCode::unsupported);
}

TEST_CASE(
    "onnx writer: Upsample and Resize take the form of the operator set and compute the same") {
  const Shape out = {1, 1, 4, 4};
  const Attrs attrs =
      attrs_of({{"mode", std::string("nearest")}, {"scales", std::vector<double>{1, 1, 2, 2}}});
  const Graph g = single("Upsample", {1, 1, 2, 2}, attrs, {}, 8, {out});
  const Tensor x = Tensor::from<float>({1, 1, 2, 2}, {1, 2, 3, 4});
  const Tensor expected =
      Tensor::from<float>(out, {1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4});
  const std::pair<std::int64_t, int> inputs[] = {{8, 1},  {9, 2},  {10, 2},
                                                 {11, 3}, {13, 3}, {18, 3}};
  for (const auto& [wanted, count] : inputs) {
    const std::int64_t opset = wanted;
    CAPTURE(opset);
    const std::string bytes = to_onnx_bytes(g, for_opset(opset));
    Graph again = read_bytes(bytes);
    const Node& n = again.node(again.nodes()[0]);
    CHECK(n.op == (opset <= 9 ? "Upsample" : "Resize"));
    CHECK(n.inputs.size() == static_cast<std::size_t>(count));
    CHECK(Executor(again).run(std::span(&x, 1))[0] == expected);
    if (opset < 9) continue;
    for (const std::int64_t back : {9, 10, 12}) {  // and from there to the others
      const Graph third = read_bytes(to_onnx_bytes(again, for_opset(back)));
      CHECK(Executor(third).run(std::span(&x, 1))[0] == expected);
    }
  }
  const Graph half = single("Resize", {1, 1, 2, 2}, {},
                            {Tensor(), Tensor::from<float>({4}, {1, 1, 2, 2})}, 13, {out});
  CHECK(code_of(half, for_opset(10)) == ErrorCode::unsupported);
  const onnx::ModelProto m = written(half, for_opset(11));
  CHECK(find_initializer(m, m.graph().node(0).input(1))->dims(0) == 0);
  CHECK(written(half, for_opset(13)).graph().node(0).input(1).empty());
}

TEST_CASE("onnx writer: a file is replaced as a whole") {
  const fs::path path = scratch_dir() / "out.onnx";
  write_file(path, "old");
  const Graph g = read(small_model());
  write_onnx(path, g);
  CHECK(read_file(path) == to_onnx_bytes(g));
  CHECK(dump(read_onnx(path)) == dump(g));
  CHECK(std::distance(fs::directory_iterator(path.parent_path()), fs::directory_iterator()) == 1);
  CHECK_THROWS_AS(write_onnx(path.parent_path() / "missing" / "out.onnx", g), Error);
}

TEST_CASE(
    "onnx writer: the shared models compute the same after writing for another operator set") {
  const auto folder = shared("models/waveformer_kws_fsdd");
  if (!folder) return;
  const Graph g = read_onnx(*folder / "model.onnx");
  Tensor x(DType::f32, g.value(g.inputs()[0]).type.shape);
  for (std::size_t i = 0; i < x.as<float>().size(); ++i)
    x.as<float>()[i] = static_cast<float>(static_cast<int>(i % 17) - 8) / 16;
  const Tensor expected = Executor(g).run(std::span(&x, 1))[0];
  for (const std::int64_t opset : {9, 11, 13, 18, 21}) {
    CAPTURE(opset);
    const Graph again = read_bytes(to_onnx_bytes(g, for_opset(opset)));
    CHECK(again.opset == opset);
    CHECK(Executor(again).run(std::span(&x, 1))[0] == expected);
  }
}

}  // namespace waveq
