#include "waveq/rewrites/pattern.h"

#include <doctest/doctest.h>

#include "net.h"

namespace waveq::test {
namespace {

NodeId producer(const Graph& graph, ValueId id) { return graph.value(id).producer; }

TEST_CASE("pattern: operands of Add and Mul match in either order, of Sub only as written") {
  Net net;
  const ValueId x = net.input("x", {2}), c = net.scalar(3.0f);
  const ValueId sum = net.op("Add", {c, x}), difference = net.op("Sub", {c, x});
  const Pat a = any(), k = constant();
  const auto found = match(net.graph, op("Add", {a, k}), producer(net.graph, sum));
  REQUIRE(found);
  CHECK((*found)[a] == x);
  CHECK((*found)[k] == c);
  CHECK(found->tensor(k).as<float>()[0] == 3.0f);
  CHECK_FALSE(match(net.graph, op("Sub", {a, k}), producer(net.graph, difference)));
  CHECK(match(net.graph, op("Sub", {k, a}), producer(net.graph, difference)));
}

TEST_CASE(
    "pattern: a Pat used twice demands the same value, and operand order is tried again for it") {
  Net net;
  const ValueId x = net.input("x", {2}), z = net.input("z", {2});
  const ValueId e = net.op("Exp", {x});
  const ValueId good = net.op("Add", {net.op("Mul", {e, x}), x}),
                bad = net.op("Add", {net.op("Mul", {e, x}), z});
  const Pat a = any(), b = any();
  // The first choice, a = Exp(x), fails only when the outer operand is compared.
  const Pat pattern = op("Add", {op("Mul", {a, b}), a});
  const auto found = match(net.graph, pattern, producer(net.graph, good));
  REQUIRE(found);
  CHECK((*found)[a] == x);
  CHECK((*found)[b] == e);
  CHECK_FALSE(match(net.graph, pattern, producer(net.graph, bad)));
}

TEST_CASE("pattern: one_use counts a graph output as a use") {
  Net net;
  const ValueId x = net.input("x", {2});
  const ValueId r = net.op("Relu", {x}), e = net.op("Exp", {r});
  net.output(e);
  const Pat pattern = op("Exp", {op("Relu", {any()}).one_use()});
  CHECK(match(net.graph, pattern, producer(net.graph, e)));
  net.output(r);
  CHECK_FALSE(match(net.graph, pattern, producer(net.graph, e)));
}

TEST_CASE("pattern: a scalar may have any rank, and its value is compared with a tolerance") {
  Net net;
  const ValueId x = net.input("x", {1, 2});
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1}}) {
    const ValueId y = net.op("Mul", {x, net.scalar(0.70710677f, shape)});
    CHECK(match(net.graph, op("Mul", {any(), scalar(0.70710678118)}), producer(net.graph, y)));
    CHECK_FALSE(match(net.graph, op("Mul", {any(), scalar(0.7071)}), producer(net.graph, y)));
  }
  const ValueId y = net.op("Mul", {x, net.weight("w", {1, 2})});
  CHECK_FALSE(match(net.graph, op("Mul", {any(), scalar()}), producer(net.graph, y)));
}

TEST_CASE("pattern: optional inputs, alternatives and attributes") {
  Net net;
  const ValueId x = net.input("x", {1, 2, 8}), w = net.weight("w", {2, 2, 1}),
                b = net.weight("b", {2});
  const ValueId plain = net.op("Conv", {x, w}),
                biased = net.op("Conv", {x, w, b}, test::attrs({{"group", std::int64_t{1}}}));
  const Pat bias = constant();
  const Pat conv = op("Conv", {any(), constant(), optional(bias)});
  const auto without = match(net.graph, conv, producer(net.graph, plain));
  REQUIRE(without);
  CHECK_FALSE(without->has(bias));
  const auto with = match(net.graph, conv, producer(net.graph, biased));
  REQUIRE(with);
  CHECK((*with)[bias] == b);
  CHECK_FALSE(match(net.graph, op("Conv", {any(), constant()}), producer(net.graph, biased)));
  CHECK(match(net.graph, conv.attr("group", 1, 7), producer(net.graph, biased)));
  CHECK_FALSE(match(net.graph, conv.attr("group", 1, 7), producer(net.graph, plain)));

  const Pat exp = op("Exp", {any()}), relu = op("Relu", {any()});
  const ValueId y = net.op("Abs", {net.op("Relu", {x})});
  const auto found = match(net.graph, op("Abs", {either(exp, relu)}), producer(net.graph, y));
  REQUIRE(found);
  CHECK(found->has(relu));
  CHECK_FALSE(found->has(exp));
}

}  // namespace
}  // namespace waveq::test
