#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "waveq/graph/graph.h"

namespace waveq {

namespace {

[[noreturn]] void wrong_kind(std::string_view name, std::string_view wanted) {
  throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name),
              fmt::format("is not {}", wanted));
}

std::optional<std::int64_t> integral(double x) {
  if (!(std::abs(x) < 9.0e18) || std::floor(x) != x) return std::nullopt;
  return static_cast<std::int64_t>(x);
}

std::optional<std::int64_t> as_int(const Attr& attr) {
  if (const auto* i = std::get_if<std::int64_t>(&attr)) return *i;
  if (const auto* d = std::get_if<double>(&attr)) return integral(*d);
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(&attr); v && v->size() == 1)
    return v->front();
  if (const auto* t = std::get_if<Tensor>(&attr); t && t->size() == 1)
    return integral(to_double(*t).front());
  return std::nullopt;
}

}  // namespace

void Attrs::erase(std::string_view name) {
  if (const auto it = values_.find(name); it != values_.end()) values_.erase(it);
}

const Attr* Attrs::find(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? nullptr : &it->second;
}

std::int64_t Attrs::get_int(std::string_view name, std::int64_t fallback) const {
  const Attr* attr = find(name);
  if (!attr) return fallback;
  if (const auto value = as_int(*attr)) return *value;
  wrong_kind(name, "an integer");
}

double Attrs::get_float(std::string_view name, double fallback) const {
  const Attr* attr = find(name);
  if (!attr) return fallback;
  if (const auto* d = std::get_if<double>(attr)) return *d;
  if (const auto* i = std::get_if<std::int64_t>(attr)) return static_cast<double>(*i);
  if (const auto* t = std::get_if<Tensor>(attr); t && t->size() == 1) return to_double(*t).front();
  wrong_kind(name, "a number");
}

std::string Attrs::get_string(std::string_view name, std::string_view fallback) const {
  const Attr* attr = find(name);
  if (!attr) return std::string(fallback);
  if (const auto* s = std::get_if<std::string>(attr)) return *s;
  wrong_kind(name, "a string");
}

std::vector<std::int64_t> Attrs::get_ints(std::string_view name,
                                          std::vector<std::int64_t> fallback) const {
  const Attr* attr = find(name);
  if (!attr) return fallback;
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(attr)) return *v;
  if (const auto* t = std::get_if<Tensor>(attr); t && is_integer(t->dtype())) return to_int64(*t);
  if (const auto one = as_int(*attr)) return {*one};
  wrong_kind(name, "a list of integers");
}

std::int64_t Attrs::require_int(std::string_view name) const {
  if (!has(name)) wrong_kind(name, "there, and the operator needs it");
  return get_int(name, 0);
}

std::vector<std::int64_t> Attrs::require_ints(std::string_view name) const {
  if (!has(name)) wrong_kind(name, "there, and the operator needs it");
  return get_ints(name, {});
}

std::string to_string(const Attrs& attrs) {
  std::string out;
  for (const auto& [name, attr] : attrs.all()) {
    if (!out.empty()) out += ' ';
    out += name + '=';
    std::visit(
        [&](const auto& v) {
          using T = std::decay_t<decltype(v)>;
          if constexpr (std::is_same_v<T, Tensor>) {
            if (v.size() == 1)
              out += fmt::format("{}", to_double(v).front());
            else
              out += to_string(v.type());
          } else if constexpr (std::is_same_v<T, std::int64_t> || std::is_same_v<T, double> ||
                               std::is_same_v<T, std::string>) {
            out += fmt::format("{}", v);
          } else {
            out += fmt::format("[{}]", fmt::join(v, ","));
          }
        },
        attr);
  }
  return out;
}

}  // namespace waveq
