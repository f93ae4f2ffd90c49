// One operator with given parameters, written as text, as a network of its own.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "vectors_design.h"
#include "waveq/graph/op.h"

namespace waveq {

namespace {

[[noreturn]] void refuse(std::string_view where, const std::string& found) {
  throw Error(ErrorCode::invalid_argument, std::string(where), found,
              "operands are DTYPE[DIMS] (varies), DTYPE[DIMS]=LO..HI (varies in an interval), "
              "DTYPE[DIMS]:1,2,3 (constant), DTYPE[DIMS]:LO..HI or :random (constant, drawn); "
              "attributes NAME=1, NAME=0.5, NAME=[1,2] or NAME=text");
}

std::optional<std::int64_t> integer(std::string_view text) {
  std::int64_t x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return {};
  return x;
}

std::vector<std::int64_t> integers(std::string_view text, std::string_view where) {
  std::vector<std::int64_t> out;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto x = integer(text.substr(0, comma));
    if (!x) refuse(where, fmt::format("'{}' is no integer", text.substr(0, comma)));
    out.push_back(*x);
    if (comma + 1 == text.size()) refuse(where, "ends in a comma");
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return out;
}

/// "LO..HI" within the dtype; nothing where the text has another form.
std::optional<Interval> interval(std::string_view text, DType dtype, std::string_view where) {
  const std::size_t dots = text.find("..");
  if (dots == std::string_view::npos) return {};
  const auto lo = integer(text.substr(0, dots)), hi = integer(text.substr(dots + 2));
  if (!lo || !hi || *lo > *hi || *lo < lowest(dtype) || *hi > highest(dtype))
    refuse(where, fmt::format("'{}' is no interval of {}", text, to_string(dtype)));
  return Interval{*lo, *hi};
}

DType parse_dtype(std::string_view text, std::string_view where) {
  for (const DType d :
       {DType::i8, DType::u8, DType::i16, DType::u16, DType::i32, DType::i64, DType::f32})
    if (text == to_string(d)) return d;
  refuse(where, fmt::format("'{}' is none of i8, u8, i16, u16, i32, i64, f32", text));
}

/// What one operand's text says.
struct Operand {
  TensorType type;
  std::optional<Interval> range;                    ///< it varies, in this interval
  std::optional<std::vector<std::int64_t>> values;  ///< it is constant
};

Operand parse_operand(std::string_view text, std::size_t slot, std::uint64_t seed) {
  const std::size_t open = text.find('['), close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    refuse(text, "has no [DIMS]");
  Operand out;
  out.type.dtype = parse_dtype(text.substr(0, open), text);
  out.type.shape = integers(text.substr(open + 1, close - open - 1), text);
  if (std::ranges::any_of(out.type.shape, [](std::int64_t d) { return d < 1; }))
    refuse(text, "has a dimension below 1");
  const std::string_view rest = text.substr(close + 1), body = rest.empty() ? rest : rest.substr(1);
  if (rest.empty()) return out;
  if (!is_integer(out.type.dtype)) refuse(text, "f32 varies over what the operator takes");
  if (rest[0] == '=') {
    out.range = interval(body, out.type.dtype, text);
    if (!out.range) refuse(text, fmt::format("'{}' is no interval LO..HI", body));
    if (size_of(out.type.dtype) <= 2) refuse(text, "8 and 16 bits vary over all their values");
    return out;
  }
  if (rest[0] != ':') refuse(text, fmt::format("'{}' behind the dimensions", rest));
  const auto count = static_cast<std::size_t>(element_count(out.type.shape));
  const std::optional<Interval> drawn =
      body == "random" ? Interval{lowest(out.type.dtype), highest(out.type.dtype)}
                       : interval(body, out.type.dtype, text);
  if (drawn) {
    out.values = vectors_detail::draw_uniform(seed, fmt::format("operand {}", slot), *drawn, count);
    return out;
  }
  out.values = integers(body, text);
  if (out.values->size() == 1) out.values->assign(count, out.values->front());
  if (out.values->size() != count)
    refuse(text, fmt::format("{} values for {} elements", out.values->size(), count));
  for (const std::int64_t x : *out.values)
    if (x < lowest(out.type.dtype) || x > highest(out.type.dtype))
      refuse(text, fmt::format("{} is no {}", x, to_string(out.type.dtype)));
  return out;
}

Attr parse_attribute(std::string_view value, std::string_view where) {
  if (value.starts_with('[') && value.ends_with(']'))
    return integers(value.substr(1, value.size() - 2), where);
  if (const auto x = integer(value)) return *x;
  double fraction = 0;  // files hold float32
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), fraction);
  if (error == std::errc{} && end == value.data() + value.size() && std::isfinite(fraction))
    return static_cast<double>(static_cast<float>(fraction));
  return std::string(value);
}

}  // namespace

OperatorNetwork operator_network(const OperatorSpec& spec) {
  const OpDef* op = find_op(spec.op);
  if (!op || !op->eval)
    throw Error(ErrorCode::invalid_argument, "--op", fmt::format("'{}' is no operator", spec.op),
                "`waveq ops` lists them");
  OperatorNetwork out;
  out.graph.name = spec.op;
  out.graph.opset = 10;
  Node node;
  node.op = spec.op;
  node.name = spec.node.empty() ? spec.op : spec.node;
  for (std::size_t slot = 0; slot < spec.operands.size(); ++slot) {
    const Operand operand = parse_operand(spec.operands[slot], slot, spec.seed);
    const std::string name = fmt::format("in{}", slot);
    if (operand.values) {
      const Tensor wide = Tensor::from<std::int64_t>(operand.type.shape, *operand.values);
      node.inputs.push_back(out.graph.add_constant(name, cast(wide, operand.type.dtype)));
      continue;
    }
    node.inputs.push_back(out.graph.add_input(name, operand.type));
    if (is_integer(operand.type.dtype) && size_of(operand.type.dtype) > 2)
      out.ranges.emplace(name, operand.range.value_or(vectors_detail::kWideDefault));
  }
  for (const std::string& text : spec.attributes) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) refuse(text, "is not NAME=VALUE");
    node.attrs.set(text.substr(0, equals),
                   parse_attribute(std::string_view(text).substr(equals + 1), text));
  }
  out.graph.add_output(out.graph.emit(node.op, node.name, node.inputs, node.attrs));
  return out;
}

}  // namespace waveq
