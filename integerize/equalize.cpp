#include "waveq/integerize/equalize.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>

#include "waveq/graph/executor.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

const Node* producer(const Graph& graph, ValueId id) {
  const NodeId node = graph.value(id).producer;
  return node.valid() ? &graph.node(node) : nullptr;
}

bool is_scalar_product(const Graph& graph, const Node& node) {
  return node.op == "Mul" && graph.is_constant(node.inputs[1]) &&
         graph.constant(node.inputs[1]).size() == 1;
}

/// Rearranges all elements of its first input, or multiplies them by one number.
bool is_view(const Graph& graph, const Node& node) {
  static const std::set<std::string, std::less<>> ops = {"Reshape", "Transpose", "Flatten",
                                                         "Squeeze", "Unsqueeze"};
  return ops.contains(node.op) || is_scalar_product(graph, node);
}

bool is_product(const Graph& graph, const Node* node) {
  return node && node->op == "MatMul" && !graph.is_constant(node->inputs[0]) &&
         !graph.is_constant(node->inputs[1]);
}

/// The tensor that a value is a view of.
ValueId viewed(const Graph& graph, ValueId id) {
  for (const Node* node = producer(graph, id); node && is_view(graph, *node);
       node = producer(graph, id))
    id = node->inputs.front();
  return id;
}

/// For each element of a view, the channel of the tensor [1,C,...] it comes from.
std::vector<std::size_t> channels_of_view(const Graph& graph, ValueId base, ValueId view) {
  std::vector<const Node*> chain;
  for (ValueId id = view; id != base; id = chain.back()->inputs.front())
    chain.push_back(producer(graph, id));
  const Shape& shape = graph.value(base).type.shape;
  Tensor current(DType::f32, shape);
  const auto each = static_cast<std::size_t>(element_count(shape) / shape[1]);
  for (std::size_t i = 0; i < static_cast<std::size_t>(current.size()); ++i)
    current.as<float>()[i] = static_cast<float>(i / each);
  for (auto node = chain.rbegin(); node != chain.rend(); ++node) {
    if (is_scalar_product(graph, **node)) continue;
    std::vector<const Tensor*> inputs{&current};
    for (std::size_t i = 1; i < (*node)->inputs.size(); ++i) {
      const ValueId in = (*node)->inputs[i];
      inputs.push_back(in.valid() && graph.is_constant(in) ? &graph.constant(in) : nullptr);
    }
    current = evaluate_node(graph, **node, inputs).front();
  }
  std::vector<std::size_t> channels;
  for (float v : current.as<float>()) channels.push_back(static_cast<std::size_t>(v));
  return channels;
}

/// A ReLU behind a convolution, so that a positive factor a channel can go into its weights.
bool is_feature_map(const Graph& graph, ValueId id) {
  const Node* relu = producer(graph, id);
  if (!relu || relu->op != "Relu" || graph.is_output(id)) return false;
  const Node* conv = producer(graph, relu->inputs[0]);
  const Shape& shape = graph.value(id).type.shape;
  return conv && conv->op == "Conv" && graph.is_constant(conv->inputs[1]) && shape.size() >= 3 &&
         shape[0] == 1;
}

/// Everything that reads the tensor, views looked through, is a product or a sum of it.
bool feeds_products_only(const Graph& graph, ValueId id) {
  return std::ranges::all_of(graph.value(id).uses, [&](NodeId use) {
    const Node& user = graph.node(use);
    if (is_view(graph, user)) return feeds_products_only(graph, user.outputs.front());
    return is_product(graph, &user) || user.op == "ReduceMean" || user.op == "ReduceSum";
  });
}

/// One attention: Q.(K^T V), and which channels of Q and K meet as feature r of all its heads.
struct Attention {
  ValueId q, k;                                   ///< feature maps [1,C,...]
  ValueId kv;                                     ///< [..., d, dv]
  std::vector<std::size_t> q_channel, k_channel;  ///< per row of kv
};

/// One channel per row (axis -2) or column (axis -1) of a matrix, or nothing where they mix.
std::optional<std::vector<std::size_t>> one_channel_each(const std::vector<std::size_t>& ids,
                                                         const Shape& shape, bool rows) {
  const auto r = static_cast<std::size_t>(shape[shape.size() - 2]),
             c = static_cast<std::size_t>(shape.back());
  const std::size_t heads = ids.size() / (r * c), lines = rows ? r : c, length = rows ? c : r;
  std::vector<std::size_t> channel;
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t line = 0; line < lines; ++line) {
      const auto at = [&](std::size_t i) {
        return ids[h * r * c + (rows ? line * c + i : i * c + line)];
      };
      for (std::size_t i = 1; i < length; ++i)
        if (at(i) != at(0)) return std::nullopt;
      channel.push_back(at(0));
    }
  if (std::set<std::size_t>(channel.begin(), channel.end()).size() != channel.size())
    return std::nullopt;
  return channel;
}

std::optional<Attention> attention_at(const Graph& graph, const Node& node) {
  if (!is_product(graph, &node)) return std::nullopt;
  ValueId kv = node.inputs[1];
  // Factors between the two products do not change which rows are large.
  for (const Node* n = producer(graph, kv); n && is_scalar_product(graph, *n);
       n = producer(graph, kv))
    kv = n->inputs[0];
  const Node* inner = producer(graph, kv);
  if (!is_product(graph, inner)) return std::nullopt;
  const ValueId q = viewed(graph, node.inputs[0]), k = viewed(graph, inner->inputs[0]);
  if (q == k || !is_feature_map(graph, q) || !is_feature_map(graph, k) ||
      !feeds_products_only(graph, q) || !feeds_products_only(graph, k))
    return std::nullopt;
  const auto q_channel = one_channel_each(channels_of_view(graph, q, node.inputs[0]),
                                          graph.value(node.inputs[0]).type.shape, false);
  const auto k_channel = one_channel_each(channels_of_view(graph, k, inner->inputs[0]),
                                          graph.value(inner->inputs[0]).type.shape, true);
  if (!q_channel || !k_channel || q_channel->size() != k_channel->size()) return std::nullopt;
  return Attention{q, k, kv, *q_channel, *k_channel};
}

/// Sum of squares and largest magnitude of something seen again and again.
struct Seen {
  double squares = 0, largest = 0, count = 0;
  void add(double v) {
    squares += v * v;
    largest = std::max(largest, std::abs(v));
    count += 1;
  }
  double mean_square() const { return count > 0 ? squares / count : 0; }
};

/// What the choice of factors looks at, per feature.
struct Measured {
  std::vector<Seen> q, kv, mean;
  explicit Measured(std::size_t features) : q(features), kv(features), mean(features) {}
};

/// `lines` runs over (channels of) the leading part of the tensor; `f` gets each line's values.
template <class F>
void for_each_line(const Tensor& t, std::size_t lines, F&& f) {
  const auto values = t.as<float>();
  const std::size_t each = values.size() / lines;
  for (std::size_t i = 0; i < lines; ++i) f(i, values.subspan(i * each, each));
}

void observe(const Attention& a, ValueId id, const Tensor& t, Measured& m) {
  const auto channels = static_cast<std::size_t>(t.shape()[1]);
  if (id == a.kv) {
    for_each_line(t, m.kv.size(), [&](std::size_t row, auto values) {
      for (float v : values) m.kv[row].add(v);
    });
    return;
  }
  for_each_line(t, channels, [&](std::size_t channel, auto values) {
    const auto feature = [&](const std::vector<std::size_t>& of) {
      return static_cast<std::size_t>(std::ranges::find(of, channel) - of.begin());
    };
    if (id == a.q) {
      if (const std::size_t f = feature(a.q_channel); f < m.q.size())
        for (float v : values) m.q[f].add(v);
    } else if (const std::size_t f = feature(a.k_channel); f < m.mean.size()) {
      double sum = 0;
      for (float v : values) sum += v;
      m.mean[f].add(sum / static_cast<double>(values.size()));
    }
  });
}

/// Estimated relative error of num and den with the factors c: each tensor is rounded on the grid
/// of its largest element, and the other operand weighs the error.
double cost(const Measured& m, const std::vector<double>& c) {
  double q_top = 0, kv_top = 0, mean_top = 0, q_power = 0, kv_power = 0, mean_power = 0;
  double num = 0, den = 0;
  for (std::size_t j = 0; j < c.size(); ++j) {
    q_top = std::max(q_top, m.q[j].largest / c[j]);
    kv_top = std::max(kv_top, m.kv[j].largest * c[j]);
    mean_top = std::max(mean_top, m.mean[j].largest * c[j]);
    q_power += m.q[j].mean_square() / (c[j] * c[j]);
    kv_power += m.kv[j].mean_square() * c[j] * c[j];
    mean_power += m.mean[j].mean_square() * c[j] * c[j];
    num += m.q[j].mean_square() * m.kv[j].mean_square();
    den += std::sqrt(m.q[j].mean_square() * m.mean[j].mean_square());
  }
  const double step_q = q_top / 255, step_kv = kv_top / 127, step_mean = mean_top / 255;
  const double in_num = q_power * step_kv * step_kv + kv_power * step_q * step_q;
  const double in_den = q_power * step_mean * step_mean + mean_power * step_q * step_q;
  return in_num / std::max(num, 1e-300) + in_den / std::max(den * den, 1e-300);
}

// Factors cost K a convolution of its own where it shares one with V.
constexpr double kWorthwhile = 0.8;

/// Largest factor between two features; beyond it Q runs out of codes.
constexpr double kSpread = 64;

std::vector<double> factors_for(const Measured& m) {
  double top = 0, mean_log = 0;
  for (const Seen& row : m.kv) top = std::max(top, row.largest);
  std::vector<double> logs;
  for (const Seen& row : m.kv)
    logs.push_back(-std::log2(std::max(row.largest, top / (kSpread * kSpread))));
  for (double l : logs) mean_log += l / static_cast<double>(logs.size());
  std::vector<double> best(m.kv.size(), 1.0);
  double least = cost(m, best);
  for (double p : {0.25, 0.5, 0.75, 1.0}) {
    std::vector<double> c;
    for (double l : logs) {
      const double limit = std::log2(kSpread) / 2;
      // A float, as the network's weights are: the factor and its inverse then cancel closely.
      c.push_back(static_cast<float>(std::exp2(std::clamp(p * (l - mean_log), -limit, limit))));
    }
    if (const double now = cost(m, c); now < kWorthwhile * least) {
      least = now;
      best = c;
    }
  }
  return best;
}

}  // namespace

ChannelFactors choose_equalization(const Graph& graph, SampleSource& data, std::size_t samples) {
  std::vector<Attention> attentions;
  std::set<ValueId> taken;
  for (NodeId id : graph.topological_order()) {
    const auto found = attention_at(graph, graph.node(id));
    // A feature map of two attentions would get two sets of factors.
    if (!found || taken.contains(found->q) || taken.contains(found->k)) continue;
    taken.insert({found->q, found->k});
    attentions.push_back(*found);
  }
  ChannelFactors factors;
  if (attentions.empty()) return factors;
  std::vector<Measured> measured;
  for (const Attention& a : attentions) measured.emplace_back(a.k_channel.size());
  Executor executor(graph);
  Sample sample;
  data.rewind();
  for (std::size_t n = 0; n < samples && data.next(sample); ++n)
    executor.run(sample.inputs, [&](ValueId id, const Tensor& t) {
      for (std::size_t i = 0; i < attentions.size(); ++i)
        if (id == attentions[i].q || id == attentions[i].k || id == attentions[i].kv)
          observe(attentions[i], id, t, measured[i]);
    });
  for (std::size_t i = 0; i < attentions.size(); ++i) {
    const std::vector<double> c = factors_for(measured[i]);
    if (std::ranges::all_of(c, [](double v) { return v == 1.0; })) continue;
    const auto put = [&](ValueId tensor, const std::vector<std::size_t>& channel, bool inverse) {
      const Value& value = graph.value(tensor);
      std::vector<double> all(static_cast<std::size_t>(value.type.shape[1]), 1.0);
      for (std::size_t f = 0; f < c.size(); ++f)
        all[channel[f]] = inverse ? static_cast<float>(1.0 / c[f]) : c[f];
      factors[value.name] = std::move(all);
    };
    put(attentions[i].k, attentions[i].k_channel, false);
    put(attentions[i].q, attentions[i].q_channel, true);
  }
  spdlog::debug("equalize: {} of {} linear attentions", factors.size() / 2, attentions.size());
  return factors;
}

void apply_equalization(Graph& graph, const ChannelFactors& factors) {
  for (const auto& [name, channels] : factors) {
    const auto found = graph.find_value(name);
    const auto refuse = [&tensor = name](std::string what) {
      throw Error(ErrorCode::data, fmt::format("equalization of tensor '{}'", tensor),
                  std::move(what), "calibrate this model again, with the same rewrites");
    };
    if (!found) refuse("the network has no such tensor");
    const Value value = graph.value(*found);
    if (value.type.shape.size() < 2 ||
        value.type.shape[1] != static_cast<std::int64_t>(channels.size()) ||
        !value.producer.valid())
      refuse(fmt::format("{} factors for {}", channels.size(), to_string(value.type)));
    Shape shape(value.type.shape.size() - 1, 1);
    shape.front() = value.type.shape[1];
    const ValueId c = graph.add_constant(
        name + "_factors",
        Tensor::from<float>(shape, std::vector<float>(channels.begin(), channels.end())));
    const Node& node = graph.node(value.producer);
    const std::string origin = node.origin.empty() ? node.name : node.origin;
    const std::vector<NodeId> users = value.uses;
    const ValueId scaled = graph.emit("Mul", name + "_equalized", {*found, c}, {}, origin);
    for (NodeId user : users)
      for (std::size_t i = 0; i < graph.node(user).inputs.size(); ++i)
        if (graph.node(user).inputs[i] == *found) graph.set_input(user, i, scaled);
  }
}

}  // namespace waveq
