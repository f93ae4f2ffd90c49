#include <algorithm>

#include "lowering/rules.h"

namespace waveq {

/// The axes to be repeated are seen behind all others, [1,R,1], and a product with a row of N ones
/// repeats each element; the requant behind it maps every code to itself.
Activation repeated(Lowering& to, const Activation& x, const Shape& shape,
                    const std::string& name) {
  Shape from = to.out().value(x.id).type.shape;
  if (from == shape || to.options().target.broadcast) return x;
  from.insert(from.begin(), shape.size() - from.size(), 1);
  std::vector<std::int64_t> order, grown, reached;
  for (std::size_t d = 0; d < shape.size(); ++d)
    (from[d] == shape[d] ? order : grown).push_back(static_cast<std::int64_t>(d));
  order.insert(order.end(), grown.begin(), grown.end());
  std::int64_t count = 1;
  for (std::int64_t d : grown) count *= shape[static_cast<std::size_t>(d)];
  for (std::int64_t d : order) reached.push_back(shape[static_cast<std::size_t>(d)]);
  ValueId id = x.id;
  if (count > 1) {
    id = to.emit("Reshape", name + "_column",
                 {id, to.constant_i64(name + "_column_shape", {1, element_count(from), 1})});
    const ValueId ones = to.out().add_constant(
        name + "_ones",
        Tensor::from<std::int8_t>({1, 1, count},
                                  std::vector<std::int8_t>(static_cast<std::size_t>(count), 1)));
    const ValueId product = to.emit("MatMul", name + "_acc", {id, ones});
    id = to.requant_free(product, x.quant.scale, x.quant, name + "_rq").id;
    to.out().set_quant(id, x.quant);
  }
  id = to.emit("Reshape", name + "_rows", {id, to.constant_i64(name + "_rows_shape", reached)});
  std::vector<std::int64_t> perm(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    perm[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
  const Activation y{std::ranges::is_sorted(perm) ? id : to.transpose(id, perm, name), x.quant};
  to.out().set_quant(y.id, y.quant);
  return y;
}

}  // namespace waveq
