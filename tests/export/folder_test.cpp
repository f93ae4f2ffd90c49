#include "waveq/export/folder.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "small_job.h"
#include "waveq/export/verify.h"
#include "waveq/graph/file.h"

namespace waveq {
namespace {

using namespace test;

struct Written {
  fs::path root = scratch_dir(), dir = root / "out";
  QuantizeJob job = small_job(root);
  QuantizeResult result = quantize(job);
  void write(const FolderOptions& options = {}) const { write_folder(result, job, dir, options); }
};

std::map<std::string, std::string> contents(const fs::path& dir) {
  std::map<std::string, std::string> files;
  for (const std::string& name : entries(dir)) files[name] = read_file(dir / name);
  return files;
}

const std::vector<std::string> kFiles = {"activations.npz", "calibration.json", "inputs.npz", "manifest.json", "network.onnx",
                                         "outputs.npz", "quantization.json", "recipe.toml", "report.json"};

TEST_CASE("folder: has the files of the product and nothing beside it") {
  const Written w;
  w.write();
  CHECK(entries(w.dir) == kFiles);
  CHECK(entries(w.root) == std::vector<std::string>{"calib.npz", "model.onnx", "out"});
  CHECK(verify_folder(w.dir).mismatches.empty());
}

TEST_CASE("folder: the same bytes twice, with other threads, and with a trailing slash") {
  const Written w;
  w.write();
  const auto first = contents(w.dir);
  QuantizeJob job = w.job;
  job.threads = 3;
  write_folder(quantize(job), job, w.root / "second" / "", {});
  CHECK(contents(w.root / "second") == first);
  w.write();  // over its own
  CHECK(contents(w.dir) == first);
  CHECK(entries(w.root) == std::vector<std::string>{"calib.npz", "model.onnx", "out", "second"});
}

TEST_CASE("folder: a folder that is not ours is refused and left as it is") {
  const Written w;
  fs::create_directories(w.dir);
  std::ofstream(w.dir / "notes.txt") << "mine";
  CHECK(code_of([&] { w.write(); }) == ErrorCode::invalid_argument);
  // Others have files of this name too.
  for (const char* manifest : {"{\"name\": \"web app\"}", "not json", "[]", "{\"tool\": 3}", ""}) {
    std::ofstream(w.dir / "manifest.json", std::ios::trunc) << manifest;
    CHECK(code_of([&] { w.write(); }) == ErrorCode::invalid_argument);
    CHECK(read_file(w.dir / "notes.txt") == "mine");
    CHECK(read_file(w.dir / "manifest.json") == manifest);
  }
  CHECK(entries(w.dir) == std::vector<std::string>{"manifest.json", "notes.txt"});
  CHECK(entries(w.root) == std::vector<std::string>{"calib.npz", "model.onnx", "out"});
}

TEST_CASE("folder: an empty folder is used, a file and a place below a file are refused") {
  const Written w;
  fs::create_directories(w.dir);
  w.write();
  CHECK(entries(w.dir) == kFiles);
  CHECK(code_of([&] { check_output_dir(w.root / "model.onnx"); }) == ErrorCode::io);
  CHECK(code_of([&] { check_output_dir(w.root / "model.onnx" / "below"); }) == ErrorCode::io);
  CHECK(code_of([&] { check_output_dir(""); }) == ErrorCode::invalid_argument);
  CHECK_NOTHROW(check_output_dir(w.root / "a" / "b" / "c"));
  CHECK(entries(w.root) == std::vector<std::string>{"calib.npz", "model.onnx", "out"});
}

TEST_CASE("folder: a failure leaves the old folder and no temporary one") {
  Written w;
  w.write();
  const auto before = contents(w.dir);
  SUBCASE("the target lacks an operator") {
    Graph& g = w.result.network.graph;
    g.replace_uses(g.outputs()[0], g.emit("Tanh", "t", {g.add_input("extra", {DType::f32, {1, 4}})}));
    CHECK(code_of([&] { w.write(); }) == ErrorCode::not_integer);
  }
  SUBCASE("the golden vectors do not fit the network") {
    Tensor& tensor = w.result.golden.activations.begin()->second;
    visit_integer(tensor.dtype(), [&](auto t) { tensor.as<decltype(t)>()[0] ^= 1; });
    CHECK(code_of([&] { w.write(); }) == ErrorCode::mismatch);
  }
  SUBCASE("a golden tensor is of no node") {
    w.result.golden.activations.emplace("nowhere", Tensor::scalar<std::int8_t>(1));
    // Not a node's output, so it is not written at all.
    CHECK_NOTHROW(w.write());
  }
  SUBCASE("an input file is gone") {
    fs::remove(w.job.model.path);
    CHECK(code_of([&] { w.write(); }) == ErrorCode::io);
  }
  SUBCASE("the target is unknown") {
    w.result.recipe.target = "toaster";
    CHECK(code_of([&] { w.write(); }) == ErrorCode::invalid_argument);
  }
  CHECK(contents(w.dir) == before);
  for (const std::string& name : entries(w.root)) CHECK(name.find("tmp") == std::string::npos);
}

TEST_CASE("folder: report.json has the keys that scripts rely on") {
  const Written w;
  w.write();
  const auto j = nlohmann::json::parse(read_file(w.dir / "report.json"));
  for (const char* key : {"model", "target", "accuracy", "output_sqnr_db", "float_islands", "proof", "nodes", "macs", "weight_bytes",
                          "peak_activation_bytes", "time_s", "peak_rss_bytes"})
    CHECK_MESSAGE(j.contains(key), key);
  for (const char* key : {"metric", "float", "integer", "agreement", "samples"}) CHECK_MESSAGE(j["accuracy"].contains(key), key);
  for (const char* key : {"overflow_free", "unproven", "min_headroom_bits"}) CHECK_MESSAGE(j["proof"].contains(key), key);
  REQUIRE(j["nodes"].size() == 5);  // Conv, requant, Reshape, Gemm, requant
  for (const auto& node : j["nodes"])
    for (const char* key : {"name", "origin", "op", "scale", "mul", "add", "shift", "bound", "headroom_bits", "sqnr_db", "saturation"})
      CHECK_MESSAGE(node.contains(key), key);
  CHECK(j["model"] == "model.onnx");
  CHECK(j["target"] == "deeploy-generic");
  CHECK(j["proof"]["overflow_free"] == true);
  CHECK(j["float_islands"].empty());
  CHECK(j["accuracy"]["samples"] == 6);
  CHECK(j["macs"] == 3 * 8 * 2 * 3 + 24 * 4);
  // int8: 18 + 96; int32: mul and add of 3 and 4 channels, bias of 4.
  CHECK(j["weight_bytes"] == 18 + 96 + 4 * (2 * 3 + 2 * 4 + 4));
  CHECK(j["peak_activation_bytes"] == 3 * 8 * 4 + 3 * 8);  // accumulator and its codes; more than input and accumulator
  CHECK(j["output_sqnr_db"].get<double>() > 25);
  CHECK(j["time_s"].empty());
  CHECK(j["peak_rss_bytes"].is_null());
  for (const auto& node : j["nodes"]) CHECK(node["mul"].is_null() == (node["op"] != "RequantShift"));
  const auto profiled = nlohmann::json::parse(report_json(w.result, find_target("deeploy-generic"), "m", {.profile = true}));
  CHECK(profiled["time_s"].contains("calibrate"));
  CHECK(profiled["peak_rss_bytes"].get<std::int64_t>() > 0);
}

TEST_CASE("folder: quantization.json tells how to feed and read the network") {
  const Written w;
  const auto j = nlohmann::json::parse(quantization_json(w.result.network.graph));
  REQUIRE(j["inputs"].size() == 1);
  CHECK(j["inputs"][0]["name"] == "x");
  CHECK(j["inputs"][0]["dtype"] == "i8");
  CHECK(j["inputs"][0]["shape"] == Ints{1, 2, 8});
  CHECK(j["inputs"][0]["lo"] == -128);
  CHECK(j["outputs"][0]["scale"].get<double>() == w.result.network.graph.value(w.result.network.graph.outputs()[0]).quant->scale);
}

TEST_CASE("folder: the manifest holds the digests of inputs and outputs") {
  const Written w;
  w.write();
  const auto j = nlohmann::json::parse(read_file(w.dir / "manifest.json"));
  CHECK(j["tool"] == "waveq");
  CHECK(j["inputs"]["model"]["sha256"] == sha256(read_file(w.job.model.path)));
  for (const std::string& name : kFiles)
    if (name != "manifest.json") CHECK(j["outputs"][name] == sha256(read_file(w.dir / name)));
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("folder: inputs and outputs are int64 in graph order, recipe and calibration read back") {
  const Written w;
  w.write();
  const auto inputs = read_arrays(w.dir / "inputs.npz"), outputs = read_arrays(w.dir / "outputs.npz");
  REQUIRE(inputs.size() == 1);
  CHECK(inputs[0].first == "x");
  CHECK(inputs[0].second.type() == TensorType{DType::i64, {1, 2, 8}});
  CHECK(outputs[0].second.type() == TensorType{DType::i64, {1, 4}});
  CHECK(load_recipe(w.dir / "recipe.toml") == w.result.recipe);
  CHECK(CalibrationTable::load(w.dir / "calibration.json") == w.result.calibration);
}

}  // namespace
}  // namespace waveq
