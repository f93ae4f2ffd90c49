#include "waveq/export/lint.h"

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <set>

#include "lint_cases.h"
#include "shared_data.h"
#include "waveq/graph/file.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_writer.h"

namespace waveq {

using namespace test;

namespace {

std::vector<Case> all_cases() {
  std::vector<Case> cases = requant_cases();
  for (const auto& more : {operator_cases(), accuracy_cases(), file_cases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

std::set<std::string> found(const LintInput& input) {
  std::set<std::string> names;
  for (const LintFinding& f : lint(input, find_target("deeploy-generic")).findings) {
    CHECK_FALSE(f.problem.empty());
    names.insert(f.check->name);
  }
  return names;
}

std::set<std::string> found(const std::function<ValueId(Net&)>& build) {
  Net n;
  n.g().opset = 10;
  n.g().add_output(build(n));
  return found(n.in);
}

/// A folder with the network as deeploy-generic writes it.
std::filesystem::path folder_of(Net& n) {
  const auto dir = test::scratch_dir();
  const TargetProfile& target = find_target("deeploy-generic");
  write_file(dir / "network.onnx", target.to_file(target, n.g()));
  return dir;
}

}  // namespace

TEST_CASE("lint: every check fires on its network and not on the other one") {
  std::map<std::string, int> covered;
  for (const Case& c : all_cases()) {
    CAPTURE(c.check);
    ++covered[c.check];
    CHECK(found(c.triggers).contains(c.check));
    CHECK_FALSE(found(c.clean).contains(c.check));
  }
  for (const LintCheck& check : lint_checks()) CHECK_MESSAGE(covered[check.name] == 1, check.name);
  CHECK(covered.size() == lint_checks().size());
}

TEST_CASE("lint: all traps have a row, and rows say why, what to do and where") {
  std::set<std::string> ids;
  for (const LintCheck& check : lint_checks()) {
    ids.insert(check.id);
    CHECK_FALSE(check.explanation.empty());
    CHECK_FALSE(check.remedy.empty());
    CHECK_FALSE(platform_names(check.platforms).empty());
  }
  for (int t = 1; t <= 25; ++t) CHECK_MESSAGE(ids.contains("T" + std::to_string(t)), t);
}

TEST_CASE("lint: findings of other platforms are listed, but do not count") {
  Net n;
  n.g().add_output(
      n.rq(point(n), {.mul = {256}}));  // CortexM's Q31 multiplier overflows, Generic computes it
  const LintReport report = lint(n.in, find_target("deeploy-generic"));
  CHECK(report.count(LintEffect::wrong) == 0);
  bool listed = false;
  for (const LintFinding& f : report.findings)
    if (f.check->name == "merged_mul_ge_div") {
      listed = true;
      CHECK_FALSE(f.applies);
      CHECK(f.node == "RequantShift");
      CHECK(platform_names(f.check->platforms) == std::vector<std::string>{"CortexM"});
    }
  CHECK(listed);
}

TEST_CASE("lint: unsigned inputs that quantization.json names are no surprise") {
  Net n;
  n.g().add_output(sampled(n, {0, 127, 0, 0, 0, 0, 0, 0}));
  CHECK(found(n.in).contains("input_sign_offset"));
  n.in.unsigned_inputs = {"x"};
  CHECK_FALSE(found(n.in).contains("input_sign_offset"));
}

TEST_CASE("lint: a layer norm is quiet up to the largest weight that cannot wrap") {
  // Rows of 4: one element alone gives sigma >= isqrt(t^2/4 + 1), so |t|/sigma <= 3 at t = 3: 3*w
  // >> 4 <= 127.
  CHECK_FALSE(found([](Net& n) { return layer_norm(n, 682); }).contains("norm_wrap"));
  CHECK(found([](Net& n) { return layer_norm(n, 683); }).contains("norm_wrap"));
  CHECK_FALSE(found([](Net& n) { return no_norm(n, 15); }).contains("norm_wrap"));
  CHECK(found([](Net& n) { return no_norm(n, 16); }).contains("norm_wrap"));
}

TEST_CASE("lint: a folder as waveq writes it is clean, and what is taken from it is missed") {
  Net n;
  n.g().add_output(n.rq(point(n), {.mul = {100, 200}, .add = {300, 400}}));
  const auto dir = folder_of(n);
  const Tensor x = Tensor::from<std::int64_t>({1, 2, 4}, {-1, 2, 3, 4, 5, 6, 7, 8});
  write_npz(dir / "inputs.npz", std::vector<NpzItem>{{"x", &x}});
  const LintReport report = lint(read_lint_input(dir), find_target("deeploy-generic"));
  for (const LintFinding& f : report.findings)
    CHECK_MESSAGE(!f.applies, f.check->name << ": " << f.problem);

  const Tensor y = Tensor::from<std::int64_t>({1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  write_npz(dir / "inputs.npz", std::vector<NpzItem>{{"x", &y}});
  write_npz(dir / "outputs.npz", std::vector<NpzItem>{{"a", &y}, {"b", &y}});
  const auto with_arrays = found(read_lint_input(dir / "network.onnx"));
  CHECK(with_arrays.contains("input_sign_offset"));
  CHECK(with_arrays.contains("vector_count"));

  OnnxWriteOptions options;
  options.integers_as_float = true;
  options.value_info = false;
  write_onnx(dir / "network.onnx", n.g(), options);
  CHECK(found(read_lint_input(dir)).contains("no_shape"));
}

TEST_CASE("lint: float32 constants above 2^24 are told") {
  Net n;
  n.g().add_output(n.rq(n.x({1, 4}), {.mul = {16}, .add = {16777216}, .div = 32}));
  CHECK_FALSE(found(read_lint_input(folder_of(n))).contains("float_storage"));
  Net m;
  m.g().add_output(m.rq(m.x({1, 4}), {.mul = {16}, .add = {16777232}, .div = 32}));
  CHECK(found(read_lint_input(folder_of(m))).contains("float_storage"));
}

TEST_CASE("lint: operands that do not fit are a finding, a file that is no network an error") {
  Net n;
  const ValueId sum = n.raw("Add", {n.x({1, 2}), n.x({1, 3})}, {DType::i8, {1, 3}});
  n.g().add_output(sum);
  const auto dir = test::scratch_dir();
  write_onnx(dir / "network.onnx", n.g());
  CHECK(found(read_lint_input(dir)) == std::set<std::string>{"operand_shapes"});
  std::ofstream(dir / "network.onnx") << "no network";
  CHECK_THROWS_AS(read_lint_input(dir), Error);
  CHECK_THROWS_AS(read_lint_input(dir / "missing.onnx"), Error);
}

TEST_CASE("lint: the deployed WaveFormer shows the traps that were measured on it") {
  const auto dir = test::shared("vectors/ours/WaveFormer_tone");
  if (!dir) return;
  const LintReport report = lint(read_lint_input(*dir), find_target("deeploy-generic"));
  std::map<std::string, int> counts;
  for (const LintFinding& f : report.findings) ++counts[f.check->name];
  CHECK(counts["float_storage"] == 16);
  CHECK(counts["mul_ge_div"] == 13);
  CHECK(counts["division_wrap"] == 9);
  CHECK(counts["mean_on_pulp"] == 10);
  CHECK(counts["unmapped_generic"] == 0);
  CHECK(counts["requant_behind_requant"] == 29);  // of 36, 7 hand every code on
  CHECK(report.count(LintEffect::rejected) == 0);
}

}  // namespace waveq
