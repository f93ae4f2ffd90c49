#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "cli.h"
#include "waveq/calibration/observer.h"
#include "waveq/export/target.h"
#include "waveq/graph/op.h"
#include "waveq/integerize/approximation.h"
#include "waveq/quantizers/quantizer.h"
#include "waveq/rewrites/rules.h"

namespace waveq::cli {

namespace {

using Json = nlohmann::ordered_json;

int passes(const Common& common) {
  if (common.json) {
    Json j;
    for (const PassInfo& p : pipeline_passes())
      j["pipeline"].push_back(
          {{"name", p.name}, {"formula", p.formula}, {"effect", p.effect}, {"source", p.source}});
    for (const Rule& r : all_rules())
      j["rewrites"].push_back({{"name", r.name},
                               {"formula", r.formula},
                               {"effect", std::string(to_string(r.effect))},
                               {"source", r.source}});
    for (const LoweringInfo& l : lowering_rules())
      j["lowering"].push_back({{"operator", l.op}, {"formula", l.formula}, {"source", l.source}});
    fmt::print("{}\n", j.dump(1));
    return kDone;
  }
  std::vector<std::vector<std::string>> rows;
  int number = 0;
  for (const PassInfo& p : pipeline_passes())
    rows.push_back({fmt::format("{:>2}", ++number), p.name, p.effect, p.formula, p.source});
  fmt::print("Pipeline of `waveq quantize`\n");
  print_table(rows);
  rows.clear();
  number = 0;
  for (const Rule& r : all_rules())
    rows.push_back({fmt::format("{:>2}", ++number), r.name, std::string(to_string(r.effect)),
                    r.formula, r.source});
  fmt::print("\nRewrite rules (--passes)\n");
  print_table(rows);
  rows.clear();
  for (const LoweringInfo& l : lowering_rules()) rows.push_back({l.op, l.formula, l.source});
  fmt::print("\nLowering rules\n");
  print_table(rows);
  rows.clear();
  for (const ObserverRow& o : observers())
    rows.push_back({std::string(o.name), std::string(o.summary), std::string(o.source)});
  fmt::print("\nObservers (--observer)\n");
  print_table(rows);
  rows.clear();
  for (const QuantizerRow& q : quantizers())
    rows.push_back({std::string(q.name), std::string(q.summary), std::string(q.source)});
  fmt::print("\nQuantizers (recipe key quantization.quantizer)\n");
  print_table(rows);
  return kDone;
}

int errors(const Common& common) {
  Json j = Json::array();
  std::vector<std::vector<std::string>> rows = {
      {"approximation", "setting", "SQNR", "handbook", "section"}};
  for (const ApproximationError& e : measure_approximations()) {
    rows.push_back({e.name, e.setting, fmt::format("{:.1f} dB", e.decibel),
                    fmt::format("{:.1f} dB", e.handbook), e.section});
    j.push_back({{"approximation", e.name},
                 {"setting", e.setting},
                 {"sqnr_db", e.decibel},
                 {"handbook_db", e.handbook},
                 {"section", e.section}});
  }
  if (common.json)
    fmt::print("{}\n", j.dump(1));
  else
    print_table(rows);
  return kDone;
}

int ops(const Common& common) {
  Json j = Json::array();
  std::vector<std::vector<std::string>> rows = {
      {"operator", "kind", "attributes", "specification"}};
  for (const OpDef* op : all_ops()) {
    const char* kind = op->dialect ? "integer dialect" : op->moves_data ? "moves data" : "standard";
    rows.push_back({op->name, kind, fmt::format("{}", fmt::join(op->attrs, " ")), op->spec});
    j.push_back({{"name", op->name},
                 {"kind", kind},
                 {"inputs", op->inputs},
                 {"attributes", op->attrs},
                 {"specification", op->spec}});
  }
  if (common.json)
    fmt::print("{}\n", j.dump(1));
  else
    print_table(rows);
  return kDone;
}

int list_targets(const Common& common, const std::string& explain) {
  if (!explain.empty()) {
    const TargetProfile& t = find_target(explain);
    fmt::print("{}: {}\nsource: {}\nfile: opset {}, domain {} for integer operators\n", t.name,
               t.summary, t.source, t.opset, t.dialect_domain);
    for (const std::string& limit : t.limits) fmt::print("- {}\n", limit);
    fmt::print("\n");
    std::vector<std::vector<std::string>> rows = {{"operator", "accepts"}};
    for (const TargetOperator& op : t.operators) rows.push_back({op.op, op.accepts});
    print_table(rows);
    rows = {{"rewriting", "what it does", "because"}};
    for (const FloatForm& f : float_forms(t.abilities()))
      rows.push_back({f.name, f.formula, f.reason});
    for (const Legalization& l : t.lowering.form.legalizations)
      rows.push_back({l.name, l.formula, l.reason});
    if (rows.size() > 1) {
      fmt::print("\n");
      print_table(rows);
    }
    if (t.arithmetic.empty()) return kDone;
    rows = {{"arithmetic of", "rounding, wrap, saturation", "source"}};
    for (const ArithmeticRule& r : t.arithmetic) rows.push_back({r.op, r.meaning, r.source});
    fmt::print("\n");
    print_table(rows);
    return kDone;
  }
  Json j = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const TargetProfile& t : targets()) {
    rows.push_back({t.name, t.summary, t.source});
    j.push_back({{"name", t.name}, {"summary", t.summary}, {"source", t.source}});
  }
  if (common.json)
    fmt::print("{}\n", j.dump(1));
  else
    print_table(rows);
  return kDone;
}

}  // namespace

Action add_passes(CLI::App& app) {
  auto common = std::make_shared<Common>();
  common->add(app, Common::kJson);
  app.footer("\nExample:\n  waveq passes");
  return [common] { return passes(*common); };
}

Action add_ops(CLI::App& app) {
  auto common = std::make_shared<Common>();
  common->add(app, Common::kJson);
  auto measure = std::make_shared<bool>(false);
  app.add_flag("--errors", *measure,
               "each integer approximation's error against the real function, measured now");
  app.footer("\nExample:\n  waveq ops --errors");
  return [common, measure] { return *measure ? errors(*common) : ops(*common); };
}

Action add_targets(CLI::App& app) {
  auto common = std::make_shared<Common>();
  auto explain = std::make_shared<std::string>();
  common->add(app, Common::kJson);
  app.add_option("--explain", *explain, "what one target accepts")->type_name("NAME");
  app.footer("\nExample:\n  waveq targets --explain deeploy-generic");
  return [common, explain] { return list_targets(*common, *explain); };
}

}  // namespace waveq::cli
