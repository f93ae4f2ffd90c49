// Tensors of model files: element types, encodings, external data.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "onnx_builder.h"
#include "shared_data.h"
#include "waveq/graph/file.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {
namespace {

namespace fs = std::filesystem;
using namespace test;
using onnx::TensorProto;

/// A model whose only content is one tensor, as its output.
onnx::ModelProto holding(const TensorProto& tensor) {
  onnx::ModelProto m = model();
  *m.mutable_graph()->add_initializer() = tensor;
  m.mutable_graph()->mutable_initializer(0)->set_name("t");
  output(m, "t");
  return m;
}

Tensor read_held(const TensorProto& tensor) {
  const Graph g = read(holding(tensor));
  return g.constant(*g.find_value("t"));
}

template <class T>
Tensor read_raw(int type, std::initializer_list<std::int64_t> dims, const std::vector<T>& values) {
  TensorProto t;
  fill_raw(t, type, dims, values);
  return read_held(t);
}

TensorProto typed(int type, std::int64_t count) {
  TensorProto t;
  t.set_data_type(type);
  t.add_dims(count);
  return t;
}

/// Writes a model with one external tensor of two floats below a fresh folder.
fs::path external_model(const std::string& location, const std::string& offset,
                        const std::string& length) {
  onnx::ModelProto m = model();
  TensorProto& t = *m.mutable_graph()->add_initializer();
  t.set_name("w");
  t.set_data_type(TensorProto::FLOAT);
  t.add_dims(2);
  t.set_data_location(TensorProto::EXTERNAL);
  const std::pair<std::string, std::string> entries[] = {
      {"location", location}, {"offset", offset}, {"length", length}};
  for (const auto& [key, value] : entries) {
    if (value.empty()) continue;
    auto& e = *t.add_external_data();
    e.set_key(key);
    e.set_value(value);
  }
  output(m, "w");
  const fs::path dir = scratch_dir();
  fs::create_directory(dir / "model");
  write_file(dir / "model" / "m.onnx", m.SerializeAsString());
  const float values[] = {8, 1.5f, -2};
  for (const char* file : {"model/w.bin", "secret.bin"})
    write_file(dir / file, {reinterpret_cast<const char*>(values), sizeof values});
  return dir / "model" / "m.onnx";
}

Error external_error(const fs::path& path) {
  try {
    read_onnx(path);
  } catch (const Error& e) {
    return e;
  }
  FAIL("no error");
  return Error(ErrorCode::internal, "", "");
}

}  // namespace

TEST_CASE("onnx reader: raw data of every element type become waveq tensors") {
  CHECK(read_raw<float>(TensorProto::FLOAT, {2}, {1.5f, -0.0f}) ==
        Tensor::from<float>({2}, {1.5f, -0.0f}));
  CHECK(read_raw<std::uint16_t>(TensorProto::FLOAT16, {3}, {0xc000, 0x0001, 0x7bff}) ==
        Tensor::from<float>({3}, {-2, 0x1p-24f, 65504}));
  CHECK(read_raw<std::uint16_t>(TensorProto::BFLOAT16, {2}, {0x3f80, 0xc040}) ==
        Tensor::from<float>({2}, {1, -3}));
  CHECK(read_raw<double>(TensorProto::DOUBLE, {1}, {0.1}) == Tensor::from<float>({1}, {0.1f}));
  CHECK(read_raw<std::int8_t>(TensorProto::INT8, {2, 1}, {-128, 127}) ==
        Tensor::from<std::int8_t>({2, 1}, {-128, 127}));
  CHECK(read_raw<std::uint8_t>(TensorProto::UINT8, {1}, {255}) ==
        Tensor::from<std::uint8_t>({1}, {255}));
  CHECK(read_raw<std::int16_t>(TensorProto::INT16, {1}, {-32768}) ==
        Tensor::from<std::int16_t>({1}, {-32768}));
  CHECK(read_raw<std::uint16_t>(TensorProto::UINT16, {1}, {65535}) ==
        Tensor::from<std::uint16_t>({1}, {65535}));
  CHECK(read_raw<std::int32_t>(TensorProto::INT32, {}, {-7}) == Tensor::scalar<std::int32_t>(-7));
  CHECK(read_raw<std::uint32_t>(TensorProto::UINT32, {1}, {4294967295u}) ==
        Tensor::from<std::int64_t>({1}, {4294967295}));
  CHECK(read_raw<std::int64_t>(TensorProto::INT64, {0}, {}) == Tensor(DType::i64, {0}));
  CHECK(read_raw<std::uint64_t>(TensorProto::UINT64, {1}, {9}) ==
        Tensor::from<std::int64_t>({1}, {9}));
  CHECK(read_raw<std::uint8_t>(TensorProto::BOOL, {3}, {0, 1, 7}) ==
        Tensor::from<bool>({3}, {false, true, true}));
  // Newer than the schema: two elements a byte, the first in the low half.
  CHECK(read_raw<std::uint8_t>(21, {3}, {0xf1, 0x08}) ==
        Tensor::from<std::uint8_t>({3}, {1, 15, 8}));
  CHECK(read_raw<std::uint8_t>(22, {3}, {0xf1, 0x08}) ==
        Tensor::from<std::int8_t>({3}, {1, -1, -8}));
}

TEST_CASE("onnx reader: typed fields of every element type become waveq tensors") {
  TensorProto f = typed(TensorProto::FLOAT, 2);
  f.add_float_data(1.25f);
  f.add_float_data(-2);
  CHECK(read_held(f) == Tensor::from<float>({2}, {1.25f, -2}));
  TensorProto d = typed(TensorProto::DOUBLE, 1);
  d.add_double_data(0.5);
  CHECK(read_held(d) == Tensor::from<float>({1}, {0.5f}));
  TensorProto i = typed(TensorProto::INT64, 1);
  i.add_int64_data(-(std::int64_t{1} << 40));
  CHECK(read_held(i) == Tensor::from<std::int64_t>({1}, {-(std::int64_t{1} << 40)}));
  TensorProto u = typed(TensorProto::UINT32, 1);
  u.add_uint64_data(4294967295u);
  CHECK(read_held(u) == Tensor::from<std::int64_t>({1}, {4294967295}));
  for (const int type : {TensorProto::INT32, TensorProto::INT16, TensorProto::INT8}) {
    TensorProto t = typed(type, 1);
    t.add_int32_data(-5);
    CHECK(to_int64(read_held(t)) == std::vector<std::int64_t>{-5});
  }
  TensorProto h = typed(TensorProto::FLOAT16, 1);
  h.add_int32_data(0xbc00);
  CHECK(read_held(h) == Tensor::from<float>({1}, {-1}));
  TensorProto b = typed(TensorProto::BOOL, 2);
  b.add_int32_data(2);
  b.add_int32_data(0);
  CHECK(read_held(b) == Tensor::from<bool>({2}, {true, false}));
  TensorProto four = typed(22, 2);
  four.add_int32_data(0x7f);
  CHECK(read_held(four) == Tensor::from<std::int8_t>({2}, {-1, 7}));
}

TEST_CASE("onnx reader: tensors whose size or content does not fit their type are parse errors") {
  TensorProto t = typed(TensorProto::FLOAT, 3);
  CHECK(error_of(holding(t)).code() == ErrorCode::parse);  // no data at all
  t.add_float_data(1);
  CHECK(says(error_of(holding(t)), "initializer 't': of shape [3] needs 3 elements, it has 1"));
  t.set_raw_data("12345");
  CHECK(says(error_of(holding(t)), "needs 12 bytes of raw data, it has 5"));
  for (const std::int64_t d : {std::int64_t{-1}, std::int64_t{1} << 62}) {
    TensorProto huge = typed(TensorProto::FLOAT, d);
    huge.add_dims(8);
    CHECK(error_of(holding(huge)).code() == ErrorCode::parse);
  }
  TensorProto narrow = typed(TensorProto::INT8, 1);
  narrow.add_int32_data(128);
  CHECK(error_of(holding(narrow)).code() == ErrorCode::parse);
  TensorProto none = typed(TensorProto::UNDEFINED, 0);
  CHECK(error_of(holding(none)).code() == ErrorCode::parse);
  TensorProto wide = typed(TensorProto::UINT64, 1);
  wide.add_uint64_data(~std::uint64_t{0});
  CHECK(error_of(holding(wide)).code() == ErrorCode::unsupported);
  for (const int type : {8 /* string */, 14 /* complex */, 17 /* 8-bit float */, 99})
    CHECK(error_of(holding(typed(type, 0))).code() == ErrorCode::unsupported);
}

TEST_CASE("onnx reader: external data are read from beside the model") {
  const Graph g = read_onnx(external_model("w.bin", "4", "8"));
  CHECK(g.constant(g.outputs()[0]) == Tensor::from<float>({2}, {1.5f, -2}));
  const Graph whole = read_onnx(external_model("./w.bin", "", ""));
  CHECK(whole.constant(whole.outputs()[0]) == Tensor::from<float>({2}, {8, 1.5f}));
}

TEST_CASE("onnx reader: external data that are missing, short or elsewhere are errors") {
  CHECK(external_error(external_model("v.bin", "0", "8")).code() == ErrorCode::io);
  CHECK(external_error(external_model("w.bin", "8", "8")).code() == ErrorCode::io);
  CHECK(external_error(external_model("w.bin", "18446744073709551615", "8")).code() ==
        ErrorCode::io);
  CHECK(external_error(external_model("w.bin", "0", "4")).code() == ErrorCode::parse);
  CHECK(external_error(external_model("w.bin", "-1", "8")).code() == ErrorCode::parse);
  CHECK(external_error(external_model("../secret.bin", "0", "8")).code() == ErrorCode::parse);
  CHECK(external_error(external_model("/etc/passwd", "0", "8")).code() == ErrorCode::parse);
  CHECK(external_error(external_model("", "0", "8")).code() == ErrorCode::parse);
  const fs::path path = external_model("link.bin", "0", "8");
  fs::create_symlink(path.parent_path().parent_path() / "secret.bin",
                     path.parent_path() / "link.bin");
  CHECK(external_error(path).code() == ErrorCode::parse);
  const std::string bytes = read_file(path);
  CHECK_THROWS_AS(read_bytes(bytes), Error);
}

}  // namespace waveq
