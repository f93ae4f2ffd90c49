// Traps of convolutions. Facts: deeploy-dialect.md 6.1 and 12, deeploy-import-notes.md.
#include <fmt/format.h>

#include <functional>

#include "lint/context.h"

namespace waveq {

namespace {

bool is_depthwise(const LintNode& conv) {
  const std::int64_t group = conv.integer("group", 1);
  return group > 1 && conv.shape(0).size() > 1 && conv.shape(0)[1] == group;
}

void depthwise_stride_two(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    const auto pads = node.list("pads"), strides = node.list("strides");
    const Shape x = node.shape(0), w = node.shape(1), y = node.out_shape();
    if (!is_depthwise(node) || x.size() != 4 || w.size() != 4 || y.size() != 4 ||
        pads.size() != 4 || strides.size() != 2 || strides[1] != 2)
      return;
    // The last window reads padding only where it reaches beyond the left pad and the row.
    const __int128 beyond = __int128{y[3] - 1} * 2 + w[3] - pads[1] - x[3];
    if (beyond > 0)
      c.report(node, fmt::format("stride 2 with {} columns of right padding in use",
                                 static_cast<std::int64_t>(beyond)));
  });
}

void conv_bias(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    if (!node.has(2)) return;
    const auto bias = node.integers(2);
    if (!node.is_constant(2) || std::ranges::any_of(bias, [](std::int64_t b) { return b != 0; }))
      c.report(node, "has a bias");
  });
}

void conv_pads_one(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    __int128 sum = 0;  // pads are the file's, of any size
    for (std::int64_t p : node.list("pads")) sum += p;
    if (sum == 1) c.report(node, "its pads add up to 1");
  });
}

void conv_pads_uneven(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    const auto p = node.list("pads");
    if (p.size() == 4 && (p[0] != p[2] || p[1] != p[3]))
      c.report(node, fmt::format("2-D pads {}", to_string(p)));
  });
}

void conv_pads_unequal(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    const auto p = node.list("pads");
    if (std::ranges::adjacent_find(p, std::not_equal_to<>()) != p.end())
      c.report(node, fmt::format("pads {}", to_string(p)));
  });
}

void conv_groups(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    const std::int64_t group = node.integer("group", 1);
    if (group == 1 || node.shape(0).size() < 2 || node.shape(1).empty()) return;
    if (node.shape(0)[1] != group || node.shape(1)[0] != group)
      c.report(node, fmt::format("{} groups, {} channels, {} filters", group, node.shape(0)[1],
                                 node.shape(1)[0]));
  });
}

void conv_dilation(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    if (std::ranges::any_of(node.list("dilations"), [](std::int64_t d) { return d != 1; }))
      c.report(node, fmt::format("dilations {}", to_string(node.list("dilations"))));
  });
}

void depthwise_conv_1d(LintContext& c) {
  for_ops(c, {"Conv"}, [&](const LintNode& node) {
    if (is_depthwise(node) && node.shape(0).size() == 3)
      c.report(node, fmt::format("depthwise over {} channels of {} elements", node.shape(0)[1],
                                 node.shape(0)[2]));
  });
}

void conv_1d_signs(LintContext& c) {
  for_ops(c, {"RequantShift"}, [&](const LintNode& node) {
    const auto conv = node.merged_producer();
    if (!conv || !conv->is({"Conv"}) || conv->shape(0).size() != 3) return;
    const DType in = conv->dtype(0);
    if ((in == DType::u8 || in == DType::i8) && (in == DType::i8) != LintRequant(node).is_signed)
      c.report(*conv, fmt::format("{} input, {} output", in == DType::i8 ? "signed" : "unsigned",
                                  in == DType::i8 ? "unsigned" : "signed"));
  });
}

}  // namespace

std::vector<LintCheck> lint_conv_checks() {
  using enum LintEffect;
  return {
      {"T15", "depthwise_stride_two", kPulp, wrong,
       "a 2-D depthwise Conv of stride 2 computes the last column wrong where it reads right "
       "padding",
       "pad with a Pad node in front", depthwise_stride_two},
      {"T23", "conv_bias", kAllPlatforms, rejected, "an integer Conv takes no bias",
       "fold it into the requant's add as bias*mul", conv_bias},
      {"T23", "conv_pads_one", kGeneric | kMemPool, rejected,
       "pads that add up to 1 are neither pulled out nor accepted", "write an explicit Pad",
       conv_pads_one},
      {"T25", "depthwise_conv_1d", kPulp, wrong, "the parser swaps channels and length",
       "write it as 2-D: [1,C,1,T] with kernel [1,k] and an explicit Pad", depthwise_conv_1d},
      {"S6", "conv_pads_uneven", kGeneric | kMemPool, rejected,
       "2-D pads must be equal at begin and end", "write an explicit Pad", conv_pads_uneven},
      {"S6", "conv_pads_unequal", kCortexM | kPulp, rejected, "all pads of a Conv must be equal",
       "write an explicit Pad", conv_pads_unequal},
      {"S6", "conv_groups", kAllPlatforms, rejected,
       "only one group, or depthwise with one filter a channel, are mapped", "split the Conv",
       conv_groups},
      {"S6", "conv_dilation", kAllPlatforms, rejected, "only dilation 1 is mapped",
       "spread the kernel with zeros", conv_dilation},
      {"S6", "conv_1d_signs", kPulp, rejected,
       "1-D Conv and requant bind with input and output of one sign only",
       "write it as 2-D, or keep the sign", conv_1d_signs},
  };
}

}  // namespace waveq
