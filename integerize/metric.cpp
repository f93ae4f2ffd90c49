#include "waveq/integerize/metric.h"

#include <fmt/format.h>

#include "waveq/integerize/enhancement.h"
#include "waveq/integerize/error_rate.h"

namespace waveq {

namespace {

/// Edits over the length of all clips, decoded greedily.
class ErrorRate : public Metric {
 public:
  ErrorRate(std::string name, Transcripts transcripts)
      : name_(std::move(name)), transcripts_(std::move(transcripts)) {}

  Score judge(std::uint64_t sample, const Tensor& real, const Tensor& integer) const override {
    const std::vector<std::int64_t>& said = transcripts_.clips.at(sample);
    const std::vector<std::int64_t> f = decode_ctc(real), g = decode_ctc(integer);
    const Edits float_edits = count_edits(said, f, name_, transcripts_.separator),
                integer_edits = count_edits(said, g, name_, transcripts_.separator);
    return {static_cast<double>(float_edits.edits), static_cast<double>(integer_edits.edits),
            static_cast<double>(float_edits.length), f == g};
  }

 private:
  std::string name_;
  Transcripts transcripts_;
};

}  // namespace

std::unique_ptr<Metric> make_metric(const std::string& name, const std::filesystem::path& npz,
                                    const Graph& graph) {
  if (name == "si-sdr") return speech_enhancement(npz, graph);
  if (name != "cer" && name != "wer")
    throw Error(ErrorCode::invalid_argument, "metric", fmt::format("'{}' is not one", name),
                "top1, cer, wer, si-sdr");
  const std::uint64_t samples = Dataset(npz, graph).size().value();
  return std::make_unique<ErrorRate>(name, read_transcripts(npz, samples));
}

bool higher_is_better(std::string_view metric) { return metric != "cer" && metric != "wer"; }
bool in_decibel(std::string_view metric) { return metric == "si-sdr"; }

}  // namespace waveq
