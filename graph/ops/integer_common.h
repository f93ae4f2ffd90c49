#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/op.h"

/// What the operators of the integer dialect share. They exist in two spellings: with integer
/// dtypes, which they evaluate, and with float32 tensors that carry integers, whose types pass
/// through inference until to_integer_network has converted the graph.
namespace waveq::integer_ops_detail {

/// Output type: `shape` in `integer` storage, or in float32 where the first input is float32.
std::vector<TensorType> typed_like_input(const InferContext& ctx, DType integer, Shape shape);

/// Elements as int32. \throws Error{unsupported} for float32 (not converted), Error{overflow} for
/// an element outside int32 unless wrapping.
std::vector<std::int32_t> load_int32(const EvalContext& ctx, std::size_t input);

/// As load_int32, and every element must be one that the target's 8-bit kernels can read: all in
/// -128..127 or all in 0..255. \throws Error{overflow} (under wrap, too: no kernel takes more).
std::vector<std::int32_t> load_8bit(const EvalContext& ctx, std::size_t input);

/// Writes integers into output 0, keeping the low bits of each.
void store(const EvalContext& ctx, const std::vector<std::int32_t>& values);

/// Length of the last axis. \throws Error{shape} at the node for a scalar or an empty axis.
std::int64_t last_axis(const InferContext& ctx);
std::int64_t last_axis(const EvalContext& ctx);

/// Attribute as int32. \throws Error{parse} when absent, not an integer or too large.
std::int32_t attr_int32(const Attrs& attrs, std::string_view name);

/// Walks the flat indices of a row-major tensor of `shape` in order and gives for each the flat
/// index into a tensor of shape `small`, which broadcasts to it.
class BroadcastIndex {
 public:
  BroadcastIndex(const Shape& shape, const Shape& small);
  std::size_t next();

 private:
  Shape shape_, strides_, position_;
  std::int64_t flat_ = 0;
};

/// Runs `f` and names the node in an Error it throws.
template <class F>
void at_node(const EvalContext& ctx, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    ctx.fail(e.code(), e.where() + ": " + e.found(), e.hint());
  }
}

}  // namespace waveq::integer_ops_detail
