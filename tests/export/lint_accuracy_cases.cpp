#include "lint_cases.h"

namespace waveq::test {

namespace {

ValueId quotient(Net& n, DType numerator, DType denominator) {
  const ValueId num = n.x({1, 4, 2}, numerator, "num"), den = n.x({1, 4, 1}, denominator, "den");
  return n.op("IntegerDiv", {num, den},
              with({{"Delta", one(16)}, {"eps", one(1)}, {"eta", one(2)}}));
}

/// A second requant behind one of point(), moved in between.
ValueId twice(Net& n, Net::Form first) {
  const ValueId y = n.rq(point(n), std::move(first));
  return n.rq(n.op("Reshape", {y, n.c({2}, {2, 4}, DType::i64)}));
}

}  // namespace

std::vector<Case> accuracy_cases() {
  return {
      {"division_8bit", [](Net& n) { return quotient(n, DType::i32, DType::u8); },
       [](Net& n) { return quotient(n, DType::i32, DType::i32); }},
      {"requant_behind_requant", [](Net& n) { return twice(n, {}); },
       // The clip at zero acts; the third one changes no code.
       [](Net& n) { return n.rq(twice(n, {.is_signed = 0}), {.mul = {65535}, .div = 65536}); }},
  };
}

}  // namespace waveq::test
