#include "op_case.h"

using namespace waveq;
using namespace waveq::test;

TEST_CASE("BatchNormalization: per channel, with the given statistics in training mode, too") {
  const Tensor x = tensor({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  const Tensor scale = tensor({2}, {2, 1}), bias = tensor({2}, {0.5, -1}),
               mean = tensor({2}, {1, 2}), var = tensor({2}, {4, 0.25});
  OpCase c = {.op = "BatchNormalization",
              .inputs = {x, scale, bias, mean, var},
              .attrs = {{"epsilon", 0.0}}};
  CHECK(run(c) == tensor({2, 2, 2}, {0.5, 1.5, 1, 3, 4.5, 5.5, 9, 11}));
  c.attrs.push_back({"training_mode", 1});
  CHECK(run(c) == tensor({2, 2, 2}, {0.5, 1.5, 1, 3, 4.5, 5.5, 9, 11}));
  c.outputs = 3;  // the statistics of a batch, which are not taken, are somebody's result
  CHECK(error_of(c) == ErrorCode::shape);
  // Default epsilon 1e-5.
  check_near(run({"BatchNormalization",
                  {tensor({1, 1}, {1}), tensor({1}, {1}), tensor({1}, {0}), tensor({1}, {0}),
                   tensor({1}, {0})}}),
             tensor({1, 1}, {316.227766f}), 1e-6);
  CHECK(error_of({"BatchNormalization", {x, scale, bias, mean, tensor({1}, {1})}}) ==
        ErrorCode::shape);
}

TEST_CASE("LayerNormalization: last axis, several axes, statistics, optional bias") {
  const Tensor x = tensor({2, 2}, {1, 3, -2, 6});
  const Tensor scale = tensor({2}, {1, 10}), bias = tensor({2}, {0.5, 0});
  const OpCase c = {.op = "LayerNormalization",
                    .inputs = {x, scale, bias},
                    .attrs = {{"epsilon", 0.0}},
                    .outputs = 3,
                    .opset = 17};
  const auto out = run_all(c);
  CHECK(out[0] == tensor({2, 2}, {-0.5, 10, -0.5, 10}));
  CHECK(out[1] == tensor({2, 1}, {2, 2}));
  CHECK(out[2] == tensor({2, 1}, {1, 0.25}));
  CHECK(
      run({"LayerNormalization", {x, tensor({1}, {1})}, {{"axis", 0}, {"epsilon", 0.0}}}).shape() ==
      Shape{2, 2});
  check_near(run({"LayerNormalization",
                  {x, tensor({2, 2}, {1, 1, 1, 1})},
                  {{"axis", 0}, {"epsilon", 0.0}}}),
             tensor({2, 2}, {-0.342997170f, 0.342997170f, -1.37198868f, 1.37198868f}), 1e-6);
  CHECK(error_of({"LayerNormalization", {x, tensor({3}, {1, 1, 1})}}) == ErrorCode::shape);
  CHECK(error_of({"LayerNormalization", {tensor({2, 0}, {}), tensor({1}, {1})}}) ==
        ErrorCode::shape);
}

TEST_CASE("RMSNormalization, SimplifiedLayerNormalization: no mean is taken off") {
  const Tensor x = tensor({1, 2}, {1, 7}), scale = tensor({2}, {1, 10});  // mean square 25
  for (const char* op : {"RMSNormalization", "SimplifiedLayerNormalization"})
    check_near(run({op, {x, scale}, {{"epsilon", 0.0}}}), tensor({1, 2}, {0.2f, 14}), 1e-7);
}

TEST_CASE("InstanceNormalization: each plane by itself") {
  const Tensor x = tensor({1, 2, 2}, {1, 3, 10, 30});
  CHECK(run({"InstanceNormalization",
             {x, tensor({2}, {1, 2}), tensor({2}, {0, 5})},
             {{"epsilon", 0.0}}}) == tensor({1, 2, 2}, {-1, 1, 3, 7}));
  CHECK(error_of({"InstanceNormalization", {x, tensor({1}, {1}), tensor({2}, {0, 5})}}) ==
        ErrorCode::shape);
}

TEST_CASE("GroupNormalization: the channels of a group share their statistics") {
  // Groups (1, 3, 5, 7) and (0, 0, 8, 8): means 4, variances 5 and 16.
  const Tensor x = tensor({1, 4, 2}, {1, 3, 5, 7, 0, 0, 8, 8});
  OpCase c = {.op = "GroupNormalization",
              .inputs = {x, tensor({4}, {1, 1, 2, 3}), tensor({4}, {0, 0, 10, 20})},
              .attrs = {{"epsilon", 0.0}, {"num_groups", 2}},
              .opset = 21};
  const float a = 1.34164079f, b = 0.447213595f;
  check_near(run(c), tensor({1, 4, 2}, {-a, -b, b, a, 8, 8, 23, 23}), 1e-6);
  // Operator set 18: one scale and one bias for each group.
  c.inputs = {x, tensor({2}, {1, 2}), tensor({2}, {0, 10})};
  c.opset = 18;
  check_near(run(c), tensor({1, 4, 2}, {-a, -b, b, a, 8, 8, 12, 12}), 1e-6);
  c.attrs[1].value = std::int64_t{3};
  CHECK(error_of(c) == ErrorCode::shape);
  c.attrs[1].value = std::int64_t{4};  // parameters for neither four groups nor four channels
  CHECK(error_of(c) == ErrorCode::shape);
  c.attrs[1].value = std::int64_t{0};
  CHECK(error_of(c) == ErrorCode::shape);
}
