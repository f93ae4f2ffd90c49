#include "waveq/export/vectors.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "cli.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq::cli {

namespace {

struct Options {
  std::string model, out;
  OperatorSpec op;
  bool random_only = false;
  std::vector<std::string> formats = {"deeploy", "c"};
  VectorFolderOptions folder;
};

int report(const Options& o, const VectorFolderReport& done) {
  for (const UnreachedCondition& s : done.skipped)
    spdlog::warn("no vectors for '{}': {}", s.condition, s.why);
  fmt::print("{}: {} kernels, {} cases\n", o.out, done.nodes, done.cases);
  return kDone;
}

int run(Options& o) {
  if (o.model.empty() == o.op.op.empty())
    throw CLI::ValidationError("vectors", "give a MODEL, or an operator with --op");
  keep_inputs(o.out, {o.model});
  o.folder.vectors.designed = !o.random_only;
  const auto wants = [&](const char* format) {
    return std::ranges::find(o.formats, format) != o.formats.end();
  };
  o.folder.deeploy = wants("deeploy");
  o.folder.c_header = wants("c");
  if (!o.op.op.empty()) {
    o.op.node = std::exchange(o.folder.node, {});
    o.op.seed = o.folder.vectors.seed;
    o.folder.vectors.narrow = false;
    OperatorNetwork network = operator_network(o.op);
    o.folder.ranges = std::move(network.ranges);
    o.folder.node = network.graph.node(network.graph.nodes().front()).name;
    return report(o, write_vectors(network.graph, {}, o.out, o.folder));
  }
  const Graph file = read_onnx(o.model);
  if (!looks_integer(file))
    throw Error(ErrorCode::not_integer, o.model, "is not an integer network",
                "quantize it first: `waveq quantize`, then give the network.onnx of its folder");
  return report(o, write_vectors(to_integer_network(file), o.model, o.out, o.folder));
}

}  // namespace

Action add_vectors(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "integer ONNX network, whoever made it");
  app.add_option("--op", o->op.op,
                 "in place of MODEL: this operator with the parameters of --operand and --attr; "
                 "--node names it");
  app.add_option("--operand", o->op.operands,
                 "an input of --op, in order: DTYPE[DIMS] varies, DTYPE[DIMS]=LO..HI varies in an "
                 "interval, DTYPE[DIMS]:1,2,3 is constant, DTYPE[DIMS]:LO..HI or :random is "
                 "constant and drawn; f32[DIMS] is what Quant takes")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  app.add_option("--attr", o->op.attributes,
                 "an attribute of --op: NAME=1, NAME=0.5, NAME=[1,2], NAME=text")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  app.add_option("-o,--output", o->out, "folder to write")->required()->type_name("DIR");
  app.add_option("--node", o->folder.node, "only this node");
  app.add_option("--format", o->formats,
                 "deeploy: a folder for each case; c: one C99 header for each node (default: both)")
      ->delimiter(',')
      ->check(CLI::IsMember({"deeploy", "c"}));
  app.add_option("--seed", o->folder.vectors.seed, "of the drawn cases")->capture_default_str();
  app.add_option("--random", o->folder.vectors.random, "drawn cases after the designed ones")
      ->capture_default_str()
      ->check(CLI::Range(0, 10000));
  app.add_flag("--random-only", o->random_only,
               "drawn cases alone, to measure what design is worth");
  app.add_option("--target", o->folder.target, "dialect of network.onnx")->capture_default_str();
  app.footer(
      "\nExamples:\n  waveq vectors out/network.onnx -o vectors\n"
      "  waveq vectors --op RequantShift --operand 'i32[1,3,17]=-60000..60000' --operand "
      "'i32[3,1]:5,-3,900' --operand 'i32[3,1]:0' \\\n"
      "    --attr div=1024 --attr n_levels=256 --attr signed=1 -o vectors\n\nInputs are designed: "
      "extremes, ties of every rounding, saturation, accumulators at their proven bound.\n"
      "cases.json of each node tells which case covers what, and what could not be reached and "
      "why.\n"
      "Deeploy guesses input types from values; the generator_arguments in cases.json state them.");
  return [o] { return run(*o); };
}

}  // namespace waveq::cli
