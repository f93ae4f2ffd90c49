#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lowering/rules.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

/// The axes of a reduction, each once, ascending.
std::vector<std::int64_t> reduced_axes(Lowering& to, const Node& node) {
  if (node.inputs.size() > 1 && node.inputs[1].valid() && !to.is_constant(node.inputs[1]))
    to.refuse("its axes are computed at run time");
  const std::size_t rank = to.shape(node.inputs[0]).size();
  std::vector<std::int64_t> axes =
      node.attrs.get_ints("axes", node.inputs.size() > 1 && node.inputs[1].valid()
                                      ? to_int64(to.source().constant(node.inputs[1]))
                                      : std::vector<std::int64_t>{});
  if (axes.empty()) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (std::int64_t& a : axes) a = normalize_axis(a, rank, node.name);
  std::ranges::sort(axes);
  return axes;
}

/// Whether x, perhaps moved, is an operand of a product with another activation.
bool meets_activation(const Graph& graph, ValueId x) {
  return std::ranges::any_of(graph.value(x).uses, [&](NodeId id) {
    const Node& user = graph.node(id);
    const OpDef* op = find_op(user.op);
    if (user.op == "MatMul")
      return !graph.is_constant(user.inputs[0]) && !graph.is_constant(user.inputs[1]);
    return op && op->moves_data && meets_activation(graph, user.outputs.front());
  });
}

}  // namespace

/// The largest code stands for the largest number.
void lower_reduce_max(Lowering& to, const Node& node) {
  if (!to.target_runs("ReduceMax"))
    to.refuse(fmt::format("{} has no integer ReduceMax", to.options().target.name));
  const ValueId y = node.outputs.front();
  const Activation x = to.signed_activation(node.inputs[0], 0, to.width("ReduceMax"));
  Attrs attrs;
  attrs.set("axes", reduced_axes(to, node));
  attrs.set("keepdims", std::int64_t{node.attrs.get_int("keepdims", 1)});
  const Activation most{to.emit("ReduceMax", to.name_for(y), {x.id}, attrs), x.quant};
  to.out().set_quant(most.id, x.quant);
  to.define(y, most);
}

/// Mean or sum over trailing axes: [1,R,N] x ones [1,N,1] in int32, requantized to a scale of its
/// own. The consumer's scale-keeping integer mean would leave the mean of a ReLU feature a handful
/// of codes (waveformer-accuracy.md 2, fact 1), and works for powers of two only.
void lower_reduce(Lowering& to, const Node& node) {
  const ValueId x = node.inputs[0], y = node.outputs.front();
  const Shape& shape = to.shape(x);
  const std::size_t rank = shape.size();
  const std::vector<std::int64_t> axes = reduced_axes(to, node);
  std::int64_t count = 1;
  for (std::int64_t a : axes) count *= shape[static_cast<std::size_t>(a)];
  to.quantity(x);
  // Of the features of linear attention, product and mean must read the same codes: the bound of
  // their quotient says so (quotient.h).
  const Width width = meets_activation(to.source(), x)
                          ? Width::bits8
                          : to.width_within("MatMul", x, static_cast<double>(count));
  Activation in = to.factor(x, width);
  ValueId id = in.id;
  // Reduced axes last.
  std::vector<std::int64_t> perm;
  for (std::int64_t a = 0; a < static_cast<std::int64_t>(rank); ++a)
    if (!std::ranges::binary_search(axes, a)) perm.push_back(a);
  perm.insert(perm.end(), axes.begin(), axes.end());
  if (!std::ranges::is_sorted(perm)) {
    id = to.transpose(id, perm, to.name_for(y, "_moved"));
  }
  const std::int64_t rows = element_count(shape) / std::max<std::int64_t>(count, 1);
  id = to.emit("Reshape", to.name_for(y, "_rows"),
               {id, to.constant_i64(to.name_for(y, "_rows_shape"), {1, rows, count})});
  const ValueId ones = to.out().add_constant(
      to.name_for(y, "_ones"),
      Tensor::from<std::int8_t>({1, count, 1},
                                std::vector<std::int8_t>(static_cast<std::size_t>(count), 1)));
  const ValueId acc = to.emit("MatMul", to.name_for(y, "_acc"), {id, ones});
  const double acc_scale =
      in.quant.scale / (node.op == "ReduceMean" ? static_cast<double>(count) : 1.0);
  // Which sign the result has, the operand's storage decides: a mean of unsigned codes is unsigned.
  QuantParams wanted =
      to.wanted(y, in.quant.is_signed ? Signedness::signed_ : Signedness::unsigned_);
  if (!to.options().own_mean_scale) wanted.scale = in.quant.scale;
  const Activation mean = to.requant_free(acc, acc_scale, wanted, to.name_for(y, "_rq"));
  const Shape& out_shape = to.shape(y);
  Activation out{to.emit("Reshape", to.name_for(y),
                         {mean.id, to.constant_i64(to.name_for(y, "_shape"), out_shape)}),
                 mean.quant};
  to.out().set_quant(out.id, out.quant);
  to.define(y, out);
}

}  // namespace waveq
