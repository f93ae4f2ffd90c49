#include <fmt/format.h>

#include <random>
#include <set>

#include "small_job.h"
#include "waveq/export/target.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/file.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"

// ONNX Runtime's view of these files: tests/ort/onnx_target_test.py.
namespace waveq {
namespace {

using namespace test;

TEST_CASE("onnx target: integer types, standard operators, the same tensors under the same names") {
  const QuantizeResult result = quantize(small_job(scratch_dir()));
  const TargetProfile& target = find_target("onnx");
  CHECK(target.check(target, result.network.graph).empty());
  const TargetFiles files = target.files(target, result);
  CHECK(files.network == target.files(target, result).network);
  const fs::path path = scratch_dir() / "network.onnx";
  write_file(path, files.network);
  const Graph read = read_onnx(path);
  CHECK(looks_integer(read));
  for (NodeId id : read.nodes()) {
    CHECK(!find_op(read.node(id).op)->dialect);
    for (ValueId v : read.node(id).outputs) CHECK(read.value(v).type.dtype != DType::f32);
  }
  REQUIRE(files.inputs.size() == 1);
  CHECK(files.inputs.front().second.dtype() == DType::i8);

  std::map<std::string, Tensor> computed;
  Executor(read).run(result.golden.inputs,
                     [&](ValueId v, const Tensor& t) { computed[read.value(v).name] = t; });
  CHECK(files.activations.size() == result.golden.activations.size());
  for (const auto& activation : files.activations) {
    INFO(activation.first);
    CHECK(computed.at(activation.first) == activation.second);
  }
}

TEST_CASE("onnx target: what has no standard form is named, every place of it") {
  Graph g;
  const ValueId wide = g.add_input("wide", {DType::i32, {1, 2, 8}});
  const ValueId w = g.add_constant("w", Tensor(DType::i8, {3, 2, 3}));
  g.add_output(g.emit("Conv", "conv", {wide, w}));
  g.add_output(g.emit("ReduceProd", "product", {wide}));
  const TargetProfile& target = find_target("onnx");
  std::set<std::string> nodes;
  for (const Finding& f : target.check(target, g)) nodes.insert(f.node);
  CHECK(nodes == std::set<std::string>{"conv", "product"});
  CHECK_THROWS_AS(target.to_file(target, g), Error);
}

/// Random integers of the dtype, its ends among them.
Tensor random_integers(const TensorType& type, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<std::int64_t> values(static_cast<std::size_t>(element_count(type.shape)));
  const std::int64_t lo = lowest(type.dtype), hi = highest(type.dtype);
  for (std::int64_t& v : values)
    v = lo + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(hi - lo + 1));
  values.front() = lo;
  values.back() = hi;
  return cast(Tensor::from<std::int64_t>(type.shape, values), type.dtype);
}

/// The file computes what the source does.
void check_twin(const Graph& source, const std::string& what) {
  INFO(what);
  const TargetProfile& target = find_target("onnx");
  for (const Finding& f : target.check(target, source)) FAIL_CHECK(f.problem);
  const fs::path path = scratch_dir() / "twin.onnx";
  write_file(path, target.to_file(target, source));
  const Graph read = read_onnx(path);
  for (NodeId id : read.nodes()) CHECK(!find_op(read.node(id).op)->dialect);
  std::vector<Tensor> inputs;
  for (ValueId in : source.inputs()) inputs.push_back(random_integers(source.value(in).type, 7));
  CHECK(Executor(read).run(inputs) == Executor(source).run(inputs));
}

TEST_CASE("onnx target: convolutions of 16 bits, byte by byte") {
  for (DType dtype : {DType::i16, DType::u16})
    for (bool biased : {false, true})
      for (std::int64_t group : {1, 2}) {
        Graph g;
        const ValueId x = g.add_input("x", {dtype, {1, 4, 9, 5}});
        Attrs attrs;
        attrs.set("pads", Ints{1, 0, 2, 1});
        attrs.set("strides", Ints{2, 1});
        attrs.set("dilations", Ints{1, 2});
        attrs.set("group", group);
        std::vector<ValueId> inputs{
            x, g.add_constant("w", random_integers({DType::i8, {6, 4 / group, 3, 2}}, 3))};
        if (biased)
          inputs.push_back(g.add_constant(
              "b", Tensor::from<std::int32_t>({6}, {0, 1, -1, 1000000, -99999999, 5})));
        g.add_output(g.emit("Conv", "y", inputs, attrs));
        check_twin(g, fmt::format("{}, group {}", to_string(dtype), group));
      }
}

TEST_CASE("onnx target: maxima of windows of 16 and 32 bits") {
  for (DType dtype : {DType::i16, DType::u16, DType::i32})
    for (const char* pad : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"})
      for (std::int64_t ceil_mode : {0, 1}) {
        Graph g;
        const ValueId x = g.add_input("x", {dtype, {2, 3, 11, 6}});
        Attrs attrs;
        attrs.set("kernel_shape", Ints{3, 2});
        attrs.set("strides", Ints{2, 3});
        attrs.set("auto_pad", std::string(pad));
        if (std::string_view(pad) == "NOTSET") {
          attrs.set("dilations", Ints{2, 1});
          attrs.set("pads", Ints{1, 0, 2, 1});
          attrs.set("ceil_mode", ceil_mode);
        }
        g.add_output(g.emit("MaxPool", "y", {x}, attrs));
        check_twin(g, fmt::format("{}, {}, ceil_mode {}", to_string(dtype), pad, ceil_mode));
      }
}

TEST_CASE("onnx target: requants with products of 64 bits") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i32, {1, 2, 50}});
  Attrs attrs;
  attrs.set("div", std::int64_t{1} << 31);
  attrs.set("n_levels_out", std::int64_t{65536});
  attrs.set("signed", std::int64_t{1});
  attrs.set("product_bits", std::int64_t{64});
  g.add_output(g.emit(
      "RequantShift", "y",
      {x, g.add_constant("mul", Tensor::from<std::int32_t>({2, 1}, {31000, -3})),
       g.add_constant(
           "add", Tensor::from<std::int64_t>({2, 1}, {-31000LL * 2000000, std::int64_t{1} << 61}))},
      attrs));
  check_twin(g, "wide");
}

TEST_CASE("onnx target: a tensor of the source keeps its name where a helper would like it") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2}});
  // "sum_Add" is what the helper of "sum" would be called.
  const ValueId taken = g.emit("Relu", "sum_Add", {x});
  g.add_output(g.emit("Add", "sum", {taken, x}));
  const TargetProfile& target = find_target("onnx");
  const fs::path path = scratch_dir() / "names.onnx";
  write_file(path, target.to_file(target, g));
  const Graph read = read_onnx(path);
  std::vector<Tensor> out =
      Executor(read).run(std::vector<Tensor>{Tensor::from<std::int8_t>({1, 2}, {-128, 127})},
                         [&](ValueId v, const Tensor& t) {
                           if (read.value(v).name == "sum_Add")
                             CHECK(t == Tensor::from<std::int8_t>({1, 2}, {0, 127}));
                         });
  CHECK(out.front() == Tensor::from<std::int32_t>({1, 2}, {-128, 254}));
}

}  // namespace
}  // namespace waveq
