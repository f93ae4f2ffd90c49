#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings.h"
#include "waveq/export/folder.h"
#include "waveq/export/lint.h"
#include "waveq/export/verify.h"

namespace waveq::python {

namespace py = pybind11;
namespace fs = std::filesystem;

namespace {

py::dict mismatch_dict(const Mismatch& m) {
  py::dict d;
  d["tensor"] = m.tensor;
  d["index"] = py::tuple(py::cast(m.index));
  d["expected"] = m.expected;
  d["got"] = m.got;
  d["differing"] = m.differing;
  d["elements"] = m.elements;
  return d;
}

py::dict verify(const fs::path& dir) {
  const VerifyReport report = without_gil([&] { return verify_folder(dir); });
  py::list mismatches;
  for (const Mismatch& m : report.mismatches) mismatches.append(mismatch_dict(m));
  py::dict out;
  out["outputs"] = report.outputs;
  out["activations"] = report.activations;
  out["unmatched"] = report.unmatched;
  out["mismatches"] = mismatches;
  return out;
}

py::list compare(const fs::path& a, const fs::path& b) {
  py::list out;
  for (const Comparison& c : without_gil([&] { return compare_dumps(a, b); })) {
    py::dict d;
    d["tensor"] = c.tensor;
    d["integer"] = c.integer;
    d["elements"] = c.elements;
    d["differing"] = c.differing;
    d["sqnr_db"] = c.integer ? py::object(py::none()) : py::cast(c.sqnr_db);
    d["cosine"] = c.cosine;
    d["problem"] = c.problem;
    d["extra"] = c.extra;
    d["first"] = c.first ? py::object(mismatch_dict(*c.first)) : py::object(py::none());
    out.append(d);
  }
  return out;
}

py::list lint_file(const fs::path& file, const std::string& target) {
  const TargetProfile& profile = find_target(target);
  const LintReport report = without_gil([&] { return lint(read_lint_input(file), profile); });
  py::list out;
  for (const LintFinding& f : report.findings) {
    if (!f.applies) continue;
    py::dict d;
    d["id"] = f.check->id;
    d["check"] = f.check->name;
    d["effect"] = std::string(to_string(f.check->effect));
    d["node"] = f.node;
    d["problem"] = f.problem;
    d["remedy"] = f.check->remedy;
    out.append(d);
  }
  return out;
}

}  // namespace

void bind_checks(py::module_& m) {
  m.def("verify", &verify);
  m.def("compare", &compare);
  m.def("lint", &lint_file);
  m.def("targets", [] {
    std::vector<std::string> names;
    for (const TargetProfile& t : targets()) names.push_back(t.name);
    return names;
  });
  m.def("check_output_dir", &check_output_dir);
}

}  // namespace waveq::python
