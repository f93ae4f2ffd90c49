#include <doctest/doctest.h>

#include "waveq/calibration/calibrate.h"
#include "waveq/calibration/dataset.h"

using namespace waveq;

namespace {

/// A generator: n samples with labels, each read once, whose inputs borrow one buffer that changes.
class Generator : public SampleSource {
 public:
  explicit Generator(std::uint64_t n) : n_(n) {}
  std::optional<std::uint64_t> size() const override { return std::nullopt; }
  bool has_labels() const override { return true; }
  std::string name() const override { return "the generator"; }
  bool next(Sample& sample) override {
    if (made_ == n_) return false;
    auto buffer = std::make_shared<std::vector<float>>(3, static_cast<float>(made_) - 2.0f);
    sample.inputs.resize(1);
    sample.inputs[0] =
        Tensor::borrow(DType::f32, {1, 3}, reinterpret_cast<std::byte*>(buffer->data()));
    sample.label = static_cast<std::int64_t>(made_ % 2);
    sample.owner = std::move(buffer);
    ++made_;
    return true;
  }
  void rewind() override { FAIL("a generator cannot start again"); }

 private:
  std::uint64_t n_, made_ = 0;
};

SpooledSamples spooled(std::uint64_t n) {
  return {std::make_unique<Generator>(n), {{"x", {DType::f32, {1, 3}}}}};
}

void check_all(SampleSource& data, std::uint64_t n) {
  Sample sample;
  for (std::uint64_t i = 0; i < n; ++i) {
    REQUIRE(data.next(sample));
    CHECK(sample.index == i);
    CHECK(sample.inputs[0].as<float>()[2] == static_cast<float>(i) - 2.0f);
    CHECK(sample.label == static_cast<std::int64_t>(i % 2));
  }
  CHECK(!data.next(sample));
}

}  // namespace

TEST_CASE("spooled samples: play back what a generator gave, as often as asked") {
  SpooledSamples data = spooled(5);
  CHECK(!data.size());
  check_all(data, 5);
  CHECK(data.size() == std::uint64_t{5});
  for (int again = 0; again < 2; ++again) {
    data.rewind();
    check_all(data, 5);
  }
}

TEST_CASE("spooled samples: a rewind in the middle replays, then reads on") {
  SpooledSamples data = spooled(4);
  Sample sample;
  REQUIRE(data.next(sample));
  REQUIRE(data.next(sample));
  data.rewind();
  check_all(data, 4);
}

TEST_CASE("spooled samples: none at all is an error") {
  SpooledSamples data = spooled(0);
  Sample sample;
  CHECK_THROWS_WITH_AS(data.next(sample), "the generator: has no samples; give at least one",
                       Error);
}

TEST_CASE("spooled samples: calibration of a stream is that of the same samples in memory") {
  Graph g;
  g.name = "net";
  const ValueId x = g.add_input("x", {DType::f32, {1, 3}});
  g.add_output(g.emit("Relu", "y", {x}));
  SpooledSamples data = spooled(300);
  std::uint64_t calls = 0;
  CalibrateOptions options{.threads = 4};
  options.progress = [&](std::uint64_t, std::uint64_t) { ++calls; };
  const CalibrationTable table = calibrate(g, data, options);
  CHECK(calls == 300);
  CHECK(table.samples == 300);
  CHECK(table.find("x")->statistics.count() == 900);
  CHECK(table.find("x")->statistics.min() == -2.0f);
  CHECK(table.find("y")->statistics.max() == 297.0f);
  CHECK(calibrate(g, data, {}) == table);
}
