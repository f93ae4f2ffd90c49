#include "dialects/standard/expansion.h"

#include <fmt/format.h>

#include "waveq/graph/onnx_writer.h"

namespace waveq::standard {

const Tensor& Expansion::constant_input(std::size_t i) const {
  if (!out_.is_constant(input(i)))
    throw Error(ErrorCode::not_integer, node_.name,
                fmt::format("input {} of {} is computed; a constant is wanted", i, node_.op));
  return out_.constant(input(i));
}

ValueId Expansion::constant(Tensor tensor) {
  return out_.add_constant(fmt::format("{}_constant", node_.name), std::move(tensor));
}

ValueId Expansion::op(const std::string& op, std::vector<ValueId> inputs, Attrs attrs) {
  // The source's names stay free for the source's tensors.
  std::string name = fmt::format("{}_{}", node_.name, op);
  for (int& i = named_[op]; source_.find_value(name) || out_.find_value(name);)
    name = fmt::format("{}_{}_{}", node_.name, op, ++i);
  return out_.emit(op, name, std::move(inputs), std::move(attrs), node_.origin);
}

ValueId Expansion::cast(ValueId x, DType dtype) {
  if (type(x).dtype == dtype) return x;
  if (out_.is_constant(x)) return constant(waveq::cast(out_.constant(x), dtype));
  Attrs attrs;
  attrs.set("to", std::int64_t{onnx_type_code(dtype)});
  return op("Cast", {x}, std::move(attrs));
}

ValueId Expansion::constants(const std::vector<std::int64_t>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return constant(Tensor::from({count}, values));
}

ValueId Expansion::floor_div(ValueId a, std::int64_t b) {
  if (b == 1) return a;
  const ValueId divisor = constant(b);
  return div(sub(a, op("Mod", {a, divisor})), divisor);
}

ValueId Expansion::shift_right(ValueId a, ValueId s) {
  std::vector<std::int64_t> powers;
  for (int i = 0; i < 32; ++i) powers.push_back(std::int64_t{1} << i);
  const ValueId table = constants(powers);
  return div(a, op("Gather", {table, cast(s, DType::i64)}));
}

ValueId Expansion::clip(ValueId x, std::int64_t lo, std::int64_t hi) {
  return op("Clip", {x, constant(lo), constant(hi)});
}

ValueId Expansion::into_int32(ValueId x) {
  const ValueId least = constant(std::int64_t{INT32_MIN}), most = constant(std::int64_t{INT32_MAX});
  const ValueId below = op("Less", {x, least});
  const ValueId raised = op("Where", {below, least, x});
  const ValueId above = op("Less", {most, raised});
  return op("Where", {above, most, raised});
}

ValueId Expansion::with_sign_of(ValueId x, ValueId magnitude) {
  const ValueId negative = op("Less", {x, constant(0)});
  return op("Where", {negative, op("Neg", {magnitude}), magnitude});
}

ValueId Expansion::reduce(const std::string& name, ValueId x, std::vector<std::int64_t> axes,
                          bool keep) {
  Attrs attrs;
  attrs.set("axes", std::move(axes));
  attrs.set("keepdims", std::int64_t{keep});
  return op(name, {x}, std::move(attrs));
}

ValueId Expansion::reduce_last(const std::string& name, ValueId x) {
  return reduce(name, x, {static_cast<std::int64_t>(shape(x).size()) - 1}, true);
}

}  // namespace waveq::standard
