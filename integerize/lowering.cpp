#include "lowering.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "join_sums.h"
#include "lowering/rules.h"
#include "precision.h"
#include "shape_for_target.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

constexpr std::int64_t kLevels16 = 65536;
Width width_of(const QuantParams& q) { return q.n_levels > 256 ? Width::bits16 : Width::bits8; }

}  // namespace

Lowering::Lowering(const Graph& source, RangeLookup ranges, IntegerizeOptions options)
    : source_(source),
      ranges_(std::move(ranges)),
      options_(std::move(options)),
      quantizer_(make_quantizer(options_.quantizer)),
      chains_(source) {
  out_.name = source.name;
  // The dialect's attribute forms are those of opset 9 to 11 (deeploy-dialect.md 2); Pad's end
  // with 10.
  out_.opset = 10;
}

Width Lowering::width(std::string_view op) const {
  return options_.target.int16.contains(op) ? Width::bits16 : Width::bits8;
}

QuantSpec Lowering::spec(Signedness signedness, Width width) const {
  return {width == Width::bits16 ? kLevels16 : options_.activation_levels, signedness};
}

QuantParams Lowering::levels(double scale, bool is_signed, Width width) const {
  QuantParams q;
  q.scale = scale;
  q.n_levels = spec(Signedness::automatic, width).n_levels;
  q.is_signed = is_signed;
  return q;
}

Range Lowering::range(ValueId value, const QuantSpec& levels) const {
  const std::string& name = source_.value(value).name;
  if (const auto found = ranges_(name, levels)) return *found;
  throw Error(ErrorCode::data, fmt::format("tensor '{}'", name), "no range was recorded for it",
              "calibrate this model, with the same rewrites, and pass that table");
}

std::vector<double> Lowering::code_counts(ValueId value, QuantParams quant) const {
  quant.n_levels = 256;
  std::vector<double> counts;
  if (options_.code_counts) counts = options_.code_counts(source_.value(value).name, quant);
  counts.resize(256, 0.0);
  return counts;
}

QuantSpec Lowering::on_grid(ValueId value, const Range& range, QuantSpec own) const {
  const auto it = options_.grids.find(source_.value(value).name);
  if (it == options_.grids.end()) return own;
  const bool is_signed = own.signedness == Signedness::signed_ ||
                         (own.signedness == Signedness::automatic && range.lo < 0);
  const TensorGrid& grid = it->second;
  own.n_levels =
      std::min(own.n_levels, own.signedness == Signedness::affine ? grid.hi - grid.lo + 1
                                                                  : grid.n_levels(is_signed));
  return own;
}

QuantParams Lowering::wanted(ValueId value, Signedness signedness) const {
  const QuantSpec own = spec(signedness, wide_.contains(value) ? Width::bits16 : Width::bits8);
  Range r = range(value, own);
  if (signedness == Signedness::unsigned_) r = {0.0, std::max(r.hi, 0.0)};
  return quantizer_(r, on_grid(value, r, own));
}

std::string Lowering::name_for(ValueId value, std::string_view suffix) const {
  // Deeploy keeps letters, digits and underscores and deletes the rest; distinct names must stay
  // distinct.
  std::string name = source_.value(value).name;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  const std::size_t first = name.find_first_not_of('_');
  return (first == std::string::npos ? std::string("t") : name.substr(first)) + std::string(suffix);
}

ValueId Lowering::emit(const std::string& op, const std::string& name, std::vector<ValueId> inputs,
                       Attrs attrs, const std::string& origin) {
  const std::string& from = !origin.empty() ? origin
                            : node_         ? (node_->origin.empty() ? node_->name : node_->origin)
                                            : name;
  return out_.emit(op, name, std::move(inputs), std::move(attrs), from);
}

ValueId Lowering::transpose(ValueId x, const std::vector<std::int64_t>& perm,
                            const std::string& name) {
  const auto key = std::pair{x, perm};
  if (const auto it = transposes_.find(key); it != transposes_.end()) return it->second;
  Attrs attrs;
  attrs.set("perm", perm);
  return transposes_[key] = emit("Transpose", name, {x}, std::move(attrs));
}

ValueId Lowering::constant_i64(const std::string& name, const std::vector<std::int64_t>& values) {
  return out_.add_constant(
      name, Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values));
}

void Lowering::define(ValueId value, Quantity quantity) {
  quantities_[value] = std::move(quantity);
}

void Lowering::define(ValueId value, const Activation& activation) {
  Quantity q;
  q.id = activation.id;
  q.scale = {activation.quant.scale};
  quantities_[value] = q;
  activations_[{value, activation.quant.is_signed, 0.0, width_of(activation.quant)}] = activation;
  carries(value, activation);
}

void Lowering::define_with_own_scales(ValueId value, Quantity quantity) {
  own_scales_.insert(value);
  define(value, std::move(quantity));
}

void Lowering::carries(ValueId value, const Activation& a) {
  correspondences_.push_back(
      {source_.value(value).name, out_.value(a.id).name, a.quant.scale, a.quant.zero_point});
}

const Quantity& Lowering::quantity(ValueId value) {
  const auto it = quantities_.find(value);
  if (it == quantities_.end())
    refuse(source_.is_constant(value)
               ? fmt::format("operand '{}' is a constant where an activation is needed",
                             source_.value(value).name)
               : fmt::format("operand '{}' has no integer form", source_.value(value).name));
  return it->second;
}

Quantity Lowering::accumulator(ValueId value) {
  Quantity q = quantity(value);
  if (q.relu || q.upper > 0) {
    const Activation a = activation(value);
    Quantity clipped;
    clipped.id = a.id;
    clipped.scale = {a.quant.scale};
    return clipped;
  }
  if (q.linear) {
    // A bias far beyond the weights needs coarser ones, which the value's own requant chooses.
    if (!q.linear->emitted() && !only_refusals_ && q.linear->has_offset() &&
        !requant_for(*q.linear, plain_weights(*q.linear), wanted(value), options_.requant, nullptr))
      activation(value);
    if (!q.linear->emitted()) emit_plain(*q.linear);
    q.id = q.linear->accumulator;
    q.scale = q.linear->scale;
    q.offset = q.linear->offset;
  }
  return q;
}

void Lowering::assign_precision() {
  const auto takes_16 = [&](std::initializer_list<std::string_view> ops) {
    return std::ranges::all_of(ops,
                               [&](std::string_view op) { return width(op) == Width::bits16; });
  };
  std::set<ValueId> wide;
  if (takes_16({"RequantShift", "Add", "Sub", "Conv", "MatMul"}))
    wide = values_of_streams(source_, chains_);
  if (target_runs("ReduceMax") && takes_16({"RequantShift", "ReduceMax", "Sub"}))
    wide.merge(values_of_distances(source_));
  // A tensor whose grid the model states keeps it.
  std::erase_if(wide, [&](ValueId v) { return options_.grids.contains(source_.value(v).name); });
  wide_ = values_of_16_bits(source_, options_.precision, std::move(wide));
  weight_levels_of_ = weight_levels_by_rule(source_, options_.weight_levels_of);
}

double Lowering::largest_code(ValueId value, Width reader) const {
  if (carried(value, reader) == Width::bits8) return 255.0;
  const Quantity& q = quantities_.at(value);
  const bool has_codes = q.id.valid() && size_of(out_.value(q.id).type.dtype) == 2;
  const bool is_unsigned =
      has_codes ? out_.value(q.id).type.dtype == DType::u16
                : q.relu || range(value, spec(Signedness::automatic, reader)).lo >= 0;
  return is_unsigned ? 65535.0 : 32768.0;
}

Width Lowering::width_within(std::string_view op, ValueId value, double others) const {
  const Width widest = width(op);
  return largest_code(value, widest) * others <= 0x1p31 ? widest : Width::bits8;
}

std::int64_t Lowering::weight_levels() const {
  const auto found = weight_levels_of_.find(node().outputs.front());
  return found == weight_levels_of_.end() ? options_.weight_levels : found->second;
}

/// 16 bits where the reader takes them and the value is given them, or has them already. What is
/// there in 8 bits does not become finer.
Width Lowering::carried(ValueId value, Width reader) const {
  if (reader == Width::bits8) return Width::bits8;
  const Quantity& q = quantities_.at(value);
  const std::size_t bytes = q.id.valid() ? size_of(out_.value(q.id).type.dtype) : 4;
  return bytes == 2 || (bytes > 2 && wide_.contains(value)) ? Width::bits16 : Width::bits8;
}

IntegerNetwork Lowering::run() {
  assign_precision();
  for (ValueId in : source_.inputs()) {
    if (source_.is_constant(in)) continue;
    const Value& value = source_.value(in);
    if (value.type.dtype != DType::f32)
      throw Error(ErrorCode::unsupported, fmt::format("input '{}'", value.name),
                  fmt::format("is {}, not a float tensor", to_string(value.type)));
    const auto state =
        width("RequantShift") == Width::bits16 ? codes_of_state(source_, in) : std::nullopt;
    const QuantParams quant = state ? *state : own_codes(in).value_or(wanted(in));
    const ValueId id = out_.add_input(value.name, {quant.storage(), value.type.shape});
    out_.set_quant(id, quant);
    define(in, Activation{id, quant});
  }
  for (NodeId id : source_.topological_order()) lower(id);
  refuse_constant_outputs();
  if (!refusals_.empty()) return {};
  for (ValueId out : source_.outputs()) {
    node_ =
        source_.value(out).producer.valid() ? &source_.node(source_.value(out).producer) : nullptr;
    out_.add_output(separate_output(out, activation(out, width("RequantShift"))).id);
  }
  out_.remove_dead_nodes();
  return {std::move(out_), std::move(correspondences_), std::move(weight_origins_)};
}

/// A network output is a tensor of its own, made by a node, that says itself what it means. An
/// input, a second output of the same value, a tensor that a constant factor gave another scale and
/// one that only regroups another (the consumer makes it a pointer to that one, which its caller
/// never sees) get a requant by one.
Activation Lowering::separate_output(ValueId value, const Activation& a) {
  const Value& carrier = out_.value(a.id);
  const bool is_alias = [&] {
    if (!carrier.producer.valid()) return true;
    const std::string& op = out_.node(carrier.producer).op;
    return op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze";
  }();
  if (!is_alias && carrier.quant == a.quant && !out_.is_output(a.id)) return a;
  std::vector<double> offset;
  if (a.quant.zero_point != 0) offset = {-a.quant.scale * static_cast<double>(a.quant.zero_point)};
  return requant_vector(a.id, {a.quant.scale}, offset, a.quant, true, name_for(value, "_out"));
}

void Lowering::refuse_constant_outputs() {
  for (ValueId out : source_.outputs())
    if (source_.is_constant(out))
      refusals_.push_back({source_.value(out).name, "output",
                           "it is the same for every input; remove it from the model's outputs"});
}

void Lowering::lower(NodeId id) {
  const Node& node = source_.node(id);
  node_ = &node;
  const LoweringRule* rule = find_lowering(node.op);
  const bool reads_guess =
      std::ranges::any_of(node.inputs, [&](ValueId in) { return guessed_.contains(in); });
  if (reads_guess) guessed_.insert(node.outputs.begin(), node.outputs.end());
  const auto typed = [&](ValueId v) { return !v.valid() || source_.value(v).type.known(); };
  const bool known = rule || (find_op(node.op) && !needs_table(node));
  if (known &&
      !(std::ranges::all_of(node.inputs, typed) && std::ranges::all_of(node.outputs, typed)))
    return stand_in_for_outputs(node);  // behind an operator that is refused as unknown
  try {
    if (lower_chain(node)) return;
    if (!rule && needs_table(node)) {
      const bool ends = source_.is_output(node.outputs.front()) &&
                        (node.op == "Sigmoid" || node.op == "Tanh" || node.op == "Exp");
      refuse(fmt::format("it takes a lookup table, which {} does not run; {}", options_.target.name,
                         ends ? "it keeps the order of its input: a network may end in front of it"
                              : "`waveq targets` lists targets with the operator Table"));
    }
    if (node.op == "If")
      refuse("its branch is chosen at run time; export the model with one branch alone");
    if (!rule)
      refuse(find_op(node.op) ? "waveq has no integer form for this operator yet"
                              : "waveq does not know this operator");
    rule->apply(*this, node);
  } catch (const Refused& r) {
    // What a division asks of its operands says nothing about one that is made up.
    if (node.op != "Div" || !reads_guess)
      refusals_.push_back({node.origin.empty() ? node.name : node.origin, node.op, r.reason});
    stand_in_for_outputs(node);
  } catch (Error& e) {
    if (!only_refusals_ || e.code() == ErrorCode::internal)
      throw e.while_doing(fmt::format("lowering {} to integers", place(node)));
    stand_in_for_outputs(node);
  }
}

/// A node that is part of a chain of elementwise operators: one table for the whole chain where its
/// result is read, nothing for what is in between.
bool Lowering::lower_chain(const Node& node) {
  if (!target_runs("Table")) return false;
  const ValueId y = node.outputs.front();
  const auto x = chains_.source(y);
  if (!x) return false;
  if (!chains_.is_read(y)) return true;
  if (source_.value(y).type.dtype != DType::f32) return false;  // a condition on its own
  lower_table(*this, *x, y);
  return true;
}

void Lowering::run_for_refusals() {
  only_refusals_ = true;
  assign_precision();
  for (ValueId in : source_.inputs()) {
    if (source_.is_constant(in)) continue;
    const QuantParams quant = levels(1.0, true, Width::bits8);
    const ValueId id =
        out_.add_input(source_.value(in).name, {quant.storage(), source_.value(in).type.shape});
    out_.set_quant(id, quant);
    define(in, Activation{id, quant});
  }
  for (NodeId id : source_.topological_order()) lower(id);
  refuse_constant_outputs();
}

/// So that one refusal does not hide the next, its outputs count as if they were quantized inputs.
void Lowering::stand_in_for_outputs(const Node& node) {
  for (ValueId out : node.outputs) {
    if (!out.valid() || quantities_.contains(out)) continue;
    TensorType type = source_.value(out).type;
    if (!type.known()) type = {DType::f32, {1}};
    const QuantParams quant = levels(1.0, true, Width::bits8);
    const ValueId id = out_.add_input(name_for(out, "_stand_in"), {quant.storage(), type.shape});
    out_.set_quant(id, quant);
    define(out, Activation{id, quant});
    guessed_.insert(out);
  }
}

namespace {

/// Legality does not depend on the ranges, so any will do; nothing of this lowering is kept.
std::vector<NotInteger> refusals_of(const Graph& canonical, const IntegerizeOptions& options) {
  const RangeLookup any = [](const std::string&, const QuantSpec&) { return Range{-1.0, 1.0}; };
  std::optional<ShapedNetwork> shaped;
  if (asks_for_shape(options.target)) shaped = shape_for_target(canonical, any, options);
  Lowering lowering(shaped ? shaped->graph : canonical, any, options);
  lowering.run_for_refusals();
  return lowering.refusals();
}

/// How many tensors the recipe gives 16 bits that the target does not have.
std::size_t tensors_too_wide(const Graph& canonical, const IntegerizeOptions& options) {
  if (options.target.int16.contains("RequantShift")) return 0;
  return values_of_16_bits(canonical, options.precision, {}).size();
}

/// With the abilities that count for this network, and what follows from them.
IntegerizeOptions settled(const Graph& canonical, IntegerizeOptions options) {
  const std::vector<TargetAbilities> of = std::move(options.target.integers_of);
  for (const TargetAbilities& target : of) {
    const std::string name = options.target.name;
    options.target = target;
    options.target.name = name;
    options = settled(canonical, std::move(options));
    if (tensors_too_wide(canonical, options) == 0 && refusals_of(canonical, options).empty()) break;
  }
  // Where sums take 16 bits, or the model states a grid for each tensor, sums stay sums.
  options.join_sums &= !options.target.int16.contains("Add") && options.grids.empty();
  options.requant.max_add_per_mul = options.target.max_add_per_mul;
  options.requant.wide_products =
      options.target.wide_requants && options.requant.product_bits == 32;
  return options;
}

/// settled(). \throws Error{not_integer} where the recipe asks for widths that the target lacks.
IntegerizeOptions checked(const Graph& canonical, const IntegerizeOptions& options) {
  IntegerizeOptions out = settled(canonical, options);
  if (const std::size_t count = tensors_too_wide(canonical, out); count > 0)
    throw Error(ErrorCode::not_integer, out.target.name,
                fmt::format("has no 16-bit tensors, and the recipe asks for {}", count),
                "take a target that has them (waveq), or leave 16 bits out of the recipe");
  return out;
}

}  // namespace

namespace {

/// What is known of the network's tensors, and of those that took other forms for the target.
RangeLookup with_derived(const RangeLookup& ranges, const ShapedNetwork& shaped) {
  return [&ranges, &shaped](const std::string& tensor,
                            const QuantSpec& levels) -> std::optional<Range> {
    const auto derived = shaped.ranges.find(tensor);
    if (derived == shaped.ranges.end()) return ranges(tensor, levels);
    const auto range = ranges(derived->second.tensor, levels);
    if (!range) return std::nullopt;
    return Range{range->lo - derived->second.most, range->hi - derived->second.least};
  };
}

/// Means of the channels of columns [1,N,R]: those along the last axis of the rows that they are.
std::vector<double> means_of_columns(const IntegerizeOptions& options, const ShapedNetwork& shaped,
                                     const std::string& tensor, std::size_t axis) {
  const auto derived = shaped.ranges.find(tensor);
  const auto columns = shaped.graph.find_value(tensor);
  if (axis != 1 || derived == shaped.ranges.end() || !columns ||
      derived->second.least != derived->second.most)
    return {};
  for (std::size_t last = 1; last < 5; ++last) {
    std::vector<double> means = options.means(derived->second.tensor, last);
    if (static_cast<std::int64_t>(means.size()) != shaped.graph.value(*columns).type.shape[1])
      continue;
    for (double& m : means) m -= derived->second.least;
    return means;
  }
  return {};
}

IntegerizeOptions with_derived(IntegerizeOptions options, const ShapedNetwork& shaped) {
  if (options.means)
    options.means = [own = options, &shaped](const std::string& tensor, std::size_t axis) {
      std::vector<double> means = own.means(tensor, axis);
      return means.empty() ? means_of_columns(own, shaped, tensor, axis) : means;
    };
  for (const auto& [tensor, derived] : shaped.ranges)
    if (const auto grid = options.grids.find(derived.tensor);
        grid != options.grids.end() && derived.least == derived.most)
      options.grids.emplace(tensor, grid->second);
  options.code_counts = [counts = options.code_counts, &shaped](const std::string& tensor,
                                                                const QuantParams& grid) {
    const auto derived = shaped.ranges.find(tensor);
    return counts ? counts(derived == shaped.ranges.end() ? tensor : derived->second.tensor, grid)
                  : std::vector<double>{};
  };
  return options;
}

IntegerNetwork lower(const Graph& graph, const RangeLookup& ranges,
                     const IntegerizeOptions& options) {
  std::optional<Graph> joined;
  if (options.join_sums) joined = join_sums(graph, ranges, options);
  Lowering lowering(joined ? *joined : graph, ranges, options);
  IntegerNetwork network = lowering.run();
  if (lowering.refusals().empty()) return network;
  std::string list;
  for (const NotInteger& r : lowering.refusals())
    list += fmt::format("\n  {} '{}': {}", r.op, r.node, r.reason);
  throw Error(ErrorCode::not_integer, graph.name,
              fmt::format("{} node{} cannot be made integer:{}", lowering.refusals().size(),
                          lowering.refusals().size() == 1 ? "" : "s", list));
}

}  // namespace

IntegerNetwork integerize(const Graph& canonical, const RangeLookup& ranges,
                          const IntegerizeOptions& options) {
  const IntegerizeOptions own = checked(canonical, options);
  if (!asks_for_shape(own.target)) return lower(canonical, ranges, own);
  const ShapedNetwork shaped = shape_for_target(canonical, ranges, own);
  IntegerNetwork network =
      lower(shaped.graph, with_derived(ranges, shaped), with_derived(own, shaped));
  for (Correspondence& c : network.correspondences)
    if (const auto rows = shaped.turned.find(c.float_value); rows != shaped.turned.end()) {
      c.float_value = rows->second;
      c.turned = true;
    }
  return network;
}

std::vector<NotInteger> explain_refusals(const Graph& canonical, const IntegerizeOptions& options) {
  return refusals_of(canonical, checked(canonical, options));
}

}  // namespace waveq
