#include "waveq/export/lint.h"

#include <doctest/doctest.h>

#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "shared_data.h"
#include "waveq/graph/file.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_writer.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// A small integer network; cases return its output.
struct Net {
  LintInput in;

  Graph& g() { return in.integer; }
  ValueId x(Shape shape, DType dtype = DType::i8, const std::string& name = "x") {
    return g().add_input(name, {dtype, std::move(shape)});
  }
  ValueId c(Shape shape, const Ints& values, DType dtype = DType::i32) {
    return g().add_constant("c", cast(Tensor::from<std::int64_t>(std::move(shape), values), dtype));
  }
  ValueId weights(Shape shape) {
    return c(shape, Ints(static_cast<std::size_t>(element_count(shape)), 1), DType::i8);
  }
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return g().emit(op, op, std::move(inputs), std::move(attrs));
  }
  /// Without inference, for what it refuses.
  ValueId raw(const std::string& op, std::vector<ValueId> inputs, TensorType type,
              Attrs attrs = {}) {
    Node node;
    node.op = node.name = op;
    node.inputs = std::move(inputs);
    node.outputs = {g().add_value(op + "_out", std::move(type))};
    node.attrs = std::move(attrs);
    const ValueId out = node.outputs.front();
    g().add_node(std::move(node));
    return out;
  }
  struct Form {
    Ints mul = {200}, add = {0};
    std::int64_t div = 256, is_signed = 1, n_levels = 256;
    Shape shape = {};  ///< of mul and add where they are several
  };
  ValueId rq(ValueId in_value, Form f) {
    Attrs attrs;
    const auto scalar = [&](const char* name, std::int64_t v) {
      attrs.set(name, Tensor::scalar(static_cast<float>(v)));
    };
    scalar("div", f.div);
    scalar("n_levels_out", f.n_levels);
    scalar("signed", f.is_signed);
    const auto parameter = [&](const Ints& v) {
      return c(v.size() == 1     ? Shape{}
               : f.shape.empty() ? Shape{static_cast<std::int64_t>(v.size())}
                                 : f.shape,
               v);
    };
    const ValueId mul = parameter(f.mul), add = parameter(f.add);
    return op("RequantShift", {in_value, mul, add}, attrs);
  }
  ValueId rq(ValueId in_value) { return rq(in_value, Form{}); }
  ValueId plain() { return rq(x({1, 2, 4})); }
};

Attrs with(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (const auto& [name, value] : pairs) attrs.set(name, value);
  return attrs;
}

Attr one(std::int64_t v) { return v; }
Attr many(Ints v) { return v; }

// 1-D and 2-D convolutions with all attributes.
ValueId conv1(Net& n, ValueId x, ValueId w, std::int64_t group = 1, Ints pads = {0, 0},
              Ints dilations = {1}) {
  return n.op("Conv", {x, w},
              with({{"group", one(group)},
                    {"pads", many(std::move(pads))},
                    {"dilations", many(std::move(dilations))},
                    {"strides", many({1})}}));
}
ValueId conv2(Net& n, Shape x, Shape w, Ints pads, std::int64_t group = 1, Ints strides = {1, 1}) {
  return n.op("Conv", {n.x(std::move(x)), n.weights(std::move(w))},
              with({{"group", one(group)},
                    {"pads", many(std::move(pads))},
                    {"dilations", many({1, 1})},
                    {"strides", many(std::move(strides))}}));
}
ValueId point(Net& n, DType dtype = DType::i8) {
  return conv1(n, n.x({1, 2, 4}, dtype), n.weights({2, 2, 1}));
}
ValueId gelu(Net& n, std::int64_t b = -49) {
  return n.op("iGELU", {n.x({1, 4})}, with({{"b", one(b)}, {"one", one(2674)}}));
}
ValueId gemm(Net& n, bool bias, Ints values = {1, 2}) {
  const auto outputs = static_cast<std::int64_t>(values.size());
  std::vector<ValueId> inputs = {n.x({1, 2}), n.weights({2, outputs})};
  if (bias) inputs.push_back(n.c({outputs}, values));
  return n.op("Gemm", inputs);
}
/// num [1,4,2] in -128..127 over a denominator of `den` in 0..255 or -128..127.
ValueId division(Net& n, bool positive, Shape den = {1, 4, 1}) {
  const ValueId d =
      n.op("Mul", {n.x(den, positive ? DType::u8 : DType::i8, "den"), n.c({1}, {1}, DType::i8)});
  const ValueId num = n.op("Mul", {n.x({1, 4, 2}, DType::i8, "num"), n.c({1}, {1}, DType::i8)});
  return n.op("IntegerDiv", {num, d}, with({{"Delta", one(16)}, {"eps", one(1)}, {"eta", one(2)}}));
}
ValueId hardswish(Net& n) {
  return n.op("iHardswish", {n.x({1, 4})},
              with({{"three", one(3)}, {"six", one(6)}, {"one_over_six", one(1)}}));
}
ValueId mean(Net& n, std::int64_t length, std::int64_t keepdims = 0) {
  return n.op("IntegerMean", {n.x({1, 2, length})},
              with({{"axes", many({2})}, {"keepdims", one(keepdims)}}));
}
ValueId pool(Net& n, Ints pads, std::int64_t ceil = 0) {
  return n.op("MaxPool", {n.x({1, 2, 4})},
              with({{"kernel_shape", many({2})},
                    {"strides", many({2})},
                    {"pads", many(std::move(pads))},
                    {"ceil_mode", one(ceil)}}));
}
ValueId rms_norm(Net& n, std::int64_t length) {
  return n.op("iRMSNorm",
              {n.x({1, length}), n.c({length}, Ints(static_cast<std::size_t>(length), 1))},
              with({{"D", one(16)}, {"n_levels", one(256)}}));
}
ValueId layer_norm(Net& n, std::int64_t weight) {
  return n.op("iLayerNorm",
              {n.x({1, 4}, DType::i8, "rows"), n.c({4}, Ints(4, weight)), n.c({4}, Ints(4, 0))},
              with({{"D", Tensor::scalar(16.0F)}, {"n_levels", Tensor::scalar(256.0F)}}));
}
ValueId no_norm(Net& n, std::int64_t weight) {
  return n.op(
      "iNoNorm", {n.x({1, 4}), n.c({4}, Ints(4, weight), DType::i8), n.c({4}, Ints(4, 0))},
      with({{"D", Tensor::from<float>({1}, {16.0F})}, {"mul", Tensor::from<float>({1}, {1.0F})}}));
}
ValueId residual(Net& n, Net::Form first, DType dtype) {
  const ValueId a = n.rq(n.x({1, 4}, dtype, "a"), std::move(first)),
                b = n.rq(n.x({1, 4}, DType::i8, "b"));
  return n.rq(n.op("Add", {a, b}));
}
ValueId reshape(Net& n) { return n.op("Reshape", {n.x({1, 4}), n.c({2}, {2, 2}, DType::i64)}); }
ValueId sampled(Net& n, std::vector<float> values) {
  n.in.samples = std::vector<Tensor>{
      Tensor::from<float>({1, 2, static_cast<std::int64_t>(values.size()) / 2}, values)};
  return n.rq(conv1(n, n.x({1, 2, 4}), n.weights({2, 2, 1})));
}

struct Case {
  std::string check;
  std::function<ValueId(Net&)> triggers, clean;
};

std::vector<Case> requant_cases() {
  constexpr std::int64_t kHalf = 1 << 15;
  return {
      {"half_in_add",
       [](Net& n) {
         return n.rq(
             point(n),
             {.mul = {1001, 1003}, .add = {1001 * 5 + kHalf, 1003 * 7 + kHalf}, .div = 2 * kHalf});
       },
       [](Net& n) {
         return n.rq(point(n),
                     {.mul = {1001, 1003}, .add = {1001 * 5, 1003 * 7}, .div = 2 * kHalf});
       }},
      {"requant_wrap",
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {1 << 24}, .div = 1 << 25});
       },
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {(1 << 24) - 1}, .add = {0}, .div = 2});
       }},
      {"division_wrap", [](Net& n) { return division(n, false); },
       [](Net& n) { return division(n, true); }},
      {"accumulator_wrap",
       [](Net& n) {
         const ValueId square = n.op("Mul", {n.x({1, 4}), n.g().inputs()[0]}),
                       fourth = n.op("Mul", {square, square});
         return n.op("Mul", {fourth, square});
       },
       [](Net& n) {
         const ValueId square = n.op("Mul", {n.x({1, 4}), n.g().inputs()[0]});
         return n.op("Mul", {square, square});
       }},
      {"add_not_emulated",
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {2}, .add = {7}});
       },
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {2}, .add = {1998}});
       }},
      {"gelu_requant_add", [](Net& n) { return n.rq(gelu(n), {.add = {200}}); },
       [](Net& n) { return n.rq(gelu(n)); }},
      {"division_requant_add", [](Net& n) { return n.rq(division(n, true), {.add = {200}}); },
       [](Net& n) { return n.rq(division(n, true)); }},
      {"hardswish_requant_add", [](Net& n) { return n.rq(hardswish(n), {.add = {200}}); },
       [](Net& n) { return n.rq(hardswish(n)); }},
      {"gelu_requant_form", [](Net& n) { return n.rq(gelu(n), {.is_signed = 0}); },
       [](Net& n) { return n.rq(gelu(n)); }},
      {"division_requant_form", [](Net& n) { return n.rq(division(n, true), {.is_signed = 0}); },
       [](Net& n) { return n.rq(division(n, true)); }},
      {"gemm_bias_and_add", [](Net& n) { return n.rq(gemm(n, true), {.add = {200}}); },
       [](Net& n) { return n.rq(gemm(n, false), {.add = {200}}); }},
      {"merged_mul_ge_div", [](Net& n) { return n.rq(point(n), {.mul = {256}}); },
       [](Net& n) { return n.rq(point(n), {.mul = {255}}); }},
      {"mul_ge_div",
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {-256}});
       },
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {-255}});
       }},
      {"add_operand_sign", [](Net& n) { return residual(n, {.mul = {255}}, DType::u8); },
       [](Net& n) { return residual(n, {.mul = {64}}, DType::u8); }},
      {"per_channel_unmerged",
       [](Net& n) {
         return n.rq(n.x({1, 2, 4}), {.mul = {100, 200}, .add = {0, 0}});
       },
       [](Net& n) {
         return n.rq(point(n), {.mul = {100, 200}, .add = {0, 0}});
       }},
      {"unsigned_unmerged",
       [](Net& n) {
         return n.rq(n.x({1, 2, 4}), {.is_signed = 0});
       },
       [](Net& n) { return n.rq(point(n), {.is_signed = 0}); }},
      {"merged_levels", [](Net& n) { return n.rq(point(n), {.n_levels = 16}); },
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.n_levels = 16});
       }},
      {"gelu_levels", [](Net& n) { return n.rq(gelu(n), {.n_levels = 16}); },
       [](Net& n) { return n.rq(gelu(n)); }},
      {"division_levels", [](Net& n) { return n.rq(division(n, true), {.n_levels = 16}); },
       [](Net& n) { return n.rq(division(n, true)); }},
      {"per_row_requant",
       [](Net& n) {
         return n.rq(n.x({3, 2}), {.mul = {1, 2, 3}, .add = {0, 0, 0}, .shape = {3, 1}});
       },
       [](Net& n) {
         return n.rq(n.x({3, 2}), {.mul = {1, 2}, .add = {0, 0}});
       }},
      {"per_column_requant",
       [](Net& n) {
         return n.rq(gemm(n, false), {.mul = {1, 2}, .add = {0, 0}});
       },
       [](Net& n) { return n.rq(gemm(n, false)); }},
      {"unity_behind_movement",
       [](Net& n) { return n.rq(reshape(n), {.mul = {256}, .n_levels = 16}); },
       [](Net& n) { return n.rq(reshape(n), {.mul = {256}}); }},
      {"unit_div",
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {1}, .div = 1});
       },
       [](Net& n) {
         return n.rq(n.x({1, 4}), {.mul = {1}, .div = 2});
       }},
  };
}

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
  return {
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

std::vector<Case> all_cases() {
  std::vector<Case> cases = requant_cases();
  for (const auto& more : {operator_cases(), file_cases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

std::set<std::string> found(const LintInput& input) {
  std::set<std::string> names;
  for (const LintFinding& f : lint(input, find_target("deeploy-generic")).findings) {
    CHECK_FALSE(f.problem.empty());
    names.insert(f.check->name);
  }
  return names;
}

std::set<std::string> found(const std::function<ValueId(Net&)>& build) {
  Net n;
  n.g().opset = 10;
  n.g().add_output(build(n));
  return found(n.in);
}

/// A folder with the network as deeploy-generic writes it.
std::filesystem::path folder_of(Net& n) {
  const auto dir = test::scratch_dir();
  const TargetProfile& target = find_target("deeploy-generic");
  write_file(dir / "network.onnx", target.to_file(target, n.g()));
  return dir;
}

}  // namespace

TEST_CASE("lint: every check fires on its network and not on the other one") {
  std::map<std::string, int> covered;
  for (const Case& c : all_cases()) {
    CAPTURE(c.check);
    ++covered[c.check];
    CHECK(found(c.triggers).contains(c.check));
    CHECK_FALSE(found(c.clean).contains(c.check));
  }
  for (const LintCheck& check : lint_checks()) CHECK_MESSAGE(covered[check.name] == 1, check.name);
  CHECK(covered.size() == lint_checks().size());
}

TEST_CASE("lint: all traps have a row, and rows say why, what to do and where") {
  std::set<std::string> ids;
  for (const LintCheck& check : lint_checks()) {
    ids.insert(check.id);
    CHECK_FALSE(check.explanation.empty());
    CHECK_FALSE(check.remedy.empty());
    CHECK_FALSE(platform_names(check.platforms).empty());
  }
  for (int t = 1; t <= 25; ++t) CHECK_MESSAGE(ids.contains("T" + std::to_string(t)), t);
}

TEST_CASE("lint: findings of other platforms are listed, but do not count") {
  Net n;
  n.g().add_output(
      n.rq(point(n), {.mul = {256}}));  // CortexM's Q31 multiplier overflows, Generic computes it
  const LintReport report = lint(n.in, find_target("deeploy-generic"));
  CHECK(report.count(LintEffect::wrong) == 0);
  bool listed = false;
  for (const LintFinding& f : report.findings)
    if (f.check->name == "merged_mul_ge_div") {
      listed = true;
      CHECK_FALSE(f.applies);
      CHECK(f.node == "RequantShift");
      CHECK(platform_names(f.check->platforms) == std::vector<std::string>{"CortexM"});
    }
  CHECK(listed);
}

TEST_CASE("lint: unsigned inputs that quantization.json names are no surprise") {
  Net n;
  n.g().add_output(sampled(n, {0, 127, 0, 0, 0, 0, 0, 0}));
  CHECK(found(n.in).contains("input_sign_offset"));
  n.in.unsigned_inputs = {"x"};
  CHECK_FALSE(found(n.in).contains("input_sign_offset"));
}

TEST_CASE("lint: a layer norm is quiet up to the largest weight that cannot wrap") {
  // Rows of 4: one element alone gives sigma >= isqrt(t^2/4 + 1), so |t|/sigma <= 3 at t = 3: 3*w
  // >> 4 <= 127.
  CHECK_FALSE(found([](Net& n) { return layer_norm(n, 682); }).contains("norm_wrap"));
  CHECK(found([](Net& n) { return layer_norm(n, 683); }).contains("norm_wrap"));
  CHECK_FALSE(found([](Net& n) { return no_norm(n, 15); }).contains("norm_wrap"));
  CHECK(found([](Net& n) { return no_norm(n, 16); }).contains("norm_wrap"));
}

TEST_CASE("lint: a folder as waveq writes it is clean, and what is taken from it is missed") {
  Net n;
  n.g().add_output(n.rq(point(n), {.mul = {100, 200}, .add = {300, 400}}));
  const auto dir = folder_of(n);
  const Tensor x = Tensor::from<std::int64_t>({1, 2, 4}, {-1, 2, 3, 4, 5, 6, 7, 8});
  write_npz(dir / "inputs.npz", std::vector<NpzItem>{{"x", &x}});
  const LintReport report = lint(read_lint_input(dir), find_target("deeploy-generic"));
  for (const LintFinding& f : report.findings)
    CHECK_MESSAGE(!f.applies, f.check->name << ": " << f.problem);

  const Tensor y = Tensor::from<std::int64_t>({1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  write_npz(dir / "inputs.npz", std::vector<NpzItem>{{"x", &y}});
  write_npz(dir / "outputs.npz", std::vector<NpzItem>{{"a", &y}, {"b", &y}});
  const auto with_arrays = found(read_lint_input(dir / "network.onnx"));
  CHECK(with_arrays.contains("input_sign_offset"));
  CHECK(with_arrays.contains("vector_count"));

  OnnxWriteOptions options;
  options.integers_as_float = true;
  options.value_info = false;
  write_onnx(dir / "network.onnx", n.g(), options);
  CHECK(found(read_lint_input(dir)).contains("no_shape"));
}

TEST_CASE("lint: float32 constants above 2^24 are told") {
  Net n;
  n.g().add_output(n.rq(n.x({1, 4}), {.mul = {16}, .add = {16777216}, .div = 32}));
  CHECK_FALSE(found(read_lint_input(folder_of(n))).contains("float_storage"));
  Net m;
  m.g().add_output(m.rq(m.x({1, 4}), {.mul = {16}, .add = {16777232}, .div = 32}));
  CHECK(found(read_lint_input(folder_of(m))).contains("float_storage"));
}

TEST_CASE("lint: operands that do not fit are a finding, a file that is no network an error") {
  Net n;
  const ValueId sum = n.raw("Add", {n.x({1, 2}), n.x({1, 3})}, {DType::i8, {1, 3}});
  n.g().add_output(sum);
  const auto dir = test::scratch_dir();
  write_onnx(dir / "network.onnx", n.g());
  CHECK(found(read_lint_input(dir)) == std::set<std::string>{"operand_shapes"});
  std::ofstream(dir / "network.onnx") << "no network";
  CHECK_THROWS_AS(read_lint_input(dir), Error);
  CHECK_THROWS_AS(read_lint_input(dir / "missing.onnx"), Error);
}

TEST_CASE("lint: the deployed WaveFormer shows the traps that were measured on it") {
  const auto dir = test::shared("vectors/ours/WaveFormer_tone");
  if (!dir) return;
  const LintReport report = lint(read_lint_input(*dir), find_target("deeploy-generic"));
  std::map<std::string, int> counts;
  for (const LintFinding& f : report.findings) ++counts[f.check->name];
  CHECK(counts["float_storage"] == 16);
  CHECK(counts["mul_ge_div"] == 13);
  CHECK(counts["division_wrap"] == 9);
  CHECK(counts["mean_on_pulp"] == 10);
  CHECK(counts["unmapped_generic"] == 0);
  CHECK(report.count(LintEffect::rejected) == 0);
}

}  // namespace waveq
