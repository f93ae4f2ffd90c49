#include "waveq/integerize/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <functional>

#include "waveq/calibration/observer.h"
#include "waveq/graph/error.h"
#include "waveq/graph/file.h"

namespace waveq {

namespace {

/// One key of the file: where it lives, what it means, how it is read and written.
struct Field {
  std::string section, key, comment;
  std::function<void(const toml::node&, Recipe&)> read;  ///< throws std::string: what is wrong
  std::function<std::string(const Recipe&)> write;
};

template <class T>
T value_of(const toml::node& node, const char* kind) {
  // Exact kinds: a number in quotes is a mistake worth telling.
  if constexpr (std::is_same_v<T, double>) {
    if (const auto v = node.value<double>(); v && node.is_number()) return *v;
  } else {
    if (const auto v = node.value_exact<T>()) return *v;
  }
  throw std::string(fmt::format("is not {}", kind));
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + '"';
}

std::string number(double v) {
  const std::string text = fmt::format("{}", v);
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

std::string to_toml(const std::string& v) { return quoted(v); }
std::string to_toml(std::int64_t v) { return fmt::format("{}", v); }
std::string to_toml(double v) { return number(v); }
std::string to_toml(bool v) { return v ? "true" : "false"; }

const char* kind_of(const std::string&) { return "a string"; }
const char* kind_of(std::int64_t) { return "an integer"; }
const char* kind_of(double) { return "a number"; }
const char* kind_of(bool) { return "true or false"; }

/// A key that holds one member as it is.
template <class T>
Field field(std::string key, T Recipe::*member, std::string comment) {
  return {"", std::move(key), std::move(comment),
          [member](const toml::node& n, Recipe& r) { r.*member = value_of<T>(n, kind_of(T{})); },
          [member](const Recipe& r) { return to_toml(r.*member); }};
}

Shape shape_of(const toml::node& node) {
  const toml::array* list = node.as_array();
  if (!list) throw std::string("is not a list of integers");
  Shape shape;
  for (const toml::node& d : *list)
    shape.push_back(value_of<std::int64_t>(d, "a list of integers"));
  return shape;
}

RangeChoice range_choice_of(const toml::node& node) {
  const toml::table* table = node.as_table();
  if (!table) throw std::string("is not a table like {observer = \"min_max\", scale = 1.5}");
  RangeChoice choice;
  for (const auto& [name, value] : *table) {
    if (name.str() == "observer")
      choice.observer = value_of<std::string>(value, "a string");
    else if (name.str() == "scale")
      choice.scale = value_of<double>(value, "a number");
    else
      throw std::string(fmt::format("has the key '{}'; observer and scale are known", name.str()));
  }
  return choice;
}

std::string to_toml(const RangeChoice& choice) {
  std::vector<std::string> parts;
  if (!choice.observer.empty()) parts.push_back("observer = " + quoted(choice.observer));
  if (choice.scale != 1) parts.push_back("scale = " + number(choice.scale));
  return fmt::format("{{{}}}", fmt::join(parts, ", "));
}

Field passes_field() {
  return {"", "passes", "rewrite rules to use, see `waveq passes`; empty: all",
          [](const toml::node& n, Recipe& r) {
            const toml::array* list = n.as_array();
            if (!list) throw std::string("is not a list of strings");
            r.passes.clear();
            for (const toml::node& p : *list)
              r.passes.push_back(value_of<std::string>(p, "a list of strings"));
          },
          [](const Recipe& r) {
            std::vector<std::string> names;
            for (const std::string& p : r.passes) names.push_back(quoted(p));
            return fmt::format("[{}]", fmt::join(names, ", "));
          }};
}

Field seed_field() {
  return {"", "seed", "of everything drawn at random",
          [](const toml::node& n, Recipe& r) {
            const auto v = value_of<std::int64_t>(n, "an integer");
            if (v < 0) throw std::string("is negative");
            r.seed = static_cast<std::uint64_t>(v);
          },
          [](const Recipe& r) { return fmt::format("{}", r.seed); }};
}

std::vector<Field> make_fields() {
  std::vector<Field> all;
  const auto section = [&](const char* name, std::vector<Field> of_section) {
    for (Field& f : of_section) {
      f.section = name;
      all.push_back(std::move(f));
    }
  };
  section("",
          {field("target", &Recipe::target, "see `waveq targets`"), passes_field(), seed_field()});
  section("calibration",
          {field("observer", &Recipe::observer, "min_max, mse, histogram, percentile:99.9")});
  section(
      "quantization",
      {field("quantizer", &Recipe::quantizer, "how a range becomes a scale"),
       field("activation_levels", &Recipe::activation_levels, "256 for 8 bits"),
       field("weight_levels", &Recipe::weight_levels, "256 for 8 bits"),
       field("per_channel_weights", &Recipe::per_channel_weights,
             "one weight scale per output channel"),
       field("equalize", &Recipe::equalize,
             "features of linear attentions share a scale after factors that cancel"),
       field("own_mean_scale", &Recipe::own_mean_scale, "false: a mean keeps its operand's scale"),
       field("join_sums", &Recipe::join_sums,
             "pointwise convolutions that are added are one, where sums read 8 bits"),
       field("correct_biases", &Recipe::correct_biases,
             "biases make up for what rounded weights take from the mean of each output"),
       field("zero_points", &Recipe::zero_points,
             "GELU's output uses all codes where linear nodes alone read it")});
  section(
      "operators",
      {field("softmax", &Recipe::softmax,
             "auto (lut where the target has Table, ibert elsewhere), ibert (iSoftmax, octaves of "
             "ln 2), quantlib (iSoftmax as QuantLib exports it), itamax, lut (table of "
             "exponentials)"),
       field("fitted_gelu", &Recipe::fitted_gelu,
             "iGELU's constants fit the calibration data; false: I-BERT's")});
  section("requant",
          {field("effective_scales", &Recipe::effective_scales,
                 "false: a rounded multiplier counts as if it were exact"),
           field("exact_multipliers", &Recipe::exact_multipliers,
                 "weights stretched until each channel's multiplier is an integer"),
           field("merge_requants", &Recipe::merge_requants,
                 "false: a second requant reads the 8 bits of the first"),
           field("requant_bits", &Recipe::requant_bits,
                 "width of x*mul + add on the target; 32 lets those that have 64 use it"),
           field("max_shift", &Recipe::max_shift,
                 "largest shift; each node takes the largest that is proven safe")});
  section("evaluation",
          {field("metric", &Recipe::metric,
                 "top1; cer, wer: greedy CTC against rows of symbols; si-sdr: enhanced speech")});
  section("gates", {field("min_sqnr_db", &Recipe::min_sqnr_db, "0: no gate"),
                    field("min_agreement", &Recipe::min_agreement, "0: no gate"),
                    field("max_top1_drop", &Recipe::max_top1_drop,
                          "of the metric: in points, of si-sdr in dB; 0: no gate")});
  return all;
}

/// Every key with one value, in the order in which a recipe is written.
const std::vector<Field>& fields() {
  static const std::vector<Field> all = make_fields();
  return all;
}

[[noreturn]] void reject(const std::string& file, const toml::node& node, const std::string& key,
                         const std::string& what, const std::string& hint = {}) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}:{}", file, node.source().begin.line),
              fmt::format("'{}' {}", key, what), hint);
}

void read_table(const toml::table& table, const std::string& section, const std::string& file,
                Recipe& recipe) {
  for (const auto& [name, node] : table) {
    const std::string key(name.str());
    if (section.empty() && node.is_table()) {
      const auto read_names = [&, &entries = *node.as_table()](const auto& read) {
        for (const auto& [name_key, value] : entries) {
          try {
            read(std::string(name_key.str()), value);
          } catch (const std::string& what) {
            reject(file, value, key + "." + std::string(name_key.str()), what);
          }
        }
      };
      if (key == "input_shapes") {
        read_names([&](const std::string& input, const toml::node& dims) {
          recipe.input_shapes[input] = shape_of(dims);
        });
      } else if (key == "precision") {
        read_names([&](const std::string& pattern, const toml::node& bits) {
          recipe.precision[pattern] = value_of<std::int64_t>(bits, "an integer");
        });
      } else if (key == "weight_levels") {
        read_names([&](const std::string& pattern, const toml::node& levels) {
          recipe.weight_levels_of[pattern] = value_of<std::int64_t>(levels, "an integer");
        });
      } else if (key == "ranges") {
        read_names([&](const std::string& pattern, const toml::node& choice) {
          recipe.ranges[pattern] = range_choice_of(choice);
        });
      } else {
        read_table(*node.as_table(), key, file, recipe);
      }
      continue;
    }
    const Field* found = nullptr;
    std::vector<std::string> known;
    for (const Field& f : fields()) {
      known.push_back(f.section.empty() ? f.key : f.section + "." + f.key);
      if (f.section == section && f.key == key) found = &f;
    }
    const std::string full = section.empty() ? key : section + "." + key;
    if (!found)
      reject(file, node, full, "is not a key of a recipe",
             fmt::format("known keys: {}, input_shapes.NAME, precision.NODE, weight_levels.NODE, "
                         "ranges.TENSOR",
                         fmt::join(known, ", ")));
    try {
      found->read(node, recipe);
    } catch (const std::string& what) {
      reject(file, node, full, what);
    }
  }
}

}  // namespace

std::optional<Recipe> preset_recipe(std::string_view name) {
  Recipe r;
  if (name == "default") return r;
  if (name == "accurate") {
    r.target = "waveq";
    r.precision = {{"*", 16}};
    return r;
  }
  if (name != "quantlib") return std::nullopt;
  r.observer = "min_max";
  r.max_shift = 18;
  r.equalize = r.zero_points = r.fitted_gelu = r.own_mean_scale = r.join_sums = false;
  r.correct_biases = false;
  r.effective_scales = r.exact_multipliers = r.merge_requants = false;
  return r;
}

Recipe parse_recipe(std::string_view toml_text, const std::string& file_name) {
  Recipe recipe;
  try {
    toml::table table = toml::parse(toml_text);
    if (const toml::node* preset = table.get("preset")) {
      const auto name = preset->value_exact<std::string>();
      const auto known = name ? preset_recipe(*name) : std::nullopt;
      if (!known)
        reject(file_name, *preset, "preset",
               "is none of \"default\", \"accurate\" and \"quantlib\"");
      recipe = *known;
      table.erase("preset");
    }
    read_table(table, "", file_name, recipe);
  } catch (const toml::parse_error& e) {
    throw Error(ErrorCode::parse, fmt::format("{}:{}", file_name, e.source().begin.line),
                std::string(e.description()), "the recipe must be valid TOML");
  }
  check_recipe(recipe);
  return recipe;
}

Recipe load_recipe(const std::filesystem::path& path) {
  if (const auto preset = preset_recipe(path.string())) return *preset;
  return parse_recipe(read_file(path), path.string());
}

void check_recipe(const Recipe& r) {
  const auto within = [](const std::string& key, double value, double lo, double hi) {
    if (!(value >= lo && value <= hi))
      throw Error(ErrorCode::invalid_argument, "recipe",
                  fmt::format("{} = {} is outside {}..{}", key, value, lo, hi));
  };
  const auto one_of = [](const char* key, const std::string& value,
                         const std::vector<std::string>& known) {
    if (std::find(known.begin(), known.end(), value) == known.end())
      throw Error(ErrorCode::invalid_argument, "recipe",
                  fmt::format("{} = '{}' is not one of {}", key, value, fmt::join(known, ", ")));
  };
  within("activation_levels", static_cast<double>(r.activation_levels), 2, 256);
  within("weight_levels", static_cast<double>(r.weight_levels), 3, 256);
  within("requant_bits", static_cast<double>(r.requant_bits), 16, 32);
  within("max_shift", static_cast<double>(r.max_shift), 1, 31);
  within("seed", static_cast<double>(r.seed), 0, 9.0e18);
  within("min_agreement", r.min_agreement, 0, 1);
  within("max_top1_drop", r.max_top1_drop, 0, 100);
  within("min_sqnr_db", r.min_sqnr_db, 0, 1000);
  one_of("metric", r.metric, {"top1", "cer", "wer", "si-sdr"});
  one_of("softmax", r.softmax, {"auto", "ibert", "quantlib", "itamax", "lut"});
  for (const auto& [pattern, bits] : r.precision)
    if (bits != 8 && bits != 16)
      throw Error(ErrorCode::invalid_argument, "recipe",
                  fmt::format("precision.{} = {} is neither 8 nor 16", quoted(pattern), bits));
  for (const auto& [pattern, levels] : r.weight_levels_of)
    within(fmt::format("weight_levels.{}", quoted(pattern)), static_cast<double>(levels), 3, 256);
  for (const auto& [pattern, choice] : r.ranges) {
    within("ranges.scale", choice.scale, 1.0 / 64, 64);
    if (!choice.observer.empty()) parse_observer(choice.observer);
  }
  for (const auto& [name, shape] : r.input_shapes)
    for (std::int64_t d : shape)
      if (d < 1)
        throw Error(
            ErrorCode::invalid_argument, "recipe",
            fmt::format("input_shapes.{} = {} has a dimension below 1", name, to_string(shape)));
}

std::string to_toml(const Recipe& recipe) {
  std::string out =
      "# What decides this folder, besides the model and the data. `waveq quantize --recipe` reads "
      "it.\n";
  std::string section;
  for (const Field& f : fields()) {
    if (f.section != section) {
      out += fmt::format("\n[{}]\n", f.section);
      section = f.section;
    }
    out += fmt::format("{} = {}  # {}\n", f.key, f.write(recipe), f.comment);
  }
  const auto write_rules = [&](const char* head, const std::map<std::string, std::int64_t>& rules) {
    if (!rules.empty()) out += head;
    for (const auto& [pattern, wanted] : rules)
      out += fmt::format("{} = {}\n", quoted(pattern), wanted);
  };
  write_rules("\n[precision]  # bits of the tensors that nodes make\n", recipe.precision);
  write_rules("\n[weight_levels]  # of single nodes\n", recipe.weight_levels_of);
  if (!recipe.ranges.empty()) {
    out += "\n[ranges]  # of single tensors\n";
    for (const auto& [pattern, choice] : recipe.ranges)
      out += fmt::format("{} = {}\n", quoted(pattern), to_toml(choice));
  }
  if (!recipe.input_shapes.empty()) {
    out += "\n[input_shapes]\n";
    for (const auto& [name, shape] : recipe.input_shapes)
      out += fmt::format("{} = {}\n", quoted(name), to_string(shape));
  }
  return out;
}

}  // namespace waveq
