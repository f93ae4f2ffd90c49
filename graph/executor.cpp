#include "waveq/graph/executor.h"

#include <fmt/format.h>

#include <algorithm>

namespace waveq {

namespace {

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

const OpDef& require_op(const Node& node) {
  const OpDef* op = find_op(node.op);
  if (!op)
    throw Error(ErrorCode::unsupported, place(node), "is not an operator waveq can evaluate",
                "`waveq ops` lists what is known");
  return *op;
}

/// The smallest of the free buffers that holds `bytes`, else the largest; -1 where none is free.
int best_fit(const std::vector<int>& free_slots, const std::vector<std::size_t>& sizes,
             std::size_t bytes) {
  int best = -1;
  for (int slot : free_slots) {
    if (best < 0) {
      best = slot;
      continue;
    }
    const std::size_t a = sizes[static_cast<std::size_t>(slot)],
                      b = sizes[static_cast<std::size_t>(best)];
    const bool a_fits = a >= bytes, b_fits = b >= bytes;
    if (a_fits != b_fits ? a_fits : (a_fits ? a < b : a > b)) best = slot;
  }
  return best;
}

}  // namespace

Plan::Plan(const Graph& graph, bool keep_all) : graph_(&graph), slot_(graph.value_count(), -1) {
  const std::vector<NodeId> order = graph.topological_order();
  std::vector<std::size_t> last_use(graph.value_count(), 0);
  for (std::size_t step = 0; step < order.size(); ++step) {
    const Node& node = graph.node(order[step]);
    steps_.push_back({order[step], &require_op(node)});
    for (ValueId in : node.inputs)
      if (in.valid()) last_use[static_cast<std::size_t>(in.index)] = step;
  }
  for (ValueId out : graph.outputs()) last_use[static_cast<std::size_t>(out.index)] = order.size();

  std::vector<int> free_slots;
  const auto assign = [&](ValueId id) {
    const TensorType& type = graph.value(id).type;
    if (!type.known())
      throw Error(ErrorCode::unsupported, fmt::format("tensor '{}'", graph.value(id).name),
                  "has no known type",
                  "an operator in front of it is unknown; `waveq inspect` lists it");
    const std::size_t bytes = Tensor::borrow(type.dtype, type.shape, nullptr).byte_size();
    int best = best_fit(free_slots, slot_bytes_, bytes);
    if (best < 0) {
      best = static_cast<int>(slot_bytes_.size());
      slot_bytes_.push_back(0);
    } else {
      std::erase(free_slots, best);
    }
    auto& capacity = slot_bytes_[static_cast<std::size_t>(best)];
    capacity = std::max(capacity, bytes);
    slot_[static_cast<std::size_t>(id.index)] = best;
  };
  for (ValueId in : graph.inputs())
    if (!graph.is_constant(in)) assign(in);
  for (std::size_t step = 0; step < order.size(); ++step) {
    const Node& node = graph.node(order[step]);
    for (ValueId out : node.outputs)
      if (out.valid()) assign(out);
    if (keep_all) continue;
    // A buffer is free for the next step once its value has been read for the last time; a value
    // that is never read is free at once.
    std::vector<ValueId> touched = node.inputs;
    touched.insert(touched.end(), node.outputs.begin(), node.outputs.end());
    std::ranges::sort(touched);
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    for (ValueId v : touched) {
      if (!v.valid() || slot_[static_cast<std::size_t>(v.index)] < 0) continue;
      if (last_use[static_cast<std::size_t>(v.index)] <= step)
        free_slots.push_back(slot_[static_cast<std::size_t>(v.index)]);
    }
  }
}

std::size_t Plan::buffer_bytes() const {
  std::size_t total = 0;
  for (std::size_t bytes : slot_bytes_) total += bytes;
  return total;
}

Executor::Executor(const Graph& graph, Overflow overflow)
    : Executor(std::make_shared<const Plan>(graph), overflow) {}

Executor::Executor(std::shared_ptr<const Plan> plan, Overflow overflow)
    : plan_(std::move(plan)), overflow_(overflow) {
  const Graph& graph = plan_->graph();
  for (std::size_t bytes : plan_->slot_bytes_)
    buffers_.push_back(std::make_unique<std::byte[]>(std::max<std::size_t>(bytes, 1)));
  values_.resize(graph.value_count());
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Value& value = graph.value({static_cast<std::int32_t>(i)});
    if (value.constant)
      // Read-only by construction: operators write to outputs alone.
      values_[i] = Tensor::borrow(value.type.dtype, value.type.shape,
                                  const_cast<std::byte*>(value.constant->bytes().data()));
    else if (plan_->slot_[i] >= 0)
      values_[i] = Tensor::borrow(value.type.dtype, value.type.shape,
                                  buffers_[static_cast<std::size_t>(plan_->slot_[i])].get());
  }
  for (const Plan::Step& step : plan_->steps_) {
    const Node& node = graph.node(step.node);
    auto& ins = inputs_.emplace_back();
    for (ValueId in : node.inputs)
      ins.push_back(in.valid() ? &values_[static_cast<std::size_t>(in.index)] : nullptr);
    auto& outs = outputs_.emplace_back();
    for (ValueId out : node.outputs)
      outs.push_back(out.valid() ? &values_[static_cast<std::size_t>(out.index)] : nullptr);
  }
}

std::vector<Tensor> Executor::run(std::span<const Tensor> inputs, const Visitor& visit) {
  const Graph& graph = plan_->graph();
  if (inputs.size() != graph.inputs().size())
    throw Error(
        ErrorCode::data, graph.name,
        fmt::format("{} inputs given, the network has {}", inputs.size(), graph.inputs().size()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ValueId id = graph.inputs()[i];
    const Value& value = graph.value(id);
    if (inputs[i].type() != value.type)
      throw Error(ErrorCode::data, fmt::format("input '{}'", value.name),
                  fmt::format("got {}, the network wants {}", to_string(inputs[i].type()),
                              to_string(value.type)));
    Tensor& slot = values_[static_cast<std::size_t>(id.index)];
    std::ranges::copy(inputs[i].bytes(), slot.bytes().begin());
    if (visit) visit(id, slot);
  }
  for (std::size_t s = 0; s < plan_->steps_.size(); ++s) {
    const Plan::Step& step = plan_->steps_[s];
    const Node& node = graph.node(step.node);
    step.op->eval(EvalContext{node, inputs_[s], outputs_[s], overflow_});
    if (!visit) continue;
    for (ValueId out : node.outputs)
      if (out.valid()) visit(out, values_[static_cast<std::size_t>(out.index)]);
  }
  std::vector<Tensor> results;
  for (ValueId out : graph.outputs())
    results.push_back(values_[static_cast<std::size_t>(out.index)]);
  return results;
}

std::vector<Tensor> evaluate_node(const Graph& graph, const Node& node,
                                  std::span<const Tensor* const> inputs, Overflow overflow) {
  const OpDef& op = require_op(node);
  std::vector<TensorType> types;
  std::vector<const Tensor*> constants;
  for (const Tensor* in : inputs) {
    types.push_back(in ? in->type() : TensorType{});
    constants.push_back(in && (in->bytes().data() || in->size() == 0) ? in : nullptr);
  }
  std::vector<Tensor> results;
  std::vector<Tensor*> outputs;
  for (TensorType& type : op.infer(InferContext{graph, node, types, constants}))
    results.emplace_back(type.dtype, type.shape);
  results.resize(std::max(results.size(), node.outputs.size()));
  for (std::size_t i = 0; i < results.size(); ++i) {
    // Outputs the node does not name are computed all the same where the operator wants them.
    const bool unused = i < node.outputs.size() && !node.outputs[i].valid();
    outputs.push_back(unused ? nullptr : &results[i]);
  }
  op.eval(EvalContext{node, inputs, outputs, overflow});
  return results;
}

}  // namespace waveq
