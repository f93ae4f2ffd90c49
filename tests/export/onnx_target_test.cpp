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
  for (const auto& [name, tensor] : files.activations) {
    INFO(name);
    CHECK(computed.at(name) == tensor);
  }
}

TEST_CASE("onnx target: what has no standard form is named, every place of it") {
  Graph g;
  const ValueId wide = g.add_input("wide", {DType::i32, {1, 2, 8}});
  const ValueId w = g.add_constant("w", Tensor(DType::i8, {3, 2, 3}));
  g.add_output(g.emit("Conv", "conv", {wide, w}));
  Attrs pool;
  pool.set("kernel_shape", Ints{2});
  g.add_output(g.emit("MaxPool", "pool", {wide}, pool));
  g.add_output(g.emit("ReduceProd", "product", {wide}));
  const TargetProfile& target = find_target("onnx");
  std::set<std::string> nodes;
  for (const Finding& f : target.check(target, g)) nodes.insert(f.node);
  CHECK(nodes == std::set<std::string>{"conv", "pool", "product"});
  CHECK_THROWS_AS(target.to_file(target, g), Error);
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
