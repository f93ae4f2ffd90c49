#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "waveq/graph/tensor.h"

namespace waveq {

/// What the clips of a recognizer say, as symbols.
struct Transcripts {
  std::vector<std::vector<std::int64_t>> clips;  ///< symbols >= 0, one list a clip
  std::optional<std::int64_t> separator;         ///< between words; absent: each symbol is a word
};

/// The array `labels` or `digits` of an evaluation file, integers [N,L]: the symbols of each clip,
/// padded with negative numbers at the end; and, if there is one, the scalar `word_separator`.
/// \throws Error{data} where there is no such array, or one that does not fit `samples` clips.
Transcripts read_transcripts(const std::filesystem::path& npz, std::uint64_t samples);

/// Greedy decoding of a framewise output: the largest class of each frame, repeats dropped, then
/// blanks. Class 0 is the blank, class k the symbol k-1. [1,C,T] and [1,T,C] are told apart by
/// length: the shorter axis holds the classes, the first where both are equal.
/// \throws Error{data} for a tensor of another form. Source: Graves et al. 2006 (CTC), section 3.2.
std::vector<std::int64_t> decode_ctc(const Tensor& scores);

/// Insertions, deletions and substitutions that turn one sequence into the other (Levenshtein
/// 1966).
std::int64_t edit_distance(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b);

/// Edits between a clip and what was recognized, and how many symbols (cer) or words (wer) the
/// clip has.
struct Edits {
  std::int64_t edits = 0, length = 0;  ///< their quotient is the error rate
};
Edits count_edits(const std::vector<std::int64_t>& clip, const std::vector<std::int64_t>& heard,
                  std::string_view metric, std::optional<std::int64_t> separator);

}  // namespace waveq
