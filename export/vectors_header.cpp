// The C99 header of one kernel's vectors.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <set>

#include "waveq/export/vectors.h"
#include "waveq/graph/op.h"
#include "waveq/graph/version.h"

namespace waveq {

namespace {

std::string identifier(const std::string& name) {
  std::string out;
  for (const char ch : name) out += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
  return out;
}

std::string upper(std::string text) {
  for (char& ch : text) ch = static_cast<char>(std::toupper(static_cast<unsigned char>(ch)));
  return text;
}

/// Text that cannot end a comment or leave ASCII.
std::string commented(const std::string& text) {
  std::string out;
  for (const char ch : text)
    out += ch == '/' || ch == '*' || ch == '?' || ch == '\\' || ch < ' ' || ch > '~' ? '_' : ch;
  return out;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char ch : text) {
    if (ch < ' ' || ch > '~' || ch == '?' || ch == '\\' || ch == '"')
      out += fmt::format("\\{:03o}", static_cast<unsigned char>(ch));
    else
      out += ch;
  }
  return out + "\"";
}

struct CType {
  const char* type;
  const char* suffix;          ///< of the compare function
  const char* format = "%ld";  ///< for printf, of a value converted to `shown`
  const char* shown = "long";
};

CType c_type(DType dtype) {
  switch (dtype) {
    case DType::i8:
      return {"int8_t", "i8"};
    case DType::u8:
      return {"uint8_t", "u8"};
    case DType::i16:
      return {"int16_t", "i16"};
    case DType::u16:
      return {"uint16_t", "u16"};
    case DType::i32:
      return {"int32_t", "i32"};
    case DType::f32:
      return {"float", "f32", "%.9g", "double"};
    default:
      return {"int64_t", "i64"};
  }
}

/// A constant in C. The smallest values have no literal of their own type.
std::string literal(std::int64_t x) {
  if (x == lowest(DType::i64)) return "(-INT64_C(9223372036854775807) - 1)";
  if (x == lowest(DType::i32)) return "(-2147483647 - 1)";
  if (x < lowest(DType::i32) || x > highest(DType::i32)) return fmt::format("INT64_C({})", x);
  return fmt::format("{}", x);
}

/// Every element in C; floats in hexadecimal, which is exact.
std::vector<std::string> literals(const Tensor& t) {
  std::vector<std::string> out;
  if (t.dtype() == DType::f32)
    for (const float x : t.as<float>()) out.push_back(fmt::format("{:a}f", x));
  else
    for (const std::int64_t x : to_int64(t)) out.push_back(literal(x));
  return out;
}

std::string braces(const std::vector<std::string>& values) {
  std::string out = "{";
  std::size_t column = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string& text = values[i];
    if (i > 0) out += ",";
    if (i == 0 || column + text.size() > 112) {
      out += "\n  ";
      column = 0;
    } else {
      out += " ";
    }
    out += text;
    column += text.size() + 2;
  }
  return out + "}";
}

/// Fixed-width types without a C library: GCC's hosted <stdint.h> asks for one, its own header does
/// not.
constexpr const char* kCommon = R"(
#ifndef WAVEQ_VECTORS_COMMON
#define WAVEQ_VECTORS_COMMON

#include <stddef.h>
#if defined(__has_include)
#if !__has_include(<stdio.h>)
#define WAVEQ_NO_LIBC
#endif
#endif
#if defined(WAVEQ_NO_LIBC) && defined(__GNUC__) && !defined(__clang__)
#include <stdint-gcc.h>
#else
#include <stdint.h>
#endif

/* Alignment of every array; define it before the first include to choose another. */
#ifndef WAVEQ_ALIGNED
#if defined(__GNUC__)
#define WAVEQ_ALIGNED __attribute__((aligned(16)))
#else
#define WAVEQ_ALIGNED
#endif
#endif
#if defined(__GNUC__)
#define WAVEQ_UNUSED __attribute__((unused))
#else
#define WAVEQ_UNUSED
#endif

/* Where mismatches are told; without a C library they are only counted. */
#ifndef WAVEQ_PRINTF
#ifdef WAVEQ_NO_LIBC
#define WAVEQ_PRINTF(...) ((void)0)
#else
#include <stdio.h>
#define WAVEQ_PRINTF printf
#endif
#endif

/* Defines a function that returns how many elements differ and prints the first one. */
#define WAVEQ_DEFINE_MISMATCH(SUFFIX, TYPE, FORMAT, SHOWN)                                          \
  WAVEQ_UNUSED static size_t waveq_mismatch_##SUFFIX(                                               \
      const char *tensor, int k, const TYPE *expected, const TYPE *got, const size_t *shape,        \
      size_t rank) {                                                                                \
    size_t count = 1, differing = 0, first = 0, i, d;                                               \
    (void)tensor, (void)k;                                                                          \
    for (d = 0; d < rank; ++d) count *= shape[d];                                                   \
    for (i = 0; i < count; ++i)                                                                     \
      if (expected[i] != got[i] && differing++ == 0) first = i;                                     \
    if (differing != 0) {                                                                           \
      size_t rest = first, size = count;                                                            \
      WAVEQ_PRINTF("case %d: tensor '%s' at [", k, tensor);                                         \
      for (d = 0; d < rank; ++d) {                                                                  \
        size /= shape[d];                                                                           \
        WAVEQ_PRINTF("%s%lu", d ? "," : "", (unsigned long)(rest / size));                          \
        rest %= size;                                                                               \
      }                                                                                             \
      WAVEQ_PRINTF("]: expected " FORMAT ", got " FORMAT " (%lu of %lu elements differ)\n",         \
                   (SHOWN)expected[first], (SHOWN)got[first], (unsigned long)differing,             \
                   (unsigned long)count);                                                           \
    }                                                                                               \
    return differing;                                                                               \
  }
#endif

)";

std::string define_mismatch(const CType& c) {
  return fmt::format(
      "#ifndef WAVEQ_MISMATCH_{0}\n#define WAVEQ_MISMATCH_{0}\nWAVEQ_DEFINE_MISMATCH({1}, "
      "{2}, \"{3}\", {4})\n#endif\n",
      upper(c.suffix), c.suffix, c.type, c.format, c.shown);
}

/// Writes one header; `prefix` starts every name.
class Writer {
 public:
  Writer(const KernelVectors& v, const std::string& name)
      : v_(v),
        node_(v.graph.node(v.graph.nodes().front())),
        prefix_("waveq_" + identifier(name.empty() ? v.node : name)),
        macro_(upper(prefix_)) {}

  std::string text() {
    out_ = fmt::format(
        "/* Golden vectors of {} '{}', made by waveq {}. The kernel gets the inputs of case k and "
        "must give the\n"
        "   expected outputs, bit for bit{}. */\n#ifndef {}_VECTORS_H\n#define {}_VECTORS_H\n",
        commented(v_.op), commented(v_.node), kVersion, gives_float() ? "; 0 and -0 are equal" : "",
        macro_, macro_);
    out_ += kCommon;
    std::set<std::string> suffixes;
    for (const Tensor& y : v_.cases.empty() ? std::vector<Tensor>{} : v_.cases.front().outputs)
      if (suffixes.insert(c_type(y.dtype()).suffix).second)
        out_ += define_mismatch(c_type(y.dtype()));
    out_ += fmt::format("\n#define {}_CASES {}\n", macro_, v_.cases.size());
    attributes();
    operands();
    for (std::size_t k = 0; k < v_.cases.size(); ++k) one_case(k);
    tables();
    out_ += fmt::format("\n#endif /* {}_VECTORS_H */\n", macro_);
    return std::move(out_);
  }

 private:
  bool gives_float() const {
    return v_.graph.value(v_.graph.outputs().front()).type.dtype == DType::f32;
  }

  /// The name an operand has in the operator's definition, e.g. "mul"; variadic ones are numbered.
  std::string role(std::size_t slot) const {
    const OpDef* op = find_op(v_.op);
    std::string name = op && slot < op->inputs.size() ? op->inputs[slot] : "";
    while (!name.empty() && !std::isalnum(static_cast<unsigned char>(name.back()))) name.pop_back();
    const bool taken = op && slot < op->inputs.size() && op->inputs[slot].ends_with("...");
    return name.empty() || taken ? fmt::format("input{}", slot) : "in_" + identifier(name);
  }

  void type_of(const std::string& name, DType dtype) {
    out_ += fmt::format("typedef {} {}_t;\n", c_type(dtype).type, name);
  }

  void shape(const std::string& name, const Shape& s) {
    const std::vector<std::int64_t> dims = s.empty() ? std::vector<std::int64_t>{1} : s;
    std::string list;
    std::int64_t size = 1;
    for (const std::int64_t d : dims) {
      list += fmt::format("{}{}", list.empty() ? "" : ", ", d);
      size *= d;
    }
    out_ += fmt::format(
        "#define {}_RANK {}\n#define {}_SIZE {}\nWAVEQ_UNUSED static const size_t {}_shape[{}] = "
        "{{{}}};\n",
        upper(name), dims.size(), upper(name), size, name, dims.size(), list);
  }

  void array(const std::string& name, DType dtype, const Tensor& values) {
    out_ += fmt::format("WAVEQ_UNUSED static const {} {}[{}] WAVEQ_ALIGNED = {};\n",
                        c_type(dtype).type, name, values.size(), braces(literals(values)));
  }

  void attributes() {
    for (const auto& [name, value] : node_.attrs.all()) {
      const std::string macro = fmt::format("{}_{}", macro_, upper(identifier(name)));
      if (const auto* i = std::get_if<std::int64_t>(&value))
        out_ += fmt::format("#define {} {}\n", macro, literal(*i));
      if (const auto* s = std::get_if<std::string>(&value))
        out_ += fmt::format("#define {} {}\n", macro, quoted(*s));
      if (const auto* f = std::get_if<double>(&value)) number(macro, *f);
      if (const auto* t = std::get_if<Tensor>(&value); t && t->size() == 1)
        number(macro, to_double(*t)[0]);
      if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value); list && !list->empty())
        array(fmt::format("{}_{}", prefix_, identifier(name)), DType::i64,
              Tensor::from<std::int64_t>({static_cast<std::int64_t>(list->size())}, *list));
    }
    if (v_.op == "RequantShift")
      out_ +=
          fmt::format("#define {}_SHIFT {}\n", macro_,
                      std::countr_zero(static_cast<std::uint64_t>(node_.attrs.require_int("div"))));
  }

  void number(const std::string& macro, double value) {
    if (std::abs(value) < 9.0e18 && value == std::floor(value))
      out_ += fmt::format("#define {} {}\n", macro, literal(static_cast<std::int64_t>(value)));
    else
      out_ += fmt::format("#define {} {}\n", macro, value);
  }

  /// Shapes of all operands, elements of the constant ones.
  void operands() {
    for (std::size_t slot = 0; slot < node_.inputs.size(); ++slot) {
      if (!node_.inputs[slot].valid()) continue;
      const Value& value = v_.graph.value(node_.inputs[slot]);
      const std::string name = fmt::format("{}_{}", prefix_, role(slot));
      out_ += fmt::format("\n/* {}, {} */\n", commented(value.name),
                          value.constant ? "a parameter" : "varies");
      type_of(name, value.constant ? parameter_type(slot, value.type.dtype) : value.type.dtype);
      shape(name, value.type.shape);
      if (value.constant) array(name, parameter_type(slot, value.type.dtype), *value.constant);
    }
    for (std::size_t i = 0; i < node_.outputs.size(); ++i) {
      if (!node_.outputs[i].valid()) continue;
      const Value& value = v_.graph.value(node_.outputs[i]);
      out_ += fmt::format("\n/* {}, expected */\n", commented(value.name));
      type_of(fmt::format("{}_out{}", prefix_, i), value.type.dtype);
      shape(fmt::format("{}_out{}", prefix_, i), value.type.shape);
    }
  }

  /// Kernels take the parameters of requants and normalizations, and biases, as int32.
  DType parameter_type(std::size_t slot, DType stored) const {
    static const std::set<std::string> wide = {"RequantShift", "iLayerNorm", "iRMSNorm"};
    const bool bias = slot == 2 && (v_.op == "Conv" || v_.op == "Gemm");
    return size_of(stored) < 4 && (wide.contains(v_.op) || bias) ? DType::i32 : stored;
  }

  /// Slots and outputs that have arrays in every case: name, C type, elements.
  struct Field {
    std::string name;
    DType dtype;
    const Tensor* tensor;
  };
  std::vector<Field> fields(const VectorCase& c) const {
    std::vector<Field> out;
    for (std::size_t slot = 0; slot < node_.inputs.size(); ++slot) {
      const auto at = std::ranges::find(v_.graph.inputs(), node_.inputs[slot]);
      if (at == v_.graph.inputs().end()) continue;
      const Tensor& t = c.inputs[static_cast<std::size_t>(at - v_.graph.inputs().begin())];
      out.push_back({fmt::format("{}_{}", prefix_, role(slot)), t.dtype(), &t});
    }
    std::size_t next = 0;
    for (std::size_t i = 0; i < node_.outputs.size(); ++i)
      if (node_.outputs[i].valid()) {
        const Tensor& t = c.outputs[next++];
        out.push_back({fmt::format("{}_out{}", prefix_, i), t.dtype(), &t});
      }
    return out;
  }

  void one_case(std::size_t k) {
    const VectorCase& c = v_.cases[k];
    out_ += fmt::format("\n/* case {}:", k);
    std::size_t told = 0;
    for (const std::string& condition : c.conditions) {
      if (++told > 12) {
        out_ += fmt::format(" and {} more", c.conditions.size() - 12);
        break;
      }
      out_ += " " + commented(condition);
    }
    out_ += " */\n";
    for (const Field& f : fields(c)) array(fmt::format("{}_case{}", f.name, k), f.dtype, *f.tensor);
  }

  /// Arrays of pointers by case, and a compare macro for each output.
  void tables() {
    if (v_.cases.empty()) return;
    out_ += "\n";
    for (const Field& f : fields(v_.cases.front())) {
      out_ += fmt::format("WAVEQ_UNUSED static const {} *const {}[{}_CASES] = {{",
                          c_type(f.dtype).type, f.name, macro_);
      for (std::size_t k = 0; k < v_.cases.size(); ++k)
        out_ += fmt::format("{}{}_case{}", k % 4 == 0 ? "\n  " : " ", f.name, k) +
                (k + 1 < v_.cases.size() ? "," : "");
      out_ += "};\n";
    }
    out_ +=
        "\n/* Number of elements of `got` that differ from what case k expects; prints the first "
        "of them. */\n";
    for (std::size_t i = 0; i < node_.outputs.size(); ++i) {
      if (!node_.outputs[i].valid()) continue;
      const Value& value = v_.graph.value(node_.outputs[i]);
      const std::string name = fmt::format("{}_out{}", prefix_, i);
      out_ += fmt::format(
          "#define {}_CHECK{}(k, got) \\\n  waveq_mismatch_{}({}, (k), {}[(k)], (got), {}_shape, "
          "{}_RANK)\n",
          macro_, i == 0 ? "" : fmt::format("{}", i), c_type(value.type.dtype).suffix,
          quoted(value.name), name, name, upper(name));
    }
  }

  const KernelVectors& v_;
  const Node& node_;
  std::string prefix_, macro_, out_;
};

}  // namespace

std::string vectors_header(const KernelVectors& vectors, const std::string& name) {
  return Writer(vectors, name).text();
}

}  // namespace waveq
