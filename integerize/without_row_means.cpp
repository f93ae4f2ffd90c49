#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "shape_for_target.h"
#include "waveq/rewrites/driver.h"
#include "waveq/rewrites/row_means.h"

namespace waveq {

namespace {

using Ints = std::vector<std::int64_t>;

Tensor vector_of(const std::vector<float>& values) {
  return Tensor::from<float>({static_cast<std::int64_t>(values.size())}, values);
}

/// Diagonal plus a constant everywhere: I - 1/N, I.
Tensor square(std::int64_t n, double everywhere) {
  Tensor out(DType::f32, {n, n});
  for (std::int64_t i = 0; i < n * n; ++i)
    out.as<float>()[static_cast<std::size_t>(i)] =
        static_cast<float>((i % (n + 1) == 0 ? 1.0 : 0.0) + everywhere);
  return out;
}

/// The values of an optional parameter, one for each element of a row; empty where they are not
/// constant or over more than the last axis.
std::vector<float> row_values(const Graph& graph, const Node& node, std::size_t i, std::int64_t n,
                              float absent) {
  if (node.inputs.size() <= i || !node.inputs[i].valid())
    return std::vector<float>(static_cast<std::size_t>(n), absent);
  if (!graph.is_constant(node.inputs[i])) return {};
  const auto values = graph.constant(node.inputs[i]).as<float>();
  if (values.size() == 1) return std::vector<float>(static_cast<std::size_t>(n), values.front());
  if (static_cast<std::int64_t>(values.size()) != n) return {};
  return {values.begin(), values.end()};
}

class MeanRemover {
 public:
  MeanRemover(ShapedNetwork& network, const RangeLookup& ranges, const IntegerizeOptions& options)
      : graph_(network.graph), derived_(network.ranges), ranges_(ranges), options_(options) {}

  void run() {
    for (NodeId id : graph_.topological_order())
      if (normalizes_rows(id)) unmirror(id);
    graph_.remove_dead_nodes();
    // The half step travels as a bias: into the linear nodes where they alone read the rows.
    std::map<std::pair<std::string, std::vector<float>>, Known> known;
    for (NodeId id : graph_.topological_order())
      if (normalizes_rows(id)) {
        auto before = key(id);
        known.emplace(std::move(before), add_half_step(id));
      }
    rewrite(graph_, {.passes = {"fold_norm_bias_into_linear", "eliminate_duplicates",
                                "fuse_bias_into_linear", "fold_add_chain"}});
    for (NodeId id : graph_.topological_order())
      if (normalizes_rows(id) && known.contains(key(id))) replace(id, known.at(key(id)));
  }

 private:
  /// What is known of a normalization's result before its bias changes.
  struct Known {
    std::string name;
    double step = 0, least = 0, most = 0;  ///< of its codes; of its bias, half a step included
  };

  /// LayerNormalization or RMSNormalization of rows with constant parameters, nothing but whose
  /// result is used.
  bool normalizes_rows(NodeId id) const {
    const Node& node = graph_.node(id);
    if (node.removed || (node.op != "LayerNormalization" && node.op != "RMSNormalization"))
      return false;
    const Shape& x = graph_.value(node.inputs[0]).type.shape;
    for (std::size_t i = 1; i < node.outputs.size(); ++i)
      if (node.outputs[i].valid() && graph_.use_count(node.outputs[i]) > 0) return false;
    return normalize_axis(node.attrs.get_int("axis", -1), x.size(), node.name) + 1 ==
               static_cast<std::int64_t>(x.size()) &&
           !row_values(graph_, node, 1, x.back(), 1.0F).empty() &&
           !row_values(graph_, node, 2, x.back(), 0.0F).empty();
  }

  /// What a normalization is recognized by when its result has another name.
  std::pair<std::string, std::vector<float>> key(NodeId id) const {
    const ValueId x = graph_.node(id).inputs[0];
    return {graph_.value(x).name,
            row_values(graph_, graph_.node(id), 1, graph_.value(x).type.shape.back(), 1.0F)};
  }

  /// x where the rows are [x, -x]; an invalid value for others.
  ValueId mirrored(ValueId rows) const {
    const NodeId producer = graph_.value(rows).producer;
    if (!producer.valid() || graph_.node(producer).op != "Concat") return {};
    const Node& both = graph_.node(producer);
    const auto rank = static_cast<std::int64_t>(graph_.value(rows).type.shape.size());
    if (both.inputs.size() != 2 || both.attrs.require_int("axis") != rank - 1) return {};
    const NodeId second = graph_.value(both.inputs[1]).producer;
    if (!second.valid() || graph_.node(second).op != "Mul") return {};
    const Node& minus = graph_.node(second);
    if (minus.inputs[0] != both.inputs[0] || !graph_.is_constant(minus.inputs[1])) return {};
    const Tensor& factor = graph_.constant(minus.inputs[1]);
    return factor.size() == 1 && factor.as<float>()[0] == -1.0F ? both.inputs[0] : ValueId{};
  }

  /// Slice(LN([x, -x], [g, g])) as RMSNormalization(x, g) (rewrites/rules/replace_rms_norm.cpp).
  void unmirror(NodeId id) {
    const Node node = graph_.node(id);
    const ValueId x = mirrored(node.inputs[0]), y = node.outputs.front();
    if (!x.valid() || node.inputs.size() > 2 || graph_.is_output(y)) return;
    const std::int64_t n = graph_.value(x).type.shape.back();
    const std::vector<float> gain = row_values(graph_, node, 1, 2 * n, 1.0F);
    const bool is_half = std::ranges::all_of(graph_.value(y).uses, [&](NodeId user) {
      const Node& slice = graph_.node(user);
      return slice.op == "Slice" && slice.attrs.get_ints("starts", {}) == Ints{0} &&
             slice.attrs.get_ints("ends", {}) == Ints{n} &&
             graph_.value(slice.outputs.front()).type.shape == graph_.value(x).type.shape;
    });
    if (!is_half || !std::equal(gain.begin(), gain.begin() + n, gain.begin() + n)) return;
    const std::vector<NodeId> slices = graph_.value(y).uses;
    for (NodeId slice : slices) {
      const ValueId part = graph_.node(slice).outputs.front();
      const std::string name = graph_.value(part).name;
      const ValueId weights =
          graph_.add_constant(name + "_gain", vector_of({gain.begin(), gain.begin() + n}));
      Attrs attrs = node.attrs;
      const ValueId rms = graph_.emit("RMSNormalization", name + "_rms", {x, weights}, attrs,
                                      node.origin.empty() ? node.name : node.origin);
      graph_.replace_uses(part, rms);
      graph_.rename(part, name + "_part");
      graph_.rename(rms, name);
    }
  }

  Known add_half_step(NodeId id) {
    const Node& node = graph_.node(id);
    const ValueId y = node.outputs.front();
    const std::int64_t n = graph_.value(y).type.shape.back();
    std::vector<float> bias = row_values(graph_, node, 2, n, 0.0F);
    Known known{graph_.value(y).name};
    const auto [least, most] = std::ranges::minmax(bias);
    const QuantSpec levels{options_.activation_levels, Signedness::signed_};
    const auto range = ranges_(known.name, levels);
    if (range) known.step = choose_params({range->lo - most, range->hi - least}, levels).scale;
    known.least = least + known.step / 2;
    known.most = most + known.step / 2;
    for (float& b : bias) b += static_cast<float>(known.step / 2);
    // RMSNormalization has no bias, but as one without a mean it may have for a while.
    std::vector<ValueId> inputs = node.inputs;
    inputs.resize(3);
    inputs[2] = graph_.add_constant(known.name + "_half_step", vector_of(bias));
    Attrs attrs = node.attrs;
    if (node.op == "RMSNormalization") attrs.set("waveq_without_mean", std::int64_t{1});
    const ValueId norm = graph_.emit("LayerNormalization", known.name + "_norm", inputs, attrs,
                                     node.origin.empty() ? node.name : node.origin);
    graph_.replace_uses(y, norm);
    graph_.remove_node(id);
    graph_.rename(y, known.name + "_before");
    graph_.rename(norm, known.name);
    return known;
  }

  ValueId centred(const Node& node, const std::string& name, const std::string& origin) {
    const ValueId x = node.inputs[0];
    const Shape& shape = graph_.value(x).type.shape;
    if (node.attrs.get_int("waveq_without_mean", 0) != 0 ||
        has_no_mean(graph_, x, shape.size() - 1))
      return x;
    const std::int64_t n = shape.back();
    const ValueId w =
        graph_.add_constant(name + "_centring", square(n, -1.0 / static_cast<double>(n)));
    const ValueId c = graph_.emit("MatMul", name + "_centred", {x, w}, {}, origin);
    derived_[graph_.value(c).name] = {.tensor = graph_.value(x).name};
    return c;
  }

  /// y + bias: a sum where the bias is one number, else a linear node, as sums take no vectors.
  ValueId biased(ValueId y, const std::vector<float>& bias, const std::string& name,
                 const std::string& origin) {
    const auto [least, most] = std::ranges::minmax(bias);
    if (least == 0 && most == 0) return y;
    const auto n = static_cast<std::int64_t>(bias.size());
    if (least != most)
      y = graph_.emit("MatMul", name + "_unit",
                      {y, graph_.add_constant(name + "_identity", square(n, 0.0))}, {}, origin);
    const Tensor added = least == most ? Tensor::scalar(least) : vector_of(bias);
    return graph_.emit("Add", name + "_biased", {y, graph_.add_constant(name + "_bias", added)}, {},
                       origin);
  }

  void replace(NodeId id, const Known& known) {
    const Node node = graph_.node(id);
    const ValueId y = node.outputs.front();
    const std::string origin = node.origin.empty() ? node.name : node.origin;
    const std::vector<float> bias =
        row_values(graph_, node, 2, graph_.value(y).type.shape.back(), 0.0F);
    Attrs attrs;
    attrs.set("axis", std::int64_t{-1});
    attrs.set("epsilon", node.attrs.get_float("epsilon", 1e-5));
    attrs.set("waveq_scale", known.step);
    const ValueId rms =
        graph_.emit("RMSNormalization", known.name + "_scaled",
                    {centred(node, known.name, origin), node.inputs[1]}, attrs, origin);
    derived_[graph_.value(rms).name] = {known.name, known.least, known.most};
    const std::string old = graph_.value(y).name;
    const ValueId result = biased(rms, bias, known.name, origin);
    graph_.replace_uses(y, result);
    graph_.remove_node(id);
    if (result == rms) return;
    // What has the value of the model's tensor has its name.
    graph_.rename(y, old + "_replaced");
    if (!graph_.find_value(known.name)) graph_.rename(result, known.name);
  }

  Graph& graph_;
  std::map<std::string, DerivedRange>& derived_;
  const RangeLookup& ranges_;
  const IntegerizeOptions& options_;
};

}  // namespace

void without_row_means(ShapedNetwork& network, const RangeLookup& ranges,
                       const IntegerizeOptions& options) {
  MeanRemover(network, ranges, options).run();
}

}  // namespace waveq
