#pragma once

#include "waveq/rewrites/rule.h"

// One function a rule; each lives in the file of its name. registry.cpp puts them in order.
namespace waveq::rules {

Rule cancel_common_maximum();
Rule clamp_softmax_mask();
Rule eliminate_duplicates();
Rule eliminate_identity();
Rule factor_common_operand();
Rule factor_out_mean();
Rule fold_add_chain();
Rule fold_affine_into_layer_norm();
Rule fold_batch_norm();
Rule fold_clip_chain();
Rule fold_constants();
Rule fold_mul_chain();
Rule fold_pad_into_conv();
Rule fold_relu_clip();
Rule fold_reshape_into_reduce();
Rule fold_scale_into_linear();
Rule fold_scale_into_next_linear();
Rule fold_shape();
Rule fuse_bias_into_linear();
Rule fuse_gelu_erf();
Rule fuse_gelu_tanh();
Rule fuse_l2_norm();
Rule fuse_layer_norm();
Rule fuse_matmul_add();
Rule fuse_mul_reciprocal();
Rule fuse_rms_norm();
Rule fuse_softmax();
Rule hoist_activation_above_movement();
Rule hoist_scalar_above_movement();
Rule hoist_slice_above_product();
Rule merge_matmul_rows();
Rule merge_reshapes();
Rule merge_transposes();
Rule negate_stabilized_exponent();
Rule normalize_axes_input();
Rule order_constant_operand();
Rule replace_average_pool_with_reduce_mean();
Rule replace_batch_norm_with_affine();
Rule replace_clip_with_clip_at_zero();
Rule replace_constant_mask();
Rule replace_conv_transpose_with_conv();
Rule replace_depth_to_space();
Rule replace_div_with_mul();
Rule replace_divisor();
Rule replace_einsum();
Rule replace_extremum();
Rule replace_gemm();
Rule replace_global_average_pool_with_reduce_mean();
Rule replace_hard_sigmoid_with_clip();
Rule replace_hard_swish_with_mul();
Rule replace_instance_norm();
Rule replace_layer_norm_axes();
Rule replace_leaky_relu_with_relu();
Rule replace_pow();
Rule replace_reduction();
Rule replace_reduced_product();
Rule replace_rms_norm();
Rule replace_scaled_reciprocal();
Rule replace_softmax_axis();
Rule replace_split();
Rule replace_sub_with_add();
Rule replace_sum();
Rule replace_transpose_with_reshape();
Rule replace_with_reshape();
Rule shrink_repeated_constant();
Rule transpose_constant_product();
Rule transpose_quotient();

}  // namespace waveq::rules
