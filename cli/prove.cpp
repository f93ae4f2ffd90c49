#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/integerize/proof.h"

namespace waveq::cli {

namespace {

int run(const std::string& file, const Common& common, bool all) {
  const Graph graph = to_integer_network(read_onnx(file));
  const ProofReport proof = prove(graph);
  if (common.json) {
    nlohmann::ordered_json j = {{"overflow_free", proof.overflow_free()},
                                {"unproven", proof.unproven},
                                {"min_headroom_bits", proof.min_headroom_bits}};
    for (const NodeProof& n : proof.nodes)
      j["nodes"].push_back({{"name", n.node},
                            {"op", n.op},
                            {"proven", n.proven},
                            {"bound", n.bound},
                            {"headroom_bits", n.headroom_bits},
                            {"reason", n.reason}});
    fmt::print("{}\n", j.dump(1));
  } else {
    std::vector<std::vector<std::string>> rows = {{"node", "operator", "bound", "headroom", ""}};
    for (const NodeProof& n : proof.nodes)
      if (all || !n.proven)
        rows.push_back({n.node, n.op, fmt::format("{:.0f}", n.bound),
                        n.proven ? fmt::format("{:.2f} bits", n.headroom_bits) : "unproven",
                        n.reason});
    if (rows.size() > 1) print_table(rows);
    fmt::print("{}: {} of {} computing nodes proven; least headroom {:.2f} bits\n", file,
               proof.nodes.size() - proof.unproven.size(), proof.nodes.size(),
               proof.min_headroom_bits);
  }
  return proof.overflow_free() ? kDone : kOverflow;
}

}  // namespace

Action add_prove(CLI::App& app) {
  auto file = std::make_shared<std::string>();
  auto common = std::make_shared<Common>();
  auto all = std::make_shared<bool>(false);
  app.add_option("FILE", *file, "integer ONNX network, whoever made it")->required();
  app.add_flag("--all", *all, "list proven nodes too");
  common->add(app, Common::kJson);
  app.footer(
      "\nExample:\n  waveq prove out/network.onnx --all\n\nInputs are taken as signed 8 bit. Exit "
      "code 4 where a node cannot be proven.");
  return [file, common, all] { return run(*file, *common, *all); };
}

}  // namespace waveq::cli
