#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "cli.h"
#include "waveq/graph/version.h"

namespace waveq::cli {
namespace {

void set_up_log() {
  auto log =
      std::make_shared<spdlog::logger>("waveq", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  log->set_pattern("%v");
  spdlog::set_default_logger(log);
}

void complain(const std::string& message) {
  end_progress();
  fmt::print(stderr, "waveq: {}\n", message);
}

/// In the order of --help.
constexpr struct Command {
  const char *name, *summary;
  Action (*add)(CLI::App&);
} kCommands[] = {
    {"quantize", "the main job: float model and samples -> finished integer folder", add_quantize},
    {"inspect", "what a model holds, and what would stay float", add_inspect},
    {"rewrite", "float-to-float canonicalization alone", add_rewrite},
    {"calibrate", "the calibration table alone; `calibrate merge` joins shards", add_calibrate},
    {"run", "evaluate a float or an integer network", add_run},
    {"verify", "re-run a folder's network and compare with its golden vectors", add_verify},
    {"compare", "two npz dumps, tensor by tensor", add_compare},
    {"prove", "overflow proof of any integer network", add_prove},
    {"sweep", "what quantizing each tensor costs, and which remedies help", add_sweep},
    {"lint", "what the target would reject or compute wrongly, with remedies", add_lint},
    {"vectors", "golden vectors for each kernel: designed inputs, expected outputs", add_vectors},
    {"passes", "the pipeline, rewrite rules, lowering rules, observers and quantizers", add_passes},
    {"ops", "the operators waveq knows", add_ops},
    {"targets", "the target profiles", add_targets},
};

int main_with(int argc, char** argv) {
  set_up_log();
  CLI::App app{
      "waveq makes a float ONNX network compute with integers only, proves that it cannot "
      "overflow, and\n"
      "hands over golden vectors for the kernels of its target."};
  app.set_version_flag("--version", fmt::format("waveq {}", kVersion));
  app.require_subcommand(1);
  app.footer(
      "\nExample:\n  waveq quantize model.onnx --calib calib.npz --eval test.npz -o out\n\nExit "
      "codes: 0 done, 1 error, 2 usage, 3 cannot be made integer, 4 overflow not excluded, 5 gate "
      "missed.\n"
      "waveq COMMAND --help explains each.");

  bool quiet = false, verbose = false;
  std::vector<std::pair<CLI::App*, Action>> commands;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->add_flag("-q,--quiet", quiet, "errors only");
    sub->add_flag("-v,--verbose", verbose, "more about what happens");
    commands.emplace_back(sub, command.add(*sub));
  }
  if (argc > 1 && argv[1][0] != '-' && std::ranges::none_of(kCommands, [&](const Command& c) {
        return std::string_view(c.name) == argv[1];
      })) {
    complain(fmt::format("'{}' is not a command; see `waveq --help`", argv[1]));
    return kUsage;
  }
  try {
    app.parse(argc, argv);
    spdlog::set_level(verbose ? spdlog::level::debug
                      : quiet ? spdlog::level::err
                              : spdlog::level::info);
    for (const auto& [sub, action] : commands)
      if (sub->parsed()) return action();
    return kUsage;
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    // A misspelt flag is told before the one that it leaves missing.
    const std::vector<std::string> unknown = app.remaining(true);
    complain(fmt::format(
        "{}; see `waveq {}--help`",
        unknown.empty() ? std::string(e.what())
                        : fmt::format("'{}' is not expected", unknown.front()),
        app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name() + " "));
    return kUsage;
  }
}

}  // namespace
}  // namespace waveq::cli

int main(int argc, char** argv) {
  using namespace waveq::cli;
  try {
    const int code = main_with(argc, argv);
    end_progress();
    return code;
  } catch (const waveq::Error& e) {
    complain(e.what());
    return exit_code(e.code());
  } catch (const std::bad_alloc&) {
    complain("out of memory; a smaller model or fewer threads may fit");
    return kError;
  } catch (const std::exception& e) {
    complain(e.what());
    return kError;
  }
}
