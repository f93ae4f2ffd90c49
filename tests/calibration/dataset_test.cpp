#include "waveq/calibration/dataset.h"

#include <doctest/doctest.h>

#include <cmath>

#include "npz_fixture.h"

using namespace waveq;
using test::npz;

namespace {

const TensorType kVector{DType::f32, {1, 3}};

Tensor ramp(Shape shape, float first = 0.0f) {
  Tensor t(DType::f32, std::move(shape));
  for (float& x : t.as<float>()) x = first++;
  return t;
}

Error failure(const std::filesystem::path& path,
              std::vector<DatasetInput> inputs = {{"x", kVector}}, DatasetOptions options = {}) {
  try {
    Dataset data(path, std::move(inputs), options);
    for (Sample sample; data.next(sample);) {
    }
  } catch (const Error& e) {
    return e;
  }
  return Error(ErrorCode::internal, "none", "no error");
}

std::vector<float> floats(const Tensor& t) { return {t.as<float>().begin(), t.as<float>().end()}; }

}  // namespace

TEST_CASE(
    "dataset: samples come one by one, in the network's shape, with or without the batch axis") {
  for (const Shape& shape : {Shape{2, 3}, Shape{2, 1, 3}}) {
    Dataset data(npz({{"x", ramp(shape)}}), {{"x", kVector}});
    CHECK(data.size() == 2);
    CHECK(data.notes().empty());
    Sample sample;
    REQUIRE(data.next(sample));
    CHECK(sample.index == 0);
    CHECK(sample.inputs[0] == Tensor::from<float>({1, 3}, {0, 1, 2}));
    REQUIRE(data.next(sample));
    CHECK(sample.index == 1);
    CHECK(sample.inputs[0] == Tensor::from<float>({1, 3}, {3, 4, 5}));
    CHECK(!sample.label);
    CHECK(!data.next(sample));
    CHECK(!data.next(sample));
    data.rewind();
    REQUIRE(data.next(sample));
    CHECK(sample.inputs[0] == Tensor::from<float>({1, 3}, {0, 1, 2}));
  }
}

TEST_CASE("dataset: inputs are found by name, whatever the order in the file") {
  Dataset data(npz({{"extra", Tensor::scalar(1.0f)}, {"b", ramp({1, 2}, 10)}, {"a", ramp({1, 3})}}),
               {{"a", kVector}, {"b", {DType::f32, {2}}}});
  Sample sample;
  REQUIRE(data.next(sample));
  CHECK(floats(sample.inputs[0]) == std::vector<float>{0, 1, 2});
  CHECK(sample.inputs[1] == Tensor::from<float>({2}, {10, 11}));
}

TEST_CASE("dataset: a graph names the inputs") {
  Graph graph;
  graph.add_input("x", kVector);
  CHECK(Dataset(npz({{"x", ramp({5, 3})}}), graph).size() == 5);
}

TEST_CASE("dataset: int16 data are scaled in float32") {
  const Tensor q = Tensor::from<std::int16_t>({1, 3}, {-32768, 1, 32767});
  Dataset data(npz({{"x_int16", q}, {"x_scale", Tensor::scalar(0.1f)}}), {{"x", kVector}});
  Sample sample;
  REQUIRE(data.next(sample));
  CHECK(floats(sample.inputs[0]) == std::vector<float>{-32768.0f * 0.1f, 0.1f, 32767.0f * 0.1f});
}

TEST_CASE("dataset: the float array wins over the int16 one") {
  Dataset data(npz({{"x_int16", Tensor(DType::i16, {9, 3})}, {"x", ramp({2, 3})}}),
               {{"x", kVector}});
  CHECK(data.size() == 2);
}

TEST_CASE("dataset: integers for a float input are converted, with a note") {
  const auto path = npz({{"x", Tensor::from<std::int8_t>({1, 3}, {-128, 0, 127})}});
  Dataset data(path, {{"x", kVector}});
  Sample sample;
  REQUIRE(data.next(sample));
  CHECK(floats(sample.inputs[0]) == std::vector<float>{-128, 0, 127});
  data.rewind();
  REQUIRE(data.notes().size() == 1);
  CHECK(data.notes()[0] == path.string() + ": array 'x': '|i1' converted to f32");
}

TEST_CASE("dataset: an integer input takes integers that fit") {
  const TensorType narrow{DType::i8, {2}};
  Dataset data(npz({{"x", Tensor::from<std::int64_t>({1, 2}, {-128, 127})}}), {{"x", narrow}});
  Sample sample;
  REQUIRE(data.next(sample));
  CHECK(sample.inputs[0] == Tensor::from<std::int8_t>({2}, {-128, 127}));
  const Error e =
      failure(npz({{"x", Tensor::from<std::int64_t>({1, 2}, {0, 128})}}), {{"x", narrow}});
  CHECK(e.code() == ErrorCode::data);
  CHECK(e.found() == "sample 0, element 1 is 128, input 'x' is i8");
  CHECK(failure(npz({{"x", ramp({1, 2})}}), {{"x", narrow}}).found() ==
        "has type '<f4', input 'x' is i8");
}

TEST_CASE("dataset: labels are read where they are wanted") {
  const auto path = npz({{"x", ramp({2, 3})}, {"labels", Tensor::from<std::int64_t>({2}, {4, 0})}});
  CHECK(!Dataset(path, {{"x", kVector}}).has_labels());
  Dataset data(path, {{"x", kVector}}, {.labels = true, .classes = 5});
  CHECK(data.has_labels());
  Sample sample;
  REQUIRE(data.next(sample));
  CHECK(sample.label == 4);
  REQUIRE(data.next(sample));
  CHECK(sample.label == 0);
  const Error e = failure(path, {{"x", kVector}}, {.labels = true, .classes = 4});
  CHECK(e.code() == ErrorCode::data);
  CHECK(e.found() == "sample 0 has label 4");
  CHECK(e.hint() == "the network has classes 0 to 3");
  Dataset without(npz({{"x", ramp({2, 3})}}), {{"x", kVector}}, {.labels = true});
  CHECK(!without.has_labels());
}

TEST_CASE("dataset: unusable labels are refused") {
  const DatasetOptions wanted{.labels = true};
  const auto with = [](Tensor labels) {
    return npz({{"x", ramp({2, 3})}, {"labels", std::move(labels)}});
  };
  const std::vector<DatasetInput> x{{"x", kVector}};
  CHECK(failure(with(Tensor::from<std::int32_t>({2}, {0, -1})), x, wanted).found() ==
        "sample 1 has label -1");
  CHECK(failure(with(ramp({2})), x, wanted).found() == "is '<f4' [2]");
  CHECK(failure(with(Tensor(DType::i64, {2, 1})), x, wanted).found() == "is '<i8' [2,1]");
  CHECK(failure(with(Tensor(DType::i64, {3})), x, wanted).found() ==
        "has 3 samples, array 'x' has 2");
}

TEST_CASE("dataset: a missing array is answered with those found and those wanted") {
  const auto path = npz({{"input", ramp({2, 3})}, {"labels", Tensor(DType::i64, {2})}});
  const Error e = failure(path);
  CHECK(e.code() == ErrorCode::data);
  CHECK(std::string(e.what()) ==
        path.string() +
            ": no array for input 'x'; the file has 'input' [2,3], 'labels' [2]; "
            "name arrays as the network's inputs: 'x' f32[1,3]");
}

TEST_CASE("dataset: wrong shapes say what would fit") {
  const Error e = failure(npz({{"x", ramp({2, 4})}}));
  CHECK(e.code() == ErrorCode::data);
  CHECK(e.found() == "has shape [2,4], input 'x' is [1,3]");
  CHECK(e.hint() == "store [N,3] or [N,1,3], N samples");
  CHECK(failure(npz({{"x", ramp({3})}})).found() == "has shape [3], input 'x' is [1,3]");
  CHECK(failure(npz({{"x", Tensor::scalar(1.0f)}})).found() == "has shape [], input 'x' is [1,3]");
  CHECK(failure(npz({{"x", ramp({6, 3})}}), {{"x", {DType::f32, {2, 3}}}}).hint() ==
        "store [N,2,3], N samples");
  CHECK(failure(npz({{"x", ramp({2, 1})}}), {{"x", {DType::f32, {}}}}).hint() ==
        "store [N], N samples");
}

TEST_CASE("dataset: scalar inputs and batches larger than one keep their shape") {
  CHECK(Dataset(npz({{"x", ramp({4})}}), {{"x", {DType::f32, {}}}}).size() == 4);
  CHECK(Dataset(npz({{"x", ramp({4, 2, 3})}}), {{"x", {DType::f32, {2, 3}}}}).size() == 4);
}

TEST_CASE("dataset: empty, unequal and non-finite data") {
  CHECK(failure(npz({{"x", Tensor(DType::f32, {0, 3})}})).found() == "has no samples");
  CHECK(failure(npz({{"x", ramp({2, 3})}, {"y", ramp({3, 3})}}), {{"x", kVector}, {"y", kVector}})
            .found() == "has 3 samples, array 'x' has 2");
  Tensor bad = ramp({4, 3});
  bad.as<float>()[7] = NAN;
  const Error e = failure(npz({{"x", bad}}));
  CHECK(e.code() == ErrorCode::data);
  CHECK(e.found() == "sample 2, element 1 is nan");
  bad.as<float>()[7] = -INFINITY;
  CHECK(failure(npz({{"x", bad}})).found() == "sample 2, element 1 is -inf");
}

TEST_CASE("dataset: int16 data without a proper scale are refused") {
  const Tensor q(DType::i16, {2, 3});
  CHECK(failure(npz({{"x_int16", q}})).found() == "is missing");
  CHECK(failure(npz({{"x_int16", q}, {"x_scale", ramp({2})}})).found() == "is '<f4' [2]");
  CHECK(failure(npz({{"x_int16", q}, {"x_scale", Tensor::scalar(0.0f)}})).found() == "is 0");
  CHECK(failure(npz({{"x_int16", q}, {"x_scale", Tensor::scalar(NAN)}})).found() == "is nan");
  CHECK(failure(npz({{"x_int16", ramp({2, 3})}, {"x_scale", Tensor::scalar(1.0f)}})).found() ==
        "has type '<f4', input 'x' is f32");
}

TEST_CASE("dataset: text and missing files are refused") {
  const std::filesystem::path path = test::scratch_dir() / "text.npy";
  // A version 1.0 .npy header of two strings of one character, by hand: waveq does not write such
  // files.
  std::string header = "{'descr': '<U1', 'fortran_order': False, 'shape': (2, 3), }";
  header.resize(117, ' ');
  header += '\n';
  std::string bytes = std::string("\x93NUMPY\x01\x00", 8) + std::string("\x76\x00", 2) + header +
                      std::string(24, '\0');
  test::write_bytes(path, bytes);
  const Error e = failure(path, {{"text", kVector}});
  CHECK(e.code() == ErrorCode::data);
  CHECK(e.found() == "has type '<U1', input 'text' is f32");
  CHECK(failure("/nowhere/at/all.npz").code() == ErrorCode::io);
  CHECK(failure(npz({{"x", ramp({1, 3})}}), {}).found() == "the network has no inputs to feed");
}
