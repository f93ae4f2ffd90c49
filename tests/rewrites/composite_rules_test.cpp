#include <doctest/doctest.h>

#include <limits>

#include "net.h"

// Operators that other operators spell: each rule's own equation, checked on random inputs by rewrite_checked.
namespace waveq {
namespace {

using namespace test;

TEST_CASE("replace_linear_resize: a matrix of weights for each axis that changes") {
  struct Case {
    std::vector<float> scales;
    const char* coordinates;
    const char* text;
  };
  for (const Case& c : {Case{{1, 1, 1, 2}, "half_pixel", "MatMul(x, f32[5,10])"},
                        Case{{1, 1, 2, 2}, "asymmetric", nullptr},
                        Case{{1, 1, 2, 2}, "align_corners", nullptr},
                        Case{{1, 1, 0.5, 1.6F}, "pytorch_half_pixel", nullptr}}) {
    Net net;
    net.output(net.op("Resize",
                      {net.input("x", {1, 2, 4, 5}), {}, net.floats("s", {4}, c.scales)},
                      attrs({{"mode", std::string("linear")},
                             {"coordinate_transformation_mode", std::string(c.coordinates)}})));
    const Rewritten r = rewrite_checked(net, {"replace_linear_resize"});
    CHECK(r.count("replace_linear_resize") == 1);
    if (c.text) CHECK(r.text == c.text);
    if (!c.text)
      CHECK(r.text.starts_with("Transpose(MatMul(Transpose(MatMul(x, f32[5,"));
  }
}

TEST_CASE("replace_linear_resize: sizes, chosen axes, nothing to do, nearest") {
  const auto resize = [](std::vector<std::int64_t> sizes, const Attrs& how) {
    Net net;
    net.output(net.op("Resize", {net.input("x", {1, 2, 4, 5}), {}, {}, net.ints(std::move(sizes))}, how));
    return rewrite_checked(net, {"replace_linear_resize"}).text;
  };
  const std::string linear = "linear";
  CHECK(resize({9}, attrs({{"mode", linear}, {"axes", ints({-1})}})) == "MatMul(x, f32[5,9])");
  CHECK(resize({8, 5}, attrs({{"mode", linear}, {"axes", ints({2, 3})}})) ==
        "Transpose(MatMul(Transpose(x){perm=[0,1,3,2]}, f32[4,8])){perm=[0,1,3,2]}");
  CHECK(resize({1, 2, 4, 5}, attrs({{"mode", linear}})) == "Identity(x)");
  CHECK(resize({1, 2, 4, 10}, {}).starts_with("Resize("));
}

TEST_CASE("fuse_softplus_threshold: both branches are one float beyond 17") {
  const auto text = [](float t) {
    Net net;
    const ValueId x = net.input("x", {1, 8});
    const ValueId far = net.op("Greater", {x, net.scalar(t)});
    net.output(net.op("Where", {far, x, net.op("Softplus", {x})}));
    return rewrite_checked(net, {"fuse_softplus_threshold"}).text;
  };
  CHECK(text(20) == "Softplus(x)");
  CHECK(text(1).starts_with("Where("));
}

TEST_CASE("replace_scatter_nd: a box of positions is a concatenation") {
  const auto text = [](const Shape& x, const Shape& u, const Shape& at, std::vector<std::int64_t> indices) {
    Net net;
    const ValueId where = net.graph.add_constant("i", Tensor::from<std::int64_t>(at, indices));
    const ValueId data = net.input("x", x);
    net.output(net.op("ScatterND", {data, where, net.input("u", u)}));
    return rewrite_checked(net, {"replace_scatter_nd"}).text;
  };
  // y[1:3] = u
  CHECK(text({4, 3}, {2, 3}, {2, 1}, {1, 2}) ==
        "Concat(Slice(x){axes=[0] ends=[1] starts=[0]}, Reshape(u, [2,3]), Slice(x){axes=[0] ends=[4] starts=[3]}){axis=0}");
  // y[:, -1] = u
  CHECK(text({2, 3}, {2}, {2, 2}, {0, -1, 1, -1}) ==
        "Concat(Slice(x){axes=[1] ends=[2] starts=[0]}, Reshape(u, [2,1])){axis=1}");
  // y[0:1, 1:3] = u, the rest of row 0 stays
  CHECK(text({2, 3}, {2}, {2, 2}, {0, 1, 0, 2}).starts_with("Concat(Concat("));
  // everything
  CHECK(text({2, 3}, {2, 3}, {2, 1}, {0, 1}) == "Reshape(u, [2,3])");
  // no box: out of order, with a gap
  CHECK(text({4, 3}, {2, 3}, {2, 1}, {2, 1}).starts_with("ScatterND("));
  CHECK(text({4, 3}, {2, 3}, {2, 1}, {0, 2}).starts_with("ScatterND("));
}

TEST_CASE("replace_computed_clip: ends that are computed are maxima and minima") {
  const auto text = [](bool lo, bool hi, float most) {
    Net net;
    const ValueId x = net.input("x", {1, 4}), a = net.input("a", {});
    net.output(net.op("Clip", {x, lo ? a : ValueId{}, hi ? a : net.scalar(most)}));
    return rewrite_checked(net, {"replace_computed_clip"}).text;
  };
  CHECK(text(true, false, 2) == "Min(Max(x, a), 2)");
  CHECK(text(true, false, std::numeric_limits<float>::infinity()) == "Max(x, a)");
  CHECK(text(false, true, 0) == "Min(x, a)");
  CHECK(text(false, false, 2).starts_with("Clip("));
}

TEST_CASE("replace_cum_sum: a product with a triangle of ones, along any axis, either way") {
  for (const std::int64_t exclusive : {0, 1})
    for (const std::int64_t reverse : {0, 1})
      for (const std::int64_t axis : {1, 2, -3}) {
        Net net;
        net.output(net.op("CumSum", {net.input("x", {2, 3, 4}), net.ints({axis})},
                          attrs({{"exclusive", exclusive}, {"reverse", reverse}})));
        const Rewritten r = rewrite_checked(net, {"replace_cum_sum"});
        CHECK(r.count("replace_cum_sum") == 1);
      }
}

TEST_CASE("replace_lrn, replace_lp_normalization, replace_mean_variance_norm") {
  for (const std::int64_t size : {1, 2, 3, 5}) {
    Net net;
    net.output(net.op("LRN", {net.input("x", {1, 4, 3, 2})}, attrs({{"size", size}, {"alpha", 0.5}, {"bias", 2.0}})));
    CHECK(rewrite_checked(net, {"replace_lrn"}).text == "Mul(x, Pow(Conv(Mul(x, x), f32[4,4,1,1], f32[4]){kernel_shape=[1,1]}, -0.75))");
  }
  for (const std::int64_t p : {1, 2})
    for (const std::int64_t axis : {0, 1, -1}) {
      Net net;
      net.output(net.op("LpNormalization", {net.input("x", {2, 3, 4})}, attrs({{"p", p}, {"axis", axis}})));
      CHECK(rewrite_checked(net, {"replace_lp_normalization"}).count("replace_lp_normalization") == 1);
    }
  for (const auto& axes : {ints({0, 2, 3}), ints({1}), ints({-1, -2})}) {
    Net net;
    net.output(net.op("MeanVarianceNormalization", {net.input("x", {2, 3, 4, 5})}, attrs({{"axes", axes}})));
    CHECK(rewrite_checked(net, {"replace_mean_variance_norm"}).count("replace_mean_variance_norm") == 1);
  }
}

}  // namespace
}  // namespace waveq
