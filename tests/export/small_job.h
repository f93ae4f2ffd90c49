#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "code_of.h"
#include "shared_data.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/integerize/pipeline.h"

/// A network of a few nodes, its data, and what `quantize` makes of them.
namespace waveq::test {

namespace fs = std::filesystem;
using Ints = std::vector<std::int64_t>;

inline Attrs attributes(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (const auto& [name, value] : pairs) attrs.set(name, value);
  return attrs;
}

inline void write_arrays(const fs::path& path,
                         const std::vector<std::pair<std::string, Tensor>>& arrays) {
  std::vector<NpzItem> items;
  for (const auto& [name, tensor] : arrays) items.push_back({name, &tensor});
  write_npz(path, items);
}

inline std::vector<std::pair<std::string, Tensor>> read_arrays(const fs::path& path) {
  const NpzReader npz(path);
  std::vector<std::pair<std::string, Tensor>> arrays;
  for (const NpzArray& a : npz.arrays()) arrays.emplace_back(a.name, npz.read(a.name));
  return arrays;
}

/// Values between -1 and 1 without a pattern, the same everywhere.
inline Tensor wave(Shape shape, int start) {
  Tensor t(DType::f32, std::move(shape));
  int i = start;
  for (float& v : t.as<float>()) v = static_cast<float>((i++ * 37) % 101 - 50) / 50.0F;
  return t;
}

/// Conv, ReLU, Reshape, Gemm in `dir`/model.onnx, `dir`/calib.npz with labels, and the job over
/// both. Two tensors are named by one letter in both cases.
inline QuantizeJob small_job(const fs::path& dir) {
  Graph g;
  g.name = "small";
  const ValueId x = g.add_input("x", {DType::f32, {1, 2, 8}});
  const ValueId K = g.emit(
      "Conv", "K", {x, g.add_constant("w", wave({3, 2, 3}, 1)), g.add_constant("b", wave({3}, 7))},
      attributes({{"pads", Ints{1, 1}}}));
  const ValueId k = g.emit("Relu", "k", {K});
  const ValueId flat =
      g.emit("Reshape", "flat", {k, g.add_constant("s", Tensor::from<std::int64_t>({2}, {1, 24}))});
  const ValueId y =
      g.emit("Gemm", "logits",
             {flat, g.add_constant("w2", wave({24, 4}, 3)), g.add_constant("b2", wave({4}, 5))});
  g.add_output(y);
  write_onnx(dir / "model.onnx", g);
  write_arrays(dir / "calib.npz",
               {{"x", wave({6, 2, 8}, 11)},
                {"labels", Tensor::from<std::int64_t>({6}, {0, 1, 2, 3, 0, 1})}});
  QuantizeJob job;
  job.model = dir / "model.onnx";
  job.calibration_data = dir / "calib.npz";
  return job;
}

/// Names of everything in a folder, sorted.
inline std::vector<std::string> entries(const fs::path& dir) {
  std::vector<std::string> names;
  for (const auto& e : fs::directory_iterator(dir)) names.push_back(e.path().filename().string());
  std::ranges::sort(names);
  return names;
}

}  // namespace waveq::test
