#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "legalize/legalize.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// [1,C,T] -> [1,C,1,T] and [1,C] -> [1,C,1,1].
Shape lifted(const Shape& shape) {
  return shape.size() == 3 ? Shape{shape[0], shape[1], 1, shape[2]}
                           : Shape{shape[0], shape[1], 1, 1};
}

/// Values per spatial axis, begins then ends where there are two, with the new axis in front.
Ints with_axis(const Ints& values, std::int64_t neutral) {
  Ints out;
  for (std::int64_t v : values) out.insert(out.end(), {neutral, v});
  return out;
}

class Lift {
 public:
  explicit Lift(Graph& graph) : graph_(graph) {}

  void run() {
    for (NodeId id : graph_.topological_order()) {
      const Node node = graph_.node(id);
      if (is_conv(node)) {
        lift_conv(id, node);
      } else if (is_gemm(node)) {
        lift_gemm(id, node);
      } else if (follows(node)) {
        lift_follower(id, node);
      } else if (node.op != "Reshape") {
        // Where a Reshape reads, any grouping of the same elements will do.
        for (std::size_t i = 0; i < node.inputs.size(); ++i)
          if (lifted_.contains(node.inputs[i])) graph_.set_input(id, i, lowered(node.inputs[i]));
      }
    }
  }

 private:
  bool is_conv(const Node& node) const {
    return node.op == "Conv" && original(node.inputs[0]).size() == 3;
  }
  bool is_gemm(const Node& node) const {
    if (node.op != "Gemm" || !graph_.is_constant(node.inputs[1]) ||
        node.attrs.get_int("transA", 0) != 0 || node.attrs.get_int("transB", 0) != 1 ||
        node.attrs.get_float("alpha", 1) != 1 || original(node.inputs[0])[0] != 1)
      return false;
    if (node.inputs.size() < 3 || !node.inputs[2].valid()) return true;
    if (!graph_.is_constant(node.inputs[2])) return false;
    const Ints bias = to_int64(graph_.constant(node.inputs[2]));
    return std::ranges::all_of(bias, [](std::int64_t b) { return b == 0; });
  }
  /// Elementwise behind lifted tensors: it reads the longer shape as well.
  bool follows(const Node& node) const {
    static const std::set<std::string, std::less<>> unary = {"RequantShift", "iGELU", "iHardswish"};
    static const std::set<std::string, std::less<>> binary = {"Add", "Sub", "Mul"};
    if (unary.contains(node.op)) return lifted_.contains(node.inputs[0]);
    if (!binary.contains(node.op)) return false;
    const auto is_lifted = [&](ValueId in) { return lifted_.contains(in); };
    return std::ranges::any_of(node.inputs, is_lifted) &&
           original(node.inputs[0]) == original(node.inputs[1]);
  }

  /// The shape a value had in the graph that was handed in.
  const Shape& original(ValueId value) const {
    const auto it = lifted_.find(value);
    return it == lifted_.end() ? graph_.value(value).type.shape : it->second;
  }
  void mark(ValueId value) {
    const TensorType type = graph_.value(value).type;
    lifted_[value] = type.shape;
    graph_.set_type(value, {type.dtype, lifted(type.shape)});
  }
  ValueId reshape(ValueId x, const Shape& shape, const char* suffix) {
    const std::string name = graph_.value(x).name + suffix;
    const ValueId target = graph_.add_constant(
        name + "_shape",
        Tensor::from<std::int64_t>({static_cast<std::int64_t>(shape.size())}, shape));
    const ValueId y = graph_.emit("Reshape", name, {x, target}, {}, origin_);
    graph_.set_quant(y, graph_.value(x).quant);
    return y;
  }
  /// The value in the longer shape.
  ValueId raised(ValueId x) {
    if (lifted_.contains(x)) return x;
    ValueId& y = raised_[x];
    if (!y.valid()) {
      if (graph_.is_constant(x)) {
        Tensor t = graph_.constant(x);
        y = graph_.add_constant(graph_.value(x).name + "_2d", t.reshaped(lifted(t.shape())));
      } else {
        y = reshape(x, lifted(graph_.value(x).type.shape), "_2d");
      }
    }
    return y;
  }
  /// A lifted value in the shape it had.
  ValueId lowered(ValueId x) {
    ValueId& y = lowered_[x];
    if (!y.valid()) y = reshape(x, lifted_.at(x), "_1d");
    return y;
  }

  void lift_conv(NodeId id, const Node& node) {
    origin_ = node.origin;
    Attrs attrs = node.attrs;
    attrs.set("dilations", with_axis(attrs.get_ints("dilations", {1}), 1));
    attrs.set("strides", with_axis(attrs.get_ints("strides", {1}), 1));
    attrs.set("pads", with_axis(attrs.get_ints("pads", {0, 0}), 0));
    const Tensor& w = graph_.constant(node.inputs[1]);
    attrs.set("kernel_shape", Ints{1, w.shape()[2]});
    const ValueId weights =
        graph_.add_constant(graph_.value(node.inputs[1]).name + "_2d",
                            w.reshaped({w.shape()[0], w.shape()[1], 1, w.shape()[2]}));
    graph_.set_input(id, 0, raised(node.inputs[0]));
    graph_.set_input(id, 1, weights);
    graph_.set_attrs(id, attrs);
    mark(node.outputs.front());
  }

  void lift_gemm(NodeId id, const Node& node) {
    origin_ = node.origin;
    const Tensor& w = graph_.constant(node.inputs[1]);
    Attrs attrs;
    attrs.set("dilations", Ints{1, 1});
    attrs.set("group", std::int64_t{1});
    attrs.set("kernel_shape", Ints{1, 1});
    attrs.set("pads", Ints{0, 0, 0, 0});
    attrs.set("strides", Ints{1, 1});
    const ValueId weights = graph_.add_constant(graph_.value(node.inputs[1]).name + "_2d",
                                                w.reshaped({w.shape()[0], w.shape()[1], 1, 1}));
    const ValueId old = node.outputs.front();
    const std::string name = graph_.value(old).name;
    const ValueId y =
        graph_.emit("Conv", name + "_2d", {raised(node.inputs[0]), weights}, attrs, node.origin);
    lifted_[y] = original(old);
    graph_.replace_uses(old, y);
    graph_.remove_node(id);
  }

  void lift_follower(NodeId id, const Node& node) {
    origin_ = node.origin;
    if (node.op == "RequantShift") {
      for (std::size_t i : {1U, 2U}) {
        const Tensor& p = graph_.constant(node.inputs[i]);
        if (p.size() > 1)
          graph_.set_input(id, i,
                           graph_.add_constant(graph_.value(node.inputs[i]).name + "_2d",
                                               p.reshaped({p.size(), 1, 1})));
      }
    } else {
      for (std::size_t i = 0; i < node.inputs.size(); ++i)
        graph_.set_input(id, i, raised(node.inputs[i]));
    }
    mark(node.outputs.front());
  }

  Graph& graph_;
  std::map<ValueId, Shape> lifted_;  ///< value -> its shape before
  std::map<ValueId, ValueId> raised_, lowered_;
  std::string origin_;
};

}  // namespace

void conv_as_2d(Graph& graph) { Lift(graph).run(); }

}  // namespace waveq
