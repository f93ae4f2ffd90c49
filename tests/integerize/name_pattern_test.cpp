#include "name_pattern.h"

#include <doctest/doctest.h>

namespace waveq {
namespace {

TEST_CASE("name_pattern: globs match whole texts") {
  CHECK(matches_glob("abc", "abc"));
  CHECK(!matches_glob("abc", "abcd"));
  CHECK(!matches_glob("", "a"));
  CHECK(matches_glob("", ""));
  CHECK(matches_glob("*", ""));
  CHECK(matches_glob("a*c", "ac"));
  CHECK(matches_glob("a*c", "abcbc"));
  CHECK(!matches_glob("a*c", "abcb"));
  CHECK(matches_glob("?b*", "ab"));
  CHECK(!matches_glob("?b*", "b"));
  CHECK(matches_glob("*/att/*/Conv*", "/l.0/att/wo/att/x/Conv_3"));
  CHECK(!matches_glob("*aab", "aaaaac"));
  // Many stars on a text that never matches end quickly.
  CHECK(!matches_glob("*a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

TEST_CASE(
    "name_pattern: a name is closer than a pattern, a longer pattern than a shorter one, an "
    "operator last") {
  Graph g;
  const ValueId x = g.add_input("x", {DType::f32, {1, 4}});
  const ValueId y = g.emit("Relu", "block/relu", {x}, {}, "user/relu");
  const auto of = [&](const char* rule) { return closeness(rule, g, g.value(y)); };
  CHECK(of("user/relu") == of(g.value(y).name.c_str()));
  CHECK(of("block/relu") > of("block/*u"));
  CHECK(of("block/*u") > of("block/*"));
  CHECK(of("user/*") > of("*"));
  CHECK(of("*") > of("op:Relu"));
  CHECK(of("op:Relu") > 0);
  CHECK(of("op:Conv") == 0);
  CHECK(of("block") == 0);
  CHECK(closeness("x", g, g.value(x)) > 0);
  CHECK(closeness("op:Relu", g, g.value(x)) == 0);
}

}  // namespace
}  // namespace waveq
