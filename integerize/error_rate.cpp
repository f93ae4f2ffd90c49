#include "waveq/integerize/error_rate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "waveq/graph/npz.h"

namespace waveq {

Transcripts read_transcripts(const std::filesystem::path& npz, std::uint64_t samples) {
  const NpzReader reader(npz);
  for (const char* name : {"labels", "digits"}) {
    const NpzArray* array = reader.find(name);
    if (!array || array->shape.size() != 2) continue;
    const Tensor t = reader.read(name);
    if (!is_integer(t.dtype()) || t.shape()[0] != static_cast<std::int64_t>(samples))
      throw Error(ErrorCode::data, fmt::format("{}: {}", npz.string(), name),
                  fmt::format("is {}{}, not integers for {} clips", to_string(t.dtype()),
                              to_string(t.shape()), samples),
                  "one row of symbols a clip, padded with -1: [N,L]");
    Transcripts out;
    const std::vector<std::int64_t> values = to_int64(t);
    const auto length = static_cast<std::size_t>(t.shape()[1]);
    for (std::size_t n = 0; n < samples; ++n) {
      const auto row = values.begin() + static_cast<std::ptrdiff_t>(n * length);
      const auto end = std::find_if(row, row + static_cast<std::ptrdiff_t>(length),
                                    [](std::int64_t v) { return v < 0; });
      out.clips.emplace_back(row, end);
    }
    if (reader.find("word_separator"))
      out.separator = to_int64(reader.read("word_separator")).at(0);
    return out;
  }
  throw Error(ErrorCode::data, npz.string(),
              "has no array 'labels' or 'digits' of integers [N,L] for an error rate",
              "one row of symbols a clip, padded with -1");
}

std::vector<std::int64_t> decode_ctc(const Tensor& scores) {
  const Shape& shape = scores.shape();
  if (shape.size() != 3 || shape[0] != 1 || shape[1] < 1 || shape[2] < 1)
    throw Error(ErrorCode::data, "error rate",
                fmt::format("the output is {}, not [1,C,T] or [1,T,C]", to_string(shape)),
                "cer and wer are for framewise scores");
  const bool classes_first = shape[1] <= shape[2];
  const auto classes = static_cast<std::size_t>(classes_first ? shape[1] : shape[2]),
             frames = static_cast<std::size_t>(classes_first ? shape[2] : shape[1]);
  const std::vector<double> x = to_double(scores);
  std::vector<std::int64_t> symbols;
  std::size_t last = 0;
  for (std::size_t t = 0; t < frames; ++t) {
    std::size_t best = 0;
    const auto at = [&](std::size_t c) {
      return x[classes_first ? c * frames + t : t * classes + c];
    };
    for (std::size_t c = 1; c < classes; ++c)
      if (at(c) > at(best)) best = c;
    if (best != last && best != 0) symbols.push_back(static_cast<std::int64_t>(best) - 1);
    last = best;
  }
  return symbols;
}

std::int64_t edit_distance(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
  // row[j]: edits between the part of a seen so far and the first j symbols of b.
  std::vector<std::int64_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::int64_t diagonal = row[0];
    row[0] = static_cast<std::int64_t>(i) + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::int64_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

namespace {

/// Each distinct word as a number of its own, the same in every call with the same `known`.
std::vector<std::int64_t> words(const std::vector<std::int64_t>& symbols, std::int64_t separator,
                                std::map<std::vector<std::int64_t>, std::int64_t>& known) {
  std::vector<std::int64_t> out, word;
  const auto finish = [&] {
    if (!word.empty())
      out.push_back(known.emplace(word, static_cast<std::int64_t>(known.size())).first->second);
    word.clear();
  };
  for (std::int64_t s : symbols) {
    if (s == separator)
      finish();
    else
      word.push_back(s);
  }
  finish();
  return out;
}

}  // namespace

Edits count_edits(const std::vector<std::int64_t>& clip, const std::vector<std::int64_t>& heard,
                  std::string_view metric, std::optional<std::int64_t> separator) {
  if (metric != "wer" || !separator)
    return {edit_distance(clip, heard), static_cast<std::int64_t>(clip.size())};
  std::map<std::vector<std::int64_t>, std::int64_t> known;
  const std::vector<std::int64_t> said = words(clip, *separator, known),
                                  understood = words(heard, *separator, known);
  return {edit_distance(said, understood), static_cast<std::int64_t>(said.size())};
}

}  // namespace waveq
