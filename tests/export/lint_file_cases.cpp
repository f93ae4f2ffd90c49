#include "lint_cases.h"

namespace waveq::test {

std::vector<Case> file_cases() {
  const auto plain = [](Net& n) { return n.plain(); };
  const auto at = [](const char* path) {
    return [path](Net& n) {
      n.in.path = path;
      return n.plain();
    };
  };
  const auto opset = [](std::int64_t version) {
    return [version](Net& n) {
      n.g().opset = version;
      return n.plain();
    };
  };
  const auto named = [](const char* second) {
    return [second](Net& n) {
      return n.op("Add", {n.x({1, 2}, DType::i8, "a.b"), n.x({1, 2}, DType::i8, second)});
    };
  };
  const auto nothing_but = [](std::vector<float> values) {
    return [values](Net& n) { return sampled(n, values); };
  };
  return {
      {"float_storage",
       [](Net& n) {
         n.in.inexact.push_back({"add", "1 of 1 elements, largest 16777218"});
         return n.plain();
       },
       plain},
      {"input_sign_native", nothing_but({0, 127, 0, 0, 0, 0, 0, 0}),
       nothing_but({-1, 127, 0, 0, 0, 0, 0, 0})},
      {"input_sign_offset", nothing_but({0, 127, 0, 0, 0, 0, 0, 0}),
       nothing_but({0, 128, 0, 0, 0, 0, 0, 0})},
      {"fractional_samples", nothing_but({-1, 0.5, 0, 0, 0, 0, 0, 0}),
       nothing_but({-1, 0, 0, 0, 0, 0, 0, 0})},
      {"wide_samples", nothing_but({-1, 128, 0, 0, 0, 0, 0, 0}),
       nothing_but({0, 255, 0, 0, 0, 0, 0, 0})},
      {"vector_count",
       [](Net& n) {
         n.in.goldens = 2;
         return n.plain();
       },
       [](Net& n) {
         n.in.goldens = 1;
         return n.plain();
       }},
      {"sample_size", nothing_but({-1, 0, 0, 0, 0, 0}), nothing_but({-1, 0, 0, 0, 0, 0, 0, 0})},
      {"tensor_attributes",
       [](Net& n) {
         return n.op("RequantShift", {n.x({1, 4}), n.c({}, {1}), n.c({}, {0})},
                     with({{"div", one(2)}, {"n_levels_out", one(256)}, {"signed", one(1)}}));
       },
       plain},
      {"plain_attributes",
       [](Net& n) {
         return n.op("iGELU", {n.x({1, 4})}, with({{"b", Tensor::scalar(-4.0F)}, {"one", one(1)}}));
       },
       [](Net& n) { return gelu(n); }},
      {"missing_attributes",
       [](Net& n) {
         return n.op("Transpose", {n.x({2, 3})});
       },
       [](Net& n) {
         return n.op("Transpose", {n.x({2, 3})}, with({{"perm", many({1, 0})}}));
       }},
      {"input_forms",
       [](Net& n) {
         return n.op("Pad", {n.x({1, 2}), n.c({4}, {0, 1, 0, 1}, DType::i64)});
       },
       [](Net& n) {
         return n.op("Pad", {n.x({1, 2})}, with({{"pads", many({0, 1, 0, 1})}}));
       }},
      {"no_shape",
       [](Net& n) {
         n.in.unshaped = {"a", "b"};
         return n.plain();
       },
       plain},
      {"operand_shapes",
       [](Net& n) {
         n.in.invalid = "Add 'a' operands do not fit";
         return n.plain();
       },
       plain},
      {"batch",
       [](Net& n) {
         return n.op("MatMul", {n.x({2, 2, 4}), n.weights({4, 1})});
       },
       [](Net& n) {
         return n.op("MatMul", {n.x({2, 2, 4}), n.x({2, 4, 1})});
       }},
      {"batch_conv_1d",
       [](Net& n) {
         return conv1(n, n.x({2, 2, 4}), n.weights({2, 2, 1}));
       },
       [](Net& n) { return point(n); }},
      {"names", named("ab"), named("a_b")},
      {"constant_subexpressions",
       [](Net& n) {
         return n.op("Add", {n.x({1, 2}), n.op("Add", {n.c({2}, {1, 2}), n.c({2}, {1, 2})})});
       },
       [](Net& n) {
         return n.op("Add", {n.x({1, 2}), n.c({2}, {1, 2})});
       }},
      {"opset_range", opset(8), opset(9)},
      {"mixed_outputs",
       [](Net& n) {
         const ValueId acc = point(n);
         n.g().add_output(acc);
         return n.rq(acc);
       },
       plain},
      {"path_waveformer", at("/tests/WaveFormer_3"), at("/tests/waveformer_3")},
      {"path_emulation", at("/tests/CNN_Linear1"), at("/tests/CNN_Linear2")},
  };
}

}  // namespace waveq::test
