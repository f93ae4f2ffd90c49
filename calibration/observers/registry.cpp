#include <fmt/format.h>

#include <array>
#include <charconv>

#include "observers/methods.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

namespace methods = observers_detail;

constexpr std::array kObservers = {
    ObserverRow{"mse", "clip limit with the least expected squared error",
                "Banner et al., Post training 4-bit quantization (ACIQ), 2019", "", 0, 0, 0,
                [](double) -> RangeRule { return methods::mse; }},
    ObserverRow{"min_max", "everything that was observed", "Krishnamoorthi, 2018, section 3.1",
                "factor on both ends", 1.0, 0.0, 1024.0,
                [](double factor) -> RangeRule {
                  return [factor](const TensorStatistics& s, const QuantSpec&) {
                    return methods::min_max(s, factor);
                  };
                }},
    ObserverRow{"percentile", "all but the largest magnitudes",
                "Wu et al., Integer Quantization for Deep Learning Inference, 2020",
                "percent of the values that stay unclipped", 99.99, 0.0, 100.0,
                [](double percent) -> RangeRule {
                  return [percent](const TensorStatistics& s, const QuantSpec&) {
                    return methods::percentile(s, percent);
                  };
                }},
    ObserverRow{"histogram", "least squared error, each end of the range searched for itself",
                "the two-ended greedy search of torch.ao.quantization.HistogramObserver", "", 0, 0,
                0, [](double) -> RangeRule { return methods::histogram; }},
};

const ObserverRow& row_of(const ObserverSpec& spec) {
  std::string known;
  for (const ObserverRow& row : kObservers) {
    known += (known.empty() ? "" : ", ") + std::string(row.name);
    if (row.name != spec.name) continue;
    if (spec.parameter && row.parameter.empty())
      throw Error(ErrorCode::invalid_argument, to_string(spec), "this observer has no parameter",
                  fmt::format("write '{}'", row.name));
    if (spec.parameter && !(*spec.parameter > row.least && *spec.parameter <= row.most))
      throw Error(ErrorCode::invalid_argument, to_string(spec),
                  fmt::format("{} is {}", row.parameter, *spec.parameter),
                  fmt::format("use more than {}, at most {}", row.least, row.most));
    return row;
  }
  throw Error(ErrorCode::invalid_argument, spec.name, "no observer has this name",
              "use one of " + known);
}

}  // namespace

std::span<const ObserverRow> observers() { return kObservers; }

RangeRule make_observer(const ObserverSpec& spec) {
  const ObserverRow& row = row_of(spec);
  return row.make(spec.parameter.value_or(row.fallback));
}

ObserverSpec parse_observer(std::string_view text) {
  const std::size_t colon = text.find(':');
  ObserverSpec spec{std::string(text.substr(0, colon)), std::nullopt};
  if (colon != std::string_view::npos) {
    const std::string_view number = text.substr(colon + 1);
    double value = 0.0;
    const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (code != std::errc{} || end != number.data() + number.size())
      throw Error(ErrorCode::invalid_argument, std::string(text),
                  fmt::format("'{}' is not a number", number),
                  "write NAME or NAME:PARAMETER, e.g. percentile:99.9");
    spec.parameter = value;
  }
  row_of(spec);
  return spec;
}

std::string to_string(const ObserverSpec& spec) {
  return spec.parameter ? fmt::format("{}:{}", spec.name, *spec.parameter) : spec.name;
}

Range range_of(const TensorStatistics& statistics, const ObserverSpec& observer,
               const QuantSpec& spec) {
  const RangeRule rule = make_observer(observer);
  if (statistics.count() == 0)
    throw Error(ErrorCode::data, "observer " + to_string(observer), "nothing was observed",
                "calibrate with data that reaches this tensor");
  return rule(statistics, spec);
}

}  // namespace waveq
