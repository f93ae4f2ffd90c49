#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "cli.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/integerize/sample_stack.h"
#include "waveq/integerize/witness.h"

namespace waveq::cli {

namespace {

using Json = nlohmann::ordered_json;

struct Options {
  Common common;
  std::string file, out;
  bool all = false;
  std::size_t search = 0;  ///< 0: chosen from the network's size
};

/// "proven"; "wraps": an input is known; "no witness": searched without finding one; "unproven":
/// not searched.
std::string status_of(const NodeProof& n, const WitnessSearch& search) {
  if (n.proven) return "proven";
  if (search.find(n.node)) return "wraps";
  return search.trials > 0 ? "no witness" : "unproven";
}

Json json_of(const ProofReport& proof, const WitnessSearch& search) {
  Json j = {{"overflow_free", proof.overflow_free()},
            {"unproven", proof.unproven},
            {"min_headroom_bits", proof.min_headroom_bits},
            {"inputs_tried", search.trials},
            {"wrapping", Json::array()}};
  for (const Wrap& w : search.wraps) j["wrapping"].push_back(w.node);
  j["nodes"] = Json::array();
  for (const NodeProof& n : proof.nodes) {
    Json entry = {{"name", n.node},
                  {"op", n.op},
                  {"proven", n.proven},
                  {"status", status_of(n, search)},
                  {"bound", n.bound},
                  {"attained", n.attained ? Json(*n.attained) : Json(nullptr)},
                  {"headroom_bits", n.headroom_bits},
                  {"range", n.range ? Json{n.range->lo, n.range->hi} : Json(nullptr)},
                  {"reason", n.reason}};
    if (const Wrap* w = search.find(n.node))
      entry["witness"] = {{"sample", w->sample}, {"what", w->what}};
    j["nodes"].push_back(std::move(entry));
  }
  return j;
}

void print(const ProofReport& proof, const WitnessSearch& search, const Options& o) {
  std::vector<std::vector<std::string>> rows = {
      {"node", "operator", "bound", "attained", "headroom", "status", ""}};
  for (const NodeProof& n : proof.nodes) {
    if (!o.all && n.proven) continue;
    rows.push_back({n.node, n.op, fmt::format("{:.0f}", n.bound),
                    n.attained ? fmt::format("{:.0f}", *n.attained) : "-",
                    n.proven ? fmt::format("{:.2f} bits", n.headroom_bits) : "-",
                    status_of(n, search), n.reason});
  }
  if (rows.size() > 1) print_table(rows);
  if (!search.wraps.empty()) {
    std::vector<std::vector<std::string>> table = {{"\nnode that wraps", "sample", "where"}};
    for (const Wrap& w : search.wraps)
      table.push_back({w.node, fmt::format("{}", w.sample), w.what});
    print_table(table);
  }
  fmt::print("{}: {} of {} computing nodes proven; least headroom {:.2f} bits\n", o.file,
             proof.nodes.size() - proof.unproven.size(), proof.nodes.size(),
             proof.min_headroom_bits);
  if (search.trials > 0)
    fmt::print("{} of the {} unproven nodes wrap on one of {} inputs; {} inputs tried\n",
               search.wraps.size(), proof.unproven.size(), search.samples.size(), search.trials);
}

/// The samples in the form of inputs.npz, joined along the first axis where there are several.
void write_witness(const Graph& graph, const WitnessSearch& search, const std::string& file) {
  std::vector<Tensor> arrays;
  for (std::size_t i = 0; i < graph.inputs().size(); ++i) {
    SampleStack stack;
    for (const std::vector<Tensor>& sample : search.samples) stack.push(sample[i]);
    arrays.push_back(search.samples.size() == 1 ? search.samples.front()[i] : stack.joined());
  }
  std::vector<NpzItem> items;
  for (std::size_t i = 0; i < arrays.size(); ++i)
    items.push_back({graph.value(graph.inputs()[i]).name, &arrays[i]});
  write_npz(file, items);
}

int run(const CLI::App& app, const Options& o) {
  keep_inputs(o.out, {o.file});
  const Graph graph = to_integer_network(read_onnx(o.file));
  const ProofReport proof = prove(graph);
  WitnessSearch search;
  if (!(app.count("--search") && o.search == 0))
    search = search_wraps(graph, proof, {.trials = o.search, .seed = o.common.seed});
  if (o.common.json)
    fmt::print("{}\n", json_of(proof, search).dump(1));
  else
    print(proof, search, o);
  if (!o.out.empty()) {
    if (search.samples.empty()) {
      spdlog::warn("{}: no input is known on which a node wraps; nothing is written", o.out);
    } else {
      write_witness(graph, search, o.out);
      spdlog::info(
          "{}: {} inputs; waveq run {} --inputs {} -o out.npz --overflow error shows the "
          "first wrap",
          o.out, search.samples.size(), o.file, o.out);
    }
  }
  return proof.overflow_free() ? kDone : kOverflow;
}

}  // namespace

Action add_prove(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("FILE", o->file, "integer ONNX network, whoever made it")->required();
  app.add_flag("--all", o->all, "list proven nodes too");
  app.add_option("--search", o->search,
                 "inputs to try for one that makes an unproven node wrap (default: as many as take "
                 "some seconds; 0: none)")
      ->type_name("N")
      ->check(CLI::Range(std::size_t{0}, std::size_t{1'000'000'000}));
  app.add_option("-o,--output", o->out, "the wrapping inputs, as inputs.npz of the network")
      ->type_name("NPZ");
  o->common.add(app, Common::kJson | Common::kSeed);
  app.footer(
      "\nExamples:\n  waveq prove out/network.onnx --all\n"
      "  waveq prove other/network.onnx -o witness.npz\n"
      "  waveq run other/network.onnx --inputs witness.npz -o y.npz --overflow error\n\n"
      "Bound: the largest int32 intermediate over all inputs, by interval analysis. Attained: "
      "what\n"
      "the evaluator gives for operands built to reach it (linear operators). Inputs that state "
      "no\n"
      "range are taken as signed 8 bit. Status of a node that is not proven: `wraps` (an input is\n"
      "known), `no witness` (the search found none; one may exist). Exit code 4 where a node is\n"
      "not proven.");
  return [&app, o] { return run(app, *o); };
}

}  // namespace waveq::cli
