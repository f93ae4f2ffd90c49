#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <mutex>
#include <thread>

#include "cli.h"
#include "waveq/calibration/observer.h"
#include "waveq/export/target.h"
#include "waveq/rewrites/rules.h"

namespace waveq::cli {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::not_integer:
      return kNotInteger;
    case ErrorCode::overflow:
      return kOverflow;
    case ErrorCode::mismatch:
      return kGateMissed;
    default:
      return kError;
  }
}

namespace {

/// "name=1,1,8192". \throws Error{invalid_argument}.
std::pair<std::string, Shape> parse_shape(const std::string& text) {
  const auto refuse = [&](const char* what) {
    throw Error(ErrorCode::invalid_argument, fmt::format("'{}'", text), what);
  };
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) refuse("is not NAME=1,1,8192");
  Shape shape;
  std::string_view rest = std::string_view(text).substr(equals + 1);
  while (!rest.empty()) {
    std::int64_t d = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), d);
    const auto used = static_cast<std::size_t>(end - rest.data());
    if (error != std::errc{} || d < 1 ||
        (used < rest.size() && (rest[used] != ',' || used + 1 == rest.size())))
      refuse("is not NAME=1,1,8192 with dimensions of 1 or more");
    shape.push_back(d);
    rest.remove_prefix(used < rest.size() ? used + 1 : used);
  }
  if (shape.empty()) refuse("names no dimensions");
  return {text.substr(0, equals), shape};
}

/// A check of CLI11 out of a parser that throws Error.
template <class F>
auto accepted_by(F parse) {
  return [parse](const std::string& text) {
    try {
      parse(text);
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
}

}  // namespace

void Common::add(CLI::App& app, unsigned flags) {
  if (flags & kRecipe)
    app.add_option(
           "--recipe", recipe_file,
           "TOML file with any of these choices, or a preset: accurate (16 bits wherever the "
           "target has them, default target waveq), quantlib (what QuantLib does, for "
           "comparison); flags override it")
        ->type_name("FILE");
  if (flags & kTarget)
    app.add_option("--target", target, "a name from `waveq targets` (default: deeploy-generic)")
        ->type_name("NAME")
        ->check(accepted_by(find_target));
  if (flags & kObserver)
    app.add_option(
           "--observer", observer,
           "how ranges follow from samples: mse (default), min_max, histogram, percentile:99.9")
        ->type_name("NAME")
        ->check(accepted_by(parse_observer));
  if (flags & kThreads)
    app.add_option("--threads", threads,
                   "worker threads (default: all cores); changes no byte of the result")
        ->type_name("N")
        ->check(CLI::Range(1u, 256u));
  if (flags & kShapes)
    app.add_option("--input-shape", input_shapes, "closes open dimensions: NAME=1,1,8192")
        ->type_name("NAME=DIMS")
        ->check(accepted_by(parse_shape))
        ->allow_extra_args(false);
  if (flags & kPasses)
    app.add_option("--passes", passes, "only these rewrite rules (`waveq passes` lists them)")
        ->type_name("A,B")
        ->delimiter(',')
        ->check(accepted_by(find_rule));
  if (flags & kSeed)
    app.add_option("--seed", seed, "of everything drawn at random")
        ->type_name("N")
        ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 62));
  if (flags & kJson) app.add_flag("--json", json, "machine-readable result on stdout");
}

Recipe Common::recipe(const CLI::App& app) const {
  Recipe r;
  if (!recipe_file.empty()) r = load_recipe(recipe_file);
  const auto given = [&](const char* flag) {
    const CLI::Option* option = app.get_option_no_throw(flag);
    return option && option->count() > 0;
  };
  if (given("--target")) r.target = target;
  if (given("--observer")) r.observer = observer;
  if (given("--passes")) r.passes = passes;
  if (given("--seed")) r.seed = seed;
  for (const std::string& text : input_shapes) {
    auto [name, shape] = parse_shape(text);
    r.input_shapes[name] = shape;
  }
  find_target(r.target);
  parse_observer(r.observer);
  return r;
}

void keep_inputs(const std::string& output, const std::vector<std::string>& inputs) {
  std::error_code error;
  for (const std::string& input : inputs)
    if (!output.empty() && std::filesystem::equivalent(output, input, error) && !error)
      throw Error(ErrorCode::invalid_argument, output,
                  "is the input itself, which is never modified", "choose another name with -o");
}

unsigned Common::thread_count() const {
  return threads ? threads : std::max(1u, std::thread::hardware_concurrency());
}

namespace {
struct Line {
  std::mutex lock;
  std::string stage;
  std::size_t shown = 0;
  bool open = false;
};
Line& line() {
  static Line l;
  return l;
}
}  // namespace

Progress progress_line() {
  if (!spdlog::should_log(spdlog::level::info)) return {};
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [terminal](std::string_view stage, std::size_t done, std::size_t total) {
    Line& l = line();
    const std::lock_guard guard(l.lock);
    if (l.stage != stage) {
      if (terminal && l.open) std::fputc('\n', stderr);
      l.stage = stage;
      l.shown = 0;
    }
    if (terminal) {
      fmt::print(stderr, "\r{:<16} {:>5}/{} ", stage, done, total);
      std::fflush(stderr);
      l.open = done < total;
      if (done == total) std::fputc('\n', stderr);
    } else if (4 * done / std::max<std::size_t>(total, 1) > l.shown) {
      l.shown = 4 * done / std::max<std::size_t>(total, 1);
      fmt::print(stderr, "{}: {} of {}\n", stage, done, total);
    }
  };
}

void end_progress() {
  Line& l = line();
  const std::lock_guard guard(l.lock);
  if (l.open) std::fputc('\n', stderr);
  l.open = false;
}

std::string bytes_text(std::int64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b < 1000) return fmt::format("{} B", bytes);
  if (b < 1e6) return fmt::format("{:.3g} kB", b / 1e3);
  return fmt::format("{:.3g} MB", b / 1e6);
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width;
  for (const auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (c >= width.size()) width.push_back(0);
      width[c] = std::max(width[c], row[c].size());
    }
  for (const auto& row : rows) {
    std::string out;
    for (std::size_t c = 0; c < row.size(); ++c)
      out += c + 1 == row.size() ? row[c] : fmt::format("{:<{}}  ", row[c], width[c]);
    fmt::print("{}\n", out);
  }
}

}  // namespace waveq::cli
