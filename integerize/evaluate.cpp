#include "waveq/integerize/evaluate.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <thread>

#include "waveq/graph/executor.h"

namespace waveq {

namespace {

double decibel(double signal, double noise) {
  if (noise == 0) return std::numeric_limits<double>::infinity();
  return signal == 0 ? -std::numeric_limits<double>::infinity() : 10.0 * std::log10(signal / noise);
}

template <class T>
std::size_t argmax(std::span<const T> v) {
  return static_cast<std::size_t>(std::max_element(v.begin(), v.end()) - v.begin());
}

std::size_t argmax(const Tensor& t) {
  if (t.dtype() == DType::f32) return argmax(t.as<float>());
  return visit_integer(t.dtype(), [&](auto e) { return argmax(t.as<decltype(e)>()); });
}

/// In the shape of the float output, which a target's form may have given ones.
Tensor dequantized(const Graph& network, const Tensor& codes, const Shape& shape) {
  const QuantParams q = network.value(network.outputs().front()).quant.value_or(QuantParams{});
  Tensor out(DType::f32, shape);
  std::ranges::transform(to_double(codes), out.as<float>().begin(), [&](double code) {
    return static_cast<float>(q.scale * (code - static_cast<double>(q.zero_point)));
  });
  return out;
}

}  // namespace

SampleScore score_sample(const Graph& candidate, const std::vector<Tensor>& real,
                         const std::vector<Tensor>& outputs,
                         const std::optional<std::int64_t>& label) {
  SampleScore r;
  for (std::size_t o = 0; o < real.size(); ++o) {
    const QuantParams q = candidate.value(candidate.outputs()[o]).quant.value_or(QuantParams{});
    const std::vector<double> x = to_double(real[o]), y = to_double(outputs[o]);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double error = x[i] - q.scale * (y[i] - static_cast<double>(q.zero_point));
      r.signal += x[i] * x[i];
      r.noise += error * error;
    }
  }
  const std::size_t f = argmax(real.front()), g = argmax(outputs.front());
  r.agrees = f == g;
  if (label) {
    r.float_right = static_cast<std::int64_t>(f) == *label;
    r.candidate_right = static_cast<std::int64_t>(g) == *label;
  }
  return r;
}

Accuracy summarize(const std::vector<SampleScore>& results, bool labelled) {
  Accuracy a;
  a.metric = labelled ? "top1" : "none";
  a.samples = results.size();
  double signal = 0, noise = 0, agree = 0, right = 0, candidate_right = 0;
  std::vector<double> ratios;
  for (const SampleScore& r : results) {
    signal += r.signal;
    noise += r.noise;
    agree += r.agrees;
    right += r.float_right;
    candidate_right += r.candidate_right;
    ratios.push_back(decibel(r.signal, r.noise));
  }
  const auto n = static_cast<double>(results.size());
  a.agreement = agree / n;
  if (labelled) {
    a.float_top1 = right / n;
    a.integer_top1 = candidate_right / n;
  }
  a.output_sqnr_db = decibel(signal, noise);
  std::ranges::sort(ratios);
  const std::size_t mid = ratios.size() / 2;
  a.median_sqnr_db = ratios.size() % 2 ? ratios[mid] : 0.5 * (ratios[mid - 1] + ratios[mid]);
  std::vector<SampleScore> sorted = results;
  std::ranges::stable_sort(sorted, std::less<>{}, &SampleScore::noise);
  sorted.resize(sorted.size() - sorted.size() / 50);
  signal = noise = 0;
  for (const SampleScore& r : sorted) {
    signal += r.signal;
    noise += r.noise;
  }
  a.trimmed_sqnr_db = decibel(signal, noise);
  return a;
}

Tensor quantize_tensor(const Tensor& real, const QuantParams& params) {
  Tensor out(params.storage(), real.shape());
  const auto lo = static_cast<double>(params.lo()), hi = static_cast<double>(params.hi());
  visit_integer(out.dtype(), [&](auto t) {
    const auto x = real.as<float>();
    const auto q = out.as<decltype(t)>();
    for (std::size_t i = 0; i < x.size(); ++i)
      q[i] =
          static_cast<decltype(t)>(std::clamp(std::round(static_cast<double>(x[i]) / params.scale) +
                                                  static_cast<double>(params.zero_point),
                                              lo, hi));
  });
  return out;
}

std::vector<Tensor> network_inputs(const Graph& network, const std::vector<Tensor>& real) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < real.size(); ++i) {
    const Value& input = network.value(network.inputs()[i]);
    out.push_back(is_integer(input.type.dtype) ? quantize_tensor(real[i], input.quant.value())
                                               : real[i]);
  }
  return out;
}

Accuracy evaluate(const Graph& float_graph, const Graph& integer_graph, SampleSource& data,
                  unsigned threads, const Progress& progress, const Metric* metric) {
  data.rewind();
  const auto float_plan = std::make_shared<const Plan>(float_graph);
  const auto integer_plan = std::make_shared<const Plan>(integer_graph);
  std::vector<SampleScore> results(data.size().value_or(0));
  std::mutex turn;
  std::exception_ptr failure;
  std::size_t done = 0;
  const auto work = [&] {
    try {
      Executor real(float_plan), integer(integer_plan);
      Sample sample;
      for (;;) {
        {
          const std::lock_guard lock(turn);
          if (failure || !data.next(sample)) return;
        }
        const std::vector<Tensor> y = real.run(sample.inputs);
        const std::vector<Tensor> q = integer.run(network_inputs(integer_graph, sample.inputs));
        SampleScore result = score_sample(integer_graph, y, q, sample.label);
        if (metric) {
          result.score = metric->judge(sample.index, y.front(),
                                       dequantized(integer_graph, q.front(), y.front().shape()));
          result.agrees = result.score.agrees.value_or(result.agrees);
        }
        const std::lock_guard lock(turn);
        if (sample.index >= results.size()) results.resize(sample.index + 1);
        results[sample.index] = result;
        if (progress) progress("evaluate", ++done, data.size().value_or(0));
      }
    } catch (...) {
      const std::lock_guard lock(turn);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  for (unsigned t = 1; t < std::max(threads, 1u); ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
  Accuracy accuracy = summarize(results, data.has_labels());
  if (!metric) return accuracy;
  double float_sum = 0, integer_sum = 0, weight = 0;
  for (const SampleScore& r : results) {
    float_sum += r.score.real;
    integer_sum += r.score.integer;
    weight += r.score.weight;
  }
  accuracy.float_score = float_sum / std::max(weight, 1.0);
  accuracy.integer_score = integer_sum / std::max(weight, 1.0);
  return accuracy;
}

namespace {

/// Rows [..., N] column by column.
std::vector<double> columns_of(const Tensor& rows) {
  const std::vector<double> values = to_double(rows);
  const auto n = static_cast<std::size_t>(rows.shape().back()), count = values.size() / n;
  std::vector<double> columns(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) columns[i % n * count + i / n] = values[i];
  return columns;
}

}  // namespace

std::vector<TensorQuality> tensor_quality(const Graph& float_graph, const IntegerNetwork& network,
                                          SampleSource& data, std::size_t limit,
                                          const Progress& progress) {
  data.rewind();
  struct Sums {
    double signal = 0, noise = 0, saturated = 0, count = 0;
  };
  const Graph& g = network.graph;
  std::vector<TensorQuality> out;
  std::multimap<ValueId, std::size_t> by_float, by_integer;
  std::vector<std::pair<ValueId, ValueId>> pairs;
  std::vector<double> zero_points;
  std::vector<bool> turned;
  for (const Correspondence& c : network.correspondences) {
    const auto f = float_graph.find_value(c.float_value);
    const auto i = g.find_value(c.integer_value);
    if (!f || !i) continue;  // merged away by a later clean-up
    by_float.emplace(*f, out.size());
    by_integer.emplace(*i, out.size());
    pairs.emplace_back(*f, *i);
    out.push_back({c.float_value, c.integer_value, c.scale, 0, 0});
    zero_points.push_back(static_cast<double>(c.zero_point));
    turned.push_back(c.turned);
  }
  std::vector<Sums> sums(out.size());
  std::vector<std::vector<double>> real(out.size());
  Executor float_run(float_graph), integer_run(g);
  Sample sample;
  const std::size_t total = std::min<std::size_t>(limit, data.size().value_or(limit));
  for (std::size_t n = 0; n < total && data.next(sample); ++n) {
    float_run.run(sample.inputs, [&](ValueId id, const Tensor& t) {
      for (auto [it, end] = by_float.equal_range(id); it != end; ++it)
        real[it->second] = turned[it->second] ? columns_of(t) : to_double(t);
    });
    integer_run.run(network_inputs(g, sample.inputs), [&](ValueId id, const Tensor& t) {
      for (auto [it, end] = by_integer.equal_range(id); it != end; ++it) {
        Sums& s = sums[it->second];
        const std::vector<double> codes = to_double(t);
        const QuantParams q = g.value(id).quant.value_or(QuantParams{});
        for (std::size_t k = 0; k < codes.size(); ++k) {
          const double x = real[it->second][k], code = codes[k] - zero_points[it->second],
                       error = x - out[it->second].scale * code;
          s.signal += x * x;
          s.noise += error * error;
          s.saturated += codes[k] >= static_cast<double>(q.hi()) ||
                         (q.is_signed && codes[k] <= static_cast<double>(q.lo()));
          s.count += 1;
        }
      }
    });
    if (progress) progress("measure tensors", n + 1, total);
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].sqnr_db = decibel(sums[i].signal, sums[i].noise);
    out[i].saturation = sums[i].count > 0 ? sums[i].saturated / sums[i].count : 0;
  }
  return out;
}

}  // namespace waveq
