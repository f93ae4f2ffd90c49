#include "waveq/graph/graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <queue>
#include <set>

#include "waveq/graph/infer.h"

namespace waveq {

std::vector<NodeId> Graph::nodes() const {
  std::vector<NodeId> ids;
  ids.reserve(nodes_.size());
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    if (!nodes_[i].removed) ids.push_back({static_cast<std::int32_t>(i)});
  return ids;
}

std::optional<ValueId> Graph::find_value(std::string_view name_wanted) const {
  const auto it = by_name_.find(name_wanted);
  if (it == by_name_.end()) return std::nullopt;
  return it->second;
}

const Tensor& Graph::constant(ValueId id) const {
  WAVEQ_CHECK(is_constant(id));
  return *value(id).constant;
}

bool Graph::is_output(ValueId id) const {
  return std::ranges::find(outputs_, id) != outputs_.end();
}

std::size_t Graph::use_count(ValueId id) const {
  return value(id).uses.size() + static_cast<std::size_t>(std::ranges::count(outputs_, id));
}

std::vector<NodeId> Graph::topological_order() const {
  // A node is ready when all its producers are done; the smallest index goes first.
  std::vector<int> waiting(nodes_.size(), 0);
  std::priority_queue<std::int32_t, std::vector<std::int32_t>, std::greater<>> ready;
  std::size_t live = 0;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].removed) continue;
    ++live;
    for (ValueId in : nodes_[i].inputs)
      if (in.valid() && value(in).producer.valid()) ++waiting[i];
    if (waiting[i] == 0) ready.push(static_cast<std::int32_t>(i));
  }
  std::vector<NodeId> order;
  order.reserve(live);
  while (!ready.empty()) {
    const NodeId id{ready.top()};
    ready.pop();
    order.push_back(id);
    for (ValueId out : node(id).outputs) {
      if (!out.valid()) continue;
      for (NodeId user : value(out).uses)
        if (--waiting[static_cast<std::size_t>(user.index)] == 0) ready.push(user.index);
    }
  }
  if (order.size() != live) {
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (!nodes_[i].removed && waiting[i] > 0)
        throw Error(ErrorCode::parse, fmt::format("{} '{}'", nodes_[i].op, nodes_[i].name),
                    "is part of a cycle", "a network must be acyclic");
  }
  return order;
}

std::string Graph::unique_value_name(std::string wanted) {
  if (!wanted.empty() && !by_name_.contains(wanted)) return wanted;
  if (wanted.empty()) wanted = "value";
  int& counter = name_counters_[wanted];
  for (;;) {
    std::string candidate = fmt::format("{}_{}", wanted, ++counter);
    if (!by_name_.contains(candidate)) return candidate;
  }
}

ValueId Graph::add_value(std::string wanted, TensorType type) {
  const ValueId id{static_cast<std::int32_t>(values_.size())};
  Value v;
  v.name = unique_value_name(std::move(wanted));
  v.type = std::move(type);
  by_name_.emplace(v.name, id);
  values_.push_back(std::move(v));
  return id;
}

ValueId Graph::add_input(std::string wanted, TensorType type) {
  const ValueId id = add_value(std::move(wanted), std::move(type));
  inputs_.push_back(id);
  return id;
}

ValueId Graph::add_constant(std::string wanted, Tensor tensor) {
  return add_constant(std::move(wanted), std::make_shared<const Tensor>(std::move(tensor)));
}

ValueId Graph::add_constant(std::string wanted, std::shared_ptr<const Tensor> tensor) {
  const ValueId id = add_value(std::move(wanted), tensor->type());
  at(id).constant = std::move(tensor);
  return id;
}

NodeId Graph::add_node(Node n) {
  const NodeId id{static_cast<std::int32_t>(nodes_.size())};
  for (ValueId in : n.inputs)
    if (in.valid()) at(in).uses.push_back(id);
  for (ValueId out : n.outputs) {
    if (!out.valid()) continue;
    WAVEQ_CHECK(!value(out).producer.valid() && !is_constant(out));
    at(out).producer = id;
  }
  if (n.origin.empty()) n.origin = n.name;
  nodes_.push_back(std::move(n));
  return id;
}

ValueId Graph::emit(std::string op, std::string node_name, std::vector<ValueId> ins, Attrs attrs,
                    std::string origin) {
  Node n;
  n.op = std::move(op);
  n.name = node_name;
  n.inputs = std::move(ins);
  n.attrs = std::move(attrs);
  n.origin = std::move(origin);
  const std::vector<TensorType> types = infer_node(*this, n);
  WAVEQ_CHECK(!types.empty());
  const ValueId out = add_value(std::move(node_name), types.front());
  n.name = value(out).name;
  n.outputs = {out};
  add_node(std::move(n));
  return out;
}

void Graph::set_constant(ValueId id, Tensor tensor) {
  if (const NodeId producer = value(id).producer; producer.valid()) {
    for (ValueId& out : at(producer).outputs)
      if (out == id) out = ValueId{};
    at(id).producer = NodeId{};
  }
  at(id).type = tensor.type();
  at(id).constant = std::make_shared<const Tensor>(std::move(tensor));
}

void Graph::set_input(NodeId id, std::size_t slot, ValueId to) {
  ValueId& from = at(id).inputs.at(slot);
  if (from.valid()) {
    auto& uses = at(from).uses;
    uses.erase(std::ranges::find(uses, id));
  }
  from = to;
  if (to.valid()) at(to).uses.push_back(id);
}

void Graph::resize_inputs(NodeId id, std::size_t count) {
  for (std::size_t i = count; i < node(id).inputs.size(); ++i) set_input(id, i, ValueId{});
  at(id).inputs.resize(count);
}

void Graph::rename(ValueId id, std::string wanted) {
  if (value(id).name == wanted) return;
  WAVEQ_CHECK(!by_name_.contains(wanted));
  by_name_.erase(value(id).name);
  by_name_.emplace(wanted, id);
  at(id).name = std::move(wanted);
}

void Graph::replace_uses(ValueId from, ValueId to) {
  if (from == to) return;
  std::vector<NodeId> users;
  users.swap(at(from).uses);
  for (NodeId user : users) {
    for (ValueId& in : at(user).inputs)
      if (in == from) {
        in = to;
        at(to).uses.push_back(user);
      }
  }
  // `uses` holds one entry per slot and the loop above rewrites every slot at the node's first
  // entry, so nothing is counted twice.
  for (ValueId& out : outputs_)
    if (out == from) out = to;
}

void Graph::remove_node(NodeId id) {
  Node& n = at(id);
  if (n.removed) return;
  for (ValueId out : n.outputs) {
    if (!out.valid()) continue;
    WAVEQ_CHECK(use_count(out) == 0);
    at(out).producer = NodeId{};
  }
  for (std::size_t i = 0; i < n.inputs.size(); ++i) set_input(id, i, ValueId{});
  n.inputs.clear();
  n.removed = true;
}

std::size_t Graph::remove_dead_nodes() {
  std::set<ValueId> outputs(outputs_.begin(), outputs_.end());
  const auto unused = [&](const Node& n) {
    return std::ranges::all_of(n.outputs, [&](ValueId out) {
      return !out.valid() || (value(out).uses.empty() && !outputs.contains(out));
    });
  };
  std::deque<NodeId> work;
  for (NodeId id : nodes())
    if (unused(node(id))) work.push_back(id);
  std::size_t count = 0;
  while (!work.empty()) {
    const NodeId id = work.front();
    work.pop_front();
    if (node(id).removed || !unused(node(id))) continue;
    const std::vector<ValueId> ins = node(id).inputs;
    remove_node(id);
    ++count;
    for (ValueId in : ins)
      if (in.valid() && value(in).producer.valid()) work.push_back(value(in).producer);
  }
  return count;
}

void Graph::compact() {
  const std::vector<NodeId> order = topological_order();
  std::vector<bool> keep(values_.size(), false);
  for (ValueId id : inputs_) keep[static_cast<std::size_t>(id.index)] = true;
  for (ValueId id : outputs_) keep[static_cast<std::size_t>(id.index)] = true;
  for (NodeId id : order) {
    for (ValueId v : node(id).inputs)
      if (v.valid()) keep[static_cast<std::size_t>(v.index)] = true;
    for (ValueId v : node(id).outputs)
      if (v.valid()) keep[static_cast<std::size_t>(v.index)] = true;
  }
  std::vector<ValueId> value_map(values_.size());
  std::deque<Value> new_values;
  by_name_.clear();
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (!keep[i]) continue;
    value_map[i] = {static_cast<std::int32_t>(new_values.size())};
    by_name_.emplace(values_[i].name, value_map[i]);
    values_[i].uses.clear();
    values_[i].producer = NodeId{};
    new_values.push_back(std::move(values_[i]));
  }
  const auto remap = [&](std::vector<ValueId>& ids) {
    for (ValueId& v : ids)
      if (v.valid()) v = value_map[static_cast<std::size_t>(v.index)];
  };
  std::vector<Node> moved;
  for (NodeId id : order) {
    moved.push_back(std::move(at(id)));
    remap(moved.back().inputs);
    remap(moved.back().outputs);
  }
  values_ = std::move(new_values);
  nodes_.clear();
  remap(inputs_);
  remap(outputs_);
  for (Node& n : moved) add_node(std::move(n));
}

void Graph::verify() const {
  std::set<std::string> names;
  std::vector<std::vector<NodeId>> expected(values_.size());
  for (NodeId id : nodes())
    for (ValueId in : node(id).inputs)
      if (in.valid()) expected[static_cast<std::size_t>(in.index)].push_back(id);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Value& v = values_[i];
    WAVEQ_CHECK(names.insert(v.name).second);
    if (v.producer.valid()) {
      WAVEQ_CHECK(!node(v.producer).removed && !v.constant);
      WAVEQ_CHECK(
          std::ranges::find(node(v.producer).outputs, ValueId{static_cast<std::int32_t>(i)}) !=
          node(v.producer).outputs.end());
    }
    if (v.constant) WAVEQ_CHECK(v.constant->type() == v.type);
    std::vector<NodeId> uses = v.uses;
    std::ranges::sort(uses);
    WAVEQ_CHECK(uses == expected[i]);
  }
  const std::set<ValueId> inputs(inputs_.begin(), inputs_.end());
  for (NodeId id : nodes())
    for (ValueId in : node(id).inputs)
      if (in.valid())
        WAVEQ_CHECK(value(in).producer.valid() || value(in).constant || inputs.contains(in));
  for (ValueId out : outputs_)
    WAVEQ_CHECK(value(out).producer.valid() || value(out).constant || inputs.contains(out));
  (void)topological_order();
}

std::string dump(const Graph& graph) {
  const auto value_names = [&](const std::vector<ValueId>& ids, bool types) {
    std::string out;
    for (ValueId id : ids) {
      if (!out.empty()) out += ", ";
      if (!id.valid()) {
        out += '-';
        continue;
      }
      out += graph.value(id).name;
      if (types) out += fmt::format(":{}", to_string(graph.value(id).type));
    }
    return out;
  };
  std::string out = "inputs " + value_names(graph.inputs(), true) + "\n";
  for (NodeId id : graph.topological_order()) {
    const Node& n = graph.node(id);
    out += fmt::format("{} = {}({})", value_names(n.outputs, true), n.op,
                       value_names(n.inputs, false));
    if (const std::string attrs = to_string(n.attrs); !attrs.empty()) out += " " + attrs;
    out += "   # " + n.name + "\n";
  }
  return out + "outputs " + value_names(graph.outputs(), true) + "\n";
}

}  // namespace waveq
