#include "op_case.h"
#include "waveq/graph/einsum.h"

using namespace waveq;
using namespace waveq::test;

TEST_CASE("Einsum: literal products, sums, transposes and outer products") {
  const Tensor a = tensor({2, 2}, {1, 2, 3, 4}), b = tensor({2, 2}, {5, 6, 7, 8});
  const auto einsum = [&](const char* equation, const std::vector<Tensor>& inputs) {
    OpCase c{"Einsum", {}, {{"equation", equation}}};
    for (const Tensor& t : inputs) c.inputs.push_back(t);
    return run(c);
  };
  CHECK(einsum("ij,jk->ik", {a, b}) == tensor({2, 2}, {19, 22, 43, 50}));
  CHECK(einsum("ij, jk", {a, b}) == tensor({2, 2}, {19, 22, 43, 50}));
  CHECK(einsum("ij,kj->ik", {a, b}) == tensor({2, 2}, {17, 23, 39, 53}));
  CHECK(einsum("ij->ji", {a}) == tensor({2, 2}, {1, 3, 2, 4}));
  CHECK(einsum("ij->", {a}) == tensor({}, {10}));
  CHECK(einsum("ii->i", {a}) == tensor({2}, {1, 4}));
  CHECK(einsum("ii", {a}) == tensor({}, {5}));
  CHECK(einsum("ij,ij,ij->i", {a, a, b}) == tensor({2}, {29, 191}));
  CHECK(einsum("ij,ij->ij", {a, tensor({1, 2}, {10, 100})}) == tensor({2, 2}, {10, 200, 30, 400}));
}

TEST_CASE("Einsum: equations that mean nothing") {
  const Tensor a = tensor({2, 2}, {1, 2, 3, 4});
  CHECK(error_of({"Einsum", {a}, {{"equation", "i...->i"}}}) == ErrorCode::unsupported);
  CHECK(error_of({"Einsum", {a}, {{"equation", "ij,jk->ik"}}}) == ErrorCode::unsupported);
  CHECK(error_of({"Einsum", {a}, {{"equation", "ij->ik"}}}) == ErrorCode::unsupported);
  CHECK(error_of({"Einsum", {a}, {{"equation", "ij->ii"}}}) == ErrorCode::unsupported);
  CHECK(error_of({"Einsum", {a}, {{"equation", "ijk->i"}}}) == ErrorCode::shape);
  CHECK(error_of({"Einsum", {a, tensor({3, 1}, {1, 2, 3})}, {{"equation", "ij,jk->ik"}}}) == ErrorCode::shape);
  CHECK(parse_einsum("bhtd,bhsd->bhts", 2)->output == "bhts");
}

TEST_CASE("Sum: several operands, broadcast, in order") {
  CHECK(run({"Sum", {tensor({2, 2}, {1, 2, 3, 4}), tensor({2}, {10, 20}), tensor({}, {100})}}) ==
        tensor({2, 2}, {111, 122, 113, 124}));
}
