#include "lint_cases.h"

namespace waveq::test {

std::vector<Case> operator_cases() {
  const auto i32 = [](Shape shape) { return TensorType{DType::i32, std::move(shape)}; };
  const auto slice = [](Net& n, std::int64_t end) {
    return n.op("Slice", {n.x({1, 300}), n.c({1}, {0}, DType::i64), n.c({1}, {end}, DType::i64),
                          n.c({1}, {1}, DType::i64)});
  };
  const auto product = [](Net& n, Shape a, Shape b) {
    return n.op("MatMul", {n.x(std::move(a)), n.weights(std::move(b))});
  };
  const auto scaled = [=](Net& n, double alpha) {
    return n.raw("Gemm", {n.x({1, 2}), n.weights({2, 2})}, i32({1, 2}), with({{"alpha", alpha}}));
  };
  const auto concat = [](Net& n, std::size_t count) {
    return n.op("Concat", std::vector<ValueId>(count, n.x({1, 2})), with({{"axis", one(1)}}));
  };
  const auto gather = [](Net& n, Ints index) {
    return n.op("Gather",
                {n.x({1, 4}), n.c({static_cast<std::int64_t>(index.size())}, index, DType::i64)},
                with({{"axis", one(1)}}));
  };
  const auto sum = [](Net& n) { return n.op("Add", {n.x({1, 4}), n.g().inputs()[0]}); };
  const auto quant = [](Net& n, std::int64_t bits, std::int64_t is_signed) {
    const ValueId x = n.g().add_input("float", {DType::f32, {1, 4}});
    return n.op(
        "Quant", {x},
        with({{"scale", 0.5}, {"zero_point", 0.0}, {"bit_width", bits}, {"signed", is_signed}}));
  };
  return {
      {"quant_bounds", [=](Net& n) { return quant(n, 8, 0); },
       [=](Net& n) { return quant(n, 8, 1); }},
      {"mean_keepdims", [](Net& n) { return mean(n, 4, 1); }, [](Net& n) { return mean(n, 4, 0); }},
      {"mean_length_uneven", [](Net& n) { return mean(n, 3); }, [](Net& n) { return mean(n, 4); }},
      {"mean_length_one", [](Net& n) { return mean(n, 1); }, [](Net& n) { return mean(n, 2); }},
      {"mean_on_pulp", [](Net& n) { return mean(n, 4); }, [](Net& n) { return n.plain(); }},
      {"division_shapes",
       [](Net& n) {
         return division(n, true, {1, 4, 2});
       },
       [](Net& n) { return division(n, true); }},
      {"linear_odd_outputs",
       [](Net& n) {
         return n.rq(gemm(n, true, {1, 2, 3}));
       },
       [](Net& n) {
         return n.rq(gemm(n, true, {1, 1, 1}));
       }},
      {"depthwise_stride_two",
       [](Net& n) {
         return conv2(n, {1, 2, 1, 5}, {2, 1, 1, 3}, {0, 1, 0, 1}, 2, {1, 2});
       },
       [](Net& n) {
         return conv2(n, {1, 2, 1, 4}, {2, 1, 1, 3}, {0, 1, 0, 1}, 2, {1, 2});
       }},
      {"rms_norm_length", [](Net& n) { return rms_norm(n, 6); },
       [](Net& n) { return rms_norm(n, 8); }},
      {"max_pool_pads",
       [](Net& n) {
         return pool(n, {1, 1});
       },
       [](Net& n) {
         return pool(n, {0, 0});
       }},
      {"chunk_sizes",
       [](Net& n) {
         return n.rq(n.x({1, 32768}));
       },
       [](Net& n) {
         return n.rq(n.x({1, 32767}));
       }},
      {"produced_operators",
       [=](Net& n) {
         return n.raw("RQGemm", {n.x({1, 2})}, i32({1, 2}));
       },
       [](Net& n) { return n.plain(); }},
      // |t*w/sigma| <= 2w with rows of 4; 2*1000 >> 4 = 125, 2*1100 >> 4 = 137.
      {"norm_wrap", [](Net& n) { return layer_norm(n, 1100); },
       [](Net& n) { return layer_norm(n, 100); }},
      {"both_norms",
       [](Net& n) {
         n.g().add_output(rms_norm(n, 8));
         return layer_norm(n, 100);
       },
       [](Net& n) { return layer_norm(n, 100); }},
      {"conv_bias",
       [](Net& n) {
         return n.op("Conv", {n.x({1, 2, 4}), n.weights({2, 2, 1}), n.c({2}, {0, 1})});
       },
       [](Net& n) {
         return n.op("Conv", {n.x({1, 2, 4}), n.weights({2, 2, 1}), n.c({2}, {0, 0})});
       }},
      {"conv_pads_one",
       [](Net& n) {
         return conv1(n, n.x({1, 2, 4}), n.weights({2, 2, 2}), 1, {0, 1});
       },
       [](Net& n) {
         return conv1(n, n.x({1, 2, 4}), n.weights({2, 2, 3}), 1, {1, 1});
       }},
      {"depthwise_conv_1d",
       [](Net& n) {
         return conv1(n, n.x({1, 2, 4}), n.weights({2, 1, 1}), 2);
       },
       [](Net& n) { return point(n); }},
      {"conv_pads_uneven",
       [](Net& n) {
         return conv2(n, {1, 2, 1, 4}, {2, 2, 1, 3}, {0, 1, 0, 2});
       },
       [](Net& n) {
         return conv2(n, {1, 2, 1, 4}, {2, 2, 1, 3}, {0, 1, 0, 1});
       }},
      {"conv_pads_unequal",
       [](Net& n) {
         return conv2(n, {1, 2, 1, 4}, {2, 2, 1, 3}, {0, 1, 0, 1});
       },
       [](Net& n) {
         return conv2(n, {1, 2, 4, 4}, {2, 2, 3, 3}, {1, 1, 1, 1});
       }},
      {"conv_groups",
       [](Net& n) {
         return conv1(n, n.x({1, 4, 4}), n.weights({4, 2, 1}), 2);
       },
       [](Net& n) {
         return conv1(n, n.x({1, 4, 4}), n.weights({4, 1, 1}), 4);
       }},
      {"conv_dilation",
       [](Net& n) {
         return conv1(n, n.x({1, 2, 4}), n.weights({2, 2, 2}), 1, {0, 0}, {2});
       },
       [](Net& n) {
         return conv1(n, n.x({1, 2, 4}), n.weights({2, 2, 2}));
       }},
      {"conv_1d_signs", [](Net& n) { return n.rq(point(n), {.is_signed = 0}); },
       [](Net& n) { return n.rq(point(n)); }},
      {"unsigned_product",
       [](Net& n) {
         return n.op("Mul", {n.x({1, 4}, DType::u8), n.x({1, 4})});
       },
       [](Net& n) {
         return n.op("Mul", {n.x({1, 4}), n.x({1, 4})});
       }},
      {"matmul_leading_axes",
       [=](Net& n) {
         return product(n, {2, 3, 4}, {4, 5});
       },
       [=](Net& n) {
         return product(n, {1, 3, 4}, {4, 5});
       }},
      {"gemm_factors", [=](Net& n) { return scaled(n, 2); }, [=](Net& n) { return scaled(n, 1); }},
      {"residual_on_matmul",
       [=](Net& n) {
         return n.op("Add", {product(n, {1, 2}, {2, 2}), n.x({1, 2})});
       },
       [=](Net& n) {
         return n.op("Add", {n.rq(product(n, {1, 2}, {2, 2})), n.x({1, 2})});
       }},
      {"add_shapes",
       [](Net& n) {
         return n.op("Add", {n.x({1, 2}), n.x({1, 1})});
       },
       [](Net& n) {
         return n.op("Add", {n.x({1, 2}), n.c({2}, {1, 2})});
       }},
      {"gelu_constants",
       [=](Net& n) {
         return n.raw("iGELU", {n.x({1, 4})}, i32({1, 4}),
                      with({{"b", one(-129)}, {"one", one(1)}}));
       },
       [](Net& n) { return gelu(n, -128); }},
      {"wide_operands",
       [=](Net& n) {
         return n.raw("MatMul", {n.op("Add", {n.x({1, 2}), n.g().inputs()[0]}), n.weights({2, 2})},
                      i32({1, 2}));
       },
       [=](Net& n) {
         return product(n, {1, 2}, {2, 2});
       }},
      {"pool_ceil",
       [](Net& n) {
         return pool(n, {0, 0}, 1);
       },
       [](Net& n) {
         return pool(n, {0, 0});
       }},
      {"concat_inputs", [=](Net& n) { return concat(n, 3); }, [=](Net& n) { return concat(n, 2); }},
      {"slice_bounds", [=](Net& n) { return slice(n, 256); },
       [=](Net& n) { return slice(n, 255); }},
      {"gather_index",
       [=](Net& n) {
         return gather(n, {0, 1});
       },
       [=](Net& n) { return gather(n, {1}); }},
      {"unmapped_generic", [](Net& n) { return rms_norm(n, 8); }, sum},
      {"unmapped_cortexm", [=](Net& n) { return concat(n, 2); }, sum},
      {"unmapped_mempool", [=](Net& n) { return concat(n, 2); }, sum},
      {"unmapped_pulp", [](Net& n) { return layer_norm(n, 100); }, sum},
      {"unmapped_snitch", [](Net& n) { return reshape(n); }, sum},
  };
}

}  // namespace waveq::test
