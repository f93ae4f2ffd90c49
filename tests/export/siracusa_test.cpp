#include "net.h"
#include "waveq/export/target.h"

namespace waveq {
namespace {

using namespace test;

std::vector<std::string> broken_rules(const Build& build) {
  Net net;
  net.g.add_output(build(net));
  const TargetProfile& target = find_target("deeploy-siracusa");
  std::vector<std::string> rules;
  for (const Finding& f : target.check(target, net.g)) rules.push_back(f.rule);
  return rules;
}

using Rules = std::vector<std::string>;

const Attrs kGelu = attributes({{"b", std::int64_t{-40}}, {"one", std::int64_t{900}}});

TEST_CASE("deeploy-siracusa: a Conv is two-dimensional, fused, and padded equally") {
  const auto conv = [](Shape x, Shape w, Attrs attrs) {
    return [=](Net& n) { return n.requant(n.op("Conv", {n.in(x), n.varied(w)}, attrs), 3, 64); };
  };
  CHECK(broken_rules(conv({1, 2, 1, 8}, {3, 2, 1, 3}, {})).empty());
  CHECK(broken_rules(conv({1, 2, 8}, {3, 2, 3}, {})) == Rules{"conv_2d"});
  CHECK(broken_rules(conv({1, 2, 4, 8}, {3, 2, 3, 3}, attributes({{"pads", Ints{1, 1, 1, 1}}})))
            .empty());
  CHECK(broken_rules(conv({1, 2, 4, 8}, {3, 2, 1, 3}, attributes({{"pads", Ints{0, 1, 0, 1}}}))) ==
        Rules{"conv_pads"});
  const auto depthwise = [&](Ints strides) {
    return conv(
        {1, 2, 4, 8}, {2, 1, 3, 3},
        attributes({{"group", std::int64_t{2}}, {"pads", Ints{1, 1, 1, 1}}, {"strides", strides}}));
  };
  CHECK(broken_rules(depthwise({1, 1})).empty());
  CHECK(broken_rules(depthwise({2, 2})) == Rules{"conv_depthwise_pads"});
  CHECK(broken_rules([](Net& n) {
          return n.op("Conv", {n.in({1, 2, 1, 8}), n.varied({3, 2, 1, 3})});
        }) == Rules{"fused_requant"});
}

TEST_CASE(
    "deeploy-siracusa: requants of their own are signed, scalar and of a size the cores share "
    "evenly") {
  CHECK(broken_rules([](Net& n) { return n.requant(n.in({1, 16}), 3, 64); }).empty());
  CHECK(broken_rules([](Net& n) {
          return n.requant(n.in({1, 16}), 3, 64, 0);
        }) == Rules{"requant_unsigned"});
  CHECK(broken_rules([](Net& n) { return n.requant(n.in({1, 24}), 3, 64); }) == Rules{"odd_chunk"});
  CHECK(broken_rules([](Net& n) { return n.requant(n.in({1, 32752}), 3, 64); }).empty());
  CHECK(broken_rules([](Net& n) {
          return n.requant(n.in({1, 32768}), 3, 64);
        }) == Rules{"int16_index"});
  const auto behind_matmul = [](std::int64_t levels) {
    return [=](Net& n) {
      const ValueId y = n.op("MatMul", {n.in({1, 4, 3}), n.varied({1, 3, 2})});
      return n.requant(y, n.c<std::int32_t>({}, 3), n.c<std::int32_t>({}, 0), 64, 0, levels);
    };
  };
  CHECK(broken_rules(behind_matmul(256)).empty());
  CHECK(broken_rules(behind_matmul(16)) == Rules{"requant_levels"});
}

TEST_CASE("deeploy-siracusa: products and sums take int8") {
  CHECK(broken_rules([](Net& n) {
          return n.op("MatMul", {n.in({1, 4, 3}), n.in({1, 3, 2})});
        }).empty());
  CHECK(broken_rules([](Net& n) {
          return n.op("MatMul", {n.in({1, 4, 3}, DType::u8), n.in({1, 3, 2})});
        }) == Rules{"matmul_types"});
  CHECK(broken_rules([](Net& n) { return n.op("Mul", {n.in({1, 16}), n.in({1, 16})}); }).empty());
  CHECK(broken_rules([](Net& n) {
          return n.op("Mul", {n.in({1, 16}), n.in({1, 16}, DType::u8)});
        }) == Rules{"mul_types"});
  CHECK(broken_rules([](Net& n) {
          return n.op("Mul", {n.in({1, 8}), n.in({1, 8})});
        }) == Rules{"odd_chunk"});
}

TEST_CASE("deeploy-siracusa: a requant that a sum absorbs must not saturate") {
  const auto sum = [](std::int32_t mul) {
    return [=](Net& n) {
      const ValueId u = n.requant(n.in({1, 16}, DType::u8), mul, 64);
      return n.requant(n.op("Add", {n.in({1, 16}), u}), 30, 64);
    };
  };
  CHECK(broken_rules(sum(31)).empty());
  CHECK(broken_rules(sum(33)) == Rules{"add_operand_clip"});
  const auto wide = [](std::int64_t length) {
    return [=](Net& n) {
      return n.requant(n.op("Add", {n.in({1, length}), n.in({1, length})}), 30, 64);
    };
  };
  CHECK(broken_rules(wide(65535)).empty());
  CHECK(broken_rules(wide(65536)) == Rules{"uint16_index"});
}

TEST_CASE("deeploy-siracusa: iGELU and IntegerDiv only with their requant, Pad only in space") {
  CHECK(broken_rules([](Net& n) {
          return n.requant(n.op("iGELU", {n.in({1, 16})}, kGelu), 3, 64);
        }).empty());
  CHECK(broken_rules([](Net& n) {
          return n.op("iGELU", {n.in({1, 16})}, kGelu);
        }) == Rules{"fused_requant"});
  const Attrs div =
      attributes({{"Delta", std::int64_t{4}}, {"eta", std::int64_t{1}}, {"eps", std::int64_t{1}}});
  const auto division = [&](bool fused) {
    return [=](Net& n) {
      const ValueId q =
          n.op("IntegerDiv", {n.in({1, 4, 3}, DType::i32), n.in({1, 4, 1}, DType::i32)}, div);
      return fused ? n.requant(q, 3, 64) : q;
    };
  };
  CHECK(broken_rules(division(true)).empty());
  CHECK(broken_rules(division(false)) == Rules{"fused_requant"});
  const auto pad = [](Ints pads) {
    return [=](Net& n) {
      return n.op("Pad", {n.in({1, 2, 3, 4})},
                  attributes({{"mode", std::string("constant")}, {"pads", pads}, {"value", 0.0}}));
    };
  };
  CHECK(broken_rules(pad({0, 0, 0, 2, 0, 0, 0, 2})).empty());
  CHECK(broken_rules(pad({0, 1, 0, 0, 0, 1, 0, 0})) == Rules{"pad_axes"});
  CHECK(broken_rules([](Net& n) {
          return n.op("Pad", {n.in({1, 2, 3, 4}, DType::u8)},
                      attributes({{"mode", std::string("constant")},
                                  {"pads", Ints{0, 0, 0, 2, 0, 0, 0, 2}},
                                  {"value", 0.0}}));
        }) == Rules{"pad_types"});
}

TEST_CASE("deeploy-siracusa: operators that only other platforms have are named") {
  CHECK(broken_rules([](Net& n) {
          return n.op("Sub", {n.in({1, 16}), n.in({1, 16})});
        }) == Rules{"operator"});
  CHECK(broken_rules([](Net& n) {
          return n.op("IntegerMean", {n.in({1, 4, 4})},
                      attributes({{"axes", Ints{2}}, {"keepdims", std::int64_t{0}}}));
        }) == Rules{"operator"});
}

TEST_CASE("deeploy-siracusa: a depthwise kernel has four taps, a constant summand the full shape") {
  const auto depthwise = [](std::int64_t width) {
    return [=](Net& n) {
      const ValueId y = n.op("Conv", {n.in({1, 2, 4, 8}), n.varied({2, 1, 1, width})},
                             attributes({{"group", std::int64_t{2}}}));
      return n.requant(y, 3, 64);
    };
  };
  CHECK(broken_rules(depthwise(3)) == Rules{"conv_depthwise_taps"});
  CHECK(broken_rules(depthwise(4)).empty());
  const auto add = [](Shape c) {
    return [=](Net& n) {
      return n.requant(n.op("Add", {n.in({1, 2, 8}), n.c<std::int32_t>(c)}), 30, 64);
    };
  };
  CHECK(broken_rules(add({1, 2, 8})).empty());
  CHECK(broken_rules(add({8})) == Rules{"add_constant"});
}

TEST_CASE("deeploy-siracusa: rows of a multiple of eight, softmax with the kernel's constants") {
  const auto rms = [](std::int64_t length, DType dtype) {
    return [=](Net& n) {
      return n.op("iRMSNorm", {n.in({1, 2, length}, dtype), n.c<std::int32_t>({length}, 4)},
                  attributes({{"D", std::int64_t{4}}, {"n_levels", std::int64_t{256}}}));
    };
  };
  CHECK(broken_rules(rms(16, DType::i8)).empty());
  CHECK(broken_rules(rms(12, DType::i8)) == Rules{"rms_norm_row"});
  CHECK(broken_rules(rms(16, DType::u8)) == Rules{"rms_norm_types"});
  const auto softmax = [](std::int64_t a, std::int64_t levels) {
    return [=](Net& n) {
      return n.op("iSoftmax", {n.in({1, 2, 8})},
                  attributes({{"coeffA", a},
                              {"coeffB", std::int64_t{40}},
                              {"coeffC", std::int64_t{900}},
                              {"log2", std::int64_t{20}},
                              {"n_levels", levels}}));
    };
  };
  CHECK(broken_rules(softmax(1, 256)).empty());
  CHECK(broken_rules(softmax(2, 256)) == Rules{"softmax_constants"});
  CHECK(broken_rules(softmax(1, 128)) == Rules{"softmax_constants"});
}

TEST_CASE("deeploy-siracusa: no batches of maps, one requant behind a sum") {
  const auto conv = [](std::int64_t batch) {
    return [=](Net& n) {
      return n.requant(n.op("Conv", {n.in({batch, 2, 1, 8}), n.varied({3, 2, 1, 1})}), 3, 64);
    };
  };
  CHECK(broken_rules(conv(1)).empty());
  CHECK(std::ranges::count(broken_rules(conv(2)), "conv_batch") == 1);
  CHECK(broken_rules([](Net& n) {
          const ValueId sum = n.op("Add", {n.in({1, 16}), n.in({1, 16})});
          n.g.add_output(n.requant(sum, 20, 64));
          return n.requant(sum, 30, 64);
        }) == Rules{"add_readers"});
}

}  // namespace
}  // namespace waveq
