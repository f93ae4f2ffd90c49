#include "waveq/export/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "waveq/graph/integer_import.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {

namespace fs = std::filesystem;

namespace {

constexpr double kFloatTolerance = 1e-4;

Shape index_of(std::int64_t flat, const Shape& shape) {
  Shape index(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return index;
}

/// Deeploy's names: everything but letters, digits and underscores is dropped.
std::string plain_name(std::string_view name) {
  std::string out;
  for (char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') out += c;
  return out;
}

std::vector<Tensor> read_all(const fs::path& path, std::vector<std::string>* names = nullptr) {
  const NpzReader npz(path);
  std::vector<Tensor> tensors;
  for (const NpzArray& array : npz.arrays()) {
    tensors.push_back(npz.read(array.name));
    if (names) names->push_back(array.name);
  }
  return tensors;
}

/// Integer content of a tensor in whatever dtype a tool stored it; nothing where a value is
/// fractional.
std::optional<std::vector<std::int64_t>> integers(const Tensor& t) {
  if (t.dtype() != DType::f32) return to_int64(t);
  std::vector<std::int64_t> out;
  for (float v : t.as<float>()) {
    if (std::floor(v) != v || std::abs(v) > 9.0e15f) return std::nullopt;
    out.push_back(static_cast<std::int64_t>(v));
  }
  return out;
}

/// The tensor for a graph input: right type and shape, from an array of the same number of
/// elements.
Tensor input_tensor(const Value& value, const Tensor& array, bool integer_network) {
  if (array.size() != element_count(value.type.shape))
    throw Error(ErrorCode::data, fmt::format("input '{}'", value.name),
                fmt::format("the network wants {}, inputs.npz has {}", to_string(value.type),
                            to_string(array.type())));
  const Tensor shaped = array.reshaped(value.type.shape);
  if (integer_network && is_integer(value.type.dtype))
    return to_integer_tensor(shaped, value.type.dtype, value.name);
  return cast(shaped, value.type.dtype);
}

std::optional<Mismatch> first_difference(const std::string& name, const Shape& shape,
                                         const std::vector<std::int64_t>& expected,
                                         const std::vector<std::int64_t>& got) {
  Mismatch m;
  m.tensor = name;
  m.elements = static_cast<std::int64_t>(expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == got[i]) continue;
    if (m.differing++ == 0) {
      m.index = index_of(static_cast<std::int64_t>(i), shape);
      m.expected = expected[i];
      m.got = got[i];
    }
  }
  if (m.differing == 0) return std::nullopt;
  return m;
}

/// Compares one computed tensor with its golden array.
void check(VerifyReport& report, const std::string& name, const Tensor& got, const Tensor& golden) {
  ++report.tensors;
  if (got.size() != golden.size())
    throw Error(ErrorCode::data, fmt::format("tensor '{}'", name),
                fmt::format("the network computes {}, the golden file has {}",
                            to_string(got.type()), to_string(golden.type())));
  if (got.dtype() != DType::f32) {
    const auto expected = integers(golden);
    if (!expected)
      throw Error(ErrorCode::data, fmt::format("tensor '{}'", name),
                  "its golden values are not integers");
    if (auto m = first_difference(name, got.shape(), *expected, to_int64(got)))
      report.mismatches.push_back(std::move(*m));
    return;
  }
  const std::vector<double> a = to_double(golden), b = to_double(got);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::abs(a[i] - b[i]) <= kFloatTolerance) continue;
    // What no integer is (NaN) becomes 0, what is beyond int64 its end.
    const auto whole = [](double v) {
      return std::isnan(v) ? std::int64_t{0}
                           : static_cast<std::int64_t>(std::clamp(v, -9.0e18, 9.0e18));
    };
    report.mismatches.push_back({name, index_of(static_cast<std::int64_t>(i), got.shape()),
                                 whole(a[i]), whole(b[i]), 1, got.size()});
    return;
  }
}

/// Golden arrays by the name of the tensor they belong to.
std::map<std::string, std::pair<std::string, Tensor>> activations_of(const fs::path& path) {
  std::map<std::string, std::pair<std::string, Tensor>> out;
  std::vector<std::string> names;
  std::vector<Tensor> tensors = read_all(path, &names);
  for (std::size_t i = 0; i < names.size(); ++i)
    out.insert_or_assign(plain_name(names[i]), std::pair{names[i], std::move(tensors[i])});
  return out;
}

}  // namespace

double sqnr_db(double signal, double noise) {
  if (noise == 0) return std::numeric_limits<double>::infinity();
  if (signal == 0) return -std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(signal / noise);
}

VerifyReport verify_folder(const fs::path& dir, const VerifyOptions& options) {
  Graph graph = read_onnx(dir / "network.onnx");
  const std::vector<Tensor> arrays = read_all(dir / "inputs.npz");
  const bool integer_network = looks_integer(graph, arrays);
  if (integer_network) graph = to_integer_network(graph);
  if (integer_network && options.target) graph = as_computed_on(*options.target, std::move(graph));

  std::vector<Tensor> inputs;
  for (ValueId in : graph.inputs()) {
    const Value& value = graph.value(in);
    if (inputs.size() >= arrays.size())
      throw Error(ErrorCode::data, (dir / "inputs.npz").string(),
                  fmt::format("has {} arrays, the network has more inputs ('{}')", arrays.size(),
                              value.name));
    inputs.push_back(input_tensor(value, arrays[inputs.size()], integer_network));
  }
  std::map<std::string, std::pair<std::string, Tensor>> golden;
  if (fs::exists(dir / "activations.npz")) golden = activations_of(dir / "activations.npz");

  VerifyReport report;
  Executor executor(graph, options.overflow);
  const std::vector<Tensor> outputs = executor.run(inputs, [&](ValueId id, const Tensor& t) {
    const auto it = golden.find(plain_name(graph.value(id).name));
    if (it == golden.end() || it->second.second.size() != t.size()) return;
    check(report, graph.value(id).name, t, it->second.second);
    ++report.activations;
    golden.erase(it);
  });
  for (const auto& [plain, array] : golden) report.unmatched.push_back(array.first);

  const std::vector<Tensor> expected = read_all(dir / "outputs.npz");
  if (expected.size() != outputs.size())
    throw Error(
        ErrorCode::data, (dir / "outputs.npz").string(),
        fmt::format("has {} arrays, the network has {} outputs", expected.size(), outputs.size()));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    check(report, graph.value(graph.outputs()[i]).name, outputs[i], expected[i]);
    ++report.outputs;
  }
  return report;
}

std::vector<Comparison> compare_dumps(const fs::path& a_path, const fs::path& b_path) {
  const NpzReader a(a_path), b(b_path);
  std::vector<Comparison> result;
  for (const NpzArray& array : a.arrays()) {
    Comparison c;
    c.tensor = array.name;
    if (!b.find(array.name)) {
      c.problem = fmt::format("missing in {}", b_path.string());
      result.push_back(std::move(c));
      continue;
    }
    const Tensor x = a.read(array.name), y = b.read(array.name);
    c.elements = x.size();
    if (x.shape() != y.shape()) {
      c.problem = fmt::format("shapes {} and {}", to_string(x.shape()), to_string(y.shape()));
    } else if (x.dtype() != DType::f32 && y.dtype() != DType::f32) {
      c.integer = true;
      c.first = first_difference(array.name, x.shape(), to_int64(x), to_int64(y));
      c.differing = c.first ? c.first->differing : 0;
    } else {
      const std::vector<double> u = to_double(x), v = to_double(y);
      double uu = 0, vv = 0, uv = 0, noise = 0;
      for (std::size_t i = 0; i < u.size(); ++i) {
        uu += u[i] * u[i];
        vv += v[i] * v[i];
        uv += u[i] * v[i];
        noise += (u[i] - v[i]) * (u[i] - v[i]);
        c.differing += u[i] != v[i];
      }
      c.sqnr_db = sqnr_db(uu, noise);
      c.cosine = uu > 0 && vv > 0 ? uv / std::sqrt(uu * vv) : (noise == 0 ? 1.0 : 0.0);
    }
    result.push_back(std::move(c));
  }
  for (const NpzArray& array : b.arrays()) {
    if (a.find(array.name)) continue;
    Comparison c;
    c.tensor = array.name;
    c.problem = fmt::format("only in {}", b_path.string());
    c.extra = true;
    result.push_back(std::move(c));
  }
  return result;
}

}  // namespace waveq
