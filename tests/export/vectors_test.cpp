#include "waveq/export/vectors.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "shared_data.h"
#include "vectors_design.h"
#include "vectors_net.h"
#include "waveq/export/verify.h"
#include "waveq/graph/file.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/graph/onnx_writer.h"

namespace waveq {

using namespace test;

TEST_CASE(
    "vectors: extremes, zero, alternation, ramp and single hot elements are what their names say") {
  const KernelVectors v = vectors_of(conv_requant(), "conv", {.random = 0});
  const auto codes = [&](const char* name) {
    const VectorCase* c = covering(v, name);
    REQUIRE(c != nullptr);
    return to_int64(c->inputs[0]);
  };
  CHECK(codes("all_min") == Ints(12, -128));
  CHECK(codes("all_max") == Ints(12, 127));
  CHECK(codes("all_zero") == Ints(12, 0));
  CHECK(codes("alternating_low_first") ==
        Ints{-128, 127, -128, 127, -128, 127, -128, 127, -128, 127, -128, 127});
  CHECK(codes("alternating_high_first") ==
        Ints{127, -128, 127, -128, 127, -128, 127, -128, 127, -128, 127, -128});
  CHECK(codes("single_hot_positive_first") == Ints{127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(codes("single_hot_negative_last") == Ints{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -128});
  std::set<std::int64_t> seen;
  for (const VectorCase& c : v.cases)
    if (starts(c.conditions.front(), "ramp"))
      for (const std::int64_t x : to_int64(c.inputs[0])) seen.insert(x);
  CHECK(seen.size() == 256);
}

TEST_CASE("vectors: outputs are those of the interpreter and every case differs from the others") {
  const KernelVectors v = vectors_of(conv_requant(), "rq");
  Executor executor(v.graph);
  for (std::size_t i = 0; i < v.cases.size(); ++i) {
    CHECK(executor.run(v.cases[i].inputs) == v.cases[i].outputs);
    CHECK_FALSE(v.cases[i].conditions.empty());
    for (std::size_t k = 0; k < i; ++k) CHECK(v.cases[i].inputs != v.cases[k].inputs);
  }
}

TEST_CASE(
    "vectors: a tie has a remainder of exactly half, on either side of zero, and is not clipped") {
  const KernelVectors v = vectors_of(conv_requant(), "rq", {.random = 0});
  int positive = 0, negative = 0;
  for (const VectorCase& c : v.cases) {
    const Ints x = to_int64(c.inputs[0]), y = to_int64(c.outputs[0]);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t channel = i / 6;
      const std::int64_t value = x[i] * kMul[channel] + kAdd[channel];
      if (mod(value, 64) != 32 || y[i] <= -128 || y[i] >= 127) continue;
      CHECK(y[i] * 64 == value + 32);  // half up
      (value < 0 ? negative : positive) += 1;
    }
  }
  CHECK(positive >= 2);
  CHECK(negative >= 2);
  // Channel 1 has an odd multiplier of its own; its ties are sought apart from those of channels 0
  // and 2.
  for (const char* name :
       {"tie_positive:channel_0", "tie_negative:channel_0", "tie_positive:channel_1",
        "tie_negative:channel_1", "tie_positive_minus_1:channel_0", "tie_negative_plus_1:channel_1",
        "just_below_half_negative:channel_0", "just_above_half_positive:channel_0"})
    CHECK_MESSAGE(covering(v, name) != nullptr, name);
}

TEST_CASE("vectors: saturation lands on lo-1, lo, hi and hi+1") {
  const KernelVectors v = vectors_of(conv_requant(), "rq", {.random = 0});
  std::set<std::int64_t> landed[3];
  for (const VectorCase& c : v.cases) {
    const Ints x = to_int64(c.inputs[0]);
    for (std::size_t i = 0; i < x.size(); ++i)
      landed[i / 6].insert((x[i] * kMul[i / 6] + kAdd[i / 6] + 32) >> 6);
  }
  for (const std::size_t channel : {0, 1})
    for (const std::int64_t target : {-129, -128, 127, 128})
      CHECK_MESSAGE(landed[channel].contains(target), channel << " " << target);
}

TEST_CASE("vectors: neighbouring channels are told apart by one input for all") {
  const KernelVectors v = vectors_of(conv_requant(), "rq", {.random = 0});
  const VectorCase* c = covering(v, "channel_boundary_0");
  REQUIRE(c != nullptr);
  const Ints x = to_int64(c->inputs[0]), y = to_int64(c->outputs[0]);
  CHECK(std::ranges::count(x, x[0]) == 18);
  CHECK(y[5] != y[6]);
}

TEST_CASE("vectors: ties that a multiplier excludes are listed with the reason") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 4}});
  const ValueId mul = g.add_constant("mul", Tensor::scalar<std::int32_t>(64)),
                add = g.add_constant("add", Tensor::scalar<std::int32_t>(1));
  g.add_output(g.emit("RequantShift", "rq", {x, mul, add}, requant_attrs(128)));
  const KernelVectors v = vectors_of(g, "rq", {.random = 0});
  CHECK(covering(v, "tie_positive") == nullptr);
  CHECK(lists(v.unreached, "tie_positive"));
  CHECK(lists(v.unreached, "lands_on_hi_plus_1"));  // 127*64 + 1 stays far below
}

TEST_CASE(
    "vectors: no input of a requant overflows, and inputs of several channels keep to their own "
    "bounds") {
  Graph g = conv_requant();
  const KernelVectors v = vectors_of(g, "rq");
  BoundsAnalysis bounds(g);
  const Bounds& known = bounds.of(g.node(node_named(g, "rq")).inputs[0]);
  for (const VectorCase& c : v.cases) {
    const Ints x = to_int64(c.inputs[0]);
    for (std::size_t i = 0; i < x.size(); ++i) {
      CHECK(x[i] >= known.of(i / 6).lo);
      CHECK(x[i] <= known.of(i / 6).hi);
    }
  }
}

TEST_CASE("vectors: accumulators of Conv attain their static bound") {
  const Graph g = conv_requant();
  const KernelVectors v = vectors_of(g, "conv", {.random = 0});
  BoundsAnalysis bounds(g);
  const Bounds& acc = bounds.of(g.node(node_named(g, "conv")).outputs[0]);
  for (const std::size_t channel : {0, 1, 2}) {
    const VectorCase* high = covering(v, "accumulator_highest:channel_" + std::to_string(channel));
    const VectorCase* low = covering(v, "accumulator_lowest:channel_" + std::to_string(channel));
    if (channel != 1) REQUIRE((high && low));
    if (!high || !low) continue;
    const auto reached = [&](const VectorCase& c) {
      const Ints y = to_int64(c.outputs[0]);
      const auto [lowest_at, highest_at] =
          std::minmax_element(y.begin() + static_cast<std::ptrdiff_t>(channel) * 6,
                              y.begin() + static_cast<std::ptrdiff_t>(channel + 1) * 6);
      return std::pair{*lowest_at, *highest_at};
    };
    CHECK(reached(*high).second == acc.of(channel).hi);
    CHECK(reached(*low).first == acc.of(channel).lo);
  }
  // Filter 2: -128*-128 + 127*127 + 127 + 128, written out.
  CHECK(acc.of(2).hi == 16384 + 16129 + 127 + 128);
}

TEST_CASE("vectors: accumulators of Gemm and MatMul attain their static bound") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 3}});
  const ValueId w = g.add_constant("w",
                                   Tensor::from<std::int8_t>({2, 3}, I8{1, -2, 3, -100, 50, 0})),
                b = g.add_constant("b", Tensor::from<std::int32_t>({2}, I32{1000, -7}));
  g.add_output(g.emit("Gemm", "fc", {x, w, b}, attributes({{"transB", std::int64_t{1}}})));
  const KernelVectors fc = vectors_of(g, "fc", {.random = 0});
  const VectorCase* high = covering(fc, "accumulator_highest:channel_0");
  const VectorCase* low = covering(fc, "accumulator_lowest:channel_1");
  REQUIRE((high && low));
  CHECK(to_int64(high->inputs[0]) == Ints{127, -128, 127});
  CHECK(to_int64(high->outputs[0])[0] == 127 + 256 + 381 + 1000);
  CHECK(to_int64(low->outputs[0])[1] == -12700 - 6400 - 7);

  Graph m;
  const ValueId p = m.add_input("p", {DType::i8, {1, 2, 4}}),
                q = m.add_input("q", {DType::i8, {1, 4, 2}});
  m.add_output(m.emit("MatMul", "mm", {p, q}));
  const KernelVectors mm = vectors_of(m, "mm", {.random = 0});
  REQUIRE(covering(mm, "accumulator_highest") != nullptr);
  CHECK(to_int64(covering(mm, "accumulator_highest")->outputs[0])[0] == 4 * 128 * 128);
  REQUIRE(covering(mm, "accumulator_lowest") != nullptr);
  CHECK(to_int64(covering(mm, "accumulator_lowest")->outputs[0])[0] == -4 * 127 * 128);
  const VectorCase* skew = covering(mm, "asymmetric");
  REQUIRE(skew != nullptr);
  CHECK(to_int64(skew->outputs[0])[1] != to_int64(skew->outputs[0])[2]);
}

TEST_CASE("vectors: a Conv whose windows all reach into the padding says so") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 1, 2}});
  const ValueId w = g.add_constant("w", Tensor::from<std::int8_t>({1, 1, 4}, I8{1, 2, 3, 4}));
  g.add_output(g.emit("Conv", "conv", {x, w},
                      attributes({{"kernel_shape", Ints{4}}, {"pads", Ints{1, 1}}})));
  CHECK(lists(vectors_of(g, "conv").unreached, "accumulator_highest"));
}

TEST_CASE("vectors: a division meets zero divisors, ties on both sides and the largest numerator") {
  Graph g;
  const ValueId num = g.add_input("num", {DType::i32, {1, 2, 5}}),
                den = g.add_input("den", {DType::i32, {1, 2, 1}});
  g.add_output(g.emit(
      "IntegerDiv", "div", {num, den},
      attributes(
          {{"Delta", std::int64_t{6}}, {"eps", std::int64_t{1}}, {"eta", std::int64_t{3}}})));
  BoundsAnalysis bounds(g);
  bounds.assume(num, Bounds::all({-5000, 5000}));
  bounds.assume(den, Bounds::all({0, 900}));
  const KernelVectors v = kernel_vectors(bounds, g.nodes().front(), {.random = 0});
  bool zero_zero = false, zero_nonzero = false, negative_tie = false, positive_tie = false,
       largest = false;
  for (const VectorCase& c : v.cases) {
    const Ints n = to_int64(c.inputs[0]), d = to_int64(c.inputs[1]), y = to_int64(c.outputs[0]);
    for (std::size_t i = 0; i < n.size(); ++i) {
      const std::int64_t den_i = d[i / 5], divisor = 3 * den_i + 1, top = 18 * n[i];
      zero_zero = zero_zero || (den_i == 0 && n[i] == 0);
      zero_nonzero = zero_nonzero || (den_i == 0 && n[i] != 0);
      largest = largest || n[i] == -5000;
      if (mod(2 * top, 2 * divisor) != divisor || divisor % 2 != 0) continue;
      negative_tie = negative_tie || top < 0;
      positive_tie = positive_tie || top > 0;
      CHECK(2 * y[i] * divisor == 2 * top + (top < 0 ? -divisor : divisor));  // away from zero
    }
  }
  CHECK(zero_zero);
  CHECK(zero_nonzero);
  CHECK(negative_tie);
  CHECK(positive_tie);
  CHECK(largest);
  for (const char* name : {"den_zero_num_zero", "den_zero_num_nonzero", "den_one", "tie_negative",
                           "tie_positive", "num_largest_magnitude"})
    CHECK_MESSAGE(covering(v, name) != nullptr, name);
}

TEST_CASE("vectors: without eps a zero divisor is no case, and the reason is told") {
  Graph g;
  const ValueId num = g.add_input("num", {DType::i32, {1, 1, 4}}),
                den = g.add_input("den", {DType::i32, {1, 1, 1}});
  g.add_output(g.emit(
      "IntegerDiv", "div", {num, den},
      attributes(
          {{"Delta", std::int64_t{16}}, {"eps", std::int64_t{0}}, {"eta", std::int64_t{1}}})));
  BoundsAnalysis bounds(g);
  bounds.assume(num, Bounds::all({-5000, 5000}));
  bounds.assume(den, Bounds::all({0, 900}));
  const KernelVectors v = kernel_vectors(bounds, g.nodes().front());
  CHECK(lists(v.unreached, "den_zero_num_zero"));
  CHECK(lists(v.unreached, "all_zero"));
  for (const VectorCase& c : v.cases) CHECK(to_int64(c.inputs[1])[0] != 0);
}

TEST_CASE("vectors: iGELU sees every code") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 100}});
  g.add_output(g.emit("iGELU", "gelu", {x},
                      attributes({{"b", std::int64_t{-50}}, {"one", std::int64_t{2500}}})));
  const KernelVectors v = vectors_of(g, "gelu", {.random = 0});
  std::set<std::int64_t> seen;
  for (const VectorCase& c : v.cases)
    if (starts(c.conditions.front(), "ramp"))
      for (const std::int64_t q : to_int64(c.inputs[0])) seen.insert(q);
  CHECK(seen.size() == 256);
  CHECK(covering(v, "all_codes_part_3_of_3") != nullptr);
}

TEST_CASE("vectors: means have negative ties, and means of three have none") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::i8, {1, 2, 4}});
  g.add_output(g.emit("ReduceMean", "mean", {x},
                      attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{0}}})));
  const KernelVectors v = vectors_of(g, "mean", {.random = 0});
  const VectorCase* tie = covering(v, "tie_negative");
  REQUIRE(tie != nullptr);
  const Ints q = to_int64(tie->inputs[0]);
  CHECK(mod(q[0] + q[1] + q[2] + q[3], 4) == 2);
  CHECK(q[0] + q[1] + q[2] + q[3] < 0);

  Graph odd;
  const ValueId y = odd.add_input("y", {DType::i8, {1, 2, 3}});
  odd.add_output(odd.emit("ReduceMean", "mean", {y},
                          attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{0}}})));
  CHECK(lists(vectors_of(odd, "mean").unreached, "tie"));
}

TEST_CASE("vectors: drawn cases depend on the seed alone") {
  const Graph g = conv_requant();
  const auto drawn = [&](std::uint64_t seed) {
    const KernelVectors v = vectors_of(g, "conv", {.seed = seed, .random = 5, .designed = false});
    REQUIRE(v.cases.size() == 5);
    return to_int64(v.cases[4].inputs[0]);
  };
  CHECK(drawn(1) == drawn(1));
  CHECK(drawn(1) != drawn(2));
}

TEST_CASE("vectors: congruences are solved where a solution exists, and only there") {
  using namespace vectors_detail;
  for (const std::int64_t m : {1, 2, 7, 16, 24})
    for (std::int64_t a = -9; a <= 9; ++a)
      for (std::int64_t r = -3; r < m; ++r) {
        std::set<std::int64_t> truth;
        for (std::int64_t x = -30; x <= 30; ++x)
          if (mod(a * x - r, m) == 0) truth.insert(x);
        const auto found = solve_congruence(a, r, m);
        REQUIRE(found.has_value() == !truth.empty());
        if (!found) continue;
        CHECK(found->at_least(-30) == *truth.begin());
        CHECK(found->at_most(30) == *truth.rbegin());
      }
}

TEST_CASE(
    "vectors: the folder holds networks that reproduce their outputs, and replaces only what is "
    "ours") {
  const std::filesystem::path dir = test::scratch_dir();
  const Graph g = conv_requant();
  write_onnx(dir / "model.onnx", g);
  const VectorFolderReport report =
      write_vectors(g, dir / "model.onnx", dir / "out", {.vectors = {.random = 1}});
  CHECK(report.nodes == 2);
  CHECK(report.skipped.empty());
  std::size_t cases = 0;
  for (const char* node : {"conv", "rq"}) {
    const auto listed = nlohmann::json::parse(read_file(dir / "out" / node / "cases.json"));
    for (const auto& c : listed["cases"]) {
      const VerifyReport verified = verify_folder(dir / "out" / node / c["case"].get<std::string>(),
                                                  {.overflow = Overflow::error});
      CHECK(verified.outputs == 1);
      CHECK(verified.mismatches.empty());
      ++cases;
    }
    CHECK(listed["files"].size() == 3 * listed["cases"].size() + 1);
  }
  CHECK(cases == report.cases);
  const std::string manifest = read_file(dir / "out" / "manifest.json");
  write_vectors(g, dir / "model.onnx", dir / "out", {.vectors = {.random = 1}});
  CHECK(read_file(dir / "out" / "manifest.json") == manifest);

  std::filesystem::create_directory(dir / "theirs");
  write_file(dir / "theirs" / "notes.txt", "keep me");
  CHECK_THROWS_AS(write_vectors(g, dir / "model.onnx", dir / "theirs"), Error);
  CHECK(read_file(dir / "theirs" / "notes.txt") == "keep me");
  write_file(dir / "theirs" / "manifest.json", R"({"tool": "waveq", "version": "0.1.0"})");
  CHECK_THROWS_AS(write_vectors(g, dir / "model.onnx", dir / "theirs"), Error);
  CHECK(read_file(dir / "theirs" / "notes.txt") == "keep me");
}

TEST_CASE("vectors: a node that is not there is an error that names those that are") {
  const std::filesystem::path dir = test::scratch_dir();
  const Graph g = conv_requant();
  write_onnx(dir / "model.onnx", g);
  try {
    write_vectors(g, dir / "model.onnx", dir / "out", {.node = "nope"});
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    CHECK(e.hint().find("conv, rq") != std::string::npos);
  }
  CHECK_FALSE(std::filesystem::exists(dir / "out"));
}

TEST_CASE("vectors: networks that other tools wrote give cases for each of their kernels") {
  for (const char* model :
       {"Kernels/Integer/Conv/DW_2D_RQ", "Kernels/Integer/GEMM/TransB_RQ",
        "Kernels/Integer/TrueIntegerDiv", "Kernels/Integer/MaxPool/Regular_2D"}) {
    const auto dir = test::shared(std::filesystem::path("vectors/deeploy") / model);
    if (!dir) return;
    const Graph g = to_integer_network(read_onnx(*dir / "network.onnx"));
    BoundsAnalysis bounds(g);
    for (NodeId id : kernel_nodes(g)) {
      const KernelVectors v = kernel_vectors(bounds, id);
      CHECK_MESSAGE(v.cases.size() >= 8, model << " " << v.node);
    }
  }
}

}  // namespace waveq
