#include "waveq/calibration/calibration_table.h"

#include <fmt/format.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "waveq/graph/error.h"
#include "waveq/graph/file.h"

namespace waveq {

const TensorCalibration* CalibrationTable::find(std::string_view tensor) const {
  const auto it = tensors.find(tensor);
  return it == tensors.end() ? nullptr : &it->second;
}

namespace {

const TensorCalibration& require(const CalibrationTable& table, std::string_view tensor) {
  if (const TensorCalibration* found = table.find(tensor)) return *found;
  throw Error(ErrorCode::data, fmt::format("tensor '{}'", tensor), "no range recorded",
              "calibrate this network, with data that reaches the tensor");
}

Range choose(std::string_view name, const TensorCalibration& tensor, const ObserverSpec& by,
             const QuantSpec& levels) {
  if (tensor.pinned) return tensor.range;
  try {
    return range_of(tensor.statistics, by, levels);
  } catch (Error& e) {
    throw e.while_doing(fmt::format("choosing the range of tensor '{}'", name));
  }
}

/// Calls work(i) for i in [0, count) on `threads` threads; rethrows the failure of the smallest i,
/// so that the message does not depend on timing.
template <class Work>
void parallel_for(std::size_t count, int threads, Work work) {
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::size_t failed = count;
  std::exception_ptr failure;
  const auto loop = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < count;) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed) {
          failed = i;
          failure = std::current_exception();
        }
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> pool;
    for (int t = 1; t < threads; ++t) pool.emplace_back(loop);
    loop();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Range CalibrationTable::range(std::string_view tensor) const {
  return require(*this, tensor).range;
}

Range CalibrationTable::range(std::string_view tensor, const ObserverSpec& by,
                              const QuantSpec& levels) const {
  return choose(tensor, require(*this, tensor), by, levels);
}

void CalibrationTable::choose_ranges(const ObserverSpec& by, const QuantSpec& levels, int threads) {
  make_observer(by);  // an unknown name is an error even without tensors
  std::vector<std::pair<const std::string, TensorCalibration>*> all;
  for (auto& entry : tensors) all.push_back(&entry);
  std::vector<Range> chosen(all.size());
  parallel_for(all.size(), threads, [&](std::size_t i) {
    chosen[i] = choose(all[i]->first, all[i]->second, by, levels);
  });
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i]->second.pinned) continue;
    all[i]->second.range = chosen[i];
    all[i]->second.observer = to_string(by);
  }
  observer = by;
  quant = levels;
}

void CalibrationTable::save(const std::filesystem::path& path) const {
  write_file(path, to_text());
}

CalibrationTable CalibrationTable::load(const std::filesystem::path& path) {
  return from_text(read_file(path), path.string());
}

namespace {

void refuse_merge(std::string where, std::string what, std::string hint) {
  throw Error(ErrorCode::data, std::move(where), std::move(what), std::move(hint));
}

void check_alike(const CalibrationTable& a, const CalibrationTable& b) {
  const std::string where = fmt::format("tables of '{}' and '{}'", a.model, b.model);
  if (a.model != b.model || a.fingerprint != b.fingerprint)
    refuse_merge(where,
                 fmt::format("are from different networks (fingerprints {} and {})", a.fingerprint,
                             b.fingerprint),
                 "merge shards of one calibration: same model, same options");
  if (a.equalization != b.equalization)
    refuse_merge(where, "were measured with different factors on channels",
                 "merge tables of `waveq calibrate`, which applies none");
  if (a.version != b.version)
    refuse_merge(where, fmt::format("were made by waveq {} and {}", a.version, b.version),
                 "use one version for all shards");
  if (a.observer != b.observer || a.quant != b.quant)
    refuse_merge(
        where,
        fmt::format("have ranges by {} for {} levels ({}) and by {} for {} levels ({})",
                    to_string(a.observer), a.quant.n_levels, to_string(a.quant.signedness),
                    to_string(b.observer), b.quant.n_levels, to_string(b.quant.signedness)),
        "calibrate all shards with one observer");
}

/// Takes the tensor `from` of another shard into `into`.
void merge_tensor(const std::string& name, TensorCalibration& into, const TensorCalibration& from) {
  if (into.pinned && from.pinned && into.range != from.range)
    refuse_merge(fmt::format("tensor '{}'", name),
                 fmt::format("is pinned to [{}, {}] and to [{}, {}]", into.range.lo, into.range.hi,
                             from.range.lo, from.range.hi),
                 "pin it in one table, or to one range");
  if (into.means != from.means || into.channel_axis != from.channel_axis)
    refuse_merge(fmt::format("tensor '{}'", name), "has means of channels that differ",
                 "merge tables of `waveq calibrate`, which measures none");
  into.statistics.merge(from.statistics);
  if (from.pinned && !into.pinned) {
    into.range = from.range;
    into.observer = from.observer;
    into.pinned = true;
  }
}

/// A range that was entered by hand for a tensor the network does not have, or not yet.
bool entered_by_hand(const TensorCalibration& tensor) {
  return tensor.pinned && tensor.statistics.count() == 0;
}

void check_tensor_exists(const std::string& name, const TensorCalibration& tensor,
                         const CalibrationTable& other) {
  if (!entered_by_hand(tensor) && !other.find(name))
    refuse_merge(fmt::format("tensor '{}'", name), "is in one table only",
                 "merge shards of one calibration");
}

}  // namespace

CalibrationTable merge(const CalibrationTable& a, const CalibrationTable& b) {
  check_alike(a, b);
  for (const auto& [name, tensor] : a.tensors) check_tensor_exists(name, tensor, b);
  for (const auto& [name, tensor] : b.tensors) check_tensor_exists(name, tensor, a);
  CalibrationTable out = a;
  out.samples += b.samples;
  for (const auto& [name, tensor] : b.tensors) {
    const auto [it, inserted] = out.tensors.try_emplace(name, tensor);
    if (!inserted) merge_tensor(name, it->second, tensor);
  }
  out.choose_ranges(out.observer, out.quant);
  return out;
}

}  // namespace waveq
