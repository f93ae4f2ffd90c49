// Einsum(a, b)  =>  MatMul of a as [batch..., rows, summed] and b as [batch..., summed, columns]
// batch: indices of both and of the result; rows, columns: of one and of the result; summed: of
// both alone. Nothing summed and nothing of one operand alone: a product of elements. Of more than
// two operands the first two come first; their product keeps what the rest and the result name.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"
#include "waveq/graph/einsum.h"

namespace waveq::rules {

namespace {

bool has(const std::string& indices, char c) { return indices.find(c) != std::string::npos; }

std::string common(const std::string& a, const std::string& b) {
  std::string out;
  for (char c : a)
    if (has(b, c)) out += c;
  return out;
}

std::string without(const std::string& a, const std::string& b) {
  std::string out;
  for (char c : a)
    if (!has(b, c)) out += c;
  return out;
}

/// A value with an index for each axis.
struct Operand {
  ValueId id;
  std::string indices;
  Shape shape;

  std::int64_t length(char c) const { return shape[indices.find(c)]; }
  Shape lengths(const std::string& of) const {
    Shape out;
    for (char c : of) out.push_back(length(c));
    return out;
  }
};

Operand transposed(Patch& patch, const Operand& x, const std::string& to) {
  if (to == x.indices) return x;
  std::vector<std::int64_t> perm;
  for (char c : to) perm.push_back(static_cast<std::int64_t>(x.indices.find(c)));
  Attrs attrs;
  attrs.set("perm", perm);
  return {patch.node("Transpose", {x.id}, attrs), to, x.lengths(to)};
}

ValueId reshaped(Patch& patch, ValueId x, const Shape& from, const Shape& to) {
  return from == to ? x : patch.node("Reshape", {x, patch.constant(ints_tensor(to))});
}

/// Sums away the indices that neither the other operand nor the result names.
Operand reduced(Patch& patch, const Operand& x, const std::string& alone) {
  if (alone.empty()) return x;
  std::vector<std::int64_t> axes;
  for (std::size_t d = 0; d < x.indices.size(); ++d)
    if (has(alone, x.indices[d])) axes.push_back(static_cast<std::int64_t>(d));
  Attrs attrs;
  attrs.set("axes", axes);
  attrs.set("keepdims", std::int64_t{0});
  const std::string rest = without(x.indices, alone);
  return {patch.node("ReduceSum", {x.id}, attrs), rest, x.lengths(rest)};
}

/// The product of elements: both as tensors of the rank of `to`.
Operand multiplied(Patch& patch, const Operand& a, const Operand& b, const std::string& to) {
  const auto spread = [&](const Operand& x) {
    const Operand ordered = transposed(patch, x, common(to, x.indices));
    Shape shape;
    for (char c : to) shape.push_back(has(x.indices, c) ? x.length(c) : 1);
    return reshaped(patch, ordered.id, ordered.shape, shape);
  };
  const ValueId left = spread(a), right = spread(b);
  Shape shape;
  for (char c : to) shape.push_back(has(a.indices, c) ? a.length(c) : b.length(c));
  return {patch.node("Mul", {left, right}), to, shape};
}

/// The product of two operands with the indices `to`, in any order.
Operand product(Patch& patch, Operand a, Operand b, const std::string& to) {
  a = reduced(patch, a, without(without(a.indices, b.indices), to));
  b = reduced(patch, b, without(without(b.indices, a.indices), to));
  const std::string both = common(a.indices, b.indices), batch = common(both, to),
                    summed = without(both, to), rows = without(a.indices, both),
                    columns = without(b.indices, both);
  if (summed.empty() && (rows.empty() || columns.empty())) {
    std::string order = rows.empty() ? b.indices : a.indices;
    return multiplied(patch, a, b, order);
  }
  const Operand left = transposed(patch, a, batch + rows + summed),
                right = transposed(patch, b, batch + summed + columns);
  const Shape outer = a.lengths(batch);
  const std::int64_t m = element_count(a.lengths(rows)), k = element_count(a.lengths(summed)),
                     n = element_count(b.lengths(columns));
  Shape left_shape = outer, right_shape = outer, out = outer, wanted = outer;
  left_shape.insert(left_shape.end(), {m, k});
  right_shape.insert(right_shape.end(), {k, n});
  out.insert(out.end(), {m, n});
  for (char c : rows) wanted.push_back(a.length(c));
  for (char c : columns) wanted.push_back(b.length(c));
  const ValueId y = patch.node("MatMul", {reshaped(patch, left.id, left.shape, left_shape),
                                          reshaped(patch, right.id, right.shape, right_shape)});
  return {reshaped(patch, y, out, wanted), batch + rows + columns, wanted};
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const auto terms = parse_einsum(root.attrs.get_string("equation", ""), root.inputs.size());
  if (!terms) return declined("its equation has an ellipsis or does not fit its operands");
  std::vector<Operand> operands;
  for (std::size_t i = 0; i < root.inputs.size(); ++i) {
    const std::string& indices = terms->inputs[i];
    if (!is_f32(graph, root.inputs[i])) return NoMatch{};
    for (char c : indices)
      if (std::ranges::count(indices, c) != 1)
        return declined("index '{}' occurs twice in operand {}: a diagonal", c, i);
    operands.push_back({root.inputs[i], indices, shape_of(graph, root.inputs[i])});
    for (const Operand& x : operands)
      for (char c : common(x.indices, indices))
        if (x.length(c) != operands.back().length(c))
          return declined("index '{}' is repeated along an operand", c);
  }
  Operand y = operands.front();
  for (std::size_t i = 1; i < operands.size(); ++i) {
    std::string keep = terms->output;
    for (std::size_t k = i + 1; k < operands.size(); ++k) keep += operands[k].indices;
    y = product(patch, y, operands[i], keep);
  }
  y = reduced(patch, y, without(y.indices, terms->output));
  y = transposed(patch, y, terms->output);
  if (y.id == root.inputs.front()) return patch.node("Identity", {y.id});
  return y.id;
}

}  // namespace

Rule replace_einsum() {
  return {.name = "replace_einsum",
          .formula = "Einsum(a,b) = MatMul(a as [batch,rows,summed], b as [batch,summed,columns])",
          .effect = Effect::reassociates,
          .source = "ONNX Einsum-12; NumPy einsum",
          .stage = Stage::clean,
          .root = op_in({"Einsum"}),
          .apply = apply};
}

}  // namespace waveq::rules
