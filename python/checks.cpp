#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings.h"
#include "waveq/export/folder.h"
#include "waveq/export/lint.h"
#include "waveq/export/verify.h"

namespace waveq::python {

namespace py = pybind11;
namespace fs = std::filesystem;
using namespace py::literals;

namespace {

py::dict mismatch_dict(const Mismatch& m) {
  return py::dict("tensor"_a = m.tensor, "index"_a = py::tuple(py::cast(m.index)),
                  "expected"_a = m.expected, "got"_a = m.got, "differing"_a = m.differing,
                  "elements"_a = m.elements);
}

py::dict verify(const fs::path& dir) {
  const VerifyReport report = without_gil([&] { return verify_folder(dir); });
  return py::dict("outputs"_a = report.outputs, "activations"_a = report.activations,
                  "unmatched"_a = report.unmatched,
                  "mismatches"_a = list_of(report.mismatches, mismatch_dict));
}

py::list compare(const fs::path& a, const fs::path& b) {
  const auto comparison_dict = [](const Comparison& c) {
    return py::dict(
        "tensor"_a = c.tensor, "integer"_a = c.integer, "elements"_a = c.elements,
        "differing"_a = c.differing,
        "sqnr_db"_a = c.integer ? py::object(py::none()) : py::cast(c.sqnr_db),
        "cosine"_a = c.cosine, "problem"_a = c.problem, "extra"_a = c.extra,
        "first"_a = c.first ? py::object(mismatch_dict(*c.first)) : py::object(py::none()));
  };
  return list_of(without_gil([&] { return compare_dumps(a, b); }), comparison_dict);
}

py::list lint_file(const fs::path& file, const std::string& target) {
  const TargetProfile& profile = find_target(target);
  const LintReport report = without_gil([&] { return lint(read_lint_input(file), profile); });
  py::list out;
  for (const LintFinding& f : report.findings) {
    if (!f.applies) continue;
    out.append(py::dict("id"_a = f.check->id, "check"_a = f.check->name,
                        "effect"_a = std::string(to_string(f.check->effect)), "node"_a = f.node,
                        "problem"_a = f.problem, "remedy"_a = f.check->remedy));
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
