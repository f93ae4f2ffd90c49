#include "waveq/integerize/bounds.h"

#include <fmt/format.h>

#include <algorithm>

#include "transfer.h"

namespace waveq {

Interval Bounds::hull() const {
  Interval all = channels.front();
  for (const Interval& c : channels) all = {std::min(all.lo, c.lo), std::max(all.hi, c.hi)};
  return all;
}

namespace {

Bounds source_bounds(const Value& value) {
  if (value.constant) {
    const std::vector<std::int64_t> q = to_int64(*value.constant);
    if (q.empty()) return Bounds::all({0, 0});
    const auto [lo, hi] = std::ranges::minmax(q);
    return Bounds::all({lo, hi});
  }
  if (value.quant) return Bounds::all({value.quant->lo(), value.quant->hi()});
  // A network made by another tool: its inputs carry 8-bit data in whatever type the file states.
  if (size_of(value.type.dtype) > 1) return Bounds::all({-128, 127});
  return Bounds::all({lowest(value.type.dtype), highest(value.type.dtype)});
}

}  // namespace

bool BoundsAnalysis::is_float(ValueId id) const {
  return graph_->value(id).type.dtype == DType::f32;
}

const Bounds& BoundsAnalysis::of(ValueId id) {
  if (is_float(id))
    throw Error(ErrorCode::unsupported, fmt::format("tensor '{}'", graph_->value(id).name),
                "is float32", "the overflow proof covers integers, between Quant and Dequant");
  if (known_.size() < graph_->value_count()) known_.resize(graph_->value_count());
  if (const auto& done = known_[static_cast<std::size_t>(id.index)]) return *done;
  // Depth first with an own stack: a network may be deeper than the call stack.
  std::vector<ValueId> stack{id};
  while (!stack.empty()) {
    const ValueId v = stack.back();
    auto& slot = known_[static_cast<std::size_t>(v.index)];
    if (slot) {
      stack.pop_back();
      continue;
    }
    const Value& value = graph_->value(v);
    if (!value.producer.valid()) {
      slot = source_bounds(value);
      stack.pop_back();
      continue;
    }
    const Node& node = graph_->node(value.producer);
    bool ready = true;
    for (ValueId in : node.inputs) {
      if (!in.valid() || is_float(in) || known_[static_cast<std::size_t>(in.index)]) continue;
      stack.push_back(in);
      ready = false;
    }
    if (!ready) continue;
    Bounds result = transfer({*graph_, node, *this});
    for (ValueId out : node.outputs)
      if (out.valid()) known_[static_cast<std::size_t>(out.index)] = result;
    stack.pop_back();
  }
  return *known_[static_cast<std::size_t>(id.index)];
}

void BoundsAnalysis::assume(ValueId id, Bounds bounds) {
  if (known_.size() < graph_->value_count()) known_.resize(graph_->value_count());
  known_[static_cast<std::size_t>(id.index)] = std::move(bounds);
}

NodeBound BoundsAnalysis::check(NodeId id) {
  const Node& node = graph_->node(id);
  for (ValueId in : node.inputs)
    if (in.valid() && !is_float(in)) of(in);
  return check_node({*graph_, node, *this});
}

std::optional<double> BoundsAnalysis::attained(NodeId id) {
  const Node& node = graph_->node(id);
  for (ValueId in : node.inputs)
    if (in.valid() && !is_float(in)) of(in);
  return attained_accumulator({*graph_, node, *this});
}

}  // namespace waveq
