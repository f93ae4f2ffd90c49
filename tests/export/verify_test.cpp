#include "waveq/export/verify.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "small_job.h"
#include "waveq/export/folder.h"

namespace waveq {
namespace {

using namespace test;

/// A written folder of its own for each test.
fs::path written() {
  const fs::path root = scratch_dir();
  const QuantizeJob job = small_job(root);
  write_folder(quantize(job), job, root / "out");
  return root / "out";
}

/// Changes one element of an array by `by`.
void change(const fs::path& file, std::size_t array, std::size_t element, std::int64_t by) {
  auto arrays = read_arrays(file);
  Tensor& t = arrays.at(array).second;
  visit_integer(t.dtype(), [&](auto e) { t.as<decltype(e)>()[element] = static_cast<decltype(e)>(t.as<decltype(e)>()[element] + by); });
  write_arrays(file, arrays);
}

TEST_CASE("verify: a folder as written is clean, tensors that differ in case alone among them") {
  const VerifyReport r = verify_folder(written());
  CHECK(r.mismatches.empty());
  CHECK(r.unmatched.empty());
  CHECK(r.outputs == 1);
  CHECK(r.activations == 5);
  CHECK(r.tensors == 6);
}

TEST_CASE("verify: one changed element is found by tensor, index, expected and got") {
  SUBCASE("of the outputs") {
    const fs::path dir = written();
    const std::int64_t right = to_int64(read_arrays(dir / "outputs.npz")[0].second)[2];
    change(dir / "outputs.npz", 0, 2, 5);
    const VerifyReport r = verify_folder(dir);
    REQUIRE(r.mismatches.size() == 1);
    CHECK(r.mismatches[0].tensor == read_arrays(dir / "outputs.npz")[0].first);
    CHECK(r.mismatches[0].index == Shape{0, 2});
    CHECK(r.mismatches[0].expected == right + 5);
    CHECK(r.mismatches[0].got == right);
    CHECK(r.mismatches[0].differing == 1);
    CHECK(r.mismatches[0].elements == 4);
  }
  SUBCASE("of the activations, whichever it is") {
    const fs::path dir = written();
    const auto arrays = read_arrays(dir / "activations.npz");
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      change(dir / "activations.npz", a, 3, 1);
      const VerifyReport r = verify_folder(dir);
      REQUIRE(r.mismatches.size() == 1);
      CHECK(r.mismatches[0].tensor == arrays[a].first);
      CHECK(r.mismatches[0].expected == r.mismatches[0].got + 1);
      CHECK(r.mismatches[0].differing == 1);
      change(dir / "activations.npz", a, 3, -1);
    }
    CHECK(verify_folder(dir).mismatches.empty());
  }
  SUBCASE("of the inputs: the first tensor that depends on it comes first") {
    const fs::path dir = written();
    change(dir / "inputs.npz", 0, 0, to_int64(read_arrays(dir / "inputs.npz")[0].second)[0] > 0 ? -100 : 100);
    const VerifyReport r = verify_folder(dir);
    REQUIRE(!r.mismatches.empty());
    CHECK(r.mismatches[0].tensor == read_arrays(dir / "activations.npz")[0].first);
  }
}

TEST_CASE("verify: missing and damaged files are errors, activations are optional") {
  const fs::path dir = written();
  fs::remove(dir / "activations.npz");
  CHECK(verify_folder(dir).activations == 0);
  for (const char* name : {"outputs.npz", "inputs.npz", "network.onnx"}) {
    const fs::path copy = written();
    fs::remove(copy / name);
    CHECK(code_of([&] { verify_folder(copy); }) == ErrorCode::io);
    std::ofstream(copy / name) << "nonsense";
    CHECK_THROWS_AS(verify_folder(copy), Error);
  }
  CHECK(code_of([&] { verify_folder("/nowhere"); }) == ErrorCode::io);
}

TEST_CASE("verify: arrays that do not fit the network") {
  const fs::path dir = written();
  const auto inputs = read_arrays(dir / "inputs.npz"), outputs = read_arrays(dir / "outputs.npz"), golden = read_arrays(dir / "activations.npz");
  SUBCASE("too few elements in an output") {
    write_arrays(dir / "outputs.npz", {{"y", Tensor(DType::i64, {1, 3})}});
    CHECK(code_of([&] { verify_folder(dir); }) == ErrorCode::data);
  }
  SUBCASE("one output too many") {
    write_arrays(dir / "outputs.npz", {outputs[0], {"z", outputs[0].second}});
    CHECK(code_of([&] { verify_folder(dir); }) == ErrorCode::data);
  }
  SUBCASE("an input of another size, beyond 8 bits, fractional, missing") {
    write_arrays(dir / "inputs.npz", {{"x", Tensor(DType::i64, {1, 2, 7})}});
    CHECK(code_of([&] { verify_folder(dir); }) == ErrorCode::data);
    Tensor half(DType::f32, {1, 2, 8});
    half.as<float>()[3] = 0.5F;
    write_arrays(dir / "inputs.npz", {{"x", half}});
    CHECK_THROWS_AS(verify_folder(dir), Error);
    write_arrays(dir / "inputs.npz", {});
    CHECK_THROWS_AS(verify_folder(dir), Error);
  }
  SUBCASE("a fractional golden value") {
    Tensor half(DType::f32, {1, 4});
    half.as<float>()[1] = 0.5F;
    write_arrays(dir / "outputs.npz", {{"y", half}});
    CHECK(code_of([&] { verify_folder(dir); }) == ErrorCode::data);
  }
  SUBCASE("an activation of another size or of no tensor is told") {
    auto changed = golden;
    changed[0].second = Tensor(DType::i32, {1, 1});
    changed.emplace_back("stranger", Tensor(DType::i8, {1}));
    write_arrays(dir / "activations.npz", changed);
    const VerifyReport r = verify_folder(dir);
    CHECK(r.mismatches.empty());
    CHECK(r.unmatched.size() == 2);
    CHECK(std::ranges::count(r.unmatched, golden[0].first) == 1);
    CHECK(std::ranges::count(r.unmatched, "stranger") == 1);
  }
  SUBCASE("another shape, float storage and special characters in names are no difference") {
    auto changed = golden;
    changed[0].first = "/" + changed[0].first + "::0"  ;
    changed[0].first.resize(changed[0].first.size() - 1);
    for (auto& [name, t] : changed) t = cast(t, DType::f32).reshaped({t.size()});
    write_arrays(dir / "activations.npz", changed);
    const VerifyReport r = verify_folder(dir);
    CHECK(r.mismatches.empty());
    CHECK(r.unmatched.empty());
    CHECK(r.activations == 5);
  }
}

TEST_CASE("verify: a float network within 1e-4, NaN never") {
  const fs::path dir = scratch_dir();
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 3}});
  g.add_output(g.emit("Mul", "y", {x, g.add_constant("c", Tensor::scalar(0.3F))}));
  write_onnx(dir / "network.onnx", g);
  write_arrays(dir / "inputs.npz", {{"x", Tensor::from<float>({1, 3}, {1.5F, -2.25F, 3.1F})}});
  const auto outputs_are = [&](float a, float b, float c) { write_arrays(dir / "outputs.npz", {{"y", Tensor::from<float>({1, 3}, {a, b, c})}}); };
  outputs_are(0.45F, -0.675F, 0.93F + 5e-5F);
  CHECK(verify_folder(dir).mismatches.empty());
  outputs_are(0.45F, -0.675F, 0.93F + 2e-4F);
  REQUIRE(verify_folder(dir).mismatches.size() == 1);
  CHECK(verify_folder(dir).mismatches[0].index == Shape{0, 2});
  outputs_are(0.45F, NAN, 0.93F);
  CHECK(verify_folder(dir).mismatches[0].index == Shape{0, 1});
  outputs_are(0.45F, -0.675F, 1e30F);
  CHECK(verify_folder(dir).mismatches[0].expected == 9000000000000000000);
}

TEST_CASE("sqnr_db: equal is infinite, no signal is minus infinity") {
  CHECK(sqnr_db(100, 1) == doctest::Approx(20.0));
  CHECK(sqnr_db(1, 0) == std::numeric_limits<double>::infinity());
  CHECK(sqnr_db(0, 0) == std::numeric_limits<double>::infinity());
  CHECK(sqnr_db(0, 1) == -std::numeric_limits<double>::infinity());
}

TEST_CASE("compare_dumps: integers exactly, floats by ratio and cosine, the rest by name") {
  const fs::path dir = scratch_dir();
  write_arrays(dir / "a.npz", {{"same", Tensor::from<std::int8_t>({2}, {1, -2})},
                               {"off", Tensor::from<std::int32_t>({2, 2}, {1, 2, 3, 4})},
                               {"real", Tensor::from<float>({2}, {3, 4})},
                               {"mixed", Tensor::from<float>({2}, {3, 4})},
                               {"shape", Tensor::from<std::int8_t>({2}, {1, 2})},
                               {"gone", Tensor::from<std::int8_t>({1}, {1})}});
  write_arrays(dir / "b.npz", {{"extra", Tensor::from<std::int8_t>({1}, {1})},
                               {"same", Tensor::from<std::int64_t>({2}, {1, -2})},
                               {"off", Tensor::from<std::int32_t>({2, 2}, {1, 2, 7, 8})},
                               {"real", Tensor::from<float>({2}, {3, 3.5F})},
                               {"mixed", Tensor::from<std::int8_t>({2}, {3, 4})},
                               {"shape", Tensor::from<std::int8_t>({2, 1}, {1, 2})}});
  const auto c = compare_dumps(dir / "a.npz", dir / "b.npz");
  REQUIRE(c.size() == 7);
  CHECK((c[0].tensor == "same" && c[0].integer && !c[0].first && c[0].differing == 0 && c[0].elements == 2));
  CHECK((c[1].tensor == "off" && c[1].integer && c[1].differing == 2));
  REQUIRE(c[1].first);
  CHECK((c[1].first->index == Shape{1, 0} && c[1].first->expected == 3 && c[1].first->got == 7));
  CHECK(c[2].sqnr_db == doctest::Approx(10 * std::log10(25 / 0.25)));
  CHECK(c[2].cosine == doctest::Approx(23 / std::sqrt(25 * (9 + 12.25))));
  CHECK(c[2].differing == 1);
  CHECK((!c[3].integer && c[3].sqnr_db == std::numeric_limits<double>::infinity() && c[3].cosine == doctest::Approx(1.0)));
  CHECK(c[4].problem == "shapes [2] and [2,1]");
  CHECK((c[5].tensor == "gone" && c[5].problem.find("b.npz") != std::string::npos));
  CHECK((c[6].tensor == "extra" && !c[6].problem.empty()));
}

}  // namespace
}  // namespace waveq
