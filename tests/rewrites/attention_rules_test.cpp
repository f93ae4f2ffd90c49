#include <doctest/doctest.h>

#include "net.h"

namespace waveq {
namespace {

using test::attrs;
using test::ints;
using test::Net;
using test::rewrite_checked;
using test::Rewritten;

TEST_CASE("replace_softmax_axis: one of the axes becomes the last, flattened ones a row") {
  for (const std::int64_t axis : {0, 1, 2, -1, -2, -3}) {
    INFO(axis);
    Net net;
    net.graph.opset = 13;
    net.output(net.op("Softmax", {net.input("x", {2, 3, 4})}, attrs({{"axis", axis}})));
    const Rewritten r = rewrite_checked(net, {"replace_softmax_axis"});
    CHECK(r.text == (axis == 2 || axis == -1 ? "Softmax(x){axis=2}"
                     : axis == 1 || axis == -2
                         ? "Transpose(Softmax(Transpose(x){perm=[0,2,1]}){axis=2}){perm=[0,2,1]}"
                         : "Transpose(Softmax(Transpose(x){perm=[2,1,0]}){axis=2}){perm=[2,1,0]}"));
  }
  for (const std::int64_t axis : {0, 1, 2}) {
    INFO(axis);
    Net net;
    net.output(net.op("Softmax", {net.input("x", {2, 3, 4})},
                      attrs({{"axis", axis}, {"waveq_flatten", std::int64_t{1}}})));
    const Rewritten r = rewrite_checked(net, {"replace_softmax_axis"});
    CHECK(r.text == (axis == 2   ? "Softmax(x){axis=2}"
                     : axis == 1 ? "Reshape(Softmax(Reshape(x, [2,12])){axis=1}, [2,3,4])"
                                 : "Reshape(Softmax(Reshape(x, [1,24])){axis=1}, [2,3,4])"));
  }
}

}  // namespace
}  // namespace waveq
