#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lowering/rules.h"

namespace waveq {

/// Mean or sum over trailing axes: [1,R,N] x ones [1,N,1] in int32, requantized to a scale of its
/// own. The consumer's scale-keeping integer mean would leave the mean of a ReLU feature a handful
/// of codes (waveformer-accuracy.md 2, fact 1), and works for powers of two only.
void lower_reduce(Lowering& to, const Node& node) {
  const ValueId x = node.inputs[0], y = node.outputs.front();
  if (node.inputs.size() > 1 && node.inputs[1].valid() && !to.is_constant(node.inputs[1]))
    to.refuse("its axes are computed at run time");
  const Shape& shape = to.shape(x);
  const std::size_t rank = shape.size();
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

  Activation in = to.activation(x, to.width("MatMul"));
  ValueId id = in.id;
  // Reduced axes last.
  std::vector<std::int64_t> perm;
  for (std::int64_t a = 0; a < static_cast<std::int64_t>(rank); ++a)
    if (!std::ranges::binary_search(axes, a)) perm.push_back(a);
  perm.insert(perm.end(), axes.begin(), axes.end());
  if (!std::ranges::is_sorted(perm)) {
    id = to.transpose(id, perm, to.name_for(y, "_moved"));
  }
  std::int64_t count = 1;
  for (std::int64_t a : axes) count *= shape[static_cast<std::size_t>(a)];
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
  const QuantParams wanted =
      to.wanted(y, in.quant.is_signed ? Signedness::signed_ : Signedness::unsigned_);
  const Activation mean = to.requant_free(acc, acc_scale, wanted, to.name_for(y, "_rq"));
  const Shape& out_shape = to.shape(y);
  Activation out{to.emit("Reshape", to.name_for(y),
                         {mean.id, to.constant_i64(to.name_for(y, "_shape"), out_shape)}),
                 mean.quant};
  to.out().set_quant(out.id, out.quant);
  to.define(y, out);
}

/// Windows without padding: a depthwise convolution with ones; its requant divides by the window.
void lower_average_pool(Lowering& to, const Node& node) {
  const auto pads = node.attrs.get_ints("pads", {});
  if (std::ranges::any_of(pads, [](std::int64_t p) { return p != 0; }))
    to.refuse("padded AveragePool has no integer form");
  const auto dilations = node.attrs.get_ints("dilations", {});
  if (node.attrs.get_int("ceil_mode", 0) != 0 ||
      node.attrs.get_string("auto_pad", "NOTSET") != "NOTSET" ||
      std::ranges::any_of(dilations, [](std::int64_t d) { return d != 1; }))
    to.refuse("ceil_mode, auto_pad and dilations have no integer form");
  const Shape& shape = to.shape(node.inputs[0]);
  const std::vector<std::int64_t> kernel = node.attrs.require_ints("kernel_shape");
  const Activation x = to.activation(node.inputs[0], to.width("Conv"));
  Shape w_shape{shape[1], 1};
  w_shape.insert(w_shape.end(), kernel.begin(), kernel.end());
  const std::int64_t window = element_count(kernel);
  const ValueId y = node.outputs.front();
  const ValueId ones = to.out().add_constant(
      to.name_for(y, "_ones"),
      Tensor::from<std::int8_t>(
          w_shape, std::vector<std::int8_t>(static_cast<std::size_t>(element_count(w_shape)), 1)));
  Attrs attrs;
  attrs.set("dilations", std::vector<std::int64_t>(kernel.size(), 1));
  attrs.set("group", shape[1]);
  attrs.set("kernel_shape", kernel);
  attrs.set("pads", std::vector<std::int64_t>(2 * kernel.size(), 0));
  attrs.set("strides", node.attrs.get_ints("strides", std::vector<std::int64_t>(kernel.size(), 1)));
  Quantity q;
  q.id = to.emit("Conv", to.name_for(y, "_acc"), {x.id, ones}, attrs);
  q.scale = {x.quant.scale / static_cast<double>(window)};
  to.define(y, std::move(q));
}

}  // namespace waveq
