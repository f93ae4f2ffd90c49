#include "onnx/attribute_reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace waveq {

using onnx::AttributeProto;

namespace {

[[noreturn]] void bad(const std::string& where, std::string what) {
  throw Error(ErrorCode::parse, where, std::move(what), "the model is damaged; export it again");
}

/// The kind of an attribute; files of IR versions 1 and 2 do not state it.
AttributeProto::AttributeType kind_of(const AttributeProto& a) {
  if (a.type() != AttributeProto::UNDEFINED) return a.type();
  if (a.has_f()) return AttributeProto::FLOAT;
  if (a.has_i()) return AttributeProto::INT;
  if (a.has_s()) return AttributeProto::STRING;
  if (a.has_t()) return AttributeProto::TENSOR;
  if (a.has_g()) return AttributeProto::GRAPH;
  if (a.floats_size() > 0) return AttributeProto::FLOATS;
  if (a.ints_size() > 0) return AttributeProto::INTS;
  if (a.strings_size() > 0) return AttributeProto::STRINGS;
  return AttributeProto::UNDEFINED;
}

void set_lost(Attrs& attrs, const std::string& name, std::string kind) {
  attrs.set("waveq_lost_" + name, std::move(kind));
}

void read_one(const AttributeProto& a, const std::string& where, const BaseDir& base_dir,
              Attrs& attrs) {
  const std::string& name = a.name();
  switch (kind_of(a)) {
    case AttributeProto::FLOAT:
      return attrs.set(name, static_cast<double>(a.f()));
    case AttributeProto::INT:
      return attrs.set(name, std::int64_t{a.i()});
    case AttributeProto::STRING:
      return is_utf8(a.s()) ? attrs.set(name, a.s()) : set_lost(attrs, name, "binary string");
    case AttributeProto::TENSOR:
      if (a.t().data_type() == onnx::TensorProto::STRING)
        return set_lost(attrs, name, "string tensor");
      return attrs.set(
          name, read_tensor(a.t(), fmt::format("{}, attribute '{}'", where, name), base_dir));
    case AttributeProto::FLOATS:
      return attrs.set(name, std::vector<double>(a.floats().begin(), a.floats().end()));
    case AttributeProto::INTS:
      return attrs.set(name, std::vector<std::int64_t>(a.ints().begin(), a.ints().end()));
    case AttributeProto::STRINGS:
      return std::ranges::all_of(a.strings(), is_utf8)
                 ? attrs.set(name, std::vector<std::string>(a.strings().begin(), a.strings().end()))
                 : set_lost(attrs, name, "binary strings");
    case AttributeProto::GRAPH:
    case AttributeProto::GRAPHS:
      return set_lost(attrs, name, "subgraph");
    case AttributeProto::UNDEFINED:
      bad(where, fmt::format("attribute '{}' has no value", name));
    default:
      return set_lost(attrs, name, AttributeProto::AttributeType_Name(kind_of(a)));
  }
}

}  // namespace

Attrs read_attributes(const onnx::NodeProto& node, const std::string& where,
                      const BaseDir& base_dir) {
  Attrs attrs;
  for (const AttributeProto& a : node.attribute()) {
    if (a.name().empty() || !is_utf8(a.name()))
      bad(where, "has an attribute without a readable name");
    if (a.name().starts_with("waveq_"))
      bad(where, fmt::format("attribute '{}' has a name that waveq keeps for itself", a.name()));
    if (attrs.has(a.name())) bad(where, fmt::format("has two attributes '{}'", a.name()));
    if (!a.ref_attr_name().empty())
      bad(where, fmt::format("attribute '{}' refers to '{}' of a function, outside of any",
                             a.name(), a.ref_attr_name()));
    read_one(a, where, base_dir, attrs);
  }
  return attrs;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80       ? 1
                               : lead >> 5 == 6  ? 2
                               : lead >> 4 == 14 ? 3
                               : lead >> 3 == 30 ? 4
                                                 : 0;
    if (length == 0 || length > text.size() - i) return false;
    std::uint32_t point = length == 1 ? lead : lead & (0xffu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if (next >> 6 != 2) return false;
      point = point << 6 | (next & 0x3fu);
    }
    constexpr std::uint32_t kLowest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < kLowest[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
      return false;
    i += length;
  }
  return true;
}

}  // namespace waveq
