#include "join_sums.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "lowering.h"
#include "name_pattern.h"

namespace waveq {

namespace {

/// W.x + bias, W [O,C,1] or [O,C,1,1], read by one node alone.
struct Pointwise {
  NodeId node;
  ValueId x, weights, bias;  ///< bias: invalid for none
};

bool all_are(const Node& node, const char* name, std::int64_t wanted) {
  return std::ranges::all_of(node.attrs.get_ints(name, {}),
                             [&](std::int64_t v) { return v == wanted; });
}

std::optional<Pointwise> pointwise_at(const Graph& graph, ValueId id) {
  const NodeId producer = graph.value(id).producer;
  if (!producer.valid() || graph.use_count(id) != 1 || graph.is_output(id)) return std::nullopt;
  const Node& node = graph.node(producer);
  if (node.op != "Conv" || graph.is_constant(node.inputs[0]) || !graph.is_constant(node.inputs[1]))
    return std::nullopt;
  const ValueId bias = node.inputs.size() > 2 ? node.inputs[2] : ValueId{};
  if (bias.valid() && !graph.is_constant(bias)) return std::nullopt;
  const Shape& w = graph.value(node.inputs[1]).type.shape;
  const bool is_point = std::all_of(w.begin() + 2, w.end(), [](auto d) { return d == 1; });
  if (!is_point || node.attrs.get_int("group", 1) != 1 || !all_are(node, "strides", 1) ||
      !all_are(node, "pads", 0))
    return std::nullopt;
  return Pointwise{producer, node.inputs[0], node.inputs[1], bias};
}

/// The tensor as an operand of the joined convolution: signed, or clipped at zero by a requant that
/// nothing else reads and that may put the clip at the lowest code.
bool can_join(const Graph& graph, ValueId id) {
  const NodeId producer = graph.value(id).producer;
  if (!producer.valid()) return true;
  const std::string& op = graph.node(producer).op;
  return op != "Clip" && (op != "Relu" || (graph.use_count(id) == 1 && !graph.is_output(id)));
}

Tensor identity(std::int64_t channels, std::size_t rank) {
  Shape shape{channels, channels};
  shape.resize(rank, 1);
  Tensor unit(DType::f32, shape);
  for (std::int64_t c = 0; c < channels; ++c)
    unit.as<float>()[static_cast<std::size_t>(c * channels + c)] = 1.0F;
  return unit;
}

/// [W V]: the filters of both, behind each other.
Tensor side_by_side(const Tensor& w, const Tensor& v) {
  Shape shape = w.shape();
  shape[1] += v.shape()[1];
  Tensor out(DType::f32, shape);
  auto to = out.as<float>().begin();
  for (std::int64_t row = 0; row < shape[0]; ++row)
    for (const Tensor* part : {&w, &v}) {
      const auto each = static_cast<std::size_t>(part->shape()[1]);
      const auto filter = part->as<float>().subspan(static_cast<std::size_t>(row) * each, each);
      to = std::ranges::copy(filter, to).out;
    }
  return out;
}

/// Largest magnitude of a channel's weights, and how many are not zero: those that are have no
/// rounding error.
struct Filter {
  double largest = 0, count = 0;
};

Filter filter_of(const Tensor& w, std::int64_t channel) {
  Filter f;
  const auto each = static_cast<std::size_t>(w.shape()[1]);
  for (float v : w.as<float>().subspan(static_cast<std::size_t>(channel) * each, each)) {
    f.largest = std::max(f.largest, std::abs(static_cast<double>(v)));
    f.count += v != 0 ? 1 : 0;
  }
  return f;
}

/// The 8-bit codes of a tensor: their scale, and the mean square of code - zero_point.
struct Codes {
  double scale = 0, mean_square = 0;
};

/// A weight's error is the same at every position of the sequence, where roundings average out: it
/// counts this many times. Four serves the networks of ../shared/models as well as one does, on
/// half of the additional products.
constexpr double kStatic = 4;

class Joiner {
 public:
  Joiner(Graph graph, const RangeLookup& ranges, const IntegerizeOptions& options)
      : graph_(std::move(graph)),
        ranges_(ranges),
        options_(options),
        quantizer_(make_quantizer(options.quantizer)) {}

  Graph run() {
    for (NodeId id : graph_.topological_order()) {
      const Node& sum = graph_.node(id);
      if (sum.op == "Add" && !graph_.is_output(sum.outputs.front())) join(id);
    }
    graph_.remove_dead_nodes();
    graph_.compact();
    return std::move(graph_);
  }

 private:
  void join(NodeId id) {
    const Node& sum = graph_.node(id);
    const ValueId a = sum.inputs[0], b = sum.inputs[1], y = sum.outputs.front();
    if (graph_.is_constant(a) || graph_.is_constant(b) ||
        graph_.value(a).type.shape != graph_.value(b).type.shape)
      return;
    std::optional<Pointwise> first = pointwise_at(graph_, a), second = pointwise_at(graph_, b);
    if (!first) std::swap(first, second);
    if (!first) return;
    const Tensor& w = graph_.constant(first->weights);
    const ValueId z = second ? second->x : (graph_.value(a).producer == first->node ? b : a);
    if (first->x == z || !can_join(graph_, first->x) || !can_join(graph_, z)) return;
    if (!second && 2 * w.shape()[0] > w.shape()[1]) return;
    const Tensor v =
        second ? graph_.constant(second->weights) : identity(w.shape()[0], w.shape().size());
    if (is_spoken_of(a) || is_spoken_of(b) || is_spoken_of(y)) return;
    if (!is_better(sum, first->x, w, z, v, !second)) return;
    const std::string name = graph_.value(y).name;
    const ValueId joined = emit(sum, {first->x, z}, side_by_side(w, v), bias_of(*first, second));
    graph_.replace_uses(y, joined);
    graph_.remove_node(id);
    graph_.rename(y, name + "_as_sum");
    graph_.rename(joined, name);
  }

  /// A rule of the recipe names the node that makes the tensor, and is to find it.
  bool is_spoken_of(ValueId id) const {
    for (const auto* rules : {&options_.precision, &options_.weight_levels_of})
      for (const auto& [rule, bits] : *rules)
        if (closeness(rule, graph_, graph_.value(id)) > 0) return true;
    return false;
  }

  std::optional<Codes> codes_of(ValueId id, Signedness signedness) const {
    const QuantSpec spec{options_.activation_levels, signedness};
    const std::string& name = graph_.value(id).name;
    std::optional<Range> range = ranges_(name, spec);
    if (!range) return std::nullopt;
    if (signedness == Signedness::unsigned_) range = {0.0, std::max(range->hi, 0.0)};
    const QuantParams quant = quantizer_(*range, spec);
    // Where nothing is known of them: four standard deviations to each side.
    Codes codes{quant.scale, static_cast<double>(quant.n_levels * quant.n_levels) / 64};
    const std::vector<double> counts =
        options_.code_counts ? options_.code_counts(name, quant) : std::vector<double>{};
    double squares = 0, count = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const auto code = static_cast<double>(quant.lo() + static_cast<std::int64_t>(i));
      squares += counts[i] * std::pow(code - static_cast<double>(quant.zero_point), 2);
      count += counts[i];
    }
    if (count > 0) codes.mean_square = squares / count;
    return codes;
  }

  /// The codes that the joined convolution reads.
  std::optional<Codes> operand(ValueId id) const {
    const NodeId producer = graph_.value(id).producer;
    const std::string op = producer.valid() ? graph_.node(producer).op : "";
    const bool affine = op == "Gelu" && options_.zero_points && options_.target.zero_points;
    return codes_of(id, op == "Relu" ? Signedness::unsigned_
                        : affine     ? Signedness::affine
                                     : Signedness::signed_);
  }

  /// The estimate in join_sums.h, over all channels.
  bool is_better(const Node& sum, ValueId x, const Tensor& w, ValueId z, const Tensor& v,
                 bool v_is_identity) const {
    const auto in = operand(x), other = operand(z);
    const auto left = codes_of(sum.inputs[0], Signedness::signed_),
               right = codes_of(sum.inputs[1], Signedness::signed_);
    if (!in || !other || !left || !right) return false;
    const double most = static_cast<double>((options_.weight_levels - 1) / 2);
    const auto squared = [](double value) { return value * value; };
    double apart = 0, joined = 0;
    for (std::int64_t c = 0; c < w.shape()[0]; ++c) {
      const Filter f = filter_of(w, c), g = filter_of(v, c);
      const double unit_f = f.largest * in->scale / most, unit_g = g.largest * other->scale / most,
                   unit = std::max(unit_f, unit_g);
      const double power_f = kStatic * f.count * in->mean_square,
                   power_g = kStatic * g.count * other->mean_square;
      apart += 2 * squared(std::max(left->scale, right->scale)) + squared(unit_f) * power_f;
      joined += squared(unit) * power_f;
      // Identity: z is rounded to its own grid, and its factor is exact where it is the largest.
      if (v_is_identity) joined += squared(other->scale);
      if (!v_is_identity) apart += squared(unit_g) * power_g;
      if (!v_is_identity || unit > unit_g) joined += squared(unit) * power_g;
    }
    return joined < apart;
  }

  std::optional<Tensor> bias_of(const Pointwise& a, const std::optional<Pointwise>& b) const {
    const ValueId second = b ? b->bias : ValueId{};
    if (!a.bias.valid() && !second.valid()) return std::nullopt;
    if (!a.bias.valid() || !second.valid())
      return graph_.constant(a.bias.valid() ? a.bias : second);
    Tensor sum = graph_.constant(a.bias);
    const auto other = graph_.constant(second).as<float>();
    for (std::size_t c = 0; c < other.size(); ++c) sum.as<float>()[c] += other[c];
    return sum;
  }

  ValueId emit(const Node& sum, std::vector<ValueId> operands, Tensor weights,
               std::optional<Tensor> bias) {
    const std::string origin = sum.origin.empty() ? sum.name : sum.origin;
    const std::vector<std::int64_t> ones(weights.shape().size() - 2, 1);
    Attrs axis, attrs;
    axis.set("axis", std::int64_t{1});
    attrs.set("dilations", ones);
    attrs.set("group", std::int64_t{1});
    attrs.set("kernel_shape", ones);
    attrs.set("pads", std::vector<std::int64_t>(2 * ones.size(), 0));
    attrs.set("strides", ones);
    const ValueId both =
        graph_.emit("Concat", sum.name + "_operands", std::move(operands), axis, origin);
    std::vector<ValueId> inputs{both, graph_.add_constant(sum.name + "_weights", weights)};
    if (bias) inputs.push_back(graph_.add_constant(sum.name + "_bias", *bias));
    return graph_.emit("Conv", sum.name + "_joined", inputs, attrs, origin);
  }

  Graph graph_;
  const RangeLookup& ranges_;
  const IntegerizeOptions& options_;
  Quantizer quantizer_;
};

}  // namespace

Graph join_sums(const Graph& canonical, const RangeLookup& ranges,
                const IntegerizeOptions& options) {
  return Joiner(canonical, ranges, options).run();
}

bool keeps_own_scales(const Graph& graph, const Node& node) {
  if (node.op != "Concat" || node.attrs.get_int("axis", 0) != 1 ||
      graph.is_output(node.outputs.front()) || graph.use_count(node.outputs.front()) == 0)
    return false;
  return std::ranges::none_of(node.inputs, [&](ValueId in) { return graph.is_constant(in); }) &&
         std::ranges::all_of(graph.value(node.outputs.front()).uses, [&](NodeId user) {
           const Node& conv = graph.node(user);
           return conv.op == "Conv" && conv.attrs.get_int("group", 1) == 1 &&
                  folds_zero_point(graph, conv);
         });
}

}  // namespace waveq
