#include <map>
#include <set>

#include "waveq/graph/executor.h"
#include "waveq/integerize/evaluate.h"
#include "waveq/integerize/sample_stack.h"

namespace waveq {

std::vector<std::pair<std::string, Tensor>> run_samples(const Graph& graph, SampleSource& data,
                                                        bool all, Overflow overflow,
                                                        const Progress& progress) {
  data.rewind();
  std::map<ValueId, SampleStack> dump;
  std::vector<ValueId> order;
  const auto add = [&](ValueId id, const Tensor& t) {
    if (!dump.contains(id)) order.push_back(id);
    dump[id].push(t);
  };
  Executor executor(std::make_shared<const Plan>(graph), overflow);
  Executor::Visitor visit;
  if (all) visit = add;
  Sample sample;
  for (std::size_t n = 0; data.next(sample); ++n) {
    const std::vector<Tensor> y = executor.run(sample.inputs, visit);
    std::set<ValueId> seen;  // one tensor may be an output twice, and with `all` was visited before
    for (std::size_t i = 0; i < y.size(); ++i) {
      const ValueId id = graph.outputs()[i];
      const bool visited = all && !graph.is_constant(id);
      if (!visited && seen.insert(id).second) add(id, y[i]);
    }
    if (progress) progress("run", n + 1, data.size().value_or(0));
  }
  std::vector<std::pair<std::string, Tensor>> arrays;
  for (ValueId id : order) arrays.emplace_back(graph.value(id).name, dump.at(id).joined());
  return arrays;
}

}  // namespace waveq
