#include "waveq/integerize/recipe.h"

#include <doctest/doctest.h>

#include "waveq/graph/error.h"

namespace waveq {
namespace {

/// Code, place and message of the error that a text ends with.
struct Problem {
  ErrorCode code = ErrorCode::internal;
  std::string where, found, hint;
};
Problem problem_of(std::string_view text) {
  try {
    parse_recipe(text, "r.toml");
  } catch (const Error& e) {
    return {e.code(), e.where(), e.found(), e.hint()};
  }
  FAIL("no error");
  return {};
}

TEST_CASE("recipe: the default and a changed one survive writing and reading") {
  CHECK(parse_recipe(to_toml(Recipe{}), "r") == Recipe{});
  CHECK(parse_recipe("", "r") == Recipe{});
  Recipe r;
  r.target = "a \"quoted\" \\ name\n\x7f";
  r.input_shapes = {{"x", {1, 1, 8192}}, {"a.b/c \"d\"", {2}}, {"scalar", {}}};
  r.passes = {"fold_constants", "merge_reshapes"};
  r.precision = {{"/layers.0/*", 16}, {"op:Div", 16}, {"a \"b\"", 8}};
  r.weight_levels_of = {{"/head/*", 256}, {"op:Gemm", 3}};
  r.observer = "percentile:99.9";
  r.ranges = {{"/l.0/*", {"min_max", 1}}, {"op:Div", {"", 1.5}}, {"x \"y\"", {"mse", 0.25}}};
  r.quantizer = "other";
  r.activation_levels = 16;
  r.weight_levels = 3;
  r.per_channel_weights = false;
  r.requant_bits = 24;
  r.max_shift = 31;
  r.seed = 8999999999999999999ULL;
  r.min_sqnr_db = 18.25;
  r.min_agreement = 0.1 + 0.2;
  r.max_top1_drop = 1e-7;
  CHECK(parse_recipe(to_toml(r), "r") == r);
  CHECK(to_toml(parse_recipe(to_toml(r), "r")) == to_toml(r));
}

TEST_CASE("recipe: a preset sets what the other keys change") {
  const Recipe quantlib = preset_recipe("quantlib").value();
  CHECK(quantlib.max_shift == 18);
  CHECK_FALSE(quantlib.merge_requants);
  CHECK(preset_recipe("default") == Recipe{});
  const Recipe accurate = load_recipe("accurate");
  CHECK(accurate.target == "waveq");
  CHECK(accurate.precision == std::map<std::string, std::int64_t>{{"*", 16}});
  CHECK(parse_recipe(to_toml(accurate), "r") == accurate);
  CHECK_FALSE(preset_recipe("nemo").has_value());
  CHECK(load_recipe("quantlib") == quantlib);
  CHECK(parse_recipe(to_toml(quantlib), "r") == quantlib);
  Recipe expected = quantlib;
  expected.merge_requants = true;
  CHECK(parse_recipe("preset = \"quantlib\"\n[requant]\nmerge_requants = true\n", "r") == expected);
  CHECK(problem_of("\npreset = \"nemo\"\n").where == "r.toml:2");
  CHECK(problem_of("preset = 1\n").code == ErrorCode::invalid_argument);
}

TEST_CASE("recipe: whole numbers are accepted where a real one is wanted") {
  CHECK(parse_recipe("[gates]\nmin_sqnr_db = 19\n", "r").min_sqnr_db == 19.0);
}

TEST_CASE("recipe: an unknown key is named with its line, and the known ones listed") {
  const Problem p = problem_of("target = \"deeploy-generic\"\n\n[quantization]\nactivation_levls = 16\n");
  CHECK(p.code == ErrorCode::invalid_argument);
  CHECK(p.where == "r.toml:4");
  CHECK(p.found.find("quantization.activation_levls") != std::string::npos);
  CHECK(p.hint.find("quantization.activation_levels") != std::string::npos);
  CHECK(problem_of("activation_levels = 16\n").found.find("not a key") != std::string::npos);  // outside its section
  CHECK(problem_of("[nonsense]\nx = 1\n").where == "r.toml:2");
  CHECK(problem_of("[target]\nx = 1\n").found.find("target.x") != std::string::npos);
}

TEST_CASE("recipe: a value of the wrong kind is told with its line") {
  for (const auto& entry : std::vector<std::pair<std::string, std::string>>{
           {"target = 3\n", "a string"}, {"seed = \"1\"\n", "an integer"}, {"seed = 1.5\n", "an integer"},
           {"passes = \"x\"\n", "a list of strings"}, {"passes = [1]\n", "a list of strings"},
           {"quantization = 3\n", "not a key"}, {"seed = -1\n", "negative"}, {"[[gates]]\nx = 1\n", "not a key"}}) {
    const std::string &text = entry.first, &kind = entry.second;
    INFO(text);
    const Problem p = problem_of(text);
    CHECK(p.code == ErrorCode::invalid_argument);
    CHECK(p.where.starts_with("r.toml:1"));
    CHECK(p.found.find(kind) != std::string::npos);
  }
  CHECK(problem_of("[quantization]\nper_channel_weights = 1\n").found.find("true or false") != std::string::npos);
  CHECK(problem_of("[gates]\nmin_agreement = \"0.9\"\n").found.find("a number") != std::string::npos);
  const Problem shape = problem_of("[input_shapes]\n\nx = [1, \"a\"]\n");
  CHECK(shape.where == "r.toml:3");
  CHECK(shape.found.find("input_shapes.x") != std::string::npos);
}

TEST_CASE("recipe: a value out of range is told with the range") {
  for (const auto& entry : std::vector<std::pair<std::string, std::string>>{
           {"[quantization]\nactivation_levels = 257\n", "activation_levels = 257 is outside 2..256"},
           {"[quantization]\nactivation_levels = 1\n", "activation_levels"},
           {"[quantization]\nweight_levels = 2\n", "weight_levels = 2 is outside 3..256"},
           {"[requant]\nrequant_bits = 15\n", "requant_bits"},
           {"[requant]\nrequant_bits = 33\n", "requant_bits"},
           {"[requant]\nmax_shift = 0\n", "max_shift"},
           {"[requant]\nmax_shift = 32\n", "max_shift"},
           {"[gates]\nmin_agreement = 1.1\n", "min_agreement"},
           {"[gates]\nmin_agreement = nan\n", "min_agreement"},
           {"[gates]\nmin_sqnr_db = inf\n", "min_sqnr_db"},
           {"[gates]\nmax_top1_drop = -1\n", "max_top1_drop"},
           {"[precision]\n\"op:Div\" = 12\n", "op:Div"},
           {"[weight_levels]\n\"op:Conv\" = 257\n", "op:Conv"},
           {"[input_shapes]\nx = [1, 0]\n", "input_shapes.x"}}) {
    const std::string &text = entry.first, &key = entry.second;
    INFO(text);
    const Problem p = problem_of(text);
    CHECK(p.code == ErrorCode::invalid_argument);
    CHECK(p.found.find(key) != std::string::npos);
  }
}

TEST_CASE("recipe: what is not TOML is a parse error with its line") {
  for (const auto& entry : std::vector<std::pair<std::string, std::string>>{
           {"seed = 1\ntarget = \n", "r.toml:2"}, {"[gates\n", "r.toml:1"}, {"seed = 1\n\nseed = 2\n", "r.toml:3"}, {"x = \"\xff\"\n", "r.toml:1"}}) {
    const std::string &text = entry.first, &line = entry.second;
    INFO(text);
    const Problem p = problem_of(text);
    CHECK(p.code == ErrorCode::parse);
    CHECK(p.where == line);
  }
  CHECK_THROWS_AS(load_recipe("/nowhere/recipe.toml"), Error);
}

}  // namespace
}  // namespace waveq
