#include "lint_cases.h"

namespace waveq::test {

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

}  // namespace waveq::test
