#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "shape_for_target.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

/// y = x.weights^T + bias, the node that makes x.W and perhaps an Add behind it.
struct RowProduct {
  NodeId product, add;
  ValueId x, y;
  Tensor weights;  ///< [N,K,1]
  std::optional<Tensor> bias;
};

/// Weights [N,K,1] times a factor.
Tensor filters(const Tensor& w, bool outputs_lead, float factor) {
  const std::int64_t n = w.shape()[outputs_lead ? 0 : 1], k = w.shape()[outputs_lead ? 1 : 0];
  Tensor out(DType::f32, {n, k, 1});
  const auto from = w.as<float>();
  const auto to = out.as<float>();
  for (std::int64_t i = 0; i < n * k; ++i)
    to[static_cast<std::size_t>(i)] =
        factor * from[static_cast<std::size_t>(outputs_lead ? i : i % k * n + i / k)];
  return out;
}

/// A constant of one value for each of n outputs, which lie last, times a factor.
std::optional<Tensor> one_for_each(const Graph& graph, ValueId id, std::int64_t n, float factor) {
  if (!graph.is_constant(id) || graph.value(id).type.dtype != DType::f32) return std::nullopt;
  const Tensor& t = graph.constant(id);
  if (t.size() != 1 && (t.size() != n || t.shape().back() != n)) return std::nullopt;
  Tensor out(DType::f32, {n});
  for (std::int64_t i = 0; i < n; ++i)
    out.as<float>()[static_cast<std::size_t>(i)] =
        factor * t.as<float>()[static_cast<std::size_t>(t.size() == 1 ? 0 : i)];
  return out;
}

std::optional<RowProduct> product_at(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const bool is_gemm = node.op == "Gemm";
  if (!is_gemm && node.op != "MatMul") return std::nullopt;
  const Shape& x = graph.value(node.inputs[0]).type.shape;
  const ValueId w = node.inputs[1];
  if (graph.is_constant(node.inputs[0]) || !graph.is_constant(w) || x.size() < 2 ||
      graph.value(w).type.shape.size() != 2 || graph.value(w).type.dtype != DType::f32 ||
      node.attrs.get_int("transA", 0) != 0)
    return std::nullopt;
  // One row is a convolution of one pixel as it is (conv_as_2d).
  if (element_count(x) == x.back()) return std::nullopt;
  RowProduct p;
  p.product = id;
  p.x = node.inputs[0];
  p.y = node.outputs.front();
  p.weights = filters(graph.constant(w), node.attrs.get_int("transB", 0) != 0,
                      static_cast<float>(node.attrs.get_float("alpha", 1.0)));
  const std::int64_t n = p.weights.shape()[0];
  if (is_gemm && node.inputs.size() > 2 && node.inputs[2].valid()) {
    p.bias = one_for_each(graph, node.inputs[2], n,
                          static_cast<float>(node.attrs.get_float("beta", 1.0)));
    if (!p.bias) return std::nullopt;
  }
  if (is_gemm || graph.use_count(p.y) != 1 || graph.is_output(p.y)) return p;
  const NodeId next = graph.value(p.y).uses.front();
  const Node& add = graph.node(next);
  if (add.op != "Add") return p;
  const ValueId other = add.inputs[add.inputs[0] == p.y ? 1 : 0];
  if (graph.value(add.outputs.front()).type.shape != graph.value(p.y).type.shape) return p;
  p.bias = one_for_each(graph, other, n, 1.0F);
  if (!p.bias) return p;
  p.add = next;
  p.y = add.outputs.front();
  return p;
}

/// Keeps what is known of turned tensors: y [..., N] of R rows as [1,N,R].
class Turner {
 public:
  explicit Turner(ShapedNetwork& network)
      : graph_(network.graph), ranges_(network.ranges), turned_(network.turned) {}

  void run() {
    for (NodeId id : graph_.topological_order()) {
      if (added_.contains(id)) continue;
      if (const auto product = product_at(graph_, id))
        turn_product(*product);
      else if (follows(graph_.node(id)))
        turn_follower(id);
      else
        read_rows(id);
    }
    for (ValueId out : std::vector<ValueId>(graph_.outputs()))
      if (columns_.contains(out)) replace_by_rows(out);
    graph_.remove_dead_nodes();
  }

 private:
  /// A function of single elements of turned tensors.
  bool follows(const Node& node) const {
    static const std::set<std::string, std::less<>> unary = {
        "Relu", "Gelu", "Clip", "Sigmoid", "Tanh", "Exp", "LeakyRelu", "Elu", "Softplus"};
    static const std::set<std::string, std::less<>> binary = {"Add", "Sub", "Mul"};
    if (unary.contains(node.op))
      return node.inputs.size() == 1 && columns_.contains(node.inputs[0]);
    if (!binary.contains(node.op)) return false;
    const Shape& y = graph_.value(node.outputs.front()).type.shape;
    const auto is_turned = [&](ValueId in) { return columns_.contains(in); };
    return std::ranges::any_of(node.inputs, is_turned) &&
           std::ranges::all_of(node.inputs, [&](ValueId in) {
             const Shape& shape = graph_.value(in).type.shape;
             return shape == y || (graph_.is_constant(in) && repeats_over_rows(shape, y));
           });
  }

  /// One value for all, or one for each element of a row.
  static bool repeats_over_rows(const Shape& shape, const Shape& y) {
    const std::int64_t n = element_count(shape);
    return shape.size() <= y.size() && (n == 1 || (n == y.back() && shape.back() == n));
  }

  ValueId reshape(ValueId x, const Shape& shape, const std::string& name) {
    const ValueId target = graph_.add_constant(
        name + "_shape",
        Tensor::from<std::int64_t>({static_cast<std::int64_t>(shape.size())}, shape));
    return graph_.emit("Reshape", name, {x, target}, {}, origin_);
  }
  ValueId swap(ValueId x, const std::string& name) {
    Attrs perm;
    perm.set("perm", Ints{0, 2, 1});
    return graph_.emit("Transpose", name, {x}, perm, origin_);
  }
  static bool is_flat(const Shape& shape) { return shape.size() == 3 && shape[0] == 1; }

  /// x, of rows, as [1,K,R].
  ValueId columns(ValueId x) {
    ValueId& turned = columns_of_rows_[x];
    if (const auto it = columns_.find(x); it != columns_.end()) return it->second;
    if (turned.valid()) return turned;
    const std::string name = graph_.value(x).name;
    const Shape shape = graph_.value(x).type.shape;
    const std::int64_t k = shape.back();
    const ValueId rows =
        is_flat(shape) ? x : reshape(x, {1, element_count(shape) / k, k}, name + "_rows");
    return turned = swap(rows, name + "_turned");
  }

  /// An operand of a function of elements, as it meets [1,N,R].
  ValueId operand(ValueId x, const Shape& y) {
    if (!graph_.is_constant(x) || graph_.value(x).type.shape == y) return columns(x);
    const Tensor t = graph_.constant(x);
    return graph_.add_constant(graph_.value(x).name + "_turned",
                               t.reshaped(t.size() == 1 ? Shape{} : Shape{t.size(), 1}));
  }

  void define(ValueId y, ValueId columns) {
    columns_[y] = columns;
    const std::string& name = graph_.value(y).name;
    turned_[graph_.value(columns).name] = name;
    const auto derived = ranges_.find(name);
    ranges_[graph_.value(columns).name] =
        derived == ranges_.end() ? DerivedRange{.tensor = name} : derived->second;
  }

  /// A turned tensor as rows again, under the name it had.
  ValueId rows(ValueId y) {
    ValueId& back = rows_[y];
    if (back.valid()) return back;
    const std::string name = graph_.value(y).name;
    const Shape shape = graph_.value(y).type.shape;
    back = swap(columns_.at(y), name + "_back");
    if (!is_flat(shape)) back = reshape(back, shape, name + "_shaped");
    graph_.rename(y, name + "_as_rows");
    graph_.rename(back, name);
    return back;
  }
  void replace_by_rows(ValueId y) {
    const ValueId back = rows(y);
    graph_.replace_uses(y, back);
  }

  /// A node that stays as it is reads rows.
  void read_rows(NodeId id) {
    const Node& node = graph_.node(id);
    origin_ = user_node(node);
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (columns_.contains(node.inputs[i])) graph_.set_input(id, i, rows(node.inputs[i]));
  }

  void turn_follower(NodeId id) {
    const Node node = graph_.node(id);
    origin_ = user_node(node);
    const ValueId y = node.outputs.front();
    std::vector<ValueId> inputs;
    for (ValueId in : node.inputs) inputs.push_back(operand(in, graph_.value(y).type.shape));
    define(y, graph_.emit(node.op, graph_.value(y).name + "_columns", inputs, node.attrs, origin_));
  }

  /// A constant in place of the weights, with their name where nothing else has it.
  ValueId filters_of(ValueId weights, const Tensor& filters) {
    const std::string name = graph_.value(weights).name;
    const ValueId turned = graph_.add_constant(name + "_filters", filters);
    if (graph_.use_count(weights) > 1) return turned;
    graph_.rename(weights, name + "_as_rows");
    graph_.rename(turned, name);
    return turned;
  }

  void turn_product(const RowProduct& p) {
    const Node& node = graph_.node(p.product);
    origin_ = user_node(node);
    const std::string name = graph_.value(p.y).name;
    Attrs attrs;
    attrs.set("dilations", Ints{1});
    attrs.set("group", std::int64_t{1});
    attrs.set("kernel_shape", Ints{1});
    attrs.set("pads", Ints{0, 0});
    attrs.set("strides", Ints{1});
    std::vector<ValueId> inputs{columns(p.x), filters_of(node.inputs[1], p.weights)};
    if (p.bias) inputs.push_back(graph_.add_constant(name + "_bias", *p.bias));
    define(p.y, graph_.emit("Conv", name + "_columns", inputs, attrs, origin_));
    if (p.add.valid()) added_.insert(p.add);
  }

  static std::string user_node(const Node& node) {
    return node.origin.empty() ? node.name : node.origin;
  }

  Graph& graph_;
  std::map<std::string, DerivedRange>& ranges_;
  std::map<std::string, std::string>& turned_;
  std::map<ValueId, ValueId> columns_;          ///< y of a turned node -> its columns
  std::map<ValueId, ValueId> columns_of_rows_;  ///< x of a turned node -> x turned
  std::map<ValueId, ValueId> rows_;             ///< y of a turned node -> its columns turned back
  std::set<NodeId> added_;                      ///< sums that went into a bias
  std::string origin_;
};

}  // namespace

void rows_as_channels(ShapedNetwork& network) { Turner(network).run(); }

}  // namespace waveq
