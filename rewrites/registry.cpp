// Every float-to-float rule, in order of priority, and the form they lead to.
//
// The canonical form. After `rewrite` with all rules, a network of any exporter looks like this:
//   - No node with constant inputs only (except results too large to store), no Shape, no Identity,
//     Dropout, or other node that hands its input through, no two nodes that compute the same.
//   - Parameters are attributes, not inputs: axes of reductions (non-negative, ascending, all
//     spelled out, keepdims 0 or 1), bounds of Slice and Clip, pads and fill of Pad, sizes of
//     Split.
//   - One operator changes shapes: Reshape, whose target is a constant without 0 and -1. No Reshape
//     behind a Reshape, no Transpose behind a Transpose, no Transpose that leaves memory as it is.
//   - Constants stand on the right of Add and Mul, once along axes where they repeat. No
//   subtraction of and division by a constant, no
//     product with a reciprocal; constants that are added or multiplied in a row are one.
//   - Conv and Gemm carry their bias, a ConvTranspose is a Conv and its interleaving; gains and
//   offsets in front and behind are in
//     the weights, BatchNormalization among them. A BatchNormalization that could not go anywhere
//     is x*g + s with g, s of shape [C,1,...]. MatMul with constant weights in two dimensions and a
//     bias is a Gemm; in more, MatMul + Add.
//   - Elementwise functions sit in front of Reshape and Transpose, right behind the operator that
//     feeds them.
//   - Softmax and LayerNormalization run along the last axis; the latter has no bias where linear
//   operators alone read it, and what is summed up for it has no mean over the row. Weights stand on the right of MatMul,
//     and neither operand is a vector; Gemm has constant weights and a bias a column at most.
//   - Gelu and LayerNormalization are single nodes, the norms of maps, groups of maps and lengths
//     among the latter; Clip(0, inf) and Max(0) are Relu, every other Clip starts at 0; Max and Min
//     of two tensors are the Relu of their difference, Where of a constant mask is a product;
//     linear interpolation, sums up to each element and windows over channels are products with
//     constants; HardSigmoid, HardSwish, LeakyRelu and PRelu are made of Clip and Relu; global
//     pooling is ReduceMean, keepdims 0 where the ones are dropped anyway.
// What stays: Gemm's transB, alpha; asymmetric pads; MatMul of two activations and the
// scalars around it.

#include <fmt/format.h>

#include "rules/rules_list.h"
#include "waveq/rewrites/rules.h"

namespace waveq {

const std::vector<Rule>& all_rules() {
  static const std::vector<Rule> rules = {
      // Spelling.
      rules::fold_constants(),
      rules::fold_shape(),
      rules::eliminate_identity(),
      rules::normalize_axes_input(),
      rules::replace_with_reshape(),
      rules::merge_reshapes(),
      rules::merge_transposes(),
      rules::replace_transpose_with_reshape(),
      rules::replace_softmax_axis(),
      rules::replace_einsum(),
      rules::replace_gemm(),
      rules::replace_depth_to_space(),
      rules::replace_pow(),
      rules::fuse_softplus_threshold(),
      rules::replace_scatter_nd(),
      rules::replace_lp_normalization(),
      rules::replace_sum(),
      rules::order_constant_operand(),
      rules::shrink_repeated_constant(),
      rules::replace_computed_clip(),
      rules::fold_relu_clip(),
      rules::fold_clip_chain(),
      rules::replace_hard_swish_with_mul(),
      rules::replace_hard_sigmoid_with_clip(),
      rules::eliminate_duplicates(),
      rules::fuse_softmax(),
      // Several nodes that are one.
      rules::fuse_gelu_erf(),
      rules::fuse_gelu_tanh(),
      rules::factor_out_mean(),
      rules::fuse_layer_norm(),
      rules::replace_instance_norm(),
      rules::replace_mean_variance_norm(),
      rules::replace_lrn(),
      rules::replace_cum_sum(),
      rules::replace_linear_resize(),
      rules::replace_layer_norm_axes(),
      rules::fuse_rms_norm(),
      rules::fuse_l2_norm(),
      rules::fold_affine_into_layer_norm(),
      rules::clamp_softmax_mask(),
      rules::cancel_common_maximum(),
      rules::negate_stabilized_exponent(),
      rules::replace_reduced_product(),
      rules::fold_pad_into_conv(),
      rules::replace_global_average_pool_with_reduce_mean(),
      rules::replace_average_pool_with_reduce_mean(),
      rules::fold_reshape_into_reduce(),
      rules::fold_batch_norm(),
      rules::fuse_matmul_add(),
      rules::fuse_mul_reciprocal(),
      rules::replace_scaled_reciprocal(),
      rules::fuse_bias_into_linear(),
      rules::factor_common_operand(),
      rules::replace_leaky_relu_with_relu(),
      // Arithmetic into weights, operators to better places.
      rules::replace_split(),
      rules::replace_reduction(),
      rules::replace_extremum(),
      rules::replace_constant_mask(),
      rules::hoist_slice_above_product(),
      rules::replace_rms_norm(),
      rules::transpose_quotient(),
      rules::replace_divisor(),
      rules::replace_clip_with_clip_at_zero(),
      rules::fold_scale_into_linear(),
      rules::replace_batch_norm_with_affine(),
      rules::replace_div_with_mul(),
      rules::replace_sub_with_add(),
      rules::fold_mul_chain(),
      rules::fold_add_chain(),
      rules::hoist_activation_above_movement(),
      rules::hoist_scalar_above_movement(),
      rules::fold_scale_into_next_linear(),
      rules::transpose_constant_product(),
      rules::merge_matmul_rows(),
      rules::replace_conv_transpose_with_conv(),
      rules::fold_norm_bias_into_linear(),
      rules::center_norm_input(),
  };
  return rules;
}

const Rule& find_rule(std::string_view name) {
  std::string names;
  for (const Rule& rule : all_rules()) {
    if (rule.name == name) return rule;
    names.append(names.empty() ? "" : ", ").append(rule.name);
  }
  throw Error(ErrorCode::invalid_argument, "passes", fmt::format("'{}' is not a rule", name),
              "the rules are " + names);
}

}  // namespace waveq
