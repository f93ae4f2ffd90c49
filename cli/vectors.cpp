#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli.h"
#include "waveq/export/vectors.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq::cli {

namespace {

struct Options {
  std::string model, out;
  std::vector<std::string> formats = {"deeploy", "c"};
  VectorFolderOptions folder;
};

int run(Options& o) {
  keep_inputs(o.out, {o.model});
  const auto wants = [&](const char* format) { return std::ranges::find(o.formats, format) != o.formats.end(); };
  o.folder.deeploy = wants("deeploy");
  o.folder.c_header = wants("c");
  const Graph file = read_onnx(o.model);
  if (!looks_integer(file))
    throw Error(ErrorCode::not_integer, o.model, "is not an integer network", "quantize it first: `waveq quantize`, then give the network.onnx of its folder");
  const VectorFolderReport report = write_vectors(to_integer_network(file), o.model, o.out, o.folder);
  for (const UnreachedCondition& s : report.skipped) spdlog::warn("no vectors for '{}': {}", s.condition, s.why);
  fmt::print("{}: {} kernels, {} cases\n", o.out, report.nodes, report.cases);
  return kDone;
}

}  // namespace

Action add_vectors(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "integer ONNX network, whoever made it")->required();
  app.add_option("-o,--output", o->out, "folder to write")->required()->type_name("DIR");
  app.add_option("--node", o->folder.node, "only this node");
  app.add_option("--format", o->formats, "deeploy: a folder for each case; c: one C99 header for each node (default: both)")->delimiter(',')->check(CLI::IsMember({"deeploy", "c"}));
  app.add_option("--seed", o->folder.vectors.seed, "of the drawn cases")->capture_default_str();
  app.add_option("--random", o->folder.vectors.random, "drawn cases after the designed ones")->capture_default_str()->check(CLI::Range(0, 10000));
  app.add_option("--target", o->folder.target, "dialect of network.onnx")->capture_default_str();
  app.footer("\nExample:\n  waveq vectors out/network.onnx -o vectors\n\nInputs are designed: extremes, ties of every rounding, saturation, accumulators at their proven bound.\n"
             "cases.json of each node tells which case covers what, and what could not be reached and why.\n"
             "Deeploy guesses input types from values; the generator_arguments in cases.json state them.");
  return [o] { return run(*o); };
}

}  // namespace waveq::cli
