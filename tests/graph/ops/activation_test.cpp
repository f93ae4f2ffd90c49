#include <limits>

#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

namespace {
constexpr float kInf = std::numeric_limits<float>::infinity();

/// Compares an activation with its formula in double over -10..10.
template <class F>
void check_formula(const OpCase& c, F formula, double tolerance = 3e-7) {
  std::vector<float> x, want;
  for (int i = -1000; i <= 1000; ++i) {
    x.push_back(static_cast<float>(i) / 100.0f);
    want.push_back(static_cast<float>(formula(static_cast<double>(x.back()))));
  }
  OpCase full = c;
  full.inputs = {tensor({2001}, x)};
  INFO(c.op);
  check_near(run(full), tensor({2001}, want), tolerance);
}
}  // namespace

TEST_CASE("activations: their formulas and defaults") {
  check_formula({"Relu", {}}, [](double x) { return std::max(x, 0.0); });
  check_formula({"LeakyRelu", {}}, [](double x) { return x < 0 ? 0.01 * x : x; });
  check_formula({"LeakyRelu", {}, {{"alpha", 0.5}}}, [](double x) { return x < 0 ? 0.5 * x : x; });
  check_formula({"ThresholdedRelu", {}}, [](double x) { return x > 1 ? x : 0; });
  check_formula({"ThresholdedRelu", {}, {{"alpha", -0.5}}}, [](double x) { return x > -0.5 ? x : 0; });
  check_formula({"Elu", {}}, [](double x) { return x < 0 ? std::expm1(x) : x; });
  check_formula({"Elu", {}, {{"alpha", 2.0}}},
                [](double x) { return x < 0 ? 2 * std::expm1(x) : x; });
  check_formula({"Selu", {}}, [](double x) {
    return 1.0507009873554805 * (x < 0 ? 1.6732632423543772 * std::expm1(x) : x);
  });
  check_formula({"Celu", {}, {{"alpha", 2.0}}},
                [](double x) { return std::max(0.0, x) + std::min(0.0, 2 * std::expm1(x / 2)); });
  check_formula({"Sigmoid", {}}, [](double x) { return 1 / (1 + std::exp(-x)); });
  check_formula({"HardSigmoid", {}}, [](double x) { return std::clamp(0.2 * x + 0.5, 0.0, 1.0); });
  check_formula({"HardSigmoid", {}, {{"alpha", 0.5}, {"beta", 0.25}}},
                [](double x) { return std::clamp(0.5 * x + 0.25, 0.0, 1.0); });
  check_formula({"HardSwish", {}}, [](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); });
  check_formula({"Tanh", {}}, [](double x) { return std::tanh(x); });
  check_formula({"Softplus", {}}, [](double x) { return std::log1p(std::exp(x)); });
  check_formula({"Softsign", {}}, [](double x) { return x / (1 + std::abs(x)); });
  check_formula(
      {"Gelu", {}}, [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }, 1e-6);
  check_formula(
      {"Gelu", {}, {{"approximate", "tanh"}}},
      [](double x) {
        return x / 2 *
               (1 + std::tanh(std::sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
      },
      1e-6);
  check_formula({"Mish", {}}, [](double x) { return x * std::tanh(std::log1p(std::exp(x))); });
  check_formula(
      {"Swish", {}, {{"alpha", 2.0}}}, [](double x) { return x / (1 + std::exp(-2 * x)); }, 1e-6);
  CHECK(error_of({"Gelu", {tensor({1}, {1})}, {{"approximate", "cubic"}}}) == ErrorCode::shape);
}

TEST_CASE("activations: more elements than one chunk, and none") {
  std::vector<float> x(1500), want(1500);
  for (int i = 0; i < 1500; ++i) {
    x[i] = static_cast<float>(i) / 1000.0f;
    want[i] = static_cast<float>(std::tanh(static_cast<double>(x[i])));
  }
  check_near(run({"Tanh", {tensor({1500}, x)}}), tensor({1500}, want), 2e-7);
  CHECK(run({"Tanh", {tensor({0}, {})}}).size() == 0);
}

TEST_CASE("activations: extremes stay finite where the function is") {
  CHECK(run({"Softplus", {tensor({3}, {-200, 0, 200})}}) == tensor({3}, {0, 0.693147182f, 200}));
  CHECK(run({"Sigmoid", {tensor({3}, {-200, 0, 200})}}) == tensor({3}, {0, 0.5f, 1}));
  CHECK(run({"Elu", {tensor({2}, {-kInf, kInf})}}) == tensor({2}, {-1, kInf}));
}

TEST_CASE("Relu: integers keep their dtype") {
  CHECK(run({"Relu", {tensor<std::int8_t>({3}, {-128, 0, 127})}}) ==
        tensor<std::int8_t>({3}, {0, 0, 127}));
  CHECK(run({"Relu", {tensor<std::int32_t>({2}, {std::numeric_limits<std::int32_t>::min(), 9})}}) ==
        tensor<std::int32_t>({2}, {0, 9}));
  CHECK(run({"Relu", {tensor<std::uint8_t>({2}, {0, 255})}}) ==
        tensor<std::uint8_t>({2}, {0, 255}));
}

TEST_CASE("Clip: attributes, inputs, one bound or none, integers") {
  const Tensor x = tensor({5}, {-kInf, -2, 0, 2, kInf});
  CHECK(run({"Clip", {x}}) == x);
  CHECK(run({"Clip", {x}, {{"min", -1.0}, {"max", 1.0}}}) == tensor({5}, {-1, -1, 0, 1, 1}));
  CHECK(run({"Clip", {x, tensor({}, {-1}), tensor({}, {1})}}) == tensor({5}, {-1, -1, 0, 1, 1}));
  CHECK(run({"Clip", {x, std::nullopt, tensor({}, {1})}}) == tensor({5}, {-kInf, -2, 0, 1, 1}));
  CHECK(run({"Clip", {x, tensor({}, {-1})}}) == tensor({5}, {-1, -1, 0, 2, kInf}));
  // Lower above upper: upper wins.
  CHECK(run({"Clip", {tensor({1}, {0}), tensor({}, {2}), tensor({}, {1})}}) == tensor({1}, {1}));
  const Tensor q = tensor<std::int8_t>({4}, {-128, -3, 3, 127});
  CHECK(run({"Clip", {q, tensor<std::int8_t>({}, {-2}), tensor<std::int8_t>({}, {100})}}) ==
        tensor<std::int8_t>({4}, {-2, -2, 3, 100}));
  CHECK(run({"Clip", {q}, {{"min", -2.5}, {"max", 1e9}}}) ==
        tensor<std::int8_t>({4}, {-2, -2, 3, 127}));
  CHECK(error_of({"Clip", {q, tensor({}, {0})}}) == ErrorCode::shape);
  CHECK(error_of({"Clip", {x, tensor({2}, {0, 1})}}) == ErrorCode::shape);
}

TEST_CASE("PRelu: slope per channel") {
  const Tensor x = tensor({2, 2}, {-1, -2, 3, -4});
  CHECK(run({"PRelu", {x, tensor({2, 1}, {10, 0.5})}}) == tensor({2, 2}, {-10, -20, 3, -2}));
  CHECK(run({"PRelu", {x, tensor({1}, {2})}}) == tensor({2, 2}, {-2, -4, 3, -8}));
  CHECK(error_of({"PRelu", {x, tensor({3, 1, 1}, {1, 2, 3})}}) == ErrorCode::shape);
}

TEST_CASE("Softmax: along one axis from opset 13 on") {
  const Tensor x = tensor({2, 3}, {1, 2, 3, 1000, 1000, -1000});
  const Tensor y = run({"Softmax", {x}});
  check_near(y, tensor({2, 3}, {0.0900305733f, 0.244728476f, 0.665240943f, 0.5f, 0.5f, 0}), 2e-7);
  check_near(run({"Softmax", {tensor({2, 2}, {0, 1, 0, -1})}, {{"axis", 0}}}),
             tensor({2, 2}, {0.5f, 0.880797078f, 0.5f, 0.119202922f}), 2e-7);
  check_near(run({"LogSoftmax", {x}}),
             tensor({2, 3}, {-2.40760596f, -1.40760596f, -0.407605964f, -0.693147181f,
                             -0.693147181f, -2000.69315f}),
             2e-7);
  CHECK(error_of({"Softmax", {x}, {{"axis", 2}}}) == ErrorCode::shape);
}

TEST_CASE("Softmax: flattened from the axis on before opset 13") {
  const Tensor x = tensor({1, 2, 2}, {0, 0, 0, 0});
  CHECK(run({.op = "Softmax", .inputs = {x}, .attrs = {{"waveq_flatten", 1}}, .opset = 11}) ==
        tensor({1, 2, 2}, {0.25, 0.25, 0.25, 0.25}));
  CHECK(run({.op = "Softmax",
             .inputs = {x},
             .attrs = {{"waveq_flatten", 1}, {"axis", 2}},
             .opset = 11}) == tensor({1, 2, 2}, {0.5, 0.5, 0.5, 0.5}));
}
