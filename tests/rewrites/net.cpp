#include "net.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "waveq/graph/executor.h"

namespace waveq::test {

ValueId Net::weight(const std::string& name, Shape shape) {
  Tensor tensor(DType::f32, std::move(shape));
  std::int64_t i = 0;
  for (float& v : tensor.as<float>()) {
    const std::int64_t step = (7 * i++) % 9;
    v = static_cast<float>(step < 4 ? step - 4 : step - 3) / 4.0f;
  }
  return graph.add_constant(name, std::move(tensor));
}

ValueId Net::ints(std::vector<std::int64_t> values) {
  const auto n = static_cast<std::int64_t>(values.size());
  return graph.add_constant("i", Tensor::from<std::int64_t>({n}, values));
}

ValueId Net::op(const std::string& name, std::vector<ValueId> inputs, Attrs attributes) {
  return graph.emit(name, name, std::move(inputs), std::move(attributes), name);
}

std::vector<ValueId> Net::typed(const std::string& name, std::vector<ValueId> inputs,
                                std::vector<TensorType> types) {
  Node node;
  node.op = node.name = node.origin = name;
  node.inputs = std::move(inputs);
  for (TensorType& type : types) node.outputs.push_back(graph.add_value(name, std::move(type)));
  const std::vector<ValueId> outputs = node.outputs;
  graph.add_node(std::move(node));
  return outputs;
}

Net& Net::output(ValueId id) {
  const std::size_t n = graph.outputs().size() + 1;
  graph.rename(id, n == 1 ? "y" : fmt::format("y{}", n));
  graph.add_output(id);
  return *this;
}

Attrs attrs(std::initializer_list<std::pair<std::string, Attr>> pairs) {
  Attrs result;
  for (const auto& [name, value] : pairs) result.set(name, value);
  return result;
}

std::vector<std::int64_t> ints(std::initializer_list<std::int64_t> values) { return values; }

namespace {

std::string constant_text(const Tensor& tensor) {
  if (tensor.dtype() == DType::f32)
    return tensor.size() == 1 ? fmt::format("{}", tensor.as<float>()[0]) : to_string(tensor.type());
  const std::string out = fmt::format("{}", fmt::join(to_int64(tensor), ","));
  return tensor.shape().empty() ? out : fmt::format("[{}]", out);
}

std::string value_text(const Graph& graph, ValueId id) {
  if (!id.valid()) return "-";
  const Value& value = graph.value(id);
  if (value.constant) return constant_text(*value.constant);
  if (!value.producer.valid()) return value.name;
  const Node& node = graph.node(value.producer);
  std::string out = node.op + "(";
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    out.append(i ? ", " : "").append(value_text(graph, node.inputs[i]));
  out += ")";
  if (const std::string text = to_string(node.attrs); !text.empty())
    out += fmt::format("{{{}}}", text);
  if (node.outputs.front() != id)
    out += fmt::format("#{}", std::ranges::find(node.outputs, id) - node.outputs.begin());
  return out;
}

/// Numbers values and writes nodes, inputs before readers.
struct Walk {
  const Graph& graph;
  std::map<ValueId, std::string> names;
  std::string text;

  void visit(ValueId root) {
    // Depth first without recursion: networks are deep.
    std::vector<ValueId> stack = {root};
    while (!stack.empty()) {
      const ValueId id = stack.back();
      if (names.contains(id)) {
        stack.pop_back();
        continue;
      }
      const Value& value = graph.value(id);
      if (value.constant || !value.producer.valid()) {
        names[id] = value.constant
                        ? (value.constant->dtype() == DType::f32 ? to_string(value.type)
                                                                 : constant_text(*value.constant))
                        : fmt::format("input:{}", to_string(value.type));
        continue;
      }
      const Node& node = graph.node(value.producer);
      bool ready = true;
      for (auto in = node.inputs.rbegin(); in != node.inputs.rend(); ++in)
        if (in->valid() && !names.contains(*in)) {
          stack.push_back(*in);
          ready = false;
        }
      if (ready) write(node);
    }
  }

  void write(const Node& node) {
    std::string outs, ins;
    for (ValueId out : node.outputs) {
      if (!out.valid()) continue;
      names[out] = fmt::format("%{}", names.size());
      outs += fmt::format("{}{}:{}", outs.empty() ? "" : ", ", names[out],
                          to_string(graph.value(out).type));
    }
    for (ValueId in : node.inputs)
      ins += fmt::format("{}{}", ins.empty() ? "" : ", ", in.valid() ? names[in] : "-");
    text += fmt::format("{} = {}({}) {}\n", outs, node.op, ins, to_string(node.attrs));
  }
};

}  // namespace

std::string expression(const Graph& graph) {
  std::string out;
  for (ValueId id : graph.outputs())
    out.append(out.empty() ? "" : "; ").append(value_text(graph, id));
  return out;
}

std::string structure(const Graph& graph) {
  Walk walk{graph, {}, {}};
  for (ValueId out : graph.outputs()) {
    walk.visit(out);
    walk.text += fmt::format("output {}\n", walk.names[out]);
  }
  return walk.text;
}

std::vector<Tensor> random_inputs(const Graph& graph, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<Tensor> tensors;
  for (ValueId id : graph.inputs()) {
    Tensor tensor(graph.value(id).type.dtype, graph.value(id).type.shape);
    for (float& v : tensor.as<float>())
      v = static_cast<float>(static_cast<double>(generator() >> 11) * 0x1p-51 - 2.0);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::size_t Rewritten::count(std::string_view rule) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(report.applied, [&](const Application& a) { return a.rule == rule; }));
}

namespace {

double tolerance(const RewriteReport& report) {
  double worst = 0.0;
  for (const Application& application : report.applied) {
    const Effect effect = find_rule(application.rule).effect;
    if (effect != Effect::exact)
      worst = std::max(worst, effect == Effect::reassociates ? 1e-5 : 1e-3);
  }
  return worst;
}

void compare(const Tensor& before, const Tensor& after, double relative) {
  REQUIRE(before.type() == after.type());
  const std::vector<double> a = to_double(before), b = to_double(after);
  double largest = 0.0, difference = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    largest = std::max(largest, std::abs(a[i]));
    difference = a[i] == b[i] ? difference : std::max(difference, std::abs(a[i] - b[i]));
  }
  if (relative == 0.0)
    CHECK(difference == 0.0);
  else
    CHECK(difference <= relative * largest);
}

}  // namespace

Rewritten rewrite_checked(const Net& net, std::vector<std::string> rules) {
  Rewritten result{net.graph, {}, {}};
  RewriteOptions options;
  options.passes = std::move(rules);
  options.verify_every = 1;
  result.report = rewrite(result.graph, options);
  result.text = expression(result.graph);
  REQUIRE(result.graph.inputs().size() == net.graph.inputs().size());
  REQUIRE(result.graph.outputs().size() == net.graph.outputs().size());
  for (std::size_t i = 0; i < net.graph.outputs().size(); ++i)
    CHECK(result.graph.value(result.graph.outputs()[i]).name ==
          net.graph.value(net.graph.outputs()[i]).name);
  Executor before(net.graph), after(result.graph);
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const std::vector<Tensor> inputs = random_inputs(net.graph, seed);
    const std::vector<Tensor> a = before.run(inputs), b = after.run(inputs);
    for (std::size_t i = 0; i < a.size(); ++i) compare(a[i], b[i], tolerance(result.report));
  }
  return result;
}

std::string refusal(const Rewritten& rewritten) {
  std::string out;
  for (const Refusal& r : rewritten.report.refused)
    out.append(out.empty() ? "" : " | ").append(r.reason);
  return out;
}

}  // namespace waveq::test
