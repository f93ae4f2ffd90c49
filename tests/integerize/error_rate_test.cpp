#include "waveq/integerize/error_rate.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "waveq/graph/npz.h"

namespace waveq {
namespace {

using Symbols = std::vector<std::int64_t>;

TEST_CASE("error rate: edit distance of literal sequences") {
  CHECK(edit_distance({}, {}) == 0);
  CHECK(edit_distance({1, 2, 3}, {}) == 3);
  CHECK(edit_distance({}, {1, 2}) == 2);
  CHECK(edit_distance({1, 2, 3}, {1, 2, 3}) == 0);
  CHECK(edit_distance({1, 2, 3}, {1, 3}) == 1);
  CHECK(edit_distance({1, 2, 3}, {1, 4, 3}) == 1);
  // kitten, sitting
  CHECK(edit_distance({1, 2, 3, 3, 4, 5}, {6, 2, 3, 3, 2, 5, 7}) == 3);
}

TEST_CASE("error rate: greedy CTC drops repeats, then blanks, in either layout") {
  // Frames: blank, 2, 2, blank, 2, 1, 1 of three classes: symbols 1, 1, 0.
  const std::vector<int> best{0, 2, 2, 0, 2, 1, 1};
  Tensor classes_first(DType::i8, {1, 3, 7}), frames_first(DType::f32, {1, 7, 3});
  for (std::size_t t = 0; t < best.size(); ++t) {
    classes_first.as<std::int8_t>()[static_cast<std::size_t>(best[t]) * 7 + t] = 5;
    frames_first.as<float>()[t * 3 + static_cast<std::size_t>(best[t])] = 0.5F;
  }
  CHECK(decode_ctc(classes_first) == Symbols{1, 1, 0});
  CHECK(decode_ctc(frames_first) == Symbols{1, 1, 0});
  CHECK(decode_ctc(Tensor(DType::f32, {1, 3, 4})).empty());
  CHECK_THROWS_AS(decode_ctc(Tensor(DType::f32, {1, 10})), Error);
}

TEST_CASE("error rate: words between separators count as one each") {
  const Symbols said{1, 2, 9, 3, 9, 4}, heard{1, 2, 9, 4};
  CHECK(count_edits(said, heard, "cer", 9).edits == 2);
  CHECK(count_edits(said, heard, "cer", 9).length == 6);
  CHECK(count_edits(said, heard, "wer", 9).edits == 1);
  CHECK(count_edits(said, heard, "wer", 9).length == 3);
  CHECK(count_edits(said, heard, "wer", {}).length == 6);
  CHECK(count_edits({1, 2}, {2, 1, 9}, "wer", 9).edits == 1);
}

TEST_CASE("error rate: transcripts from labels or digits, padded with negative numbers") {
  const auto path = std::filesystem::temp_directory_path() / "waveq_error_rate_test.npz";
  const Tensor digits = Tensor::from<std::int64_t>({2, 3}, {4, 0, -1, -1, -1, -1}), one = Tensor::scalar<std::int64_t>(7);
  write_npz(path, std::vector<NpzItem>{{"digits", &digits}, {"word_separator", &one}});
  const Transcripts t = read_transcripts(path, 2);
  CHECK(t.clips == std::vector<Symbols>{{4, 0}, {}});
  CHECK(t.separator == 7);
  CHECK_THROWS_AS(read_transcripts(path, 3), Error);
  const Tensor classes = Tensor::from<std::int64_t>({2}, {1, 2});
  write_npz(path, std::vector<NpzItem>{{"labels", &classes}});
  CHECK_THROWS_AS(read_transcripts(path, 2), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace waveq
