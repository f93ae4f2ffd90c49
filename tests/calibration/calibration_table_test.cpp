#include "waveq/calibration/calibration_table.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "npz_fixture.h"
#include "waveq/graph/error.h"

using namespace waveq;

namespace {

TensorStatistics observed(const std::vector<float>& values) {
  TensorStatistics s;
  s.observe(values);
  return s;
}

std::vector<float> wave(int n, float gain) {
  std::vector<float> values;
  for (int i = 0; i < n; ++i) values.push_back(gain * std::sin(static_cast<float>(i * i)));
  return values;
}

CalibrationTable table_of(int first, int last) {
  CalibrationTable t;
  t.model = "net";
  t.fingerprint = "0123456789abcdef";
  t.version = "0.1.0";
  t.samples = static_cast<std::uint64_t>(last - first);
  for (int i = first; i < last; ++i) {
    t.tensors["conv/out \"1\""].statistics.merge(
        observed(wave(500 + i, 1.0f + 0.1f * static_cast<float>(i))));
    t.tensors["a"].statistics.merge(observed({0.1f, static_cast<float>(i)}));
  }
  t.choose_ranges({});
  return t;
}

Error failure(const std::string& text) {
  try {
    CalibrationTable::from_text(text, "t.json");
  } catch (const Error& e) {
    return e;
  }
  return Error(ErrorCode::internal, "none", "no error");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("calibration table: the text form, literally") {
  CalibrationTable t;
  t.model = "net";
  t.fingerprint = "00";
  t.version = "0.1.0";
  t.samples = 2;
  // 0.75: bin 32 of the top octave; 1.0 - 2^-7 is the last bin. 300 zeros.
  std::vector<float> values(300, 0.0f);
  values.insert(values.end(), {0.75f, 0.75f, 1.0f - 0x1p-7f});
  t.tensors["x"].statistics = observed(values);
  t.choose_ranges({"min_max", {}}, {16, Signedness::unsigned_});
  // Runs: 0, 992 (= 0xe0 0x07), 2, 0, 30, 1 -> bytes 00 e0 07 02 00 1e 01.
  CHECK(t.to_text() == R"({
 "format": "waveq-calibration",
 "format_version": 1,
 "waveq": "0.1.0",
 "model": "net",
 "fingerprint": "00",
 "samples": 2,
 "observer": "min_max",
 "n_levels": 16,
 "signedness": "unsigned",
 "tensors": {
  "x": {"range":[0.0,0.9921875],"observer":"min_max","min":0.0,"max":0.9921875,"near_zero":300,"positive":"AOAHAgAeAQ","negative":""}
 }
}
)");
}

TEST_CASE("calibration table: text and back is the identity, bytes included") {
  const CalibrationTable t = table_of(0, 5);
  const std::string text = t.to_text();
  const CalibrationTable back = CalibrationTable::from_text(text, "t.json");
  CHECK(back == t);
  CHECK(back.to_text() == text);
  const auto path = test::scratch_dir() / "table.json";
  t.save(path);
  CHECK(CalibrationTable::load(path) == t);
  CHECK(CalibrationTable::from_text(CalibrationTable{}.to_text(), "empty") == CalibrationTable{});
}

TEST_CASE("calibration table: merging shards gives the bytes of one run") {
  const std::string once = table_of(0, 9).to_text();
  CHECK(merge(table_of(0, 4), table_of(4, 9)).to_text() == once);
  CHECK(merge(table_of(4, 9), table_of(0, 4)).to_text() == once);
  const CalibrationTable left = CalibrationTable::from_text(table_of(0, 1).to_text(), "l");
  const CalibrationTable right = CalibrationTable::from_text(table_of(1, 9).to_text(), "r");
  CHECK(merge(left, right).to_text() == once);
}

TEST_CASE("calibration table: a pinned range survives loading, recomputing and merging") {
  std::string text = table_of(0, 4).to_text();
  const std::size_t at = text.find("\"range\":", text.find("\"a\":"));
  text = text.replace(at, text.find(']', at) + 1 - at, "\"pinned\": true, \"range\": [-6, 6.5]");
  CalibrationTable edited = CalibrationTable::from_text(text, "t.json");
  CHECK(edited.tensors.at("a").pinned);
  edited.choose_ranges({"percentile", 90.0}, {16, Signedness::automatic});
  CHECK(edited.range("a") == Range{-6.0, 6.5});
  CHECK(edited.range("a", {"min_max", {}}, {}) == Range{-6.0, 6.5});
  CHECK(edited.tensors.at("a").observer == "mse");
  CHECK(edited.tensors.at("conv/out \"1\"").observer == "percentile:90");
  CalibrationTable other = table_of(4, 9);
  other.choose_ranges({"percentile", 90.0}, {16, Signedness::automatic});
  for (const CalibrationTable& joint : {merge(edited, other), merge(other, edited)}) {
    CHECK(joint.tensors.at("a").pinned);
    CHECK(joint.range("a") == Range{-6.0, 6.5});
    CHECK(joint.tensors.at("a").statistics == table_of(0, 9).tensors.at("a").statistics);
  }
  other.tensors.at("a").pinned = true;
  CHECK_THROWS_WITH_AS(merge(edited, other),
                       doctest::Contains("tensor 'a': is pinned to [-6, 6.5] and to"), Error);
}

TEST_CASE(
    "calibration table: an edited range without pin is replaced when ranges are chosen anew") {
  CalibrationTable t = table_of(0, 4);
  t.tensors.at("a").range = {-100.0, 100.0};
  t = CalibrationTable::from_text(t.to_text(), "t.json");
  CHECK(t.range("a") == Range{-100.0, 100.0});
  t.choose_ranges({});
  CHECK(t.range("a") != Range{-100.0, 100.0});
}

TEST_CASE("calibration table: a tensor entered by hand needs a range and a pin alone") {
  std::string text = replaced(table_of(0, 4).to_text(), "\"tensors\": {",
                              "\"tensors\": {\"new\": {\"range\": [0, 1], \"pinned\": true},");
  const CalibrationTable t = CalibrationTable::from_text(text, "t.json");
  CHECK(t.range("new") == Range{0.0, 1.0});
  CHECK(merge(t, table_of(4, 9)).range("new") == Range{0.0, 1.0});
  CHECK(merge(table_of(4, 9), t).range("new") == Range{0.0, 1.0});
  text = replaced(text, ", \"pinned\": true", "");
  CHECK(failure(text).where() == "t.json: tensor 'new'");
  CHECK(failure(text).found() == "has no statistics");
}

TEST_CASE("calibration table: an unknown tensor is named") {
  const CalibrationTable t = table_of(0, 2);
  CHECK(t.find("qk") == nullptr);
  CHECK_THROWS_WITH_AS(
      t.range("qk"),
      "tensor 'qk': no range recorded; calibrate this network, with data that reaches the tensor",
      Error);
}

TEST_CASE("calibration table: ranges do not depend on the number of threads") {
  CalibrationTable t;
  for (int i = 0; i < 40; ++i)
    t.tensors[fmt::format("t{}", i)].statistics = observed(wave(100 + i, static_cast<float>(i)));
  CalibrationTable one = t, three = t;
  one.choose_ranges({}, {}, 1);
  three.choose_ranges({}, {}, 3);
  CHECK(one == three);
  t.tensors["empty"];
  t.tensors["b_empty"];
  for (const int threads : {1, 3})
    CHECK_THROWS_WITH_AS(t.choose_ranges({}, {}, threads), doctest::Contains("tensor 'b_empty'"),
                         Error);
}

TEST_CASE("calibration table: tables of different networks do not merge") {
  const CalibrationTable a = table_of(0, 4);
  const auto code = [&](const CalibrationTable& b) {
    try {
      merge(a, b);
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::internal;
  };
  CalibrationTable b = table_of(4, 9);
  CHECK(code(b) == ErrorCode::internal);
  b.model = "other";
  CHECK(code(b) == ErrorCode::data);
  b = table_of(4, 9);
  b.fingerprint = "x";
  CHECK(code(b) == ErrorCode::data);
  b = table_of(4, 9);
  b.version = "0.2.0";
  CHECK(code(b) == ErrorCode::data);
  b = table_of(4, 9);
  b.choose_ranges({"min_max", {}});
  CHECK(code(b) == ErrorCode::data);
  b = table_of(4, 9);
  b.choose_ranges({}, {16, Signedness::automatic});
  CHECK(code(b) == ErrorCode::data);
  b = table_of(4, 9);
  b.tensors.erase("a");
  CHECK(code(b) == ErrorCode::data);
  b = table_of(4, 9);
  b.tensors["more"] = b.tensors["a"];
  CHECK(code(b) == ErrorCode::data);
}

TEST_CASE("calibration table: damaged files are refused, naming file and tensor") {
  const std::string text = table_of(0, 4).to_text();
  CHECK(failure(text).code() == ErrorCode::internal);
  CHECK(failure("").found().find("is not JSON") == 0);
  CHECK(failure("[1, 2]").found() == "is not a calibration table");
  CHECK(failure("{\"format\": \"onnx\"}").found() == "is not a calibration table");
  CHECK(failure(replaced(text, "\"format_version\": 1", "\"format_version\": 2")).found() ==
        "has format version 2");
  CHECK(failure(replaced(text, "\"samples\": 4", "\"samples\": -4")).found() ==
        "'samples' is not a count");
  CHECK(failure(replaced(text, "\"observer\": \"mse\"", "\"observer\": \"kl\""))
            .found()
            .find("kl: no observer") == 0);
  CHECK(failure(replaced(text, "\"n_levels\": 256", "\"n_levels\": 1")).found() == "n_levels is 1");
  CHECK(
      failure(replaced(text, "\"signedness\": \"automatic\"", "\"signedness\": \"both\"")).code() ==
      ErrorCode::parse);
  CHECK(failure(replaced(text, "\"tensors\": {", "\"tensor\": {")).found() ==
        "'tensors' is missing");
  CHECK(failure(replaced(text, "\"a\": {", "\"conv/out \\\"1\\\"\": {")).found() ==
        "has 'conv/out \"1\"' twice");
  for (std::size_t n = 0; n < text.size() - 1; n += 7)
    CHECK(failure(text.substr(0, n)).code() == ErrorCode::parse);

  const auto in_a = [&](const std::string& from, const std::string& to) {
    const Error e = failure(replaced(text, from, to));
    CHECK(e.where() == "t.json: tensor 'a'");
    CHECK(e.code() == ErrorCode::parse);
    return e.found();
  };
  CHECK(in_a("\"a\": {\"range\":[0.0,", "\"a\": {\"range\":[9.0,") == "'range' [9, 3] is empty");
  CHECK(in_a("\"a\": {\"range\":[0.0,3.0]", "\"a\": {\"range\":[0.0]") ==
        "'range' is not [lo, hi]");
  CHECK(in_a("\"a\": {\"range\":[0.0,3.0]", "\"a\": {\"range\":[0.0,\"3\"]") ==
        "hi of 'range' is not a finite number");
  CHECK(in_a("\"max\":3.0", "\"max\":3.1") == "'max' is no float32");
  CHECK(in_a("\"max\":3.0", "\"max\":1e39") == "'max' is no float32");
  CHECK(in_a("\"max\":3.0", "\"max\":3.5") == "histogram does not reach from min to max");
  CHECK(in_a("\"near_zero\":1", "\"near_zero\":1.5") == "'near_zero' is not a count");
  CHECK(in_a("\"range\":[0.0,3.0]", "\"range\":[0.0,3.0],\"pinned\":1") ==
        "'pinned' is neither true nor false");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"?\"") == "histogram is not base64");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"AQ==\"") == "histogram is not base64");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"A\"") == "histogram is cut off");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"gA\"") == "histogram ends within a number");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"/////////////w\"") ==
        "histogram has a number beyond 64 bits");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"AP//////////fw\"") ==
        "histogram has too many bins");
  CHECK(in_a("\"negative\":\"\"", "\"negative\":\"AIEI\"") == "histogram has too many bins");
}

TEST_CASE("calibration table: counts of any size survive the histogram's text") {
  TensorStatistics::Parts parts;
  parts.min = -1.0f;
  parts.max = 1.0f;
  parts.positive.assign(15 * 64 + 1, 0);
  parts.negative.assign(15 * 64 + 1, 0);
  parts.positive.back() = 1;
  for (int bit = 0; bit < 60; ++bit)
    parts.negative[static_cast<std::size_t>(3 * bit)] = std::uint64_t{1} << bit;
  parts.negative.back() = UINT64_MAX / 4;
  CalibrationTable t;
  t.tensors["x"].statistics = TensorStatistics::from_parts(parts, "x");
  t.choose_ranges({"min_max", {}});
  CHECK(CalibrationTable::from_text(t.to_text(), "t") == t);
}

TEST_CASE("calibration table: 250 busy tensors stay below two megabytes") {
  CalibrationTable t;
  std::vector<float> values;
  std::uint64_t state = 1;
  for (int i = 0; i < 100000; ++i) {
    double sum = 0;
    for (int k = 0; k < 4; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<double>(state >> 33) * 0x1p-31 - 0.5;
    }
    values.push_back(static_cast<float>(sum));
  }
  TensorStatistics s;
  for (int i = 0; i < 40; ++i) s.observe(values);  // four million values
  for (int i = 0; i < 250; ++i) t.tensors[fmt::format("layer{}", i)].statistics = s;
  t.choose_ranges({"min_max", {}});
  const std::size_t size = t.to_text().size();
  CHECK(size < 2000000);
  CHECK(size > 100000);
}

TEST_CASE("calibration table: names that are not UTF-8 are an error, not a crash") {
  CalibrationTable t;
  t.tensors["\xff"].statistics = observed({1.0f});
  t.choose_ranges({});
  CHECK_THROWS_AS(t.to_text(), Error);
}

TEST_CASE("calibration table: factors on channels are kept, checked, and part of what merges") {
  CalibrationTable table = table_of(0, 4);
  table.equalization = {{"k", {0.4375, 2.0}}};
  const std::string text = table.to_text();
  CHECK(CalibrationTable::from_text(text, "table") == table);
  CHECK(failure(replaced(text, "0.4375", "-0.4375")).code() == ErrorCode::parse);
  CHECK(failure(replaced(text, "0.4375", "\"half\"")).code() == ErrorCode::parse);
  CalibrationTable other = table_of(4, 9);
  other.equalization = table.equalization;
  CHECK(merge(table, other).equalization == table.equalization);
  other.equalization["k"] = {0.4375, 1.0};
  CHECK_THROWS_AS(merge(table, other), Error);
}

TEST_CASE("calibration table: means of channels are kept, checked, and not made up by merging") {
  CalibrationTable table = table_of(0, 4);
  TensorCalibration& tensor = table.tensors.begin()->second;
  tensor.channel_axis = 2;
  tensor.means = {0.1, -3.5};
  const std::string text = table.to_text();
  CHECK(text.find("\"channel_axis\":2,\"means\":[0.1,-3.5]") != std::string::npos);
  CHECK(CalibrationTable::from_text(text, "table") == table);
  CHECK(failure(replaced(text, "[0.1,-3.5]", "0.1")).code() == ErrorCode::parse);
  CHECK(failure(replaced(text, "-3.5]", "null]")).code() == ErrorCode::parse);
  CHECK(failure(replaced(text, "\"channel_axis\":2", "\"channel_axis\":-2")).code() ==
        ErrorCode::parse);
  CHECK_THROWS_AS(merge(table, table_of(4, 9)), Error);
  CalibrationTable alike = table_of(4, 9);
  alike.tensors.begin()->second.channel_axis = 2;
  alike.tensors.begin()->second.means = {0.1, -3.5};
  CHECK(merge(table, alike).tensors.begin()->second.means == tensor.means);
}
