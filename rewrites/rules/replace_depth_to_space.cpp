// DepthToSpace(x), SpaceToDepth(x)  =>  Reshape, Transpose, Reshape

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  const ValueId x = root.inputs.at(0);
  if (!graph.value(x).type.known() || !graph.value(m.root_value()).type.known()) return NoMatch{};
  const Shape in = shape_of(graph, x), out = shape_of(graph, m.root_value());
  const std::int64_t block = root.attrs.require_int("blocksize");
  std::vector<std::int64_t> apart, perm;
  if (root.op == "SpaceToDepth") {
    apart = {in[0], in[1], out[2], block, out[3], block};
    perm = {0, 3, 5, 1, 2, 4};
  } else if (root.attrs.get_string("mode", "DCR") == "CRD") {
    apart = {in[0], out[1], block, block, in[2], in[3]};
    perm = {0, 1, 4, 2, 5, 3};
  } else {
    apart = {in[0], block, block, out[1], in[2], in[3]};
    perm = {0, 3, 4, 1, 5, 2};
  }
  Attrs attrs;
  attrs.set("perm", perm);
  const ValueId blocks = patch.node("Reshape", {x, patch.constant(ints_tensor(apart))});
  const ValueId moved = patch.node("Transpose", {blocks}, attrs);
  return patch.node("Reshape", {moved, patch.constant(ints_tensor(out))});
}

}  // namespace

Rule replace_depth_to_space() {
  return {.name = "replace_depth_to_space",
          .formula = "DepthToSpace(x), SpaceToDepth(x) = Reshape(Transpose(Reshape(x)))",
          .effect = Effect::exact,
          .source = "ONNX DepthToSpace-1/11/13, SpaceToDepth-1/13",
          .stage = Stage::clean,
          .root = op_in({"DepthToSpace", "SpaceToDepth"}),
          .apply = apply};
}

}  // namespace waveq::rules
