#include <iterator>

#include "ops/families.h"
#include "ops/integer_families.h"

namespace waveq {

std::vector<OpDef> integer_ops() {
  std::vector<OpDef> all;
  for (auto family :
       {integer_division_ops, integer_softmax_ops, integer_activation_ops, integer_norm_ops,
        integer_table_ops, integer_recurrent_ops, integer_quantizer_ops}) {
    std::vector<OpDef> ops = family();
    all.insert(all.end(), std::make_move_iterator(ops.begin()), std::make_move_iterator(ops.end()));
  }
  return all;
}

}  // namespace waveq
