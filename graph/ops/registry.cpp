#include <map>

#include "ops/families.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

/// Every operator by name. Adding a family is a line here and its declaration in families.h.
const std::map<std::string, OpDef, std::less<>>& registry() {
  static const auto table = [] {
    std::map<std::string, OpDef, std::less<>> ops;
    for (auto family :
         {linear_ops, einsum_ops, elementwise_ops, logic_ops, unary_ops, activation_ops,
          reduction_ops, movement_ops, shape_ops, pooling_ops, normalization_ops,
          response_normalization_ops, indexing_ops, recurrent_ops, requant_ops, integer_ops,
          quantization_ops}) {
      for (OpDef& op : family()) {
        std::string name = op.name;
        const bool fresh = ops.emplace(std::move(name), std::move(op)).second;
        WAVEQ_CHECK(fresh);
      }
    }
    return ops;
  }();
  return table;
}

}  // namespace

const OpDef* find_op(std::string_view name) {
  const auto it = registry().find(name);
  return it == registry().end() ? nullptr : &it->second;
}

const std::vector<const OpDef*>& all_ops() {
  static const auto list = [] {
    std::vector<const OpDef*> ops;
    for (const auto& [name, op] : registry()) ops.push_back(&op);
    return ops;
  }();
  return list;
}

}  // namespace waveq
