#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "waveq/graph/graph.h"
#include "waveq/integerize/proof.h"
#include "waveq/rewrites/driver.h"

namespace waveq::python {

/// A network with its executor plan made once.
struct Network {
  Graph graph;
  bool integer = false;
  std::string name;  ///< as messages call it
};

std::shared_ptr<Network> network(Graph graph, bool integer, std::string name);

pybind11::dict proof_dict(const ProofReport& proof);
pybind11::dict rewrite_dict(const RewriteReport& report);

}  // namespace waveq::python
