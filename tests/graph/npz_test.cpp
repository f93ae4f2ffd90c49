#include "waveq/graph/npz.h"

#include <doctest/doctest.h>
#include <zip.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "shared_data.h"
#include "waveq/graph/file.h"

namespace waveq {
namespace {

namespace fs = std::filesystem;

/// A .npy stream with the given header text and data.
std::string npy(std::string dict, std::string data, int version = 1) {
  std::string out("\x93NUMPY", 6);
  out += static_cast<char>(version);
  out += '\0';
  dict += '\n';
  for (std::size_t i = 0, n = dict.size(); i < (version == 1 ? 2u : 4u); ++i, n >>= 8)
    out += static_cast<char>(n & 0xff);
  return out + dict + data;
}

std::string npy_of(std::string_view descr, std::string_view shape, std::string data,
                   bool fortran = false) {
  return npy("{'descr': '" + std::string(descr) + "', 'fortran_order': " +
                 (fortran ? "True" : "False") + ", 'shape': " + std::string(shape) + ", }",
             std::move(data));
}

template <class T>
std::string raw(std::vector<T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

fs::path save(const std::string& bytes, const std::string& name = "a.npy") {
  const fs::path path = test::scratch_dir() / name;
  write_file(path, bytes);
  return path;
}

fs::path zip_of(const std::vector<std::pair<std::string, std::string>>& members, bool deflate) {
  const fs::path path = test::scratch_dir() / "a.npz";
  zip_t* z = zip_open(path.c_str(), ZIP_CREATE, nullptr);
  REQUIRE(z != nullptr);
  for (const auto& [name, bytes] : members) {
    const auto index =
        zip_file_add(z, name.c_str(), zip_source_buffer(z, bytes.data(), bytes.size(), 0), 0);
    zip_set_file_compression(z, static_cast<zip_uint64_t>(index),
                             deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  REQUIRE(zip_close(z) == 0);
  return path;
}

ErrorCode code_of(const std::string& npy_bytes) {
  try {
    NpzReader reader(save(npy_bytes));
    reader.read("a");
  } catch (const Error& e) {
    CHECK(e.where().find("a.npy") != std::string::npos);
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

Tensor read_npy(const std::string& bytes) { return NpzReader(save(bytes)).read("a"); }

}  // namespace

TEST_CASE("npz: what is written is read back, names and order kept") {
  const fs::path path = test::scratch_dir() / "out.npz";
  const Tensor f = Tensor::from<float>({2, 3}, {1.5f, -2, 3, 4, 5, -0.0f});
  const Tensor i = Tensor::from<std::int64_t>({2}, {std::numeric_limits<std::int64_t>::min(), 7});
  const Tensor b = Tensor::from<bool>({3}, {true, false, true});
  const Tensor s = Tensor::scalar<std::uint8_t>(200);
  const Tensor e(DType::i16, {0, 4});
  const std::vector<NpzItem> items = {
      {"z/later", &f}, {"a", &i}, {"Größe", &b}, {"s", &s}, {"empty", &e}};
  write_npz(path, items);
  const NpzReader reader(path);
  REQUIRE(reader.arrays().size() == 5);
  for (std::size_t k = 0; k < items.size(); ++k) {
    CHECK(reader.arrays()[k].name == items[k].name);
    CHECK(reader.read(items[k].name) == *items[k].tensor);
  }
  CHECK(reader.arrays()[0].stored == "<f4");
  CHECK(reader.arrays()[3].shape == Shape{});

  const std::string first = read_file(path);
  write_npz(path, items);
  CHECK(read_file(path) == first);
}

TEST_CASE("npz: the bytes of a small file are pinned") {
  const fs::path path = test::scratch_dir() / "out.npz";
  const Tensor t = Tensor::from<std::int8_t>({2}, {1, -1});
  write_npz(path, std::vector<NpzItem>{{"x", &t}});
  const std::string bytes = read_file(path);
  // Local header: version 10, stored, 1980-01-01 00:00, 130 bytes, name x.npy.
  CHECK(bytes.substr(0, 4) == "PK\x03\x04");
  CHECK(bytes.substr(8, 6) == std::string("\0\0\0\0\x21\0", 6));
  CHECK(bytes.substr(18, 8) == std::string("\x82\0\0\0\x82\0\0\0", 8));
  CHECK(bytes.substr(30, 5) == "x.npy");
  CHECK(bytes.substr(35, 10) == std::string("\x93NUMPY\x01\0\x76\0", 10));
  CHECK(bytes.substr(45, 57) == "{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }");
  CHECK(bytes.substr(35 + 127, 3) == std::string("\n\x01\xff", 3));
}

TEST_CASE("npz: a file without arrays is written and read") {
  const fs::path path = test::scratch_dir() / "none.npz";
  write_npz(path, {});
  CHECK(NpzReader(path).arrays().empty());
}

TEST_CASE(
    "npz: names that occur twice and undefined tensors are refused before anything is written") {
  const fs::path path = test::scratch_dir() / "out.npz";
  const Tensor t = Tensor::scalar<float>(1), undefined;
  CHECK_THROWS_AS(write_npz(path, std::vector<NpzItem>{{"x", &t}, {"x", &t}}), Error);
  CHECK_THROWS_AS(write_npz(path, std::vector<NpzItem>{{"x", &undefined}}), Error);
  CHECK_THROWS_AS(write_npz(path, std::vector<NpzItem>{{"x", nullptr}}), Error);
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("npz: a folder that does not exist is an io error") {
  const Tensor t = Tensor::scalar<float>(1);
  try {
    write_npz(test::scratch_dir() / "missing" / "out.npz", std::vector<NpzItem>{{"x", &t}});
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::io);
  }
}

TEST_CASE("npz: links are followed, and what is no regular file is not replaced") {
  const fs::path dir = test::scratch_dir();
  const Tensor t = Tensor::scalar<float>(1);
  const std::vector<NpzItem> items = {{"x", &t}};
  write_file(dir / "real.npz", "old");
  fs::create_symlink("real.npz", dir / "link.npz");
  write_npz(dir / "link.npz", items);
  CHECK(fs::is_symlink(dir / "link.npz"));
  CHECK(NpzReader(dir / "real.npz").read("x") == t);
  fs::create_symlink("/dev/null", dir / "device.npz");
  CHECK_THROWS_AS(write_npz(dir / "device.npz", items), Error);
  CHECK_THROWS_AS(write_npz(dir, items), Error);
  fs::create_symlink("nowhere", dir / "dangling.npz");
  CHECK_THROWS_AS(write_file(dir / "dangling.npz", "x"), Error);
}

TEST_CASE("npz: every stored type becomes its waveq type") {
  CHECK(read_npy(npy_of("<f4", "(2,)", raw<float>({1, 2}))) == Tensor::from<float>({2}, {1, 2}));
  CHECK(read_npy(npy_of("<f8", "(2,)", raw<double>({1e300, 0.1}))) ==
        Tensor::from<float>({2}, {std::numeric_limits<float>::infinity(), 0.1f}));
  // 1, the smallest subnormal, -65504, +infinity
  CHECK(read_npy(npy_of("<f2", "(4,)", raw<std::uint16_t>({0x3c00, 1, 0xfbff, 0x7c00}))) ==
        Tensor::from<float>({4}, {1, 0x1p-24f, -65504, std::numeric_limits<float>::infinity()}));
  CHECK(read_npy(npy_of("|i1", "(2,)", raw<std::int8_t>({-128, 127}))) ==
        Tensor::from<std::int8_t>({2}, {-128, 127}));
  CHECK(read_npy(npy_of("|u1", "(1,)", raw<std::uint8_t>({255}))) ==
        Tensor::from<std::uint8_t>({1}, {255}));
  CHECK(read_npy(npy_of("<i2", "(1,)", raw<std::int16_t>({-300}))) ==
        Tensor::from<std::int16_t>({1}, {-300}));
  CHECK(read_npy(npy_of("<u2", "(1,)", raw<std::uint16_t>({65535}))) ==
        Tensor::from<std::uint16_t>({1}, {65535}));
  CHECK(read_npy(npy_of("<i4", "()", raw<std::int32_t>({-5}))) == Tensor::scalar<std::int32_t>(-5));
  CHECK(read_npy(npy_of("<u4", "(1,)", raw<std::uint32_t>({4294967295u}))) ==
        Tensor::from<std::int64_t>({1}, {4294967295}));
  CHECK(read_npy(npy_of("<u8", "(1,)", raw<std::uint64_t>({5}))) ==
        Tensor::from<std::int64_t>({1}, {5}));
  CHECK(read_npy(npy_of("|b1", "(3,)", raw<std::uint8_t>({0, 1, 2}))) ==
        Tensor::from<bool>({3}, {false, true, true}));
  CHECK(read_npy(npy_of(">i4", "(2,)", std::string("\0\0\1\2\xff\xff\xff\xfe", 8))) ==
        Tensor::from<std::int32_t>({2}, {258, -2}));
  CHECK(read_npy(npy_of(">f2", "(1,)", std::string("\x3c\x00", 2))) ==
        Tensor::from<float>({1}, {1}));
}

TEST_CASE("npz: versions 2 and 3, double quotes, other key order and Python 2 shapes are read") {
  const std::string dict = "{\"shape\": (1L, 2L), \"fortran_order\": False, \"descr\": \"<f4\"}";
  for (const int version : {1, 2, 3})
    CHECK(read_npy(npy(dict, raw<float>({1, 2}), version)) == Tensor::from<float>({1, 2}, {1, 2}));
}

TEST_CASE("npz: Fortran order is transposed") {
  const std::string bytes = npy_of("<i2", "(2, 3)", raw<std::int16_t>({1, 4, 2, 5, 3, 6}), true);
  CHECK(read_npy(bytes) == Tensor::from<std::int16_t>({2, 3}, {1, 2, 3, 4, 5, 6}));
  const std::string cube =
      npy_of("|i1", "(2, 2, 2)", raw<std::int8_t>({0, 4, 2, 6, 1, 5, 3, 7}), true);
  CHECK(read_npy(cube) == Tensor::from<std::int8_t>({2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}));
  NpzStream stream = NpzReader(save(bytes)).stream("a");
  Tensor sample;
  REQUIRE(stream.next(sample));
  CHECK(sample == Tensor::from<std::int16_t>({3}, {1, 2, 3}));
  REQUIRE(stream.next(sample));
  CHECK(sample == Tensor::from<std::int16_t>({3}, {4, 5, 6}));
  CHECK_FALSE(stream.next(sample));
}

TEST_CASE("npz: damaged headers and impossible shapes are parse errors") {
  CHECK(code_of(npy_of("<f4", "(3,)", raw<float>({1, 2}))) == ErrorCode::parse);
  CHECK(code_of(npy_of("<f4", "(1,)", raw<float>({1, 2}))) == ErrorCode::parse);
  CHECK(code_of(npy_of("<f4", "(4611686018427387904, 4)", raw<float>({1}))) == ErrorCode::parse);
  CHECK(code_of(npy_of("<f4", "(99999999999999999999,)", raw<float>({1}))) == ErrorCode::parse);
  CHECK(code_of(npy_of("<f4", "(-1,)", raw<float>({1}))) == ErrorCode::parse);
  CHECK(code_of(npy_of("<f4", "(2", raw<float>({1, 2}))) == ErrorCode::parse);
  CHECK(code_of(npy("{'descr': '<f4', 'shape': (1,)}", raw<float>({1}))) == ErrorCode::parse);
  CHECK(code_of(npy("{'descr': [('a', '<f4'", "")) == ErrorCode::parse);
  CHECK(code_of(npy("{'descr': '<f4', 'fortran_order': Maybe, 'shape': ()}", "")) ==
        ErrorCode::parse);
  CHECK(code_of(npy("{}", "", 9)) == ErrorCode::parse);
  CHECK(code_of(npy_of("<u8", "(1,)", raw<std::uint64_t>({~std::uint64_t{0}}))) ==
        ErrorCode::parse);
}

TEST_CASE("npz: types waveq cannot read are listed and refused when asked for") {
  for (const auto& descr : {"<U5", "|O", "<c8", "<f16", "<M8[ns]"}) {
    CAPTURE(descr);
    CHECK(code_of(npy_of(descr, "(1,)", "xxxx")) == ErrorCode::unsupported);
  }
  const std::string record =
      npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234");
  const NpzReader reader(
      zip_of({{"r.npy", record}, {"x.npy", npy_of("<f4", "(1,)", raw<float>({2}))}}, false));
  CHECK(reader.find("r")->dtype == DType::undefined);
  CHECK(reader.read("x") == Tensor::from<float>({1}, {2}));
}

TEST_CASE("npz: stored and deflated files stream sample by sample") {
  std::vector<float> values(60);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  for (const bool deflate : {false, true}) {
    const fs::path path = zip_of(
        {{"notes.txt", "hello"},
         {"input.npy", npy_of("<f4", "(10, 2, 3)", raw(values))},
         {"labels.npy", npy_of("<i8", "(10,)", raw<std::int64_t>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}))}},
        deflate);
    const NpzReader reader(path);
    REQUIRE(reader.arrays().size() == 2);
    CHECK(reader.find("notes.txt") == nullptr);
    NpzStream input = reader.stream("input"), labels = reader.stream("labels");
    CHECK(input.samples() == 10);
    CHECK(input.sample_shape() == Shape{2, 3});
    Tensor x, label;
    REQUIRE(input.skip());
    REQUIRE(labels.skip());
    for (std::int64_t n = 1; n < 10; ++n) {  // two streams of one file in turn
      REQUIRE(input.next(x));
      REQUIRE(labels.next(label));
      CHECK(x.as<float>()[5] == static_cast<float>(6 * n + 5));
      CHECK(label == Tensor::scalar<std::int64_t>(n));
    }
    CHECK(input.position() == 10);
    CHECK_FALSE(input.next(x));
    CHECK_FALSE(input.skip());
    CHECK_FALSE(labels.next(label));
  }
}

TEST_CASE("npz: scalars and empty samples have no stream") {
  CHECK_THROWS_AS(NpzReader(save(npy_of("<f4", "()", raw<float>({1})))).stream("a"), Error);
  CHECK_THROWS_AS(NpzReader(save(npy_of("<f4", "(4611686018427387904, 0)", ""))).stream("a"),
                  Error);
  Tensor x;
  CHECK_FALSE(NpzReader(save(npy_of("<f4", "(0, 4)", ""))).stream("a").next(x));
}

TEST_CASE("npz: an array that is not there is named together with those that are") {
  const NpzReader reader(zip_of({{"in1.npy", npy_of("<f4", "()", raw<float>({1}))}}, false));
  try {
    reader.read("in0");
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::data);
    CHECK(e.found().find("in0") != std::string::npos);
    CHECK(e.hint().find("in1") != std::string::npos);
  }
}

TEST_CASE("npz: missing, empty and foreign files are errors") {
  CHECK_THROWS_AS(NpzReader(test::scratch_dir() / "missing.npz"), Error);
  CHECK_THROWS_AS(NpzReader{test::scratch_dir()}, Error);
  CHECK_THROWS_AS(NpzReader(save("", "a.npz")), Error);
  CHECK_THROWS_AS(NpzReader(save("label,pixels\n1,2\n", "a.npz")), Error);
  const std::string x = npy_of("<f4", "()", raw<float>({1}));
  CHECK_THROWS_AS(NpzReader(zip_of({{"b.npy", "garbage"}, {"x.npy", x}}, false)), Error);
}

namespace {

/// Reads everything in a file; true when that went without an Error.
bool reads(const fs::path& path) {
  try {
    const NpzReader reader(path);
    for (const NpzArray& a : reader.arrays()) {
      reader.read(a.name);
      if (a.shape.empty()) continue;
      NpzStream stream = reader.stream(a.name);
      Tensor sample;
      while (stream.next(sample)) {
      }
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TEST_CASE("npz: a file cut anywhere is an error and never a crash") {
  const fs::path path = test::scratch_dir() / "cut.npz";
  for (const bool deflate : {false, true}) {
    const std::string whole =
        read_file(zip_of({{"x.npy", npy_of("<f4", "(2, 3)", raw<float>({1, 2, 3, 4, 5, 6}))},
                          {"y.npy", npy_of("<f8", "(2,)", raw<double>({1, 2}))}},
                         deflate));
    for (std::size_t n = 0; n < whole.size(); ++n) {
      write_file(path, whole.substr(0, n));
      CAPTURE(n);
      CHECK_FALSE(reads(path));
    }
    write_file(path, whole);
    CHECK(reads(path));
  }
}

TEST_CASE("npz: changed data bytes are noticed, changed bytes anywhere never crash") {
  const std::string data = raw<float>({1.25f, 2, 3, 4, 5, 6});
  const fs::path path = test::scratch_dir() / "flip.npz";
  for (const bool deflate : {false, true}) {
    const std::string whole =
        read_file(zip_of({{"x.npy", npy_of("<f4", "(2, 3)", data)}}, deflate));
    int survived = 0;
    for (std::size_t at = 0; at < whole.size(); ++at)
      for (const int flip : {1, 0x80, 0xff}) {
        std::string bytes = whole;
        bytes[at] = static_cast<char>(bytes[at] ^ flip);
        write_file(path, bytes);
        survived += reads(path);
      }
    CHECK(survived < static_cast<int>(whole.size()) * 3 / 2);
    if (deflate) continue;
    std::string bytes = whole;
    const std::size_t at = bytes.find(data);
    REQUIRE(at != std::string::npos);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_file(path, bytes);
    CHECK_FALSE(reads(path));
  }
}

TEST_CASE("npz: the data of the shared models can be streamed") {
  const auto path = test::shared("models/waveformer_kws_fsdd/calib.npz");
  if (!path) return;
  const NpzReader reader(*path);
  REQUIRE(reader.find("input") != nullptr);
  NpzStream stream = reader.stream("input");
  Tensor x;
  std::int64_t n = 0;
  while (stream.next(x)) ++n;
  CHECK(n == reader.find("input")->shape[0]);
  CHECK(n > 0);
  CHECK(x.dtype() == DType::f32);
}

}  // namespace waveq
