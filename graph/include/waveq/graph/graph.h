#pragma once

#include <compare>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "waveq/graph/quant.h"
#include "waveq/graph/tensor.h"

namespace waveq {

/// What an attribute of a node holds.
using Attr = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>,
                          std::vector<double>, std::vector<std::string>, Tensor>;

/// Named attributes of a node, ordered by name. Lookups are tolerant of spelling, not of meaning:
/// an int may be stored as a float with an integral value or as a one-element tensor.
class Attrs {
 public:
  /// Adds it, or replaces one of that name.
  void set(std::string name, Attr value) {
    values_.insert_or_assign(std::move(name), std::move(value));
  }
  void erase(std::string_view name);  ///< none of that name: nothing happens
  bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
  const Attr* find(std::string_view name) const;  ///< null where absent

  /// Value or `fallback` when absent. \throws Error{parse} when present with another kind.
  std::int64_t get_int(std::string_view name, std::int64_t fallback) const;
  double get_float(std::string_view name, double fallback) const;
  std::string get_string(std::string_view name, std::string_view fallback) const;
  std::vector<std::int64_t> get_ints(std::string_view name,
                                     std::vector<std::int64_t> fallback) const;
  /// As above; absent is an Error{parse} too.
  std::int64_t require_int(std::string_view name) const;
  std::vector<std::int64_t> require_ints(std::string_view name) const;

  /// In the order of their names.
  const std::map<std::string, Attr, std::less<>>& all() const { return values_; }
  friend bool operator==(const Attrs&, const Attrs&) = default;

 private:
  std::map<std::string, Attr, std::less<>> values_;
};

/// "axes=[2] keepdims=0"; tensors are abbreviated.
std::string to_string(const Attrs& attrs);

/// Addresses a value of one graph; valid until Graph::compact.
struct ValueId {
  std::int32_t index = -1;
  bool valid() const { return index >= 0; }
  friend auto operator<=>(ValueId, ValueId) = default;
};
/// Addresses a node of one graph; valid until Graph::compact.
struct NodeId {
  std::int32_t index = -1;
  bool valid() const { return index >= 0; }
  friend auto operator<=>(NodeId, NodeId) = default;
};

/// A tensor that flows through the graph.
struct Value {
  std::string name;  ///< unique in the graph
  TensorType type;   ///< undefined dtype where not even inference knows it
  std::shared_ptr<const Tensor>
      constant;  ///< weights and other known tensors; shared by copies of the graph
  std::optional<QuantParams> quant;  ///< meaning of integer elements where one scale applies
  NodeId producer;                   ///< invalid for graph inputs and constants
  std::vector<NodeId> uses;          ///< one entry per consuming input slot, in order of insertion
};

/// An operator applied to values.
struct Node {
  std::string op;  ///< operator type; the ONNX domain does not matter (as for Deeploy)
  std::string
      name;  ///< as in the user's model; unique, given by the reader where the model has none
  std::vector<ValueId> inputs;   ///< an invalid id is an absent optional input
  std::vector<ValueId> outputs;  ///< an invalid id is an unused optional output
  Attrs attrs;                   ///< as the operator names them
  std::string origin;            ///< name of the user's node this one came from
  bool removed = false;          ///< stays in the arena until compact(), without links
};

/// A computation: arenas of values and nodes addressed by id. A value type: copying it is a
/// snapshot (constants are shared). Ids stay valid until compact(). Node order is not significant;
/// `topological_order` is derived.
class Graph {
 public:
  std::string name;  ///< the model's
  /// Version of the default ONNX operator set the model was written for.
  std::int64_t opset = 13;

  // Reading. An id that is invalid or another graph's is std::out_of_range at the latest.
  // A reference stays valid while values and nodes are added and nodes removed, until compact() or
  // an assignment to the graph; what it shows follows every change.
  const Value& value(ValueId id) const { return values_.at(static_cast<std::size_t>(id.index)); }
  const Node& node(NodeId id) const { return nodes_.at(static_cast<std::size_t>(id.index)); }
  const std::vector<ValueId>& inputs() const { return inputs_; }    ///< in the model's order
  const std::vector<ValueId>& outputs() const { return outputs_; }  ///< in the model's order
  std::size_t value_count() const {
    return values_.size();
  }                                                         ///< arena size, unused values included
  std::size_t node_count() const { return nodes_.size(); }  ///< arena size, removed nodes included
  std::vector<NodeId> nodes() const;                        ///< live nodes in order of insertion
  std::optional<ValueId> find_value(std::string_view name) const;  ///< the value of that name
  bool is_constant(ValueId id) const { return id.valid() && value(id).constant != nullptr; }
  const Tensor& constant(ValueId id) const;  ///< \throws Error{internal} when not constant
  bool is_output(ValueId id) const;
  /// Number of consuming input slots plus number of times it is a graph output.
  std::size_t use_count(ValueId id) const;
  /// Kahn's algorithm, ties by insertion order: deterministic. \throws Error{parse} naming a cycle.
  std::vector<NodeId> topological_order() const;

  // Writing. Names are made unique by appending _1, _2, ...
  ValueId add_input(std::string name, TensorType type);
  ValueId add_constant(std::string name, Tensor tensor);
  ValueId add_constant(std::string name, std::shared_ptr<const Tensor> tensor);
  ValueId add_value(std::string name, TensorType type = {});  ///< for a node to produce
  void add_output(ValueId id) { outputs_.push_back(id); }     ///< behind those there are
  /// Appends a node that produces `outputs` (each without producer so far).
  NodeId add_node(Node node);
  /// Convenience: node with one fresh output of the given name, typed by the operator's inference.
  /// \throws Error{shape} from inference.
  ValueId emit(std::string op, std::string node_name, std::vector<ValueId> inputs, Attrs attrs = {},
               std::string origin = {});
  void set_type(ValueId id, TensorType type) { at(id).type = std::move(type); }
  void set_quant(ValueId id, std::optional<QuantParams> quant) { at(id).quant = quant; }
  void set_constant(ValueId id, Tensor tensor);  ///< detaches the producer, if any
  void set_attrs(NodeId id, Attrs attrs) { at(id).attrs = std::move(attrs); }
  /// An input that the node has, absent or not, becomes `value`. \throws std::out_of_range.
  void set_input(NodeId id, std::size_t slot, ValueId value);
  void resize_inputs(NodeId id, std::size_t count);  ///< drops trailing inputs
  /// Gives a value a new name; \throws Error{internal} when taken.
  void rename(ValueId id, std::string name);
  /// Every use of `from`, graph outputs included, becomes a use of `to`.
  void replace_uses(ValueId from, ValueId to);
  /// Removes a node whose outputs have no use left.
  void remove_node(NodeId id);
  /// Removes nodes from which no graph output is reachable; returns how many.
  std::size_t remove_dead_nodes();
  /// Drops removed nodes and unreferenced values, puts nodes in topological order; ids change.
  void compact();

  /// Checks producer/use links, name uniqueness and acyclicity. \throws Error{internal}.
  void verify() const;

 private:
  Value& at(ValueId id) { return values_.at(static_cast<std::size_t>(id.index)); }
  Node& at(NodeId id) { return nodes_.at(static_cast<std::size_t>(id.index)); }
  std::string unique_value_name(std::string name);

  std::deque<Value> values_;  // not vectors: adding must not move what references name
  std::deque<Node> nodes_;
  std::vector<ValueId> inputs_, outputs_;
  std::map<std::string, ValueId, std::less<>> by_name_;
  std::map<std::string, int, std::less<>> name_counters_;
};

/// One line per node in topological order: "y:f32[1,4] = Conv(x, w) strides=[2]   # name".
std::string dump(const Graph& graph);

}  // namespace waveq
