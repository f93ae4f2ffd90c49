#include "waveq/rewrites/pattern.h"

#include <algorithm>
#include <cmath>

namespace waveq {

struct PatSpec {
  enum class Kind { any, constant, scalar, op, optional, either };
  Kind kind = Kind::any;
  std::vector<std::string> ops;
  std::vector<Pat> operands;  ///< of op, optional (one) and either (two)
  bool any_operands = false;
  bool one_use = false;
  std::optional<double> wanted;
  double tolerance = 0.0;
  std::vector<std::function<bool(const Graph&, ValueId)>> predicates;
};

Pat make_pat(PatSpec spec) { return Pat(std::make_shared<const PatSpec>(std::move(spec))); }

Pat Pat::one_use() const {
  PatSpec spec = *spec_;
  spec.one_use = true;
  return make_pat(std::move(spec));
}

Pat Pat::attr(std::string name, std::int64_t value, std::int64_t fallback) const {
  return where([name = std::move(name), value, fallback](const Graph& graph, ValueId id) {
    const NodeId producer = graph.value(id).producer;
    return producer.valid() && graph.node(producer).attrs.get_int(name, fallback) == value;
  });
}

Pat Pat::where(std::function<bool(const Graph&, ValueId)> predicate) const {
  PatSpec spec = *spec_;
  spec.predicates.push_back(std::move(predicate));
  return make_pat(std::move(spec));
}

const std::vector<std::string>& Pat::ops() const { return spec_->ops; }

Pat any() { return make_pat({}); }
Pat any_node() { return make_pat({}); }

Pat constant() {
  PatSpec spec;
  spec.kind = PatSpec::Kind::constant;
  return make_pat(std::move(spec));
}

Pat scalar() {
  PatSpec spec;
  spec.kind = PatSpec::Kind::scalar;
  return make_pat(std::move(spec));
}

Pat scalar(double value, double tolerance) {
  PatSpec spec;
  spec.kind = PatSpec::Kind::scalar;
  spec.wanted = value;
  spec.tolerance = tolerance;
  return make_pat(std::move(spec));
}

Pat op(std::string name, std::vector<Pat> operands) {
  return op_in({std::move(name)}, std::move(operands));
}

Pat op_in(std::vector<std::string> names, std::vector<Pat> operands) {
  PatSpec spec;
  spec.kind = PatSpec::Kind::op;
  spec.ops = std::move(names);
  spec.operands = std::move(operands);
  return make_pat(std::move(spec));
}

Pat op_in(std::vector<std::string> names) {
  PatSpec spec;
  spec.kind = PatSpec::Kind::op;
  spec.ops = std::move(names);
  spec.any_operands = true;
  return make_pat(std::move(spec));
}

Pat optional(const Pat& pattern) {
  PatSpec spec;
  spec.kind = PatSpec::Kind::optional;
  spec.operands = {pattern};
  return make_pat(std::move(spec));
}

Pat either(const Pat& a, const Pat& b) {
  PatSpec spec;
  spec.kind = PatSpec::Kind::either;
  spec.operands = {a, b};
  return make_pat(std::move(spec));
}

namespace {

bool is_commutative(const std::string& op) {
  return op == "Add" || op == "Mul" || op == "Max" || op == "Min";
}

bool is_scalar(const PatSpec& spec, const Graph& graph, ValueId id) {
  if (!graph.is_constant(id)) return false;
  const Tensor& tensor = graph.constant(id);
  if (tensor.dtype() != DType::f32 || tensor.size() != 1) return false;
  if (!spec.wanted) return true;
  const double found = tensor.as<float>()[0];
  return std::abs(found - *spec.wanted) <= spec.tolerance * std::abs(*spec.wanted);
}

}  // namespace

/// Backtracking search in continuation style: `then` is the rest of the pattern, and a choice
/// (operand order, alternative) that makes the rest fail is taken back.
struct PatternMatcher {
  using Then = std::function<bool()>;
  const Graph& graph;
  Match& match;

  bool value(const Pat& pattern, ValueId id, const Then& then) {
    const PatSpec& spec = *pattern.spec_;
    if (spec.kind == PatSpec::Kind::optional)
      return id.valid() ? value(spec.operands[0], id, then) : then();
    if (!id.valid()) return false;
    if (const ValueId* bound = match.lookup(&spec)) return *bound == id && then();
    if (spec.one_use && graph.use_count(id) != 1) return false;
    switch (spec.kind) {
      case PatSpec::Kind::any:
        return bind(spec, id, then);
      case PatSpec::Kind::constant:
        return graph.is_constant(id) && bind(spec, id, then);
      case PatSpec::Kind::scalar:
        return is_scalar(spec, graph, id) && bind(spec, id, then);
      case PatSpec::Kind::op: {
        const NodeId producer = graph.value(id).producer;
        return producer.valid() && node(spec, producer, id, then);
      }
      case PatSpec::Kind::either:
        return bind(spec, id, [&] {
          return value(spec.operands[0], id, then) || value(spec.operands[1], id, then);
        });
      case PatSpec::Kind::optional:
        break;
    }
    return false;
  }

  bool node(const PatSpec& spec, NodeId id, ValueId out, const Then& then) {
    const Node& n = graph.node(id);
    if (n.outputs.empty() || n.outputs.front() != out) return false;
    if (std::ranges::find(spec.ops, n.op) == spec.ops.end()) return false;
    if (spec.any_operands) return bind(spec, out, then);
    for (std::size_t i = spec.operands.size(); i < n.inputs.size(); ++i)
      if (n.inputs[i].valid()) return false;
    const auto input = [&](std::size_t i) { return i < n.inputs.size() ? n.inputs[i] : ValueId{}; };
    return bind(spec, out, [&] {
      if (operands(spec, 0, input, then)) return true;
      if (spec.operands.size() != 2 || !is_commutative(n.op)) return false;
      return operands(
          spec, 0, [&](std::size_t i) { return input(1 - i); }, then);
    });
  }

  bool operands(const PatSpec& spec, std::size_t i,
                const std::function<ValueId(std::size_t)>& input, const Then& then) {
    if (i == spec.operands.size()) return then();
    return value(spec.operands[i], input(i), [&] { return operands(spec, i + 1, input, then); });
  }

  bool bind(const PatSpec& spec, ValueId id, const Then& then) {
    for (const auto& predicate : spec.predicates)
      if (!predicate(graph, id)) return false;
    const std::size_t mark = match.bindings_.size();
    match.bindings_.emplace_back(&spec, id);
    if (then()) return true;
    match.bindings_.resize(mark);
    return false;
  }
};

const ValueId* Match::lookup(const PatSpec* spec) const {
  for (const auto& [bound, id] : bindings_)
    if (bound == spec) return &id;
  return nullptr;
}

bool Match::has(const Pat& pattern) const { return lookup(pattern.spec_.get()) != nullptr; }

ValueId Match::operator[](const Pat& pattern) const {
  const ValueId* id = lookup(pattern.spec_.get());
  WAVEQ_CHECK(id != nullptr);
  return *id;
}

NodeId Match::node_id(const Pat& pattern) const {
  const NodeId producer = graph_->value((*this)[pattern]).producer;
  WAVEQ_CHECK(producer.valid());
  return producer;
}

std::optional<Match> match(const Graph& graph, const Pat& pattern, NodeId root, NodeIndex* index) {
  const Node& node = graph.node(root);
  if (node.outputs.empty() || !node.outputs.front().valid()) return std::nullopt;
  Match found(graph, root, index);
  PatternMatcher matcher{graph, found};
  if (!matcher.value(pattern, node.outputs.front(), [] { return true; })) return std::nullopt;
  return found;
}

}  // namespace waveq
