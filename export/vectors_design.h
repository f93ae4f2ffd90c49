#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "waveq/export/vectors.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/integer_arithmetic.h"

/// What the generators of designed cases share. A generator looks at one node and adds cases.
namespace waveq::vectors_detail {

/// What an input of more than 16 bits varies over where nothing narrower is known.
constexpr Interval kWideDefault = {-(std::int64_t{1} << 20), std::int64_t{1} << 20};

using Codes = std::vector<std::int64_t>;  ///< elements of one input, row-major; floats by ordinal

/// Numbers the float32 values in their order without gaps, NaN left out: +0 is 0, -0 is -1, and the
/// neighbours of a value are at +-1.
std::int64_t ordinal_of(float x);
float at_ordinal(std::int64_t ordinal);

/// A non-constant input and the interval of each of its elements.
struct InputDomain {
  std::string name;
  TensorType type;
  std::vector<Interval> lanes;

  Interval hull() const;
  bool contains(std::size_t lane, std::int64_t x) const {
    return lanes[lane].lo <= x && x <= lanes[lane].hi;
  }
  /// x moved into the lane's interval.
  std::int64_t clamped(std::size_t lane, std::int64_t x) const;
};

class Design {
 public:
  /// `graph` holds one node; `domains` belong to its inputs, in order.
  Design(const Graph& graph, std::vector<InputDomain> domains);

  const Graph& graph() const { return graph_; }
  const Node& node() const { return graph_.node(node_); }
  const std::vector<InputDomain>& inputs() const { return domains_; }
  /// Which non-constant input fills the node's input slot; nothing for a constant or absent one.
  std::optional<std::size_t> input_of_slot(std::size_t slot) const;
  /// Elements of a constant input slot; empty where it is not constant.
  Codes constant(std::size_t slot) const;
  const Shape& shape(std::size_t slot) const {
    return graph_.value(node().inputs.at(slot)).type.shape;
  }
  const Shape& output_shape() const { return graph_.value(graph_.outputs().front()).type.shape; }

  /// The node's outputs; nothing where the arithmetic overflows, with the reason in `why`.
  std::optional<std::vector<Tensor>> evaluate(const std::vector<Codes>& inputs,
                                              std::string* why = nullptr);
  /// Adds a case; inputs that are there already get the conditions added to theirs. False, and
  /// listed as unreached, where it would overflow.
  bool add(const std::vector<std::string>& conditions, const std::vector<Codes>& inputs);
  void unreached(std::string condition, std::string why);

  std::vector<VectorCase> cases;
  std::vector<UnreachedCondition> missing;

 private:
  std::vector<Tensor> tensors(const std::vector<Codes>& inputs) const;

  const Graph& graph_;
  NodeId node_;
  std::vector<InputDomain> domains_;
  Executor executor_;
};

/// All x of a*x = r (mod m) are first + k*period.
struct Congruence {
  std::int64_t first = 0, period = 1;
  /// The smallest solution >= lo, the largest <= hi.
  std::int64_t at_least(std::int64_t lo) const;
  std::int64_t at_most(std::int64_t hi) const;
};
/// Nothing where it has no solution. m >= 1.
std::optional<Congruence> solve_congruence(std::int64_t a, std::int64_t r, std::int64_t m);
std::int64_t floor_div(std::int64_t a, std::int64_t b);

/// Element of a tensor of shape `small` that meets each element of `shape` under broadcasting.
std::vector<std::size_t> broadcast_lanes(const Shape& shape, const Shape& small);

/// RequantShift without its tensors.
struct RequantForm {
  int shift = 0;
  std::int64_t lo = 0, hi = 0;
  Rounding rounding = Rounding::half_up;
  int product_bits = 32;

  Requant with(std::int32_t mul, std::int64_t add) const {
    return {mul, add, shift, lo, hi, rounding, product_bits};
  }
};
RequantForm read_requant(const Attrs& attrs);
/// The parameters of each element of x [shape], and the channel they belong to.
struct LaneParameters {
  std::vector<std::int32_t> mul;
  std::vector<std::int64_t> add;
  std::vector<std::size_t> channel;
  std::size_t channels = 1;
};
LaneParameters requant_lanes(const Graph& graph, const Node& node);

void design_patterns(Design& d);  ///< extremes, zero, alternation, ramps, single hot elements
void design_requant(Design& d);
void design_division(Design& d);
void design_accumulator(Design& d);  ///< Conv, Gemm, MatMul
void design_mean(Design& d);
void design_rows(Design& d);  ///< softmax forms
void design_norm(Design& d);  ///< iLayerNorm, iRMSNorm
void design_nonorm(Design& d);
void design_quant(Design& d);
/// What a Quant's kernel converts without leaving int32, as ordinals; nothing where that is empty.
std::optional<Interval> quant_domain(const Node& node);
/// An input of a Quant, as ordinal: `part` in 0..1 runs over its levels and a quarter more of them
/// at either end.
std::int64_t quant_input(const Node& node, double part);
void design_random(Design& d, const VectorOptions& options, const std::string& node);

/// Uniform in `range`, the same numbers with every standard library; `name` sets streams of one
/// seed apart.
Codes draw_uniform(std::uint64_t seed, const std::string& name, const Interval& range,
                   std::size_t count);

}  // namespace waveq::vectors_detail
