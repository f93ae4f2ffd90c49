#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/graph/onnx_writer.h"

namespace waveq::cli {

namespace {

struct Options {
  Common common;
  std::string model, out;
  bool explain = false;
};

int run(const CLI::App& app, const Options& o) {
  if (o.out.empty() && !o.explain)
    throw CLI::ValidationError("rewrite", "-o FILE or --explain is needed");
  keep_inputs(o.out, {o.model, o.common.recipe_file});
  RewriteReport report;
  const Graph graph = load_canonical(o.model, o.common.recipe(app), &report);
  if (!o.out.empty()) write_onnx(o.out, graph);
  if (o.explain) {
    for (const Application& a : report.applied)
      fmt::print("applied   {}  at '{}': {}\n", a.rule, a.node, a.detail);
    for (const Refusal& r : report.refused)
      fmt::print("declined  {}  at '{}': {}\n", r.rule, r.node, r.reason);
  }
  spdlog::info("{} rewrites, {} declined, {} -> {} nodes", report.applied.size(),
               report.refused.size(), report.nodes_before, report.nodes_after);
  return kDone;
}

}  // namespace

Action add_rewrite(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "float ONNX model")->required();
  app.add_option("-o,--output", o->out, "ONNX file to write")->type_name("FILE");
  o->common.add(app, Common::kRecipe | Common::kShapes | Common::kPasses);
  app.add_flag("--explain", o->explain, "print which rule fired where, and which declined and why");
  app.footer(
      "\nExamples:\n  waveq rewrite model.onnx -o canonical.onnx\n  waveq rewrite model.onnx "
      "--explain --passes fold_batch_norm,fuse_gelu_erf");
  return [&app, o] { return run(app, *o); };
}

}  // namespace waveq::cli
