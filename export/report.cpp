#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "waveq/export/folder.h"
#include "waveq/export/small_multipliers.h"
#include "waveq/graph/op.h"
#include "waveq/graph/version.h"

namespace waveq {

namespace {

using Json = nlohmann::ordered_json;

/// JSON has no infinity: an exact match is null.
Json decibels(double db) {
  return std::isfinite(db) ? Json(std::round(db * 1000.0) / 1000.0) : Json(nullptr);
}

Json range_of_constant(const Graph& graph, ValueId id) {
  const std::vector<std::int64_t> q = to_int64(graph.constant(id));
  if (q.size() == 1) return q.front();
  const auto [lo, hi] = std::ranges::minmax(q);
  return Json{lo, hi};
}

std::int64_t total_macs(const Graph& graph) {
  std::int64_t macs = 0;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (const OpDef* op = find_op(node.op); op && op->macs) macs += op->macs(graph, node);
  }
  return macs;
}

std::int64_t weight_bytes(const Graph& graph) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < graph.value_count(); ++i) {
    const Value& v = graph.value({static_cast<std::int32_t>(i)});
    // Shapes and axes are parameters of the compiler, not data on the device.
    if (v.constant && v.type.dtype != DType::i64)
      bytes += static_cast<std::int64_t>(v.constant->byte_size());
  }
  return bytes;
}

/// Largest sum of tensors alive at once when nodes run in order.
std::int64_t peak_activation_bytes(const Graph& graph) {
  const std::vector<NodeId> order = graph.topological_order();
  std::map<ValueId, std::size_t> last;
  for (std::size_t s = 0; s < order.size(); ++s)
    for (ValueId in : graph.node(order[s]).inputs)
      if (in.valid() && !graph.is_constant(in)) last[in] = s;
  for (ValueId out : graph.outputs()) last[out] = order.size();
  const auto bytes = [&](ValueId id) {
    const TensorType& t = graph.value(id).type;
    return element_count(t.shape) * static_cast<std::int64_t>(size_of(t.dtype));
  };
  std::multimap<std::size_t, ValueId> ends;
  for (const auto& [v, s] : last) ends.emplace(s, v);
  std::int64_t alive = 0, peak = 0;
  for (ValueId in : graph.inputs()) alive += bytes(in);
  for (std::size_t s = 0; s < order.size(); ++s) {
    for (ValueId out : graph.node(order[s]).outputs)
      if (out.valid()) alive += bytes(out);
    peak = std::max(peak, alive);
    for (auto [it, end] = ends.equal_range(s); it != end; ++it) alive -= bytes(it->second);
  }
  return peak;
}

std::int64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return 1024 * std::stoll(line.substr(6));
  return 0;
}

Json nodes_json(const QuantizeResult& result) {
  const Graph& graph = result.network.graph;
  std::map<std::string, const NodeProof*> proofs;
  for (const NodeProof& p : result.proof.nodes) proofs[p.node] = &p;
  std::map<std::string, const TensorQuality*> quality;
  for (const TensorQuality& t : result.tensors) quality.emplace(t.integer_value, &t);
  Json nodes = Json::array();
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const Value& y = graph.value(node.outputs.front());
    Json entry;
    entry["name"] = node.name;
    entry["origin"] = node.origin;
    entry["op"] = node.op;
    entry["scale"] = y.quant ? Json(y.quant->scale) : Json(nullptr);
    entry["zero_point"] = y.quant ? Json(y.quant->zero_point) : Json(nullptr);
    const bool requant = node.op == "RequantShift";
    entry["mul"] = requant ? range_of_constant(graph, node.inputs[1]) : Json(nullptr);
    entry["add"] = requant ? range_of_constant(graph, node.inputs[2]) : Json(nullptr);
    entry["shift"] =
        requant
            ? Json(static_cast<int>(std::log2(static_cast<double>(node.attrs.require_int("div")))))
            : Json(nullptr);
    const auto proof = proofs.find(node.name);
    entry["bound"] = proof != proofs.end() ? Json(proof->second->bound) : Json(nullptr);
    entry["attained"] = proof != proofs.end() && proof->second->attained
                            ? Json(*proof->second->attained)
                            : Json(nullptr);
    entry["range"] = proof != proofs.end() && proof->second->range
                         ? Json{proof->second->range->lo, proof->second->range->hi}
                         : Json(nullptr);
    entry["headroom_bits"] =
        proof != proofs.end() ? decibels(proof->second->headroom_bits) : Json(nullptr);
    if (proof != proofs.end() && !proof->second->reason.empty())
      entry["argument"] = proof->second->reason;
    const auto q = quality.find(y.name);
    entry["sqnr_db"] = q != quality.end() ? decibels(q->second->sqnr_db) : Json(nullptr);
    entry["saturation"] = q != quality.end() ? Json(q->second->saturation) : Json(nullptr);
    nodes.push_back(std::move(entry));
  }
  return nodes;
}

Json tensor_json(const Graph& graph, ValueId id) {
  const Value& v = graph.value(id);
  const QuantParams q = v.quant.value_or(QuantParams{});
  return Json{{"name", v.name},
              {"shape", v.type.shape},
              {"dtype", std::string(to_string(v.type.dtype))},
              {"scale", q.scale},
              {"zero_point", q.zero_point},
              {"n_levels", q.n_levels},
              {"signed", q.is_signed},
              {"lo", q.lo()},
              {"hi", q.hi()}};
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

}  // namespace

std::string report_json(const QuantizeResult& result, const TargetProfile& target,
                        const std::string& model_name, const FolderOptions& options) {
  const Accuracy& a = result.accuracy;
  const Graph& graph = result.network.graph;
  Json j;
  j["model"] = model_name;
  j["target"] = target.name;
  j["version"] = kVersion;
  j["accuracy"] = {{"metric", a.metric},
                   {"float", or_null(a.float_score ? a.float_score : a.float_top1)},
                   {"integer", or_null(a.integer_score ? a.integer_score : a.integer_top1)},
                   {"agreement", a.agreement},
                   {"samples", a.samples},
                   {"data", result.evaluated_on_calibration_data ? "calibration" : "evaluation"}};
  if (const FakeQuantization& fake = result.fake_quantization; fake.reference)
    j["fake_quantization"] = {{"tensors", fake.tensors.size()}, {"notes", fake.notes}};
  j["output_sqnr_db"] = decibels(a.output_sqnr_db);
  j["median_sqnr_db"] = decibels(a.median_sqnr_db);
  j["trimmed_sqnr_db"] = decibels(a.trimmed_sqnr_db);
  Json islands = Json::array();
  for (NodeId id : graph.topological_order())
    for (ValueId out : graph.node(id).outputs)
      if (out.valid() && !is_integer(graph.value(out).type.dtype))
        islands.push_back(graph.node(id).name);
  j["float_islands"] = islands;
  j["proof"] = {{"overflow_free", result.proof.overflow_free()},
                {"unproven", result.proof.unproven},
                {"min_headroom_bits", decibels(result.proof.min_headroom_bits)}};
  j["small_multipliers"] = Json::array();
  for (const SmallMultiplier& m : small_multipliers(result))
    j["small_multipliers"].push_back(
        {{"node", m.node}, {"origin", m.origin}, {"mul", m.mul}, {"reason", m.reason}});
  j["coarse_operands"] = Json::array();
  for (const CoarseOperand& c : result.coarse_operands)
    j["coarse_operands"].push_back({{"tensor", c.tensor},
                                    {"origin", c.origin},
                                    {"role", c.denominator ? "denominator" : "mean"},
                                    {"median", c.median}});
  j["nodes"] = nodes_json(result);
  j["macs"] = total_macs(graph);
  j["weight_bytes"] = weight_bytes(graph);
  j["peak_activation_bytes"] = peak_activation_bytes(graph);
  j["time_s"] = Json::object();
  if (options.profile)
    for (const auto& [stage, seconds] : result.seconds) j["time_s"][stage] = seconds;
  j["peak_rss_bytes"] = options.profile ? Json(peak_rss_bytes()) : Json(nullptr);
  return j.dump(1) + "\n";
}

std::string quantization_json(const Graph& graph) {
  Json j;
  j["real"] = "scale * (q - zero_point)";
  j["quantize"] = "q = clamp(round_half_away(real / scale) + zero_point, lo, hi)";
  j["inputs"] = Json::array();
  j["outputs"] = Json::array();
  for (ValueId id : graph.inputs()) j["inputs"].push_back(tensor_json(graph, id));
  for (ValueId id : graph.outputs()) j["outputs"].push_back(tensor_json(graph, id));
  return j.dump(1) + "\n";
}

}  // namespace waveq
