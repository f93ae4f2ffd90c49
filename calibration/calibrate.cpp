#include "waveq/calibration/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "waveq/graph/executor.h"
#include "waveq/graph/version.h"

namespace waveq {

namespace {

/// Per value of the graph; nullptr where it is not observed.
using Recorders = std::vector<std::unique_ptr<TensorStatistics>>;

Recorders make_recorders(const Graph& graph, const std::function<bool(const Value&)>& filter) {
  Recorders recorders(graph.value_count());
  const auto add = [&](ValueId id) {
    if (!id.valid() || graph.is_constant(id)) return;
    const Value& value = graph.value(id);
    if (value.type.dtype != DType::f32 || (filter && !filter(value))) return;
    recorders[static_cast<std::size_t>(id.index)] = std::make_unique<TensorStatistics>();
  };
  for (ValueId in : graph.inputs()) add(in);
  for (NodeId node : graph.nodes())
    for (ValueId out : graph.node(node).outputs) add(out);
  return recorders;
}

void record(const Graph& graph, Recorders& recorders, ValueId id, const Tensor& tensor) {
  TensorStatistics* statistics = recorders[static_cast<std::size_t>(id.index)].get();
  if (!statistics || statistics->observe(tensor.as<float>()) == 0) return;
  const std::span<const float> values = tensor.as<float>();
  const auto bad = std::ranges::find_if(values, [](float x) { return !std::isfinite(x); });
  const Value& value = graph.value(id);
  const Node* producer = value.producer.valid() ? &graph.node(value.producer) : nullptr;
  throw Error(ErrorCode::data, fmt::format("tensor '{}'", value.name),
              fmt::format("element {} becomes {}{}", bad - values.begin(), *bad,
                          producer ? fmt::format(" in {} '{}'", producer->op, producer->name) : ""),
              "the float network itself fails here: remove the sample or repair the model");
}

/// What the threads of one calibration share. Samples are handed out in order, so every sample in
/// front of a failing one is run as well, and the first failure is the same whatever the timing.
class Run {
 public:
  Run(const Graph& graph, SampleSource& data, const CalibrateOptions& options)
      : graph_(graph), data_(data), options_(options), plan_(std::make_shared<const Plan>(graph)) {}

  Recorders all(int threads) {
    std::vector<Recorders> shards;
    for (int t = 0; t < threads; ++t) shards.push_back(make_recorders(graph_, options_.filter));
    {
      std::vector<std::jthread> pool;
      for (int t = 1; t < threads; ++t)
        pool.emplace_back([this, &shard = shards[t]] { work(shard); });
      work(shards[0]);
    }
    if (failure_) std::rethrow_exception(failure_);
    for (std::size_t t = 1; t < shards.size(); ++t)
      for (std::size_t v = 0; v < shards[t].size(); ++v)
        if (shards[t][v]) shards[0][v]->merge(*shards[t][v]);
    return std::move(shards[0]);
  }

 private:
  void work(Recorders& recorders) {
    Sample sample;
    try {
      Executor executor(plan_);
      while (take(sample)) {
        run(executor, recorders, sample);
        finish();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      fail(sample.index);
    }
  }

  void run(Executor& executor, Recorders& recorders, const Sample& sample) {
    try {
      executor.run(sample.inputs, [&](ValueId id, const Tensor& tensor) {
        record(graph_, recorders, id, tensor);
      });
    } catch (Error& e) {
      throw e.while_doing(fmt::format("running sample {} of {}", sample.index, data_.name()));
    }
  }

  bool take(Sample& sample) {
    const std::lock_guard lock(mutex_);
    if (failure_) return false;
    try {
      return data_.next(sample);
    } catch (...) {
      fail(sample.index);  // next() sets it first
      return false;
    }
  }

  void finish() {
    const std::lock_guard lock(mutex_);
    ++done_;
    if (options_.progress) options_.progress(done_, data_.size().value_or(0));
  }

  /// Keeps the failure of the smallest sample; the mutex is held.
  void fail(std::uint64_t index) {
    if (failure_ && failed_index_ <= index) return;
    failure_ = std::current_exception();
    failed_index_ = index;
  }

  const Graph& graph_;
  SampleSource& data_;
  const CalibrateOptions& options_;
  std::shared_ptr<const Plan> plan_;
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::exception_ptr failure_;
  std::uint64_t failed_index_ = 0;
};

int thread_count(int wanted, std::optional<std::uint64_t> samples) {
  const unsigned cores = std::max(std::thread::hardware_concurrency(), 1u);
  const std::uint64_t threads = wanted > 0 ? static_cast<std::uint64_t>(wanted) : cores;
  return static_cast<int>(std::min<std::uint64_t>({threads, samples.value_or(threads), 256}));
}

class Fnv {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes)
      state_ = (state_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  }
  void add(std::uint64_t n) {
    for (int i = 0; i < 8; ++i) state_ = (state_ ^ ((n >> (8 * i)) & 255)) * 0x100000001b3u;
  }
  /// Length first: "ab","c" and "a","bc" differ.
  void add(std::string_view text) {
    add(std::uint64_t{text.size()});
    add(std::as_bytes(std::span(text)));
  }
  std::uint64_t state() const { return state_; }

 private:
  std::uint64_t state_ = 0xcbf29ce484222325u;
};

void add_value(Fnv& hash, const Graph& graph, ValueId id) {
  hash.add(std::uint64_t{id.valid()});
  if (!id.valid()) return;
  const Value& value = graph.value(id);
  hash.add(value.name);
  hash.add(to_string(value.type));
  if (value.constant) hash.add(value.constant->bytes());
}

void add_attr(Fnv& hash, const Attr& attr) {
  hash.add(std::uint64_t{attr.index()});
  const auto add_numbers = [&](const auto& numbers) {
    hash.add(std::uint64_t{numbers.size()});
    hash.add(std::as_bytes(std::span(numbers)));
  };
  if (const auto* i = std::get_if<std::int64_t>(&attr)) hash.add(static_cast<std::uint64_t>(*i));
  if (const auto* d = std::get_if<double>(&attr)) hash.add(std::as_bytes(std::span(d, 1)));
  if (const auto* s = std::get_if<std::string>(&attr)) hash.add(std::string_view(*s));
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(&attr)) add_numbers(*v);
  if (const auto* v = std::get_if<std::vector<double>>(&attr)) add_numbers(*v);
  if (const auto* v = std::get_if<std::vector<std::string>>(&attr))
    for (const std::string& s : *v) hash.add(std::string_view(s));
  if (const auto* t = std::get_if<Tensor>(&attr)) {
    hash.add(to_string(t->type()));
    hash.add(t->bytes());
  }
}

}  // namespace

std::string fingerprint(const Graph& graph) {
  Fnv hash;
  for (ValueId in : graph.inputs()) add_value(hash, graph, in);
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    hash.add(std::string_view(node.op));
    for (ValueId in : node.inputs) add_value(hash, graph, in);
    for (ValueId out : node.outputs) add_value(hash, graph, out);
    for (const auto& [name, attr] : node.attrs.all()) {
      hash.add(std::string_view(name));
      add_attr(hash, attr);
    }
  }
  for (ValueId out : graph.outputs()) add_value(hash, graph, out);
  return fmt::format("{:016x}", hash.state());
}

CalibrationTable calibrate(const Graph& graph, SampleSource& data,
                           const CalibrateOptions& options) {
  make_observer(options.observer);  // a wrong name should not cost a run over the data
  data.rewind();
  const int threads = thread_count(options.threads, data.size());
  Recorders recorders = Run(graph, data, options).all(threads);

  CalibrationTable table;
  table.model = graph.name;
  table.fingerprint = fingerprint(graph);
  table.version = kVersion;
  table.samples = *data.size();  // known once all were read
  for (std::size_t v = 0; v < recorders.size(); ++v) {
    if (!recorders[v] || recorders[v]->count() == 0) continue;
    const Value& value = graph.value({static_cast<std::int32_t>(v)});
    table.tensors[value.name].statistics = std::move(*recorders[v]);
  }
  table.choose_ranges(options.observer, options.quant, threads);
  return table;
}

}  // namespace waveq
