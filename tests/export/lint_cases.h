#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "waveq/export/lint.h"

/// Networks for the tests of lint, and for each check one that triggers it and one that does not.
namespace waveq::test {

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

inline Attrs with(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (const auto& [name, value] : pairs) attrs.set(name, value);
  return attrs;
}

inline Attr one(std::int64_t v) { return v; }
inline Attr many(Ints v) { return v; }

// 1-D and 2-D convolutions with all attributes.
inline ValueId conv1(Net& n, ValueId x, ValueId w, std::int64_t group = 1, Ints pads = {0, 0},
                     Ints dilations = {1}) {
  return n.op("Conv", {x, w},
              with({{"group", one(group)},
                    {"pads", many(std::move(pads))},
                    {"dilations", many(std::move(dilations))},
                    {"strides", many({1})}}));
}
inline ValueId conv2(Net& n, Shape x, Shape w, Ints pads, std::int64_t group = 1,
                     Ints strides = {1, 1}) {
  return n.op("Conv", {n.x(std::move(x)), n.weights(std::move(w))},
              with({{"group", one(group)},
                    {"pads", many(std::move(pads))},
                    {"dilations", many({1, 1})},
                    {"strides", many(std::move(strides))}}));
}
inline ValueId point(Net& n, DType dtype = DType::i8) {
  return conv1(n, n.x({1, 2, 4}, dtype), n.weights({2, 2, 1}));
}
inline ValueId gelu(Net& n, std::int64_t b = -49) {
  return n.op("iGELU", {n.x({1, 4})}, with({{"b", one(b)}, {"one", one(2674)}}));
}
inline ValueId gemm(Net& n, bool bias, Ints values = {1, 2}) {
  const auto outputs = static_cast<std::int64_t>(values.size());
  std::vector<ValueId> inputs = {n.x({1, 2}), n.weights({2, outputs})};
  if (bias) inputs.push_back(n.c({outputs}, values));
  return n.op("Gemm", inputs);
}
/// num [1,4,2] in -128..127 over a denominator of `den` in 0..255 or -128..127.
inline ValueId division(Net& n, bool positive, Shape den = {1, 4, 1}) {
  const ValueId d =
      n.op("Mul", {n.x(den, positive ? DType::u8 : DType::i8, "den"), n.c({1}, {1}, DType::i8)});
  const ValueId num = n.op("Mul", {n.x({1, 4, 2}, DType::i8, "num"), n.c({1}, {1}, DType::i8)});
  return n.op("IntegerDiv", {num, d}, with({{"Delta", one(16)}, {"eps", one(1)}, {"eta", one(2)}}));
}
inline ValueId hardswish(Net& n) {
  return n.op("iHardswish", {n.x({1, 4})},
              with({{"three", one(3)}, {"six", one(6)}, {"one_over_six", one(1)}}));
}
inline ValueId mean(Net& n, std::int64_t length, std::int64_t keepdims = 0) {
  return n.op("IntegerMean", {n.x({1, 2, length})},
              with({{"axes", many({2})}, {"keepdims", one(keepdims)}}));
}
inline ValueId pool(Net& n, Ints pads, std::int64_t ceil = 0) {
  return n.op("MaxPool", {n.x({1, 2, 4})},
              with({{"kernel_shape", many({2})},
                    {"strides", many({2})},
                    {"pads", many(std::move(pads))},
                    {"ceil_mode", one(ceil)}}));
}
inline ValueId rms_norm(Net& n, std::int64_t length) {
  return n.op("iRMSNorm",
              {n.x({1, length}), n.c({length}, Ints(static_cast<std::size_t>(length), 1))},
              with({{"D", one(16)}, {"n_levels", one(256)}}));
}
inline ValueId layer_norm(Net& n, std::int64_t weight) {
  return n.op("iLayerNorm",
              {n.x({1, 4}, DType::i8, "rows"), n.c({4}, Ints(4, weight)), n.c({4}, Ints(4, 0))},
              with({{"D", Tensor::scalar(16.0F)}, {"n_levels", Tensor::scalar(256.0F)}}));
}
inline ValueId no_norm(Net& n, std::int64_t weight) {
  return n.op(
      "iNoNorm", {n.x({1, 4}), n.c({4}, Ints(4, weight), DType::i8), n.c({4}, Ints(4, 0))},
      with({{"D", Tensor::from<float>({1}, {16.0F})}, {"mul", Tensor::from<float>({1}, {1.0F})}}));
}
inline ValueId residual(Net& n, Net::Form first, DType dtype) {
  const ValueId a = n.rq(n.x({1, 4}, dtype, "a"), std::move(first)),
                b = n.rq(n.x({1, 4}, DType::i8, "b"));
  return n.rq(n.op("Add", {a, b}));
}
inline ValueId reshape(Net& n) {
  return n.op("Reshape", {n.x({1, 4}), n.c({2}, {2, 2}, DType::i64)});
}
inline ValueId sampled(Net& n, std::vector<float> values) {
  n.in.samples = std::vector<Tensor>{
      Tensor::from<float>({1, 2, static_cast<std::int64_t>(values.size()) / 2}, values)};
  return n.rq(conv1(n, n.x({1, 2, 4}), n.weights({2, 2, 1})));
}
struct Case {
  std::string check;
  std::function<ValueId(Net&)> triggers, clean;
};

std::vector<Case> requant_cases();   ///< lint_requant_cases.cpp
std::vector<Case> operator_cases();  ///< lint_operator_cases.cpp
std::vector<Case> accuracy_cases();  ///< lint_accuracy_cases.cpp
std::vector<Case> file_cases();      ///< lint_file_cases.cpp

}  // namespace waveq::test
