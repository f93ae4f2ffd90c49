#include <doctest/doctest.h>
#include <fmt/format.h>

#include <limits>
#include <random>

#include "net.h"

namespace waveq::test {
namespace {

TEST_CASE("replace_softmax_axis: one of the axes becomes the last, flattened ones a row") {
  for (const std::int64_t axis : {0, 1, 2, -1, -2, -3}) {
    INFO(axis);
    Net net;
    net.graph.opset = 13;
    net.output(net.op("Softmax", {net.input("x", {2, 3, 4})}, attrs({{"axis", axis}})));
    const Rewritten r = rewrite_checked(net, {"replace_softmax_axis"});
    CHECK(r.text == (axis == 2 || axis == -1 ? "Softmax(x){axis=2}"
                     : axis == 1 || axis == -2
                         ? "Transpose(Softmax(Transpose(x){perm=[0,2,1]}){axis=2}){perm=[0,2,1]}"
                         : "Transpose(Softmax(Transpose(x){perm=[2,1,0]}){axis=2}){perm=[2,1,0]}"));
  }
  for (const std::int64_t axis : {0, 1, 2}) {
    INFO(axis);
    Net net;
    net.output(net.op("Softmax", {net.input("x", {2, 3, 4})},
                      attrs({{"axis", axis}, {"waveq_flatten", std::int64_t{1}}})));
    const Rewritten r = rewrite_checked(net, {"replace_softmax_axis"});
    CHECK(r.text == (axis == 2   ? "Softmax(x){axis=2}"
                     : axis == 1 ? "Reshape(Softmax(Reshape(x, [2,12])){axis=1}, [2,3,4])"
                                 : "Reshape(Softmax(Reshape(x, [1,24])){axis=1}, [2,3,4])"));
  }
}

Attrs equation(const std::string& text) { return attrs({{"equation", text}}); }

TEST_CASE("replace_einsum: attention's products become matrix products") {
  const auto text = [](const std::string& e, const Shape& a, const Shape& b) {
    Net net;
    net.output(net.op("Einsum", {net.input("a", a), net.input("b", b)}, equation(e)));
    return rewrite_checked(net, {"replace_einsum"}).text;
  };
  CHECK(text("bhtd,bhds->bhts", {1, 2, 3, 4}, {1, 2, 4, 5}) == "MatMul(a, b)");
  CHECK(text("bhtd,bhsd->bhts", {1, 2, 3, 4}, {1, 2, 5, 4}) ==
        "MatMul(a, Transpose(b){perm=[0,1,3,2]})");
  CHECK(text("bthd,bhd->bth", {1, 3, 2, 4}, {1, 2, 4}) ==
        "Transpose(Reshape(MatMul(Transpose(a){perm=[0,2,1,3]}, Reshape(b, [1,2,4,1])), "
        "[1,2,3])){perm=[0,2,1]}");
  CHECK(text("td,t->td", {3, 4}, {3}) == "Mul(a, Reshape(b, [3,1]))");
  CHECK(text("i,j->ij", {3}, {4}) == "MatMul(Reshape(a, [3,1]), Reshape(b, [1,4]))");
}

TEST_CASE(
    "replace_einsum: random equations compute the same, whatever is summed and in any order") {
  std::mt19937_64 engine(17);
  const std::string letters = "abcdef";
  const Shape lengths = {1, 2, 3, 4, 2, 3};
  int rewritten = 0;
  for (int k = 0; k < 60; ++k) {
    Net net;
    std::string text, seen, output;
    std::vector<ValueId> operands;
    const std::size_t count = 1 + engine() % 3;
    for (std::size_t i = 0; i < count; ++i) {
      std::string indices;
      Shape shape;
      for (std::size_t c = 0; c < letters.size(); ++c)
        if (engine() % 2)
          indices.insert(
              indices.begin() + static_cast<std::ptrdiff_t>(engine() % (indices.size() + 1)),
              letters[c]);
      if (indices.empty()) indices = "a";
      for (char c : indices) shape.push_back(lengths[letters.find(c)]);
      operands.push_back(net.input(fmt::format("x{}", i), shape));
      text += (i ? "," : "") + indices;
      seen += indices;
    }
    for (char c : letters)
      if (seen.find(c) != std::string::npos && engine() % 2)
        output.insert(output.begin() + static_cast<std::ptrdiff_t>(engine() % (output.size() + 1)),
                      c);
    text += "->" + output;
    CAPTURE(text);
    net.output(net.op("Einsum", operands, equation(text)));
    const Rewritten r = rewrite_checked(net, {"replace_einsum"});
    CHECK(r.text.find("Einsum") == std::string::npos);
    rewritten += static_cast<int>(r.count("replace_einsum"));
  }
  CHECK(rewritten == 60);
}

TEST_CASE("replace_einsum: a diagonal is refused") {
  Net net;
  net.output(net.op("Einsum", {net.input("a", {3, 3})}, equation("ii->i")));
  CHECK(refusal(rewrite_checked(net, {"replace_einsum"})) ==
        "index 'i' occurs twice in operand 0: a diagonal");
}

TEST_CASE("replace_pow and replace_sum: small powers and sums of several by name") {
  for (const auto& [power, wanted] : {std::pair{2.0F, "Mul(Abs(x), Abs(x))"},
                                      {0.5F, "Sqrt(Abs(x))"},
                                      {1.0F, "Identity(Abs(x))"},
                                      {-1.0F, "Reciprocal(Abs(x))"},
                                      {-0.5F, "Reciprocal(Sqrt(Abs(x)))"},
                                      {3.0F, "Pow(Abs(x), 3)"}}) {
    Net net;
    net.output(net.op("Pow", {net.op("Abs", {net.input("x", {4})}), net.scalar(power)}));
    CHECK(rewrite_checked(net, {"replace_pow"}).text == wanted);
  }
  Net larger;
  larger.output(larger.op("Pow", {larger.input("x", {4}), larger.scalar(2.0F, {1, 1})}));
  CHECK(rewrite_checked(larger, {"replace_pow"}).text == "Pow(x, 2)");
  Net sum;
  const ValueId a = sum.input("a", {2, 3}), b = sum.input("b", {3}), c = sum.input("c", {2, 1});
  sum.output(sum.op("Sum", {a, b, c})).output(sum.op("Sum", {a}));
  CHECK(rewrite_checked(sum, {"replace_sum"}).text == "Add(Add(a, b), c); Identity(a)");
}

TEST_CASE("merge_matmul_rows: several matrices or rows become one matrix, the bias comes along") {
  Net net;
  const ValueId x = net.input("x", {5, 1, 4});
  const ValueId y = net.op("MatMul", {x, net.weight("w", {4, 3})});
  net.output(net.op("Add", {net.weight("b", {3}), y}));
  CHECK(rewrite_checked(net, {"merge_matmul_rows"}).text ==
        "Reshape(Add(MatMul(Reshape(x, [1,5,4]), f32[4,3]), f32[3]), [5,1,3])");
  Net gemm;
  gemm.output(gemm.op("Gemm",
                      {gemm.input("x", {5, 4}), gemm.weight("w", {3, 4}), gemm.weight("b", {3})},
                      attrs({{"transB", std::int64_t{1}}, {"alpha", 0.5}, {"beta", 2.0}})));
  CHECK(rewrite_checked(gemm, {"merge_matmul_rows"}).text ==
        "Reshape(Add(MatMul(Reshape(x, [1,5,4]), f32[4,3]), f32[3]), [5,3])");
  // A sum by row is no bias; the product is merged all the same.
  Net rows;
  const ValueId p = rows.op("MatMul", {rows.input("x", {5, 4}), rows.weight("w", {4, 3})});
  rows.output(rows.op("Add", {p, rows.weight("b", {5, 1})}));
  CHECK(rewrite_checked(rows, {"merge_matmul_rows"}).text ==
        "Add(Reshape(MatMul(Reshape(x, [1,5,4]), f32[4,3]), [5,3]), f32[5,1])");
  for (const Shape& one : {Shape{1, 4}, Shape{1, 5, 4}, Shape{1, 1, 5, 4}}) {
    Net single;
    single.output(single.op("MatMul", {single.input("x", one), single.weight("w", {4, 3})}));
    CHECK(rewrite_checked(single, {"merge_matmul_rows"}).text == "MatMul(x, f32[4,3])");
  }
}

TEST_CASE(
    "replace_reduced_product: a product with one row or column, summed, is a matrix product") {
  const auto text = [](const Shape& a, const Shape& b, std::int64_t axis, std::int64_t keep) {
    Net net;
    const ValueId p = net.op("Mul", {net.input("a", a), net.input("b", b)});
    net.output(net.op("ReduceSum", {p}, attrs({{"axes", ints({axis})}, {"keepdims", keep}})));
    return rewrite_checked(net, {"replace_reduced_product"}).text;
  };
  CHECK(text({2, 3, 4}, {2, 1, 4}, 2, 1) == "MatMul(a, Transpose(b){perm=[0,2,1]})");
  CHECK(text({2, 1, 4}, {2, 3, 4}, -1, 0) ==
        "Reshape(MatMul(b, Transpose(a){perm=[0,2,1]}), [2,3])");
  CHECK(text({2, 4, 3}, {2, 4, 1}, 1, 1) == "MatMul(Transpose(b){perm=[0,2,1]}, a)");
  // Row by row, over the batch, and of a shorter operand: no matrix product of these two.
  CHECK(text({2, 3, 4}, {2, 3, 4}, 2, 1).starts_with("ReduceSum"));
  CHECK(text({2, 3, 4}, {2, 1, 4}, 0, 1).starts_with("ReduceSum"));
  CHECK(text({2, 3, 4}, {1, 1, 4}, 2, 1).starts_with("ReduceSum"));
}

/// A quotient whose divisor is well above zero.
ValueId above_one(Net& net, ValueId x) {
  return net.op("Add", {net.op("Abs", {x}), net.scalar(1.0F)});
}

TEST_CASE("replace_divisor: sums of rows become products, guards terms") {
  Net net;
  const ValueId n = net.input("n", {2, 3, 4}), x = above_one(net, net.input("x", {2, 3, 5}));
  const ValueId sum =
      net.op("ReduceSum", {x}, attrs({{"axes", ints({2})}, {"keepdims", std::int64_t{1}}}));
  net.output(net.op("Div", {n, net.op("Add", {sum, net.scalar(0.5F)})}));
  CHECK(rewrite_checked(net, {"replace_divisor"}).text ==
        "Div(n, Add(MatMul(Add(Abs(x), 1), f32[2,5,1]), 0.5))");
  Net mean;
  const ValueId m = mean.input("n", {2, 3, 4}), y = above_one(mean, mean.input("x", {2, 3, 5}));
  const ValueId flat =
      mean.op("ReduceMean", {y}, attrs({{"axes", ints({2})}, {"keepdims", std::int64_t{0}}}));
  mean.output(mean.op("Div", {m, mean.op("Reshape", {flat, mean.ints({2, 3, 1})})}));
  CHECK(rewrite_checked(mean, {"replace_divisor"}).text ==
        "Div(n, MatMul(Add(Abs(x), 1), f32[2,5,1]))");
  for (const bool clip : {true, false}) {
    Net guard;
    const ValueId a = guard.input("n", {4}), d = above_one(guard, guard.input("d", {4}));
    const ValueId low = clip ? guard.op("Clip", {d}, attrs({{"min", 1e-4}}))
                             : guard.op("Max", {guard.scalar(1e-4F), d});
    guard.output(guard.op("Div", {a, low}));
    CHECK(rewrite_checked(guard, {"replace_divisor"}).text ==
          "Div(n, Add(Add(Abs(d), 1), 0.0001))");
  }
  Net large;
  large.output(large.op("Div", {large.input("n", {4}),
                                large.op("Clip", {large.input("d", {4})}, attrs({{"min", 0.5}}))}));
  CHECK(refusal(rewrite_checked(large, {"replace_divisor"})) ==
        "the divisor's lower end 0.5 is more than a guard against zero");
}

TEST_CASE("transpose_quotient: channels first is turned to one divisor a row") {
  Net net;
  const ValueId kv = net.input("kv", {2, 4, 3}), z = net.op("Abs", {net.input("z", {2, 1, 3})}),
                q = net.op("Abs", {net.input("q", {2, 3, 5})});
  const ValueId den = net.op("Add", {net.op("MatMul", {z, q}), net.scalar(1.0F)});
  net.output(net.op("Div", {net.op("MatMul", {kv, q}), den}));
  const std::string turned = "Transpose(Abs(q)){perm=[0,2,1]}";
  CHECK(rewrite_checked(net, {"transpose_quotient"}).text ==
        "Transpose(Div(MatMul(" + turned + ", Transpose(kv){perm=[0,2,1]}), Add(MatMul(" + turned +
            ", Transpose(Abs(z)){perm=[0,2,1]}), 1))){perm=[0,2,1]}");
}

TEST_CASE("hoist_slice_above_product: through movements that keep the axis together") {
  const auto slice = [](Net& net, ValueId x, std::int64_t axis, std::int64_t from,
                        std::int64_t until) {
    return net.op("Slice", {x},
                  attrs({{"axes", ints({axis})},
                         {"starts", ints({from})},
                         {"ends", ints({until})},
                         {"steps", ints({1})}}));
  };
  Net net;
  const ValueId x = net.input("x", {1, 5, 4});
  const ValueId packed = net.op("MatMul", {x, net.weight("w", {4, 12})});
  const ValueId turned = net.op("Transpose", {net.op("Reshape", {packed, net.ints({5, 1, 12})})},
                                attrs({{"perm", ints({2, 0, 1})}}));
  net.output(slice(net, turned, 0, 0, 6));
  net.output(slice(net, turned, 0, 6, 12));
  const Rewritten r = rewrite_checked(net, {"hoist_slice_above_product", "fold_constants"});
  CHECK(r.text ==
        "Transpose(Reshape(MatMul(x, f32[4,6]), [5,1,6])){perm=[2,0,1]}; "
        "Transpose(Reshape(MatMul(x, f32[4,6]), [5,1,6])){perm=[2,0,1]}");
  Net mixed;  // the axis is part of another behind the Reshape
  const ValueId y = mixed.op("Reshape", {mixed.input("x", {1, 5, 4}), mixed.ints({1, 20})});
  mixed.output(slice(mixed, y, 1, 0, 8));
  CHECK(rewrite_checked(mixed, {"hoist_slice_above_product"}).report.applied.empty());
  Net whole;  // the whole is read, too
  const ValueId z = whole.op("Reshape", {whole.input("x", {1, 5, 4}), whole.ints({5, 1, 4})});
  whole.output(slice(whole, z, 2, 0, 2));
  whole.output(whole.op("Relu", {z}));
  CHECK(rewrite_checked(whole, {"hoist_slice_above_product"}).report.applied.empty());
}

TEST_CASE("hoist_slice_above_product and replace_split: numerator and denominator of one product") {
  Net net;
  const ValueId q = net.input("q", {2, 5, 3}), k = net.input("k", {2, 3, 4}),
                v = net.input("v", {2, 4, 6});
  const ValueId ones = net.floats("ones", {2, 4, 1}, std::vector<float>(8, 1.0F));
  const ValueId both = net.op("Concat", {v, ones}, attrs({{"axis", std::int64_t{2}}}));
  const ValueId n =
      net.op("MatMul", {q, net.op("Mul", {net.op("MatMul", {k, both}), net.scalar(0.25F)})});
  const auto part = [&](std::int64_t from, std::int64_t until) {
    return net.op("Slice", {n},
                  attrs({{"axes", ints({2})}, {"starts", ints({from})}, {"ends", ints({until})}}));
  };
  net.output(part(0, -1)).output(part(6, 7));
  CHECK(rewrite_checked(net, {"hoist_slice_above_product"}).text ==
        "MatMul(q, Mul(MatMul(k, v), 0.25)); MatMul(q, Mul(MatMul(k, f32[2,4,1]), 0.25))");
  Net split;
  const ValueId projected =
      split.op("MatMul", {split.input("x", {1, 4, 3}), split.weight("w", {3, 6})});
  const auto parts = split.typed("Split", {split.op("Add", {projected, split.weight("b", {6})})},
                                 {{DType::f32, {1, 4, 2}}, {DType::f32, {1, 4, 4}}});
  split.graph.set_attrs(split.graph.value(parts[0]).producer,
                        attrs({{"axis", std::int64_t{2}}, {"split", ints({2, 4})}}));
  split.output(parts[0]).output(parts[1]);
  CHECK(rewrite_checked(split, {"replace_split", "hoist_slice_above_product", "fold_constants"})
            .text == "Add(MatMul(x, f32[3,2]), f32[2]); Add(MatMul(x, f32[3,4]), f32[4])");
}

TEST_CASE("fuse_rms_norm, replace_rms_norm: the mirrored row has the mean square for a variance") {
  Net net;
  const ValueId x = net.input("x", {2, 3, 8});
  const ValueId mean = net.op("ReduceMean", {net.op("Mul", {x, x})},
                              attrs({{"axes", ints({-1})}, {"keepdims", std::int64_t{1}}}));
  const ValueId y =
      net.op("Div", {x, net.op("Sqrt", {net.op("Add", {mean, net.scalar(0x1p-10F)})})});
  net.output(net.op("Mul", {y, net.weight("g", {8})}));
  CHECK(rewrite_checked(net, {"fuse_rms_norm", "fold_affine_into_layer_norm"}).text ==
        "RMSNormalization(x, f32[8]){axis=2 epsilon=0.0009765625}");
  CHECK(rewrite_checked(net, {"fuse_rms_norm", "fold_affine_into_layer_norm", "replace_rms_norm"})
            .text ==
        "Slice(LayerNormalization(Concat(x, Mul(x, -1)){axis=2}, f32[16]){axis=2 "
        "epsilon=0.0009765625}){axes=[2] ends=[8] starts=[0] steps=[1]}");
}

TEST_CASE("clamp_softmax_mask: what counts as none needs no range") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float none : {-kInf, -1e9F}) {
    Net net;
    const ValueId x = net.input("x", {1, 2, 3});
    const ValueId masked = net.op("Add", {x, net.floats("m", {2, 3}, {0, none, none, 0, 0, none})});
    net.output(net.op("Softmax", {masked}, attrs({{"axis", std::int64_t{2}}})));
    const Rewritten r = rewrite_checked(net, {"clamp_softmax_mask"});
    CHECK(r.count("clamp_softmax_mask") == 1);
    for (NodeId id : r.graph.nodes())
      if (r.graph.node(id).op == "Add")
        CHECK(to_double(r.graph.constant(r.graph.node(id).inputs[1])) ==
              std::vector<double>{0, -16, -16, 0, 0, -16});
    Net where;
    Tensor condition(DType::boolean, {2, 3});
    for (std::size_t i = 0; i < 6; ++i) condition.as<bool>()[i] = i == 1 || i == 2 || i == 5;
    const ValueId c = where.graph.add_constant("condition", condition);
    where.output(where.op("Softmax",
                          {where.op("Where", {c, where.scalar(none), where.input("x", {1, 2, 3})})},
                          attrs({{"axis", std::int64_t{2}}})));
    CHECK(rewrite_checked(where, {"clamp_softmax_mask"}).text ==
          "Softmax(Add(x, f32[2,3])){axis=2}");
  }
  Net ordinary;
  ordinary.output(ordinary.op(
      "Softmax", {ordinary.op("Add", {ordinary.input("x", {2, 3}), ordinary.weight("b", {3})})},
      attrs({{"axis", std::int64_t{1}}})));
  CHECK(rewrite_checked(ordinary, {"clamp_softmax_mask"}).count("clamp_softmax_mask") == 0);
}

TEST_CASE("fuse_mul_reciprocal: a reciprocal that has been moved") {
  Net net;
  const ValueId d = net.op("Add", {net.op("Abs", {net.input("d", {2, 3})}), net.scalar(1.0F)});
  const ValueId moved =
      net.op("Reshape", {net.op("Div", {net.scalar(1.0F), d}), net.ints({2, 3, 1})});
  net.output(net.op("Mul", {net.input("x", {2, 3, 4}), moved}));
  CHECK(rewrite_checked(net, {"fuse_mul_reciprocal"}).text ==
        "Div(x, Reshape(Add(Abs(d), 1), [2,3,1]))");
}

TEST_CASE("cancel_common_maximum, negate_stabilized_exponent: the stabilizer of random features") {
  // exp(a - s - max(a - s)): the query's norm cancels where the maximum is over its own features.
  const auto text = [](const Shape& norm, std::vector<std::int64_t> axes) {
    Net net;
    const ValueId x = net.op("Sub", {net.input("a", {2, 3, 4}), net.input("s", norm)});
    const ValueId most =
        net.op("ReduceMax", {x}, attrs({{"axes", std::move(axes)}, {"keepdims", std::int64_t{1}}}));
    net.output(net.op("Exp", {net.op("Sub", {x, most})}));
    return rewrite_checked(net, {"cancel_common_maximum", "negate_stabilized_exponent"}).text;
  };
  CHECK(text({2, 3, 1}, {-1}) == "Exp(Neg(Sub(ReduceMax(a){axes=[-1] keepdims=1}, a)))");
  CHECK(text({3, 1}, {2}) == "Exp(Neg(Sub(ReduceMax(a){axes=[2] keepdims=1}, a)))");
  // Over the keys, too, it does not; nor where the norm is one for each feature.
  CHECK(text({2, 3, 1}, {1, 2}) ==
        "Exp(Neg(Sub(ReduceMax(Sub(a, s)){axes=[1,2] keepdims=1}, Sub(a, s))))");
  CHECK(text({4}, {2}) == "Exp(Neg(Sub(ReduceMax(Sub(a, s)){axes=[2] keepdims=1}, Sub(a, s))))");
}

}  // namespace
}  // namespace waveq::test
