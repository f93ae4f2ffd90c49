#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "bin_text.h"
#include "waveq/calibration/calibration_table.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

using Json = nlohmann::json;                 // reading: lookups take logarithmic time
using OrderedJson = nlohmann::ordered_json;  // writing: keys stay in the order of insertion

constexpr std::string_view kFormat = "waveq-calibration";
constexpr int kFormatVersion = 1;

// ---- writing ----

OrderedJson to_json(const TensorCalibration& tensor) {
  OrderedJson out = {{"range", {tensor.range.lo, tensor.range.hi}}, {"observer", tensor.observer}};
  if (tensor.pinned) out["pinned"] = true;
  if (!tensor.means.empty()) {
    out["channel_axis"] = tensor.channel_axis;
    out["means"] = tensor.means;
  }
  if (tensor.statistics.count() == 0) return out;
  const TensorStatistics::Parts parts = tensor.statistics.parts();
  out["min"] = static_cast<double>(parts.min);
  out["max"] = static_cast<double>(parts.max);
  out["near_zero"] = parts.near_zero;
  out["positive"] = bins_to_text(parts.positive);
  out["negative"] = bins_to_text(parts.negative);
  return out;
}

OrderedJson head_of(const CalibrationTable& table) {
  OrderedJson head = {{"format", kFormat},
                      {"format_version", kFormatVersion},
                      {"waveq", table.version},
                      {"model", table.model},
                      {"fingerprint", table.fingerprint},
                      {"samples", table.samples},
                      {"observer", to_string(table.observer)},
                      {"n_levels", table.quant.n_levels},
                      {"signedness", to_string(table.quant.signedness)}};
  if (!table.equalization.empty()) head["equalization"] = table.equalization;
  return head;
}

// ---- reading ----

[[noreturn]] void refuse(const std::string& where, std::string what, std::string hint = {}) {
  throw Error(ErrorCode::parse, where, std::move(what), std::move(hint));
}

const Json& member(const Json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end()) refuse(where, fmt::format("'{}' is missing", key));
  return *it;
}

std::string text_of(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_string()) refuse(where, fmt::format("'{}' is not text", key));
  return value.get<std::string>();
}

std::uint64_t count_of(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_number_unsigned()) refuse(where, fmt::format("'{}' is not a count", key));
  return value.get<std::uint64_t>();
}

double finite(const Json& value, const std::string& key, const std::string& where) {
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    refuse(where, fmt::format("{} is not a finite number", key));
  return value.get<double>();
}

float float_of(const Json& object, const char* key, const std::string& where) {
  const double value = finite(member(object, key, where), key, where);
  // Checked first: converting a double beyond float's range is undefined.
  if (std::fabs(value) > 0x1.fffffep127 || static_cast<double>(static_cast<float>(value)) != value)
    refuse(where, fmt::format("'{}' is no float32", key));
  return static_cast<float>(value);
}

Range range_from(const Json& object, const std::string& where) {
  const Json& pair = member(object, "range", where);
  if (!pair.is_array() || pair.size() != 2) refuse(where, "'range' is not [lo, hi]");
  const Range range{finite(pair[0], "lo of 'range'", where),
                    finite(pair[1], "hi of 'range'", where)};
  if (range.lo > range.hi)
    refuse(where, fmt::format("'range' [{}, {}] is empty", range.lo, range.hi), "swap its ends");
  return range;
}

void read_means(const Json& object, TensorCalibration& tensor, const std::string& where) {
  const auto means = object.find("means");
  if (means == object.end()) return;
  if (!means->is_array()) refuse(where, "'means' is not a list");
  for (const Json& mean : *means) tensor.means.push_back(finite(mean, "'means'", where));
  tensor.channel_axis = count_of(object, "channel_axis", where);
}

TensorCalibration tensor_from(const Json& object, const std::string& where) {
  if (!object.is_object()) refuse(where, "is not an object");
  TensorCalibration out;
  out.range = range_from(object, where);
  if (const auto pinned = object.find("pinned"); pinned != object.end()) {
    if (!pinned->is_boolean()) refuse(where, "'pinned' is neither true nor false");
    out.pinned = pinned->get<bool>();
  }
  read_means(object, out, where);
  const bool observed = object.contains("min");
  if (!observed && !out.pinned)
    refuse(where, "has no statistics", "pin its range with \"pinned\": true, or calibrate again");
  if (!out.pinned || object.contains("observer")) out.observer = text_of(object, "observer", where);
  if (!observed) return out;
  TensorStatistics::Parts parts;
  parts.min = float_of(object, "min", where);
  parts.max = float_of(object, "max", where);
  parts.near_zero = count_of(object, "near_zero", where);
  parts.positive =
      bins_from_text(text_of(object, "positive", where), TensorStatistics::kBins, where);
  parts.negative =
      bins_from_text(text_of(object, "negative", where), TensorStatistics::kBins, where);
  out.statistics = TensorStatistics::from_parts(parts, where);
  if (out.statistics.count() == 0 && !out.pinned)
    refuse(where, "has an empty histogram", "calibrate again");
  return out;
}

void read_equalization(const Json& json, CalibrationTable& table, const std::string& where) {
  const auto found = json.find("equalization");
  if (found == json.end()) return;
  if (!found->is_object()) refuse(where, "'equalization' is not an object");
  for (const auto& [tensor, list] : found->items()) {
    const std::string key = fmt::format("equalization of '{}'", tensor);
    if (!list.is_array()) refuse(where, key + " is not a list");
    std::vector<double>& factors = table.equalization[tensor];
    for (const Json& factor : list) {
      factors.push_back(finite(factor, key, where));
      if (!(factors.back() > 0)) refuse(where, key + " holds a factor that is not positive");
    }
  }
}

void read_head(const Json& json, CalibrationTable& table, const std::string& where) {
  if (!json.is_object() || !json.contains("format") || json["format"] != kFormat)
    refuse(where, "is not a calibration table", "write one with `waveq calibrate`");
  if (count_of(json, "format_version", where) != kFormatVersion)
    refuse(where, fmt::format("has format version {}", count_of(json, "format_version", where)),
           fmt::format("this waveq reads version {}: calibrate again", kFormatVersion));
  table.version = text_of(json, "waveq", where);
  table.model = text_of(json, "model", where);
  table.fingerprint = text_of(json, "fingerprint", where);
  table.samples = count_of(json, "samples", where);
  read_equalization(json, table, where);
  const std::uint64_t levels = count_of(json, "n_levels", where);
  if (levels < 2 || levels > 65536)
    refuse(where, fmt::format("n_levels is {}", levels), "use 2 to 65536");
  table.quant.n_levels = static_cast<std::int64_t>(levels);
  const std::string signedness = text_of(json, "signedness", where),
                    observer = text_of(json, "observer", where);
  try {
    table.quant.signedness = signedness_from(signedness);
    table.observer = parse_observer(observer);
  } catch (const Error& e) {
    refuse(where, e.what());
  }
}

/// Parses, refusing a key that occurs twice in one object: which of the two counts would be a
/// guess.
Json parse(std::string_view text, const std::string& where) {
  std::vector<std::set<std::string>> keys;
  std::string repeated;
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second &&
        repeated.empty())
      repeated = value.get<std::string>();
    return true;
  };
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& e) {
    refuse(where, fmt::format("is not JSON ({})", e.what()),
           "name a table that `waveq calibrate` wrote");
  }
  if (!repeated.empty()) refuse(where, fmt::format("has '{}' twice", repeated), "keep one of them");
  return json;
}

}  // namespace

std::string CalibrationTable::to_text() const {
  try {
    std::string out = head_of(*this).dump(1);
    out.resize(out.size() - 2);  // reopen the object: its last line is "}"
    out += ",\n \"tensors\": {";
    const char* separator = "\n";
    for (const auto& [name, tensor] : tensors) {
      out += separator + ("  " + OrderedJson(name).dump()) + ": " + to_json(tensor).dump();
      separator = ",\n";
    }
    return out + "\n }\n}\n";
  } catch (const Json::exception& e) {  // names that are not UTF-8 cannot be JSON
    throw Error(ErrorCode::data, "calibration table",
                fmt::format("cannot be written as JSON ({})", e.what()),
                "rename the tensor in the model");
  }
}

CalibrationTable CalibrationTable::from_text(std::string_view text, const std::string& where) {
  const Json json = parse(text, where);
  CalibrationTable table;
  read_head(json, table, where);
  const Json& tensors = member(json, "tensors", where);
  if (!tensors.is_object()) refuse(where, "'tensors' is not an object");
  for (const auto& [name, value] : tensors.items())
    table.tensors.emplace(name, tensor_from(value, fmt::format("{}: tensor '{}'", where, name)));
  return table;
}

}  // namespace waveq
