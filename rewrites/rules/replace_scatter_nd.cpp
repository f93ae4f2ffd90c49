// ScatterND(x, indices, u)  =>  Concat(x in front, u, x behind) along every axis that u fills in
// part            indices constant, a box of x in order: what exporters make of y[..., a:b] = u

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

struct Box {
  std::vector<std::int64_t> first, length;  ///< along the leading axes of x
};

/// The box whose positions the rows of `indices` are, the last axis fastest; nothing for others.
std::optional<Box> box_of(const Tensor& indices, const Shape& shape) {
  const auto depth = static_cast<std::size_t>(indices.shape().back());
  std::vector<std::int64_t> at = to_int64(indices);
  if (at.empty()) return std::nullopt;
  for (std::size_t i = 0; i < at.size(); ++i)
    if (at[i] < 0) at[i] += shape[i % depth];
  Box box;
  std::int64_t count = 1;
  for (std::size_t d = 0; d < depth; ++d) {
    box.first.push_back(at[d]);
    box.length.push_back(at[at.size() - depth + d] - at[d] + 1);
    if (box.length[d] < 1 || box.length[d] > shape[d]) return std::nullopt;
    count *= box.length[d];
  }
  if (count * static_cast<std::int64_t>(depth) != static_cast<std::int64_t>(at.size()))
    return std::nullopt;
  const std::vector<std::int64_t> strides = strides_of(box.length);
  for (std::size_t i = 0; i < at.size(); ++i) {
    const std::size_t d = i % depth;
    const std::int64_t row = static_cast<std::int64_t>(i / depth);
    if (at[i] != box.first[d] + row / strides[d] % box.length[d]) return std::nullopt;
  }
  return box;
}

ValueId part(Patch& patch, ValueId x, std::size_t axis, std::int64_t first, std::int64_t end) {
  Attrs attrs;
  attrs.set("axes", std::vector<std::int64_t>{static_cast<std::int64_t>(axis)});
  attrs.set("starts", std::vector<std::int64_t>{first});
  attrs.set("ends", std::vector<std::int64_t>{end});
  return patch.node("Slice", {x}, attrs);
}

/// x with the box of its axes from `axis` on replaced.
ValueId filled(Patch& patch, ValueId x, const Shape& shape, ValueId u, const Box& box,
               std::size_t axis) {
  while (axis < box.first.size() && box.length[axis] == shape[axis]) ++axis;
  if (axis == box.first.size()) return u;
  const std::int64_t first = box.first[axis], end = first + box.length[axis];
  const bool inner =
      !std::equal(box.length.begin() + static_cast<std::ptrdiff_t>(axis) + 1, box.length.end(),
                  shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1);
  std::vector<ValueId> parts;
  if (first > 0) parts.push_back(part(patch, x, axis, 0, first));
  const ValueId own = inner ? part(patch, x, axis, first, end) : x;
  parts.push_back(filled(patch, own, shape, u, box, axis + 1));
  if (end < shape[axis]) parts.push_back(part(patch, x, axis, end, shape[axis]));
  Attrs attrs;
  attrs.set("axis", static_cast<std::int64_t>(axis));
  return patch.node("Concat", parts, attrs);
}

}  // namespace

Rule replace_scatter_nd() {
  const Pat x = any(), indices = constant(), u = any();
  return {
      .name = "replace_scatter_nd",
      .formula = "ScatterND(x,box,u) = Concat(x,u,x)",
      .effect = Effect::exact,
      .source = "ONNX ScatterND-11",
      .stage = Stage::clean,
      .root = op("ScatterND", {x, indices, u}),
      .apply = [=](const Match& m, Patch& patch) -> Outcome {
        if (!m.type(x).known() || !m.type(u).known()) return NoMatch{};
        const Shape shape = m.shape(x);
        const auto box = box_of(m.tensor(indices), shape);
        if (!box) return declined("its indices are no box of its input, in order");
        Shape filling = box->length;
        filling.insert(filling.end(), shape.begin() + static_cast<std::ptrdiff_t>(filling.size()),
                       shape.end());
        const ValueId block = patch.node("Reshape", {m[u], patch.constant(ints_tensor(filling))});
        return filled(patch, m[x], shape, block, *box, 0);
      }};
}

}  // namespace waveq::rules
