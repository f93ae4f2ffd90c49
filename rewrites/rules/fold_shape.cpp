// Shape(x)  =>  constant,  Size(x)  =>  constant                  shapes are static after load
// A network exported with an open batch dimension computes its Reshape targets; closed, they are
// numbers.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule fold_shape() {
  return {
      .name = "fold_shape",
      .formula = "Shape(x[d0,d1,...]) = [d0,d1,...]",
      .effect = Effect::exact,
      .source = "ONNX Shape-1, Shape-15, Size-1",
      .stage = Stage::clean,
      .root = op_in({"Shape", "Size"}),
      .apply = [](const Match& m, Patch& patch) -> Outcome {
        const Node& node = m.root();
        if (node.inputs.empty() || !node.inputs[0].valid()) return NoMatch{};
        const TensorType& type = m.graph().value(node.inputs[0]).type;
        if (!type.known()) return declined("the type of its input is not known");
        if (node.op == "Size") return patch.constant(Tensor::scalar(element_count(type.shape)));
        const auto rank = static_cast<std::int64_t>(type.shape.size());
        const auto bound = [&](std::int64_t at) {
          return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank);
        };
        const std::int64_t start = bound(node.attrs.get_int("start", 0));
        const std::int64_t end = std::max(start, bound(node.attrs.get_int("end", rank)));
        return patch.constant(ints_tensor({type.shape.begin() + start, type.shape.begin() + end}));
      }};
}

}  // namespace waveq::rules
