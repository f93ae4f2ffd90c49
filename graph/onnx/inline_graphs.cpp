#include "onnx/inline_graphs.h"

#include <fmt/format.h>
#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <map>
#include <set>

#include "waveq/graph/error.h"

namespace waveq {

namespace {

using google::protobuf::RepeatedPtrField;
using Nodes = RepeatedPtrField<onnx::NodeProto>;
/// What the values of a body are called where it is put in. Names that are not in it belong to the
/// scope around.
using Names = std::map<std::string, std::string>;

constexpr int kMaxDepth = 64;
constexpr int kMaxNodes = 1000000;

[[noreturn]] void too_large(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::unsupported, where, what, "export the model without local functions");
}

/// Hands out names that are not taken yet.
class FreshNames {
 public:
  explicit FreshNames(const onnx::GraphProto& graph) {
    for (const auto& t : graph.initializer()) taken_.insert(t.name());
    for (const auto& v : graph.input()) taken_.insert(v.name());
    for (const auto& v : graph.output()) taken_.insert(v.name());
    for (const auto& n : graph.node()) taken_.insert(n.output().begin(), n.output().end());
  }
  std::string operator()(const std::string& prefix, const std::string& name) {
    std::string fresh = prefix + "/" + name;
    while (!taken_.insert(fresh).second) fresh += "_";
    return fresh;
  }

 private:
  std::set<std::string> taken_;
};

std::string mapped(const Names& names, const std::string& name) {
  const auto it = names.find(name);
  return it == names.end() ? name : it->second;
}

std::string called(const onnx::NodeProto& node) {
  if (!node.name().empty()) return node.name();
  return node.output_size() > 0 ? node.output(0) : node.op_type();
}

/// Renames what a node reads and makes, inside of its subgraphs too.
void rename(onnx::NodeProto& node, const Names& names, const std::string& prefix,
            FreshNames& fresh) {
  for (auto& in : *node.mutable_input()) in = mapped(names, in);
  for (auto& out : *node.mutable_output()) out = mapped(names, out);
  if (!node.name().empty()) node.set_name(prefix + "/" + node.name());
  for (auto& attribute : *node.mutable_attribute()) {
    if (!attribute.has_g()) continue;
    onnx::GraphProto& body = *attribute.mutable_g();
    Names inner = names;
    const auto define = [&](const std::string& name) {
      if (!name.empty()) inner[name] = fresh(prefix, name);
    };
    for (const auto& v : body.input()) define(v.name());
    for (const auto& t : body.initializer()) define(t.name());
    for (const auto& n : body.node())
      for (const auto& out : n.output()) define(out);
    for (auto& v : *body.mutable_input()) v.set_name(mapped(inner, v.name()));
    for (auto& t : *body.mutable_initializer()) t.set_name(mapped(inner, t.name()));
    for (auto& n : *body.mutable_node()) rename(n, inner, prefix, fresh);
    for (auto& v : *body.mutable_output()) v.set_name(mapped(inner, v.name()));
  }
}

// ---- Functions.

using FunctionKey = std::pair<std::string, std::string>;  ///< domain, name

std::int64_t default_opset(const RepeatedPtrField<onnx::OperatorSetIdProto>& imports) {
  for (const auto& import : imports)
    if (import.domain().empty() || import.domain() == "ai.onnx") return import.version();
  return 0;
}

std::map<FunctionKey, onnx::FunctionProto> functions_to_inline(const onnx::ModelProto& model) {
  std::map<FunctionKey, onnx::FunctionProto> functions;
  std::set<FunctionKey> ambiguous;
  const std::int64_t opset = default_opset(model.opset_import());
  for (const auto& f : model.functions()) {
    const FunctionKey key{f.domain(), f.name()};
    const std::int64_t own = default_opset(f.opset_import());
    const bool knows_all = f.GetReflection()->GetUnknownFields(f).empty();
    if (!functions.emplace(key, f).second || !knows_all || (own != 0 && own != opset))
      ambiguous.insert(key);
  }
  for (const FunctionKey& key : ambiguous) functions.erase(key);
  return functions;
}

/// An attribute that refers to one of the call takes its value, or is left out where the call has
/// none.
void resolve_attributes(onnx::NodeProto& node, const onnx::NodeProto& call) {
  RepeatedPtrField<onnx::AttributeProto> resolved;
  for (const auto& a : node.attribute()) {
    if (a.ref_attr_name().empty()) {
      *resolved.Add() = a;
      if (a.has_g())
        for (auto& inner : *resolved.rbegin()->mutable_g()->mutable_node())
          resolve_attributes(inner, call);
      continue;
    }
    for (const auto& given : call.attribute()) {
      if (given.name() != a.ref_attr_name()) continue;
      *resolved.Add() = given;
      resolved.rbegin()->set_name(a.name());
    }
  }
  node.mutable_attribute()->Swap(&resolved);
}

class FunctionInliner {
 public:
  explicit FunctionInliner(onnx::ModelProto& model)
      : model_(model), functions_(functions_to_inline(model)), fresh_(model.graph()) {}

  void run() {
    Nodes all;
    all.Swap(model_.mutable_graph()->mutable_node());
    for (const auto& node : all) add(node, 0);
  }

 private:
  void add(const onnx::NodeProto& node, int depth) {
    const auto it = functions_.find({node.domain(), node.op_type()});
    if (it == functions_.end() || node.output_size() > it->second.output_size()) {
      if (model_.graph().node_size() >= kMaxNodes)
        too_large("the model", fmt::format("has more than {} nodes in its functions", kMaxNodes));
      *model_.mutable_graph()->add_node() = node;
      return;
    }
    const onnx::FunctionProto& f = it->second;
    if (depth == kMaxDepth)
      too_large(fmt::format("function '{}'", f.name()), "calls itself, or is nested too deeply");
    const std::string prefix = called(node);
    Names names;
    for (int i = 0; i < f.input_size(); ++i)
      names[f.input(i)] = i < node.input_size() ? node.input(i) : std::string();
    for (const auto& inner : f.node())
      for (const auto& out : inner.output())
        if (!out.empty() && !names.contains(out)) names[out] = fresh_(prefix, out);
    // Outputs take the call's names; one that is an input, or the same twice, is handed through.
    std::set<std::string> given(f.input().begin(), f.input().end());
    std::vector<std::pair<std::string, std::string>> copies;
    for (int i = 0; i < f.output_size() && i < node.output_size(); ++i) {
      if (node.output(i).empty()) continue;
      if (given.insert(f.output(i)).second)
        names[f.output(i)] = node.output(i);
      else
        copies.emplace_back(f.output(i), node.output(i));
    }
    for (onnx::NodeProto inner : f.node()) {
      resolve_attributes(inner, node);
      rename(inner, names, prefix, fresh_);
      add(inner, depth + 1);
    }
    for (const auto& [from, to] : copies) {
      onnx::NodeProto copy;
      copy.set_op_type("Identity");
      copy.add_input(mapped(names, from));
      copy.add_output(to);
      add(copy, depth);
    }
  }

  onnx::ModelProto& model_;
  std::map<FunctionKey, onnx::FunctionProto> functions_;
  FreshNames fresh_;
};

// ---- If.

/// The nodes of the branch, in place of the If.
Nodes branch_nodes(const onnx::NodeProto& node, const onnx::GraphProto& branch, FreshNames& fresh,
                   onnx::GraphProto& graph) {
  const std::string prefix = called(node);
  Names names;
  for (const auto& t : branch.initializer()) names[t.name()] = fresh(prefix, t.name());
  for (const auto& n : branch.node())
    for (const auto& out : n.output())
      if (!out.empty()) names[out] = fresh(prefix, out);
  std::set<std::string> given;
  Nodes nodes;
  std::vector<std::pair<std::string, std::string>> copies;
  for (int i = 0; i < branch.output_size() && i < node.output_size(); ++i) {
    const std::string& name = branch.output(i).name();
    if (names.contains(name) && given.insert(name).second)
      names[name] = node.output(i);
    else
      copies.emplace_back(name, node.output(i));
  }
  for (const auto& t : branch.initializer()) {
    *graph.add_initializer() = t;
    graph.mutable_initializer()->rbegin()->set_name(mapped(names, t.name()));
  }
  for (const auto& n : branch.node()) {
    *nodes.Add() = n;
    rename(*nodes.rbegin(), names, prefix, fresh);
  }
  for (const auto& [from, to] : copies) {
    onnx::NodeProto& copy = *nodes.Add();
    copy.set_op_type("Identity");
    copy.add_input(mapped(names, from));
    copy.add_output(to);
  }
  return nodes;
}

bool is_if(const onnx::NodeProto& node) {
  return node.op_type() == "If" && (node.domain().empty() || node.domain() == "ai.onnx") &&
         node.input_size() == 1;
}

const onnx::GraphProto* branch_of(const onnx::NodeProto& node, bool taken) {
  for (const auto& a : node.attribute())
    if (a.name() == (taken ? "then_branch" : "else_branch") && a.has_g()) return &a.g();
  return nullptr;
}

}  // namespace

void inline_functions(onnx::ModelProto& model) {
  if (model.functions_size() > 0) FunctionInliner(model).run();
}

void inline_branches(onnx::ModelProto& model, const Condition& condition) {
  onnx::GraphProto& graph = *model.mutable_graph();
  std::set<std::string> open;  // conditions that depend on the data
  FreshNames fresh(graph);
  for (int at = 0; at < graph.node_size();) {
    const onnx::NodeProto node = graph.node(at);
    const auto taken = is_if(node) && !open.contains(node.input(0))
                           ? condition(model, node.input(0))
                           : std::nullopt;
    const onnx::GraphProto* branch = taken ? branch_of(node, *taken) : nullptr;
    if (!branch) {
      if (is_if(node)) open.insert(node.input(0));
      ++at;
      continue;
    }
    Nodes nodes = branch_nodes(node, *branch, fresh, graph);
    if (graph.node_size() + nodes.size() > kMaxNodes)
      too_large("the model", fmt::format("has more than {} nodes in its branches", kMaxNodes));
    // The branch's nodes may hold further Ifs: they are next.
    Nodes all;
    for (int i = 0; i < graph.node_size(); ++i) {
      if (i != at)
        all.Add()->Swap(graph.mutable_node(i));
      else
        for (auto& inner : nodes) all.Add()->Swap(&inner);
    }
    graph.mutable_node()->Swap(&all);
  }
}

onnx::ModelProto part_that_computes(const onnx::ModelProto& model, const std::string& value) {
  const onnx::GraphProto& graph = model.graph();
  std::map<std::string, int> producers;
  for (int i = 0; i < graph.node_size(); ++i)
    for (const auto& out : graph.node(i).output()) producers.emplace(out, i);
  std::set<std::string> wanted;
  std::set<int> nodes;
  std::vector<std::string> pending{value};
  while (!pending.empty()) {
    const std::string name = pending.back();
    pending.pop_back();
    if (!wanted.insert(name).second) continue;
    const auto it = producers.find(name);
    if (it == producers.end() || !nodes.insert(it->second).second) continue;
    const auto& inputs = graph.node(it->second).input();
    pending.insert(pending.end(), inputs.begin(), inputs.end());
  }
  onnx::ModelProto part;
  part.set_ir_version(model.ir_version());
  *part.mutable_opset_import() = model.opset_import();
  *part.mutable_functions() = model.functions();
  *part.mutable_graph()->mutable_input() = graph.input();
  for (const auto& t : graph.initializer())
    if (wanted.contains(t.name())) *part.mutable_graph()->add_initializer() = t;
  for (int i : nodes) *part.mutable_graph()->add_node() = graph.node(i);
  part.mutable_graph()->add_output()->set_name(value);
  return part;
}

}  // namespace waveq
